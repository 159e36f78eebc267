//! `discard`: drop dead letters.

use std::{io::IsTerminal, sync::Arc};

use clap::ArgMatches;
use cognigy_core::{Clock, EventKey, Store, TokioClock};
use serde_json::json;

use super::{
    events::{key_of, pairs_of, selection_of, source_of},
    operator_api::OperatorApi,
    print_json,
    purge::confirmed,
};
use crate::{
    audit::{COMMAND_LINE, Target, audit_command, recorder},
    deployment::Deployment,
    discards::{self, Outcome},
    error::StartError,
    output::{printable, say},
    store::{self, Access},
};

/// Where the dead letters are dropped: by a server, or in the database, with the keys of the named events.
enum Place {
    Server(OperatorApi),
    Database(Arc<dyn Store>, Vec<EventKey>),
}

/// The exit status is 1 if an event that was named is not dead-lettered or not stored.
pub(super) async fn run(
    arguments: &ArgMatches,
    deployment: &Deployment,
) -> Result<bool, StartError> {
    let (filter, ids) = selection_of(arguments, &deployment.settings)?;
    let dry_run = arguments.get_flag("dry-run");
    let access = if dry_run { Access::Read } else { Access::Write };
    let source = source_of(arguments)?;
    let mut chosen = serde_json::to_value(pairs_of(arguments)).unwrap_or_default();
    if !ids.is_empty() {
        chosen["ids"] = json!(ids);
    }
    let place = match OperatorApi::named(arguments, deployment)? {
        Some(server) => Place::Server(server),
        None => {
            let store = store::open(deployment, access, None).await?;
            let mut keys = Vec::<EventKey>::new();
            for id in &ids {
                keys.push(key_of(id, source.as_ref(), &*store, &deployment.settings).await?);
            }
            Place::Database(store, keys)
        }
    };
    let now = TokioClock::new().now();
    let discard = async |dry_run| -> Result<Outcome, StartError> {
        let (store, keys) = match &place {
            Place::Server(server) => {
                let mut body = chosen.clone();
                body["dry_run"] = json!(dry_run);
                return server.have_done(&["admin", "discards"], &body).await;
            }
            Place::Database(store, keys) => (store, keys),
        };
        let clock = TokioClock::new();
        let recorder = recorder(&**store, COMMAND_LINE, &clock);
        let outcome = match ids.is_empty() {
            true => discards::matching(&recorder, &filter, dry_run, now).await?,
            false => discards::of_keys(&recorder, keys, dry_run, now).await?,
        };
        if !dry_run {
            let (filter, count) = (Some(&chosen), Some(outcome.count));
            audit_command(&**store, "discard", Target::Selected, filter, count, "discarded").await;
        }
        Ok(outcome)
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
