//! `replay` and `redrive`: running events again.

use clap::ArgMatches;
#[cfg(feature = "sqs")]
use cognigy_core::Pipeline;
use cognigy_core::{EventFilter, EventKey, PageRequest, ReplayOutcome};
use serde_json::json;

use super::{
    Progress,
    events::{filter_of, key_of, source_of},
    print_json,
};
use crate::{
    app::{Access, App, StartError},
    http::view::printable,
    output::say,
    settings::Settings,
};

/// Events asked for at a time.
const PAGE: usize = 256;

/// Runs events now, in this process, one after the other. 1 if any of them failed.
pub(super) async fn replay(
    arguments: &ArgMatches,
    settings: &Settings,
) -> Result<bool, StartError> {
    let filter = filter_of(arguments)?;
    let ids: Vec<&String> = arguments.get_many("id").unwrap_or_default().collect();
    // Beside ids, the source is not a condition: it says whose they are.
    let conditions = match ids.is_empty() {
        true => filter.clone(),
        false => EventFilter { source: None, ..filter.clone() },
    };
    if ids.is_empty() == (conditions == EventFilter::default()) {
        return Err(StartError::Usage("name either events or a filter".to_owned()));
    }
    let app = App::build(settings, None, Access::Write, None).await?;
    let keys = match ids.as_slice() {
        [] => matching(&app, &filter).await?,
        ids => {
            let source = source_of(arguments)?;
            ids.iter().map(|id| key_of(id, &source)).collect::<Result<_, _>>()?
        }
    };
    let (mut replayed, mut failed) = (0_u64, 0_u64);
    let progress = Progress::new();
    for (index, key) in keys.iter().enumerate() {
        progress.show(&format!("{index} of {}", keys.len()));
        let outcome = match app.sources.get(&key.source) {
            Some(source) => Some(source.pipeline.replay(key, &app.clock).await),
            None => None,
        };
        let outcome = outcome.transpose().map_err(|error| StartError::failed("replay", &error))?;
        let (status, detail) = match outcome {
            Some(ReplayOutcome::Replayed(_)) => ("replayed", None),
            Some(ReplayOutcome::Failed(reason)) => ("failed", Some(reason)),
            Some(ReplayOutcome::NotFound) => ("not_found", None),
            Some(ReplayOutcome::Busy) => ("busy", None),
            None => ("not_configured", Some(format!("there is no source {}", key.source))),
        };
        if status == "replayed" {
            replayed += 1
        } else {
            failed += 1
        }
        let id = key.id.as_str();
        if arguments.get_flag("json") {
            print_json(&json!({ "event_id": id, "status": status, "detail": detail }))?;
        } else if let Some(detail) = detail {
            say!("{}: {status}: {}", printable(id), printable(&detail))?;
        } else {
            say!("{}: {status}", printable(id))?;
        }
    }
    drop(progress);
    if !arguments.get_flag("json") {
        say!("{replayed} replayed, {failed} not")?;
    }
    Ok(failed == 0)
}

async fn matching(app: &App, filter: &EventFilter) -> Result<Vec<EventKey>, StartError> {
    let mut keys = Vec::new();
    let mut page = PageRequest { limit: PAGE, after: None };
    loop {
        let found = app.store.list(filter, page).await?;
        keys.extend(
            found.events.into_iter().map(|event| EventKey { source: event.source, id: event.id }),
        );
        match found.next {
            Some(next) => page.after = Some(next),
            None => return Ok(keys),
        }
    }
}

/// Takes dead letters back from the queue.
#[cfg(feature = "sqs")]
pub(super) async fn redrive(
    arguments: &ArgMatches,
    settings: &Settings,
) -> Result<bool, StartError> {
    let of = super::source(arguments, settings)?;
    let source = crate::sources::dead_letter_source(of, settings).await?;
    let app = App::build(settings, None, Access::Write, None).await?;
    let max = Some(u64::from(super::number(arguments, "max"))).filter(|max| *max > 0);
    let progress = Progress::new();
    let shown = |report: &cognigy_core::RedriveReport| {
        progress.show(&format!("{} messages", report.seen()));
    };
    // Sources may share a queue: each message goes to the pipeline of its own.
    let pipelines = app.sources.pipelines();
    let report = Pipeline::redrive_among(&pipelines, &source, max, &app.clock, shown).await?;
    drop(progress);
    // Behind a message that stays, a FIFO queue hides the rest of its group for a while.
    let left = source.approximate_len().await.ok();
    if arguments.get_flag("json") {
        print_json(&json!({
            "requeued": report.requeued, "stored": report.stored, "busy": report.busy,
            "again": report.again, "unusable": report.unusable, "undeleted": report.undeleted, "left": left,
        }))?;
    } else {
        say!(
            "{} events run again, {} were stored anew; not taken back: {} held by a run, {} of events \
             taken back already, {} unusable",
            report.requeued,
            report.stored,
            report.busy,
            report.again,
            report.unusable
        )?;
        say!("left in the queue: about {}", left.map_or("?".to_owned(), |left| left.to_string()))?;
    }
    Ok(report.unusable == 0 && report.undeleted == 0)
}

#[cfg(not(feature = "sqs"))]
pub(super) async fn redrive(_: &ArgMatches, _: &Settings) -> Result<bool, StartError> {
    Err(StartError::Failed("this build has no SQS support".to_owned()))
}
