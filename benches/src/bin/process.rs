//! `process [EVENTS]`: the worker beside the plain loop, three rounds, alternating.

use std::error::Error;

use cognigy_benches::process;

fn main() -> Result<(), Box<dyn Error>> {
    let count = std::env::args().nth(1).map_or(Ok(100_000), |text| text.parse())?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    for round in 1..=3 {
        let folder = tempfile::tempdir()?;
        let worker = runtime.block_on(process::worker(&folder.path().join("worker.db"), count))?;
        let plain = process::plain_loop(&folder.path().join("plain.db"), count, 64)?;
        let large = process::plain_loop(&folder.path().join("large.db"), count, 256)?;
        println!(
            "round {round}: worker {worker:.0}/s; plain loop {plain:.0}/s in batches of 64, {large:.0}/s of 256"
        );
    }
    Ok(())
}
