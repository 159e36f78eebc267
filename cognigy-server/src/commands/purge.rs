//! `purge`: forget what is older than the retention, now.

use std::io::{BufRead, IsTerminal, Write};

use clap::ArgMatches;
use cognigy_core::{Clock, EventArchive, PurgeRequest, Purged, Timestamp, TokioClock};
use serde_json::{Value, json};

use super::{Progress, print_json};
use crate::{
    deployment::Deployment,
    error::StartError,
    output::say,
    settings::Settings,
    store::{self, Access},
};

/// How many events one transaction forgets.
const STEP: usize = 256;

/// Asks for what is older than the retention at `now`.
pub(super) fn request(settings: &Settings, now: Timestamp, limit: usize) -> PurgeRequest {
    PurgeRequest {
        before: now - settings.retention,
        unresolved_before: settings.dead_letter_retention.map(|retention| now - retention),
        limit,
        after: None,
    }
}

pub(super) async fn run(
    arguments: &ArgMatches,
    deployment: &Deployment,
) -> Result<bool, StartError> {
    let as_json = arguments.get_flag("json");
    let dry_run = arguments.get_flag("dry-run");
    let access = if dry_run { Access::Read } else { Access::Write };
    let store = store::open(deployment, access, None).await?;
    let mut request = request(&deployment.settings, TokioClock::new().now(), STEP);
    if dry_run {
        let counted = store.purgeable(request).await?;
        report(&counted, &request, "would be forgotten", as_json)?;
        return Ok(true);
    }
    if !arguments.get_flag("yes") && std::io::stdin().is_terminal() {
        let counted = store.purgeable(request).await?;
        report(&counted, &request, "would be forgotten", false)?;
        if counted.is_empty() {
            return Ok(true);
        }
        if !confirmed("Forget them for good?")? {
            say!("nothing was forgotten")?;
            return Ok(false);
        }
    }
    let progress = Progress::new();
    let mut total = Purged::default();
    loop {
        let step = store.purge(request).await?;
        total.add(&step.purged);
        progress.show(&format!("{} events forgotten", total.total_events()));
        request.after = step.next;
        if request.after.is_none() {
            break;
        }
    }
    drop(progress);
    report(&total, &request, "forgotten", as_json)?;
    Ok(true)
}

/// Asks on the terminal.
pub(super) fn confirmed(question: &str) -> Result<bool, StartError> {
    eprint!("{question} [y/N] ");
    let failed = |error| StartError::failed("the terminal", &error);
    std::io::stderr().flush().map_err(failed)?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).map_err(failed)?;
    Ok(matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes"))
}

fn report(
    purged: &Purged,
    request: &PurgeRequest,
    what: &str,
    as_json: bool,
) -> Result<(), StartError> {
    let time = crate::view::time;
    let unresolved_before = request.unresolved_before.map(time);
    if as_json {
        let events = purged.events.iter().map(|(state, n)| (state.to_string(), json!(n)));
        let bodies = purged.quarantined.iter().map(|(why, n)| (why.as_str().to_owned(), json!(n)));
        return print_json(&json!({
            "purged": purged.total_events(),
            "events": Value::Object(events.collect()),
            "quarantined": Value::Object(bodies.collect()),
            "before": time(request.before),
            "dead_letters_before": unresolved_before,
        }));
    }
    let parts = purged.events.iter().map(|(state, count)| format!("{count} {state}"));
    let parts: Vec<_> = parts.collect();
    let parts = if parts.is_empty() { String::new() } else { format!(" ({})", parts.join(", ")) };
    say!(
        "{} events{parts} {what}, received before {}",
        purged.total_events(),
        time(request.before)
    )?;
    for (reason, count) in &purged.quarantined {
        say!("{count} quarantined bodies {what} ({})", reason.as_str())?;
    }
    match unresolved_before {
        Some(before) => say!("of dead letters and conflicts, those received before {before}"),
        None => say!("dead letters and conflicts stay (COGNIGY_DEAD_LETTER_RETENTION is never)"),
    }
}
