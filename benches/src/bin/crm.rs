//! `crm [LOOK_UPS]`: the CRM path, three rounds, alternating with the bare loop.

use std::{error::Error, time::Duration};

use cognigy_benches::crm::{StandIn, bare, client, look_ups, worker};
use cognigy_crm_http::CoalescingCrm;

fn main() -> Result<(), Box<dyn Error>> {
    let count = std::env::args().nth(1).map_or(Ok(50_000), |text| text.parse())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for latency in [Duration::ZERO, Duration::from_millis(5)] {
        let stand_in = StandIn::start(latency)?;
        for round in 1..=3 {
            let bare = runtime.block_on(bare(&stand_in, count))?;
            let plain = client(&stand_in)?;
            let ours = runtime.block_on(look_ups(plain.clone(), &stand_in, count, count))?;
            let coalescing = CoalescingCrm::new(plain);
            let apart = runtime.block_on(look_ups(coalescing.clone(), &stand_in, count, count))?;
            let together = runtime.block_on(look_ups(coalescing, &stand_in, count, 8))?;
            let folder = tempfile::tempdir()?;
            let path = folder.path().join("worker.db");
            let events = runtime.block_on(worker(&path, &stand_in, count))?;
            println!(
                "{latency:?}, round {round}: bare {:.0}/s; HttpCrm {:.0}/s ({:.2}), coalescing {:.0}/s; \
                 over 8 keys {:.0}/s with {} requests for {count}; worker {:.0} events/s",
                bare.per_second,
                ours.per_second,
                ours.per_second / bare.per_second,
                apart.per_second,
                together.per_second,
                together.requests,
                events.per_second
            );
        }
    }
    Ok(())
}
