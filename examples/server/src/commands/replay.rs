//! `replay` and `redrive`: running events again.

use clap::ArgMatches;
use cognigy_core::{EventFilter, EventKey, PageRequest, ReplayOutcome};
use serde_json::json;

use super::{
    Progress,
    events::{filter_of, key_of},
    print_json,
};
use crate::{
    app::{App, StartError},
    http::view::printable,
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
    if ids.is_empty() == (filter == EventFilter::default()) {
        return Err(StartError::Usage("name either events or a filter".to_owned()));
    }
    let app = App::build(settings, None).await?;
    let keys = match ids.as_slice() {
        [] => matching(&app, &filter).await?,
        ids => ids.iter().map(|id| key_of(id)).collect::<Result<_, _>>()?,
    };
    let (mut replayed, mut failed) = (0_u64, 0_u64);
    let progress = Progress::new();
    for (index, key) in keys.iter().enumerate() {
        progress.show(&format!("{index} of {}", keys.len()));
        let outcome = app
            .pipeline
            .replay(key, &app.clock)
            .await
            .map_err(|error| StartError::failed("replay", &error))?;
        let (status, detail) = match outcome {
            ReplayOutcome::Replayed(_) => ("replayed", None),
            ReplayOutcome::Failed(reason) => ("failed", Some(reason)),
            ReplayOutcome::NotFound => ("not_found", None),
            ReplayOutcome::Busy => ("busy", None),
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
            println!("{}: {status}: {}", printable(id), printable(&detail));
        } else {
            println!("{}: {status}", printable(id));
        }
    }
    drop(progress);
    if !arguments.get_flag("json") {
        println!("{replayed} replayed, {failed} not");
    }
    Ok(failed == 0)
}

async fn matching(app: &App, filter: &EventFilter) -> Result<Vec<EventKey>, StartError> {
    let mut keys = Vec::new();
    let mut page = PageRequest { limit: PAGE, after: None };
    loop {
        let found = app.pipeline.store().list(filter, page).await?;
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
    use crate::settings::SettingError;

    let queue_url =
        settings.sqs_dlq_url.as_ref().ok_or_else(|| SettingError::missing("sqs_dlq_url"))?;
    let source = cognigy_sink_sqs::SqsSource::connect(queue_url)
        .await
        .map_err(|error| StartError::failed("SQS_DLQ_URL", &error))?;
    let app = App::build(settings, None).await?;
    let max = Some(u64::from(super::number(arguments, "max"))).filter(|max| *max > 0);
    let progress = Progress::new();
    let shown = |report: &cognigy_core::RedriveReport| {
        progress.show(&format!("{} messages", report.seen()));
    };
    let report = app.pipeline.redrive(&source, max, &app.clock, shown).await?;
    drop(progress);
    // Behind a message that stays, a FIFO queue hides the rest of its group for a while.
    let left = source.approximate_len().await.ok();
    if arguments.get_flag("json") {
        print_json(&json!({
            "requeued": report.requeued, "stored": report.stored, "busy": report.busy,
            "again": report.again, "unusable": report.unusable, "undeleted": report.undeleted, "left": left,
        }))?;
    } else {
        println!(
            "{} events run again, {} were stored anew; not taken back: {} held by a run, {} of events \
             taken back already, {} unusable",
            report.requeued, report.stored, report.busy, report.again, report.unusable
        );
        println!(
            "left in the queue: about {}",
            left.map_or("?".to_owned(), |left| left.to_string())
        );
    }
    Ok(report.unusable == 0 && report.undeleted == 0)
}

#[cfg(not(feature = "sqs"))]
pub(super) async fn redrive(_: &ArgMatches, _: &Settings) -> Result<bool, StartError> {
    Err(StartError::Failed("this build has no SQS support".to_owned()))
}
