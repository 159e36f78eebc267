//! `stats`: what is stored, in numbers.

use clap::ArgMatches;
use serde_json::Value;

use super::{
    database_or_server::{DatabaseOrServer, read},
    events::text,
};
use crate::{
    deployment::Deployment,
    error::StartError,
    output::{printable, say},
};

pub(super) async fn run(
    arguments: &ArgMatches,
    deployment: &Deployment,
) -> Result<bool, StartError> {
    let stats = DatabaseOrServer::open(arguments, deployment).await?.stats().await?;
    if arguments.get_flag("json") {
        say!("{}", stats.get())?;
        return Ok(true);
    }
    let stats = read(&stats);
    for (title, name) in [("events by status", "by_status"), ("events by type", "by_type")] {
        say!("{title}")?;
        for (name, count) in stats[name].as_object().into_iter().flatten() {
            say!("  {:<28}{:>12}", printable(name), text(count))?;
        }
    }
    for (name, title) in [
        ("quarantined", "bodies in quarantine"),
        ("unsent_dead_letters", "dead letters not sent yet"),
        ("held_back", "waiting for another event"),
        ("stopped_contacts", "stopped contacts"),
    ] {
        say!("{title:<30}{:>12}", text(&stats[name]))?;
    }
    let oldest = stats["oldest_pending_seconds"].as_f64().unwrap_or_default();
    say!("{:<30}{oldest:>10.1} s", "oldest waiting event")?;
    if let Value::Object(deliveries) = &stats["deliveries"] {
        say!("deliveries since the start")?;
        for (name, count) in deliveries {
            say!("  {:<28}{:>12}", printable(name), text(count))?;
        }
        let rate = |name: &str| stats["rates"][name].as_f64().unwrap_or_default();
        say!("{:<30}{:>12.1}", "received a second", rate("received_per_second"))?;
        say!("{:<30}{:>12.1}", "processed a second", rate("processed_per_second"))?;
    }
    for (source, paused) in stats["paused"].as_object().into_iter().flatten() {
        let (by, at) = (text(&paused["by"]), text(&paused["at"]));
        say!("{} is paused, by {by} at {at}", printable(source))?;
    }
    for (source, open) in stats["breakers"].as_object().into_iter().flatten() {
        let (since, error) = (text(&open["since"]), text(&open["error"]));
        let source = printable(source);
        say!("look-ups of {source} are held back since {since}: {error}")?;
    }
    Ok(true)
}
