//! Bringing dead letters back: from the queue to the store, and only then out of the queue.

use std::collections::HashSet;

use bytes::Bytes;

use crate::{
    Clock, DeadLetterMessage, DeadLetterSource, EventKey, Failure, IncomingEvent, Pipeline,
    ReceivedDeadLetter, Requeued, StoreError, VerifiedDelivery, error, ingest::Comparison,
};

/// How many messages are asked for at a time: what one SQS receive yields at most.
const BATCH: usize = 10;

/// What became of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redriven {
    /// The event was in the store and runs again.
    Requeued,
    /// The event was not in the store any more; its payload is, and runs.
    Stored,
    /// Another run holds the event; the message stays in the queue.
    Busy,
    /// This redrive has taken the event back already: the message is a duplicate, or the event has
    /// failed again meanwhile. It stays, or events that keep failing would be redriven for ever.
    Again,
    /// Not one of our messages, or one of a source that no pipeline is for, or one whose event is
    /// gone and whose payload was omitted; stays.
    Unusable,
}

/// What a redrive did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RedriveReport {
    /// Events that run again.
    pub requeued: u64,
    /// Events that were stored anew.
    pub stored: u64,
    /// Messages left in the queue because a run holds their event.
    pub busy: u64,
    /// Messages left in the queue because this redrive has taken their event back already.
    pub again: u64,
    /// Messages left in the queue because nothing can be made of them.
    pub unusable: u64,
    /// Messages whose events were taken back but that could not be deleted; they come again.
    pub undeleted: u64,
}

impl Pipeline {
    /// Takes dead letters of this pipeline's source back, as [`redrive_among`](Self::redrive_among).
    pub async fn redrive(
        &self,
        source: &dyn DeadLetterSource,
        max: Option<u64>,
        clock: &dyn Clock,
        progress: impl FnMut(&RedriveReport) + Send,
    ) -> Result<RedriveReport, Failure> {
        Self::redrive_among(std::slice::from_ref(self), source, max, clock, progress).await
    }

    /// Takes dead letters back from `source`, each by the pipeline of its event's source: all of
    /// them, or `max`, and each event once. Each one's event is durably due again before its message
    /// is deleted, so that a crash in between repeats it, not loses it.
    pub async fn redrive_among(
        pipelines: &[Self],
        source: &dyn DeadLetterSource,
        max: Option<u64>,
        clock: &dyn Clock,
        mut progress: impl FnMut(&RedriveReport) + Send,
    ) -> Result<RedriveReport, Failure> {
        let mut report = RedriveReport::default();
        let mut left = max.unwrap_or(u64::MAX);
        let mut taken = HashSet::new();
        while left > 0 {
            let wanted = usize::try_from(left).unwrap_or(BATCH).min(BATCH);
            let messages = source.receive(wanted).await?;
            if messages.is_empty() {
                break;
            }
            left = left.saturating_sub(messages.len() as u64);
            let mut receipts = Vec::new();
            for message in &messages {
                let outcome =
                    take_back(pipelines, message, &mut taken, clock).await.map_err(|error| {
                        Failure::transient("the store could not take a dead letter back")
                            .caused_by(error)
                    })?;
                match outcome {
                    Redriven::Requeued => report.requeued += 1,
                    Redriven::Stored => report.stored += 1,
                    Redriven::Busy => report.busy += 1,
                    Redriven::Again => report.again += 1,
                    Redriven::Unusable => report.unusable += 1,
                }
                if matches!(outcome, Redriven::Requeued | Redriven::Stored) {
                    receipts.push(message.receipt.clone());
                }
            }
            // Only what stays in the queue is left: asking on would yield the same again.
            let no_progress = receipts.is_empty();
            let answers = source.acknowledge(&receipts).await;
            report.undeleted += answers.iter().filter(|answer| answer.is_err()).count() as u64;
            progress(&report);
            if no_progress {
                break;
            }
        }
        Ok(report)
    }

    async fn take_event_back(
        &self,
        key: &EventKey,
        payload: Option<Bytes>,
        clock: &dyn Clock,
    ) -> Result<Redriven, StoreError> {
        match self.requeue(std::slice::from_ref(key), clock.now()).await?.first() {
            Some(Requeued::Scheduled | Requeued::Waiting) => return Ok(Redriven::Requeued),
            Some(Requeued::Busy) => return Ok(Redriven::Busy),
            Some(Requeued::NotFound) | None => {}
        }
        let Some(payload) = payload else { return Ok(Redriven::Unusable) };
        // We signed for these bytes when they first came; the queue is ours.
        let delivery = VerifiedDelivery::verified_earlier(key.source.clone(), payload);
        match IncomingEvent::read(&delivery, &*self.inner.source.format) {
            Ok(event) if event.key == *key => {
                match self.record_and_compare(event, clock.now()).await? {
                    Comparison::New | Comparison::Same => Ok(Redriven::Stored),
                    Comparison::Other { .. } => Ok(Redriven::Busy),
                }
            }
            Ok(_) | Err(_) => Ok(Redriven::Unusable),
        }
    }
}

async fn take_back(
    pipelines: &[Pipeline],
    message: &ReceivedDeadLetter,
    taken: &mut HashSet<EventKey>,
    clock: &dyn Clock,
) -> Result<Redriven, StoreError> {
    let Some((key, payload)) = read_message(&message.body) else {
        return Ok(Redriven::Unusable);
    };
    let of_its_source = |pipeline: &&Pipeline| pipeline.inner.source.name == key.source;
    let Some(pipeline) = pipelines.iter().find(of_its_source) else {
        return Ok(Redriven::Unusable);
    };
    if taken.contains(&key) {
        return Ok(Redriven::Again);
    }
    let outcome = pipeline.take_event_back(&key, payload, clock).await?;
    if matches!(outcome, Redriven::Requeued | Redriven::Stored) {
        taken.insert(key);
    }
    Ok(outcome)
}

fn read_message(body: &str) -> Option<(EventKey, Option<Bytes>)> {
    let message: DeadLetterMessage = serde_json::from_str(body).ok()?;
    let payload = message.raw_payload.as_ref().map(|raw| Bytes::from(raw.get().to_owned()));
    Some((message.key()?, payload))
}

impl RedriveReport {
    /// How many messages were looked at.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.requeued + self.stored + self.busy + self.again + self.unusable
    }
}

impl From<StoreError> for Failure {
    fn from(store: StoreError) -> Self {
        Failure::transient(error::report(&store))
    }
}
