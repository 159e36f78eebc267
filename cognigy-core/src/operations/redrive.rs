//! Bringing dead letters back: from the queue to the store, and only then out of the queue.

use std::collections::HashSet;

use bytes::Bytes;

use crate::{
    event::{DeliveryContext, EventKey, same_content},
    intake::{Comparison, DeliveryIdentity, VerifiedDelivery},
    pipeline::Pipeline,
    ports::{
        Clock, DeadLetterMessage, DeadLetterSource, Failure, ReceivedDeadLetter, StoreError,
        StoreErrorKind, report,
    },
    store::Requeued,
};

/// How many messages are asked for at a time: what one SQS receive yields at most.
const BATCH: usize = 10;

/// What became of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Redriven {
    /// The event was in the store and runs again.
    Requeued,
    /// The event was not in the store any more. It was stored again from the message, and runs.
    Stored,
    /// Another run holds the event; the message stays in the queue.
    Busy,
    /// This redrive has taken the event back already: the message is a duplicate, or the event has
    /// failed again meanwhile. The message stays, because a redrive would otherwise never end for an event
    /// that keeps failing.
    Again,
    /// The message's payload is not what is stored under its event's id: it was edited. It stays,
    /// because a run would use the stored bytes, not the edited ones.
    Differs,
    /// The message is no dead letter, or belongs to a source that has no pipeline, or names an event that
    /// is not stored and comes without its payload. It stays.
    Unusable,
}

impl Redriven {
    /// The name in reports.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requeued => "requeued",
            Self::Stored => "stored",
            Self::Busy => "busy",
            Self::Again => "again",
            Self::Differs => "differs",
            Self::Unusable => "unusable",
        }
    }
}

/// A message that a redrive left in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeftMessage {
    /// The queue's own name for it.
    pub message_id: String,
    /// The event that it names, where that can be read.
    pub event: Option<EventKey>,
    /// What became of it.
    pub outcome: Redriven,
    /// Why it stays, in words.
    pub reason: String,
}

/// What a redrive did.
///
/// ```
/// use cognigy_core::RedriveReport;
///
/// /// What a command says at the end of a redrive.
/// fn summary(report: &RedriveReport) -> String {
///     let back = report.requeued + report.stored;
///     match report.left.first() {
///         None => format!("{back} events run again"),
///         Some(left) => format!("{back} events run again; {} stays: {}", left.message_id, left.reason),
///     }
/// }
/// assert_eq!(summary(&RedriveReport { requeued: 3, ..Default::default() }), "3 events run again");
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RedriveReport {
    /// Events that run again.
    pub requeued: u64,
    /// Events that were stored anew.
    pub stored: u64,
    /// Messages left in the queue because a run holds their event.
    pub busy: u64,
    /// Messages left in the queue because this redrive has taken their event back already.
    pub again: u64,
    /// Messages left in the queue because their payload is not what is stored.
    pub differs: u64,
    /// Messages left in the queue because no event can be taken from them.
    pub unusable: u64,
    /// Messages whose events were taken back, but which could not be deleted. The queue delivers them again.
    pub undeleted: u64,
    /// Each message that was left, in the order in which they were received.
    pub left: Vec<LeftMessage>,
}

/// What became of one message: how its event was taken back, or why the message stays.
type TakenBack = Result<Redriven, (Redriven, String)>;

/// The messages of one redrive.
#[derive(Default)]
struct Messages {
    /// Events that were taken back.
    taken: HashSet<EventKey>,
    /// Ids of messages that were left.
    left: HashSet<String>,
    /// Ids of messages whose events were taken back. Some queues deliver a message once more after
    /// it was deleted.
    finished: HashSet<String>,
    /// Those of them that could not be deleted.
    undeleted: HashSet<String>,
    /// Receipts of messages that are to be available again.
    to_release: Vec<String>,
}

impl Pipeline {
    /// Takes dead letters of this pipeline's source back, as [`redrive_among`](Self::redrive_among).
    ///
    /// # Errors
    ///
    /// As [`redrive_among`](Self::redrive_among).
    pub async fn redrive(
        &self,
        source: &dyn DeadLetterSource,
        max: Option<u64>,
        clock: &dyn Clock,
        progress: impl FnMut(&RedriveReport) + Send,
    ) -> Result<RedriveReport, Failure> {
        Self::redrive_among(std::slice::from_ref(self), source, max, clock, progress).await
    }

    /// Takes dead letters back from `source`: all of them, or at most `max`, and each event once. Each
    /// goes to the pipeline of its event's source. A message is deleted only after its event is durably due
    /// again. A crash in between repeats the event and does not lose it. Messages that stay can be received
    /// again once this has ended.
    ///
    /// # Errors
    ///
    /// The queue or the store cannot answer. What was taken back before stays so.
    pub async fn redrive_among(
        pipelines: &[Self],
        source: &dyn DeadLetterSource,
        max: Option<u64>,
        clock: &dyn Clock,
        progress: impl FnMut(&RedriveReport) + Send,
    ) -> Result<RedriveReport, Failure> {
        let mut messages = Messages::default();
        let ended = messages.take_back(pipelines, source, max, clock, progress).await;
        messages.release(source).await;
        ended
    }

    async fn take_event_back(
        &self,
        key: &EventKey,
        payload: Option<(Bytes, DeliveryContext)>,
        clock: &dyn Clock,
    ) -> Result<TakenBack, StoreError> {
        let left = |outcome, reason: &str| Ok(Err((outcome, reason.to_owned())));
        const DIFFERS: &str = "its payload differs from the stored event";
        if let Some((payload, _)) = &payload {
            match self.inner.store.find(key).await {
                Ok(Some(stored)) if !says_the_same(stored.event.body(), payload) => {
                    return left(Redriven::Differs, DIFFERS);
                }
                // What cannot be read back cannot be compared; its run will say so.
                Err(error) if error.kind() != StoreErrorKind::Corrupt => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        match self.requeue(std::slice::from_ref(key), clock.now()).await?.first() {
            Some(Requeued::Scheduled | Requeued::Waiting) => return Ok(Ok(Redriven::Requeued)),
            Some(Requeued::Busy) => return left(Redriven::Busy, "a run holds its event"),
            Some(Requeued::Forgotten) => {
                return left(Redriven::Unusable, "the body of its event was forgotten");
            }
            Some(Requeued::NotFound) | None => {}
        }
        let Some((payload, context)) = payload else {
            return left(
                Redriven::Unusable,
                "its event is not stored, and the message is without its payload",
            );
        };
        // The signature was checked when these bytes first came, and only operators write to the queue.
        let delivery = VerifiedDelivery::verified_earlier(
            key.source.clone(),
            payload,
            context,
            clock.now(),
            DeliveryIdentity::Known(key.id.clone()),
        );
        match self.inner.source.read(&delivery) {
            Ok(events) if matches!(&events[..], [event] if event.key == *key) => {
                match self.record_and_compare(events, clock.now()).await?.first() {
                    Some(Comparison::Other(_)) => left(Redriven::Differs, DIFFERS),
                    _ => Ok(Ok(Redriven::Stored)),
                }
            }
            Ok(_) => left(
                Redriven::Unusable,
                "its event is not stored, and its payload is that of another event",
            ),
            Err(invalid) => left(
                Redriven::Unusable,
                &format!("its event is not stored, and its payload is not one: {invalid}"),
            ),
        }
    }
}

/// White space around a body does not go into a message; nothing else may differ but how the same
/// JSON is written.
fn says_the_same(stored: &[u8], payload: &[u8]) -> bool {
    stored.trim_ascii() == payload.trim_ascii() || same_content(stored, payload)
}

impl Messages {
    async fn take_back(
        &mut self,
        pipelines: &[Pipeline],
        source: &dyn DeadLetterSource,
        max: Option<u64>,
        clock: &dyn Clock,
        mut progress: impl FnMut(&RedriveReport) + Send,
    ) -> Result<RedriveReport, Failure> {
        let mut report = RedriveReport::default();
        let mut wanted = max.unwrap_or(u64::MAX);
        while wanted > 0 {
            // Some queues deliver the messages that stay before all others, so more are asked for.
            let in_front = if source.holds_back() { self.left.len() } else { 0 };
            let count = usize::try_from(wanted).unwrap_or(BATCH).saturating_add(in_front);
            let batch = source.receive(count.min(BATCH)).await?;
            let (new, known): (Vec<_>, Vec<_>) =
                batch.into_iter().partition(|message| !self.knows(&message.id));
            wanted = wanted.saturating_sub(new.len() as u64);
            let mut to_delete = Vec::new();
            for message in known {
                match self.finished.contains(&message.id) {
                    true => to_delete.push(message),
                    false => self.to_release.push(message.receipt),
                }
            }
            let is_last = new.is_empty();
            let mut broke_off = None;
            for message in new {
                if broke_off.is_some() {
                    self.to_release.push(message.receipt);
                    continue;
                }
                match take_back(pipelines, &message, &mut self.taken, clock).await {
                    Ok((_, Ok(outcome))) => {
                        report.count(outcome);
                        self.finished.insert(message.id.clone());
                        to_delete.push(message);
                    }
                    Ok((event, Err((outcome, reason)))) => {
                        report.count(outcome);
                        let message_id = message.id.clone();
                        report.left.push(LeftMessage { message_id, event, outcome, reason });
                        self.left.insert(message.id);
                        self.to_release.push(message.receipt);
                    }
                    Err(error) => {
                        self.to_release.push(message.receipt);
                        broke_off = Some(error);
                    }
                }
            }
            self.delete(source, to_delete).await;
            report.undeleted = self.undeleted.len() as u64;
            if let Some(error) = broke_off {
                let what = "the store could not take a dead letter back";
                return Err(Failure::transient(what).caused_by(error));
            }
            progress(&report);
            // Every other message is taken. The queue would deliver those that stay again and again.
            if is_last {
                break;
            }
            if source.holds_back() {
                self.release(source).await;
            }
        }
        Ok(report)
    }

    fn knows(&self, id: &str) -> bool {
        self.left.contains(id) || self.finished.contains(id)
    }

    async fn delete(&mut self, source: &dyn DeadLetterSource, messages: Vec<ReceivedDeadLetter>) {
        let (ids, receipts): (Vec<_>, Vec<_>) =
            messages.into_iter().map(|message| (message.id, message.receipt)).unzip();
        if receipts.is_empty() {
            return;
        }
        let answers = source.acknowledge(&receipts).await;
        let mut answers = answers.into_iter();
        for (id, receipt) in ids.into_iter().zip(receipts) {
            match answers.next() {
                Some(Ok(())) => drop(self.undeleted.remove(&id)),
                Some(Err(_)) | None => {
                    self.undeleted.insert(id);
                    self.to_release.push(receipt);
                }
            }
        }
    }

    /// Makes messages available at once. If that fails, the queue does so later by itself.
    async fn release(&mut self, source: &dyn DeadLetterSource) {
        let receipts = std::mem::take(&mut self.to_release);
        if !receipts.is_empty() {
            let _ = source.release(&receipts).await;
        }
    }
}

async fn take_back(
    pipelines: &[Pipeline],
    message: &ReceivedDeadLetter,
    taken: &mut HashSet<EventKey>,
    clock: &dyn Clock,
) -> Result<(Option<EventKey>, TakenBack), StoreError> {
    let left = |key, outcome, reason: String| Ok((key, Err((outcome, reason))));
    let Some((key, payload)) = read_message(&message.body) else {
        return left(None, Redriven::Unusable, "it is not a dead letter".to_owned());
    };
    let of_its_source = |pipeline: &&Pipeline| *pipeline.inner.source.name() == key.source;
    let Some(pipeline) = pipelines.iter().find(of_its_source) else {
        let reason = format!("its source {} is not configured", key.source);
        return left(Some(key), Redriven::Unusable, reason);
    };
    if taken.contains(&key) {
        let reason = "its event was taken back already by this redrive".to_owned();
        return left(Some(key), Redriven::Again, reason);
    }
    let taken_back = pipeline.take_event_back(&key, payload, clock).await?;
    if taken_back.is_ok() {
        taken.insert(key.clone());
    }
    Ok((Some(key), taken_back))
}

fn read_message(body: &str) -> Option<(EventKey, Option<(Bytes, DeliveryContext)>)> {
    let message: DeadLetterMessage = serde_json::from_str(body).ok()?;
    let payload = message.raw_payload.as_ref().map(|raw| Bytes::from(raw.get().to_owned()));
    Some((message.key()?, payload.map(|payload| (payload, message.context.clone()))))
}

impl RedriveReport {
    /// How many messages were looked at.
    #[must_use]
    pub fn seen(&self) -> u64 {
        self.requeued + self.stored + self.left.len() as u64
    }

    fn count(&mut self, outcome: Redriven) {
        *match outcome {
            Redriven::Requeued => &mut self.requeued,
            Redriven::Stored => &mut self.stored,
            Redriven::Busy => &mut self.busy,
            Redriven::Again => &mut self.again,
            Redriven::Differs => &mut self.differs,
            Redriven::Unusable => &mut self.unusable,
        } += 1;
    }
}

impl From<StoreError> for Failure {
    fn from(store: StoreError) -> Self {
        Failure::transient(report(&store))
    }
}
