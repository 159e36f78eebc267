//! Brings dead letters back from the queue, for the operator API and for the command.

#[cfg(feature = "sqs")]
use cognigy_core::{LeftMessage, Pipeline, RedriveReport};
use serde::{Deserialize, Serialize};

/// What a redrive did.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Events that run again.
    pub(crate) requeued: u64,
    /// Events that were stored anew, and run.
    pub(crate) stored: u64,
    /// Messages that were left: a run holds their event.
    pub(crate) busy: u64,
    /// Messages that were left: this redrive has taken their event back already.
    pub(crate) again: u64,
    /// Messages that were left: their payload is not what is stored.
    pub(crate) differs: u64,
    /// Messages that were left: no event can be taken from them.
    pub(crate) unusable: u64,
    /// Messages that could not be deleted after their events were taken back.
    pub(crate) undeleted: u64,
    /// How many messages are in the queue, by its own count, which may be a minute old.
    pub(crate) left: Option<u64>,
    pub(crate) left_messages: Vec<Left>,
}

/// A message that was left in the queue.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Left {
    pub(crate) message_id: String,
    pub(crate) event_id: Option<String>,
    pub(crate) source: Option<String>,
    pub(crate) outcome: String,
    pub(crate) reason: String,
}

impl Outcome {
    /// How many messages were looked at.
    pub(crate) fn seen(&self) -> u64 {
        self.requeued + self.stored + self.busy + self.again + self.differs + self.unusable
    }
}

#[cfg(feature = "sqs")]
impl From<RedriveReport> for Outcome {
    fn from(report: RedriveReport) -> Self {
        let RedriveReport { requeued, stored, busy, again, differs, unusable, undeleted, left } =
            report;
        let left_messages = left.into_iter().map(Left::from).collect();
        let left = None;
        Self { requeued, stored, busy, again, differs, unusable, undeleted, left, left_messages }
    }
}

#[cfg(feature = "sqs")]
impl From<LeftMessage> for Left {
    fn from(left: LeftMessage) -> Self {
        let LeftMessage { message_id, event, outcome, reason } = left;
        let event_id = event.as_ref().map(|key| key.id.as_str().to_owned());
        let source = event.map(|key| key.source.to_string());
        Self { message_id, event_id, source, outcome: outcome.as_str().to_owned(), reason }
    }
}

/// Takes at most `max` messages back from the queue of the source `of`. Tells `shown` how many were seen.
#[cfg(feature = "sqs")]
pub(crate) async fn redrive(
    app: &crate::app::App,
    of: &crate::settings::SourceSettings,
    max: Option<u64>,
    shown: impl Fn(u64) + Send + Sync,
) -> Result<Outcome, crate::error::StartError> {
    let proxy = app.settings.proxy_from_env;
    let queue = crate::pipelines::dead_letter_source(of, proxy).await?;
    // Sources may share a queue: each message goes to the pipeline of its own source.
    let pipelines = app.pipelines.all();
    let progress = |report: &RedriveReport| shown(report.seen());
    let report = Pipeline::redrive_among(&pipelines, &queue, max, &app.clock, progress).await?;
    let left = queue.approximate_len().await.ok();
    let left = left.map(cognigy_sink_sqs::QueueLength::total);
    Ok(Outcome { left, ..Outcome::from(report) })
}

#[cfg(not(feature = "sqs"))]
#[allow(clippy::unused_async)]
pub(crate) async fn redrive(
    _: &crate::app::App,
    _: &crate::settings::SourceSettings,
    _: Option<u64>,
    _: impl Fn(u64) + Send + Sync,
) -> Result<Outcome, crate::error::StartError> {
    Err(crate::error::StartError::Failed("this build has no SQS support".to_owned()))
}
