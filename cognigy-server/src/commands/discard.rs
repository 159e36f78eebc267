//! `discard`: drop dead letters.

use std::io::IsTerminal;

use clap::ArgMatches;
use cognigy_core::{Clock, EventFilter, EventKey, TokioClock};

use super::{
    events::{filter_of, key_of, source_of},
    print_json,
    purge::confirmed,
};
use crate::{
    deployment::Deployment,
    discards::{self, Outcome},
    error::StartError,
    output::{printable, say},
    store::{self, Access},
};

/// The exit status is 1 if an event that was named is not dead-lettered or not stored.
pub(super) async fn run(
    arguments: &ArgMatches,
    deployment: &Deployment,
) -> Result<bool, StartError> {
    let filter = filter_of(arguments)?;
    let ids: Vec<&String> = arguments.get_many("id").unwrap_or_default().collect();
    // Beside ids, the source is not a condition: it names the source of the ids.
    let conditions = match ids.is_empty() {
        true => filter.clone(),
        false => EventFilter { source: None, ..filter.clone() },
    };
    if ids.is_empty() == (conditions == EventFilter::default()) {
        return Err(StartError::Usage("name either events or a filter".to_owned()));
    }
    let dry_run = arguments.get_flag("dry-run");
    let access = if dry_run { Access::Read } else { Access::Write };
    let store = store::open(deployment, access, None).await?;
    let (source, mut keys) = (source_of(arguments)?, Vec::<EventKey>::new());
    for id in &ids {
        keys.push(key_of(id, source.as_ref(), &*store, &deployment.settings).await?);
    }
    let now = TokioClock::new().now();
    let discard = async |dry_run| match ids.is_empty() {
        true => discards::matching(&*store, &filter, dry_run, now).await,
        false => discards::of_keys(&*store, &keys, dry_run, now).await,
    };
    let as_json = arguments.get_flag("json");
    if !dry_run && !arguments.get_flag("yes") && std::io::stdin().is_terminal() {
        let counted = discard(true).await?;
        report(&counted, "would be discarded", false)?;
        if counted.count == 0 {
            return Ok(ids.is_empty());
        }
        if !confirmed("Discard them?")? {
            say!("nothing was discarded")?;
            return Ok(false);
        }
    }
    let outcome = discard(dry_run).await?;
    report(&outcome, if dry_run { "would be discarded" } else { "discarded" }, as_json)?;
    Ok(outcome.not_dead_lettered + outcome.not_found == 0)
}

fn report(outcome: &Outcome, what: &str, as_json: bool) -> Result<(), StartError> {
    if as_json {
        return print_json(outcome);
    }
    say!("{} dead letters {what}", outcome.count)?;
    if !outcome.sample.is_empty() {
        let sample: Vec<_> = outcome.sample.iter().map(|id| printable(id)).collect();
        let more = if outcome.count > sample.len() as u64 { ", …" } else { "" };
        say!("{}{more}", sample.join(", "))?;
    }
    if outcome.not_dead_lettered > 0 {
        say!("{} are not dead-lettered", outcome.not_dead_lettered)?;
    }
    if outcome.not_found > 0 {
        say!("{} are not stored", outcome.not_found)?;
    }
    Ok(())
}
