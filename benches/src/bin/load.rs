//! Loads a receiver: `load ADDRESS SECRET [key=value …]`, for example
//! `load 127.0.0.1:8000 change-me-please connections=64 seconds=10 rate=5000`.

use std::{error::Error, time::Duration};

use cognigy_benches::load::{Ids, Load};
use cognigy_core::Secret;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [address, secret, options @ ..] = arguments.as_slice() else {
        return Err("usage: load ADDRESS SECRET [connections=64] [seconds=5] [bytes=512] [rate=N] [ids=random|ascending|repeated] [contact=off] [prefix=TEXT]".into());
    };
    let mut load = Load {
        address: address.parse()?,
        secret: Secret::new(secret.as_str())?,
        connections: 64,
        duration: Duration::from_secs(5),
        body_bytes: 512,
        rate: None,
        prefix: format!("{:x}", std::process::id()),
        ids: Ids::Random,
        contact: true,
    };
    for option in options {
        match option.split_once('=') {
            Some(("connections", value)) => load.connections = value.parse()?,
            Some(("seconds", value)) => load.duration = Duration::from_secs_f64(value.parse()?),
            Some(("bytes", value)) => load.body_bytes = value.parse()?,
            Some(("rate", value)) => load.rate = Some(value.parse()?),
            Some(("prefix", value)) => load.prefix = value.to_owned(),
            Some(("ids", "random")) => load.ids = Ids::Random,
            Some(("ids", "ascending")) => load.ids = Ids::Ascending,
            Some(("ids", "repeated")) => load.ids = Ids::Repeated,
            Some(("contact", value)) => load.contact = value == "on",
            _ => return Err(format!("unknown option {option}").into()),
        }
    }
    let report = load.run()?;
    println!(
        "{:.0} events/s accepted; p50 {:.2} ms, p99 {:.2} ms, p99.9 {:.2} ms; {} turned away (p99 {:.2} ms), {} failed",
        report.throughput(),
        report.milliseconds(0.5),
        report.milliseconds(0.99),
        report.milliseconds(0.999),
        report.turned_away,
        report.refusal.value_at_quantile(0.99) as f64 / 1000.0,
        report.failed,
    );
    Ok(())
}
