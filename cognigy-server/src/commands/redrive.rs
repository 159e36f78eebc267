//! `redrive`: bring dead letters back from the queue.

use clap::ArgMatches;

use crate::{deployment::Deployment, error::StartError};

/// Takes dead letters back from the queue. The exit status is 1 if a message could not be taken
/// back.
#[cfg(feature = "sqs")]
pub(super) async fn redrive(
    arguments: &ArgMatches,
    deployment: &Deployment,
) -> Result<bool, StartError> {
    use cognigy_core::{Pipeline, RedriveReport};

    use super::{Progress, number};
    use crate::{app::App, store::Access};

    let settings = &deployment.settings;
    let of = super::source(arguments, settings)?;
    let source = crate::pipelines::dead_letter_source(of, settings.proxy_from_env).await?;
    let app = App::build(deployment, Access::Write, None).await?;
    let max = Some(u64::from(number(arguments, "max"))).filter(|max| *max > 0);
    let progress = Progress::new();
    let shown = |report: &RedriveReport| progress.show(&format!("{} messages", report.seen()));
    // Sources may share a queue: each message goes to the pipeline of its own source.
    let pipelines = app.pipelines.all();
    let report = Pipeline::redrive_among(&pipelines, &source, max, &app.clock, shown).await?;
    drop(progress);
    let length = source.approximate_len().await.ok();
    print::report(&report, length, arguments.get_flag("json"))?;
    // The queue hides messages that another process has received, so a redrive may see none although some
    // are there. The queue's own count may be a minute old. It is used only if the redrive saw no message.
    let hidden = report.seen() == 0 && length.is_some_and(|length| length.total() > 0);
    if hidden {
        crate::output::complain(
            "the queue holds messages that were not handed out: another process has received them, \
             or a count is out of date; try again in a minute",
        );
    }
    Ok(report.left.is_empty() && report.undeleted == 0 && !hidden)
}

#[cfg(not(feature = "sqs"))]
pub(super) async fn redrive(_: &ArgMatches, _: &Deployment) -> Result<bool, StartError> {
    Err(StartError::Failed("this build has no SQS support".to_owned()))
}

#[cfg(feature = "sqs")]
mod print {
    use cognigy_core::{LeftMessage, RedriveReport};
    use cognigy_sink_sqs::QueueLength;
    use serde_json::{Value, json};

    use crate::{
        commands::print_json,
        error::StartError,
        output::{printable, say},
    };

    pub(super) fn report(
        report: &RedriveReport,
        length: Option<QueueLength>,
        as_json: bool,
    ) -> Result<(), StartError> {
        let RedriveReport { requeued, stored, busy, again, differs, unusable, undeleted, left } =
            report;
        let total = length.map(QueueLength::total);
        if as_json {
            let left_messages: Vec<Value> = left.iter().map(json_of).collect();
            return print_json(&json!({
                "requeued": requeued, "stored": stored, "busy": busy, "again": again,
                "differs": differs, "unusable": unusable, "undeleted": undeleted, "left": total,
                "left_messages": left_messages,
            }));
        }
        say!(
            "{requeued} events run again, {stored} were stored anew; not taken back: {busy} held by \
             a run, {again} of events taken back already, {differs} with another payload than is \
             stored, {unusable} unusable"
        )?;
        for LeftMessage { message_id, event, outcome: _, reason } in left {
            let event = event.as_ref().map_or_else(String::new, |key| {
                let of = match key.source.is_default() {
                    true => String::new(),
                    false => format!(" of {}", key.source),
                };
                format!(" (event {}{of})", printable(key.id.as_str()))
            });
            say!("left: {}{event}: {}", printable(message_id), printable(reason))?;
        }
        if *undeleted > 0 {
            say!(
                "{undeleted} messages could not be deleted after their events were taken back: the queue delivers them again"
            )?;
        }
        say!("left in the queue: about {}", total.map_or("?".to_owned(), |left| left.to_string()))
    }

    fn json_of(left: &LeftMessage) -> Value {
        let LeftMessage { message_id, event, outcome, reason } = left;
        json!({
            "message_id": message_id,
            "event_id": event.as_ref().map(|key| key.id.as_str()),
            "source": event.as_ref().map(|key| key.source.as_str()),
            "outcome": outcome.as_str(),
            "reason": reason,
        })
    }
}
