//! `recorrelate`: ask the CRM again for events whose contact was not found then.

use std::collections::BTreeMap;

use clap::ArgMatches;
use cognigy_core::{Clock, Correlation, EventFilter, EventKey, Recorrelated, Requeued};
use futures_util::{StreamExt, stream};
use serde_json::json;

use super::{Progress, events::filter_of, interrupt::Interrupt, print_json, replay::matching};
use crate::{
    app::App,
    deployment::Deployment,
    error::StartError,
    output::{printable, say},
    store::Access,
};

/// What is asked for again unless `--correlation` says otherwise.
const UNKNOWN: [Correlation; 3] = [Correlation::None, Correlation::Ambiguous, Correlation::Failed];

/// Runs the command. The exit status is 1 if the CRM did not answer for an event.
pub(super) async fn run(
    arguments: &ArgMatches,
    deployment: &Deployment,
) -> Result<bool, StartError> {
    let filter = filter_of(arguments, &deployment.settings)?;
    let runs_handler = arguments.get_flag("run");
    let as_json = arguments.get_flag("json");
    let interrupt = Interrupt::listen()?;
    let app = App::build(deployment, Access::Write, None).await?;
    let mut keys = Vec::new();
    for correlation in UNKNOWN {
        if filter.correlation.is_none_or(|wanted| wanted == correlation) {
            let filter = EventFilter { correlation: Some(correlation), ..filter.clone() };
            keys.extend(matching(&app, &filter).await?);
        }
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
                let outcome = if stopped { None } else { Some(ask(app, &key, runs_handler).await) };
                (key, outcome)
            }
        })
        .buffer_unordered(at_once);
    let mut done = 0_usize;
    while let Some((key, outcome)) = outcomes.next().await {
        let Some(outcome) = outcome else { continue };
        let (name, detail) = outcome?;
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
        progress.show(&format!("{done} of {total}"));
    }
    drop(progress);
    if interrupt.is_requested() {
        return Err(StartError::Interrupted(format!("{done} of {total} events were asked for")));
    }
    if !as_json {
        let matched = counts.get("matched").copied().unwrap_or_default();
        say!("{matched} of {total} have a contact now")?;
    }
    Ok(!counts.contains_key("failed"))
}

/// Asks for one event. Yields the outcome's name, and why it failed.
async fn ask(
    app: &App,
    key: &EventKey,
    runs_handler: bool,
) -> Result<(&'static str, Option<String>), StartError> {
    let Some(source) = app.pipelines.get(&key.source) else {
        return Ok(("not_configured", None));
    };
    let outcome = source.pipeline.recorrelate(key, &app.clock).await?;
    let is_dead = matches!(outcome, Recorrelated::NotApplicable);
    let has_contact = matches!(outcome, Recorrelated::Matched(_));
    if runs_handler && (has_contact || is_dead) {
        // An event that was given up has no end but a run of its own.
        let answers = source.pipeline.requeue(std::slice::from_ref(key), app.clock.now()).await?;
        return Ok(match answers.first() {
            Some(Requeued::Scheduled | Requeued::Waiting) if has_contact => ("matched", None),
            Some(Requeued::Scheduled | Requeued::Waiting) => ("handed_over", None),
            _ => ("busy", None),
        });
    }
    let detail = match &outcome {
        Recorrelated::Failed(failure) => Some(failure.report()),
        Recorrelated::NotApplicable => Some("it is not processed; --run runs it again".to_owned()),
        _ => None,
    };
    Ok((outcome.as_str(), detail))
}
