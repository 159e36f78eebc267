//! `recorrelate`: ask the CRM again for events whose contact was not found then.

use std::collections::BTreeMap;

use clap::ArgMatches;
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::{
    Progress,
    events::{filter_of, pairs_of},
    follow::follow,
    interrupt::Interrupt,
    operator_api::OperatorApi,
    print_json,
    replay::matching,
};
use crate::{
    app::App,
    audit::{Target, audit_command},
    deployment::Deployment,
    error::StartError,
    output::{printable, say},
    recorrelation,
    store::Access,
};

/// Has a running server ask, and waits until it has. The exit status is 1 if the contact of an event is
/// still not known.
async fn run_at(
    server: &OperatorApi,
    filter: &BTreeMap<String, String>,
    runs_handler: bool,
    as_json: bool,
) -> Result<bool, StartError> {
    let interrupt = Interrupt::listen()?;
    let mut request = json!(filter);
    request["run"] = json!(runs_handler);
    let begun: Value = server.have_begun(&["admin", "recorrelations"], &request).await?;
    let id = begun["id"].as_str().unwrap_or_default();
    let ended = follow(server, id, &interrupt).await?;
    match as_json {
        true => print_json(&ended)?,
        false => say!("{} of {} have a contact now", ended["succeeded"], ended["total"])?,
    }
    Ok(ended["state"] == "done" && ended["failed"] == 0)
}

/// Runs the command. The exit status is 1 if the CRM did not answer for an event.
pub(super) async fn run(
    arguments: &ArgMatches,
    deployment: &Deployment,
) -> Result<bool, StartError> {
    let filter = filter_of(arguments, &deployment.settings)?;
    let runs_handler = arguments.get_flag("run");
    let as_json = arguments.get_flag("json");
    if let Some(server) = OperatorApi::named(arguments, deployment)? {
        return run_at(&server, &pairs_of(arguments), runs_handler, as_json).await;
    }
    let interrupt = Interrupt::listen()?;
    let app = App::build(deployment, Access::Write, None).await?;
    let mut keys = Vec::new();
    for filter in recorrelation::filters(&filter) {
        keys.extend(matching(&app, &filter).await?);
    }
    for source in app.pipelines.iter() {
        source.telemetry.leave_attempts_unlogged();
    }
    let total = keys.len();
    let progress = Progress::new();
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let at_once = app.pipelines.iter().map(|source| source.concurrency).min().unwrap_or(1);
    let mut outcomes = stream::iter(keys)
        .map(|key| {
            let app = &app;
            let stopped = interrupt.is_requested();
            async move {
                let outcome = if stopped {
                    None
                } else {
                    Some(recorrelation::ask(app, &key, runs_handler).await)
                };
                (key, outcome)
            }
        })
        .buffer_unordered(at_once);
    let mut done = 0_usize;
    while let Some((key, outcome)) = outcomes.next().await {
        let Some(outcome) = outcome else { continue };
        let recorrelation::Answer { outcome: name, detail } = outcome?;
        *counts.entry(name).or_default() += 1;
        done += 1;
        progress.show("");
        let id = key.id.as_str();
        match as_json {
            true => print_json(&json!({
                "event_id": id, "source": key.source.as_str(), "outcome": name, "detail": detail,
            }))?,
            false => match detail {
                Some(detail) => say!("{}: {name}: {}", printable(id), printable(&detail))?,
                None => say!("{}: {name}", printable(id))?,
            },
        }
        progress.count(done as u64, total as u64, "");
    }
    drop(progress);
    let (filter, count) = (json!(pairs_of(arguments)), Some(done as u64));
    let told = if interrupt.is_requested() { "broke_off" } else { "done" };
    let target = Target::Selected;
    audit_command(&*app.store, "recorrelate", target, Some(&filter), count, told).await;
    if interrupt.is_requested() {
        return Err(StartError::Interrupted(format!("{done} of {total} events were asked for")));
    }
    if !as_json {
        let matched = counts.get("matched").copied().unwrap_or_default();
        say!("{matched} of {total} have a contact now")?;
    }
    Ok(!counts.contains_key("failed"))
}
