//! Runs the load measurements and writes `docs/measurements/results.md` and
//! `results.svg` beside it.
//!
//! `suite [--growth | --ingest]`; started by `./scripts/bench`, which builds what it needs. Every
//! comparison alternates between the peers in one run, and medians are quoted: machines are shared
//! and noisy, and a ratio of two figures from the same minute says more than each figure alone.

mod crm;
mod growth;
mod measure;
mod plot;
mod report;

use std::{error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = tempfile::tempdir()?;
    if std::env::args().any(|argument| argument == "--growth") {
        let results = growth::run(folder.path())?;
        return write("growth.md", &results.table, "growth.svg", &results.panels);
    }
    if std::env::args().any(|argument| argument == "--ingest") {
        println!("{}", measure::ingest(folder.path())?);
        return Ok(());
    }
    let criterion = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/criterion");
    let results = measure::run(folder.path(), &criterion)?;
    write("results.md", &results.table, "results.svg", &results.panels)
}

fn write(
    table_name: &str,
    table: &str,
    plot_name: &str,
    panels: &[plot::Panel],
) -> Result<(), Box<dyn Error>> {
    let measurements = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/measurements");
    fs::write(measurements.join(table_name), table)?;
    fs::write(measurements.join(plot_name), plot::svg(panels))?;
    println!("{table}");
    Ok(())
}
