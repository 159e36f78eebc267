//! The CRM path of `./scripts/bench`.

use std::time::Duration;

use cognigy_benches::crm::{IN_FLIGHT, Rate, StandIn, bare, client, look_ups, worker};
use cognigy_crm_http::CoalescingCrm;

use crate::{
    measure::{Bench, Outcome, ROUNDS},
    report::{Table, count, median},
};

/// Look-ups of one measurement: a second or two of them.
const LOOK_UPS: u64 = 20_000;
/// Different keys where coalescing is measured.
const KEYS: u64 = 8;

impl Bench<'_> {
    /// Look-ups over real HTTP, alone and under the worker.
    pub(crate) fn crm(&mut self, text: &mut String) -> Outcome<()> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let mut table = Table::new(&[
            "the CRM answers",
            "bare `reqwest` loop",
            "`HttpCrm`",
            "ratio",
            "with coalescing",
            "8 keys, coalescing",
            "requests for them",
            "worker, events/s",
        ]);
        for (name, latency) in [("at once", 0), ("after 5 ms", 5)] {
            let stand_in = StandIn::start(Duration::from_millis(latency))?;
            let mut columns: [Vec<Rate>; 5] = Default::default();
            for _ in 0..ROUNDS {
                let crm = client(&stand_in)?;
                let coalescing = CoalescingCrm::new(crm.clone());
                let database = self.database();
                let rates = runtime.block_on(async {
                    Outcome::Ok([
                        bare(&stand_in, LOOK_UPS).await?,
                        look_ups(crm, &stand_in, LOOK_UPS, LOOK_UPS).await?,
                        look_ups(coalescing.clone(), &stand_in, LOOK_UPS, LOOK_UPS).await?,
                        look_ups(coalescing, &stand_in, LOOK_UPS, KEYS).await?,
                        worker(&database, &stand_in, LOOK_UPS).await?,
                    ])
                })?;
                for (column, rate) in columns.iter_mut().zip(rates) {
                    column.push(rate);
                }
            }
            let rate = |column: &[Rate]| median(column.iter().map(|it| it.per_second).collect());
            #[allow(clippy::cast_precision_loss)]
            let requests =
                |column: &[Rate]| median(column.iter().map(|it| it.requests as f64).collect());
            let [bare, plain, apart, together, worker] = &columns;
            table.row(&[
                name.to_owned(),
                count(rate(bare)),
                count(rate(plain)),
                format!("{:.2}", rate(plain) / rate(bare)),
                count(rate(apart)),
                count(rate(together)),
                count(requests(together)),
                count(rate(worker)),
            ]);
        }
        text.push_str(&format!(
            "\n## CRM look-ups\n\nReal HTTP to a stand-in on the same cores, {IN_FLIGHT} in flight, {} \
             look-ups a run, contacts of half a KiB; look-ups a second unless said otherwise. The \
             bare loop sends the same requests and throws the answers away. The worker has an event \
             of a contact of its own for each look-up, on SQLite.\n\n",
            count(LOOK_UPS as f64)
        ));
        text.push_str(table.text());
        Ok(())
    }
}
