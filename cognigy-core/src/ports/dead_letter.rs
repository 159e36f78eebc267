//! Dead letters: events that were given up, on their way out and back in.
//!
//! A dead letter is first written to the store's outbox together with the decision to give up, and
//! goes to the [`DeadLetterSink`] from there, as often as it takes. A [`DeadLetterSource`] brings
//! messages back.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    event::{DeliveryContext, EventKey, EventTime, EventType, SourceName, Timestamp},
    ports::Failure,
};

/// An event that was given up.
///
/// ```
/// use cognigy_core::{DeadLetterMessage, Failure, testing::World};
///
/// // What a sink gets of an event that its handler refused.
/// let mut world = World::start(|_, _| async { Err(Failure::permanent("the order is closed")) });
/// world.deliver("e1");
/// world.pass(std::time::Duration::from_secs(1));
/// let dead_letter = &world.dead_letters()[0];
/// assert_eq!((dead_letter.run, dead_letter.attempts), (1, 1));
///
/// let message: DeadLetterMessage = serde_json::from_str(&dead_letter.to_message(false))?;
/// assert_eq!(message.key(), Some(dead_letter.key.clone()));
/// assert!(message.error_message.contains("the order is closed"));
/// # Ok::<_, serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Which event.
    pub key: EventKey,
    /// The run that failed, from 1. A replay that fails is another dead letter.
    pub run: u32,
    /// What kind of event it was.
    pub kind: EventType,
    /// When it happened, by the sender's word.
    pub time: EventTime,
    /// Why it was given up.
    pub error_message: String,
    /// How many attempts the run made.
    pub attempts: u32,
    /// When the event was first received.
    pub first_received_at: Timestamp,
    /// The received bytes; empty if they cannot be read back, and for sensitive events.
    pub raw_payload: Bytes,
    /// The kept headers of the delivery.
    pub context: DeliveryContext,
}

/// The contract's message, shared by everything that carries dead letters.
///
/// ```
/// use cognigy_core::DeadLetterMessage;
///
/// // A program of yours that reads the queue.
/// let text = r#"{"eventId":"e1","type":"DIALOG_STARTED","timestamp":1772366400,
///     "errorMessage":"the CRM answered 503","rawPayload":{"eventId":"e1"},"attempts":4,
///     "firstReceivedAt":"2026-03-01T12:00:00Z"}"#;
/// let message: DeadLetterMessage = serde_json::from_str(text)?;
/// assert_eq!((message.event_id.as_str(), message.attempts), ("e1", 4));
/// assert!(!message.raw_payload_omitted);
/// # Ok::<_, serde_json::Error>(())
/// ```
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DeadLetterMessage {
    /// The event's id.
    pub event_id: String,
    /// The event's type, by name.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// The event's time as sent: a string or a number.
    pub timestamp: Box<RawValue>,
    /// Why it was given up.
    pub error_message: String,
    /// The received JSON object, unchanged.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub raw_payload: Option<Box<RawValue>>,
    /// Set where the payload did not fit, could not be read back, or is sensitive.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub raw_payload_omitted: bool,
    /// How many attempts the run made.
    #[serde(default)]
    pub attempts: u32,
    /// When the event was first received, RFC 3339.
    pub first_received_at: Option<String>,
    /// The event's source, where it is not the default one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    /// The kept headers of the delivery, as pairs of name and value, where there are any.
    #[serde(default, skip_serializing_if = "DeliveryContext::is_empty")]
    pub context: DeliveryContext,
}

impl DeadLetter {
    /// The message's JSON text, with the payload unless `omit_payload` or it cannot be read.
    #[must_use]
    pub fn to_message(&self, omit_payload: bool) -> String {
        let raw = |json: &str| serde_json::from_str::<&RawValue>(json).ok().map(ToOwned::to_owned);
        let payload = (!omit_payload)
            .then(|| std::str::from_utf8(&self.raw_payload).ok().and_then(raw))
            .flatten();
        let message = DeadLetterMessage {
            event_id: self.key.id.as_str().to_owned(),
            kind: self.kind.clone(),
            timestamp: raw(self.time.as_json()).unwrap_or_else(|| RawValue::NULL.to_owned()),
            error_message: self.error_message.clone(),
            raw_payload_omitted: payload.is_none(),
            raw_payload: payload,
            attempts: self.attempts,
            first_received_at: Some(
                self.first_received_at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true),
            ),
            source: (!self.key.source.is_default()).then(|| self.key.source.to_string()),
            context: self.context.clone(),
        };
        // Strings, numbers and JSON that was parsed a line above: nothing here can fail.
        #[allow(clippy::expect_used)]
        serde_json::to_string(&message).expect("a dead letter is plain JSON")
    }
}

impl DeadLetterMessage {
    /// The event's identity, if the message names one that can exist.
    #[must_use]
    pub fn key(&self) -> Option<EventKey> {
        let source = match &self.source {
            Some(name) => name.parse().ok()?,
            None => SourceName::default(),
        };
        Some(EventKey { source, id: self.event_id.parse().ok()? })
    }
}

/// Takes dead letters in.
///
/// ## Contract
/// * One answer for each entry, in order; `Ok` means the other side has it for good.
/// * An entry may be sent again after an error or a crash: the same run of the same event should be
///   recognisable as the same message.
/// * Failures never end the matter: the pipeline tries again for as long as it takes.
///
/// ```
/// use std::{io::Write, sync::Mutex};
///
/// use async_trait::async_trait;
/// use cognigy_core::{DeadLetter, DeadLetterSink, Failure, OrFail};
///
/// /// A file with a dead letter on each line.
/// struct Lines(Mutex<std::fs::File>);
///
/// impl Lines {
///     fn append(&self, dead_letter: &DeadLetter) -> Result<(), Failure> {
///         let mut file = self.0.lock().map_err(|_| Failure::transient("the file is in use"))?;
///         writeln!(file, "{}", dead_letter.to_message(false)).or_transient("the file")?;
///         file.sync_data().or_transient("the file cannot be synced") // `Ok` means: for good
///     }
/// }
///
/// #[async_trait]
/// impl DeadLetterSink for Lines {
///     async fn send(&self, batch: &[DeadLetter]) -> Vec<Result<(), Failure>> {
///         batch.iter().map(|dead_letter| self.append(dead_letter)).collect()
///     }
/// }
/// # use cognigy_core::{memory::MemoryStore, testing::{ManualClock, World, sample}};
/// # let (folder, clock) = (std::env::temp_dir(), ManualClock::new(sample::start()));
/// # let path = folder.join(format!("dead-letters-{}", std::process::id()));
///
/// let lines = Lines(Mutex::new(std::fs::File::create(&path)?));
/// let mut world = World::built(clock, MemoryStore::new(), |pipeline| {
///     pipeline
///         .handler(|_, _| async { Err(Failure::permanent("the order is closed")) })
///         .dead_letters(lines)
/// });
/// world.start_worker();
/// world.deliver("e1");
/// world.pass(std::time::Duration::from_secs(1));
/// assert!(std::fs::read_to_string(&path)?.contains("the order is closed"));
/// # std::fs::remove_file(path)?;
/// # Ok::<_, std::io::Error>(())
/// ```
#[async_trait]
pub trait DeadLetterSink: Send + Sync + 'static {
    /// Sends a batch of any size.
    ///
    /// # Errors
    /// Of each entry by itself: the other side does not have it, or may not have it. The pipeline sends such an entry
    /// again, after a transient and after a permanent failure alike.
    async fn send(&self, batch: &[DeadLetter]) -> Vec<Result<(), Failure>>;

    /// Whether there is no other side: dead letters stay in the store, and nothing is sent.
    fn keeps_in_store(&self) -> bool {
        false
    }
}

#[async_trait]
impl<S: DeadLetterSink + ?Sized> DeadLetterSink for Arc<S> {
    async fn send(&self, batch: &[DeadLetter]) -> Vec<Result<(), Failure>> {
        (**self).send(batch).await
    }

    fn keeps_in_store(&self) -> bool {
        (**self).keeps_in_store()
    }
}

/// No queue: dead letters stay in the store, where an operator finds and replays them.
///
/// ```
/// use cognigy_core::{
///     Failure, KeepInStore, State, memory::MemoryStore,
///     testing::{ManualClock, World, sample},
/// };
///
/// let clock = ManualClock::new(sample::start());
/// let mut world = World::built(clock, MemoryStore::new(), |pipeline| {
///     pipeline.handler(|_, _| async { Err(Failure::permanent("no")) }).dead_letters(KeepInStore)
/// });
/// world.start_worker();
/// world.deliver("e1");
/// world.pass(std::time::Duration::from_secs(1));
/// assert_eq!(world.state("e1"), State::DeadLettered); // an operator can replay it
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct KeepInStore;

#[async_trait]
impl DeadLetterSink for KeepInStore {
    async fn send(&self, batch: &[DeadLetter]) -> Vec<Result<(), Failure>> {
        batch.iter().map(|_| Ok(())).collect()
    }

    fn keeps_in_store(&self) -> bool {
        true
    }
}

/// A message received from a queue of dead letters.
#[derive(Debug, Clone)]
pub struct ReceivedDeadLetter {
    /// The queue's own name for the message: the same each time the message is received.
    pub id: String,
    /// The message's text: not yet trusted to be one of ours.
    pub body: String,
    /// What acknowledging needs; differs each time the message is received.
    pub receipt: String,
}

/// Gives dead letters back.
///
/// ## Contract
/// * What was received and neither acknowledged nor released comes back later.
///
/// ```
/// use std::sync::Mutex;
///
/// use async_trait::async_trait;
/// use cognigy_core::{
///     DeadLetterSource, Failure, ReceivedDeadLetter, State,
///     testing::{CrmAnswer, World},
/// };
///
/// /// A queue in memory, which never gives one message to two readers.
/// #[derive(Default)]
/// struct Messages(Mutex<Vec<String>>);
///
/// #[async_trait]
/// impl DeadLetterSource for Messages {
///     async fn receive(&self, max: usize) -> Result<Vec<ReceivedDeadLetter>, Failure> {
///         let messages = self.0.lock().unwrap();
///         let received = messages.iter().take(max).map(|body| ReceivedDeadLetter {
///             id: body.clone(),
///             body: body.clone(),
///             receipt: body.clone(),
///         });
///         Ok(received.collect())
///     }
///
///     async fn acknowledge(&self, receipts: &[String]) -> Vec<Result<(), Failure>> {
///         self.0.lock().unwrap().retain(|body| !receipts.contains(body));
///         receipts.iter().map(|_| Ok(())).collect()
///     }
/// }
///
/// let mut world = World::start(cognigy_core::NoHandler);
/// world.crm.set_default(CrmAnswer::Permanent("no such field".into()));
/// world.deliver("e1");
/// world.pass(std::time::Duration::from_secs(1));
/// let queue = Messages::default();
/// queue.0.lock().unwrap().push(world.dead_letters()[0].to_message(false));
///
/// // The field is there now: bring back what was given up meanwhile.
/// world.crm.set_default(CrmAnswer::Found(r#"{"name":"Ada"}"#.into()));
/// let redrive = world.pipeline.redrive(&queue, None, &world.clock, |_| ());
/// let report = futures_executor::block_on(redrive)?;
/// assert_eq!((report.requeued, report.left.len()), (1, 0));
/// world.pass(std::time::Duration::from_secs(1));
/// assert_eq!(world.state("e1"), State::Processed);
/// # Ok::<_, Failure>(())
/// ```
#[async_trait]
pub trait DeadLetterSource: Send + Sync + 'static {
    /// Up to `max` messages; none when the queue is empty.
    ///
    /// # Errors
    /// The queue cannot be asked. The redrive ends with this failure; what it has taken back stays taken back.
    async fn receive(&self, max: usize) -> Result<Vec<ReceivedDeadLetter>, Failure>;

    /// Deletes messages for good. One answer for each receipt, in order.
    ///
    /// # Errors
    /// Of each receipt by itself: the message may still be there. The redrive counts it as `undeleted`, and the queue
    /// delivers it again.
    async fn acknowledge(&self, receipts: &[String]) -> Vec<Result<(), Failure>>;

    /// Makes received messages available again at once, instead of after a time. One answer for
    /// each receipt, in order; an error means that they come back later.
    ///
    /// # Errors
    /// Of each receipt by itself: the message comes back later, by itself. Nothing has to be done.
    async fn release(&self, receipts: &[String]) -> Vec<Result<(), Failure>> {
        receipts.iter().map(|_| Ok(())).collect()
    }

    /// Whether a message that is received and neither acknowledged nor released holds back those
    /// behind it, as in a FIFO queue.
    fn holds_back(&self) -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::EventKey;

    fn letter() -> DeadLetter {
        DeadLetter {
            key: EventKey::cognigy("e1".parse().unwrap()),
            run: 1,
            kind: EventType::DialogStarted,
            time: EventTime::from_json("1772366400").unwrap(),
            error_message: "503".into(),
            attempts: 4,
            first_received_at: Timestamp::UNIX_EPOCH,
            raw_payload: Bytes::from_static(b"{\"amount\": 1e400}"),
            context: DeliveryContext::default(),
        }
    }

    #[test]
    fn the_message_carries_the_contract_s_fields_and_the_payload_unchanged() {
        let letter = letter();
        assert_eq!(
            letter.to_message(false),
            r#"{"eventId":"e1","type":"DIALOG_STARTED","timestamp":1772366400,"errorMessage":"503","rawPayload":{"amount": 1e400},"attempts":4,"firstReceivedAt":"1970-01-01T00:00:00.000000Z"}"#
        );
        let omitted = letter.to_message(true);
        assert!(omitted.contains(r#""rawPayloadOmitted":true"#) && !omitted.contains("1e400"));
        let read: DeadLetterMessage = serde_json::from_str(&letter.to_message(false)).unwrap();
        assert_eq!(read.key(), Some(letter.key));
    }

    #[test]
    fn whoever_keeps_letters_in_the_store_takes_each_of_them() {
        assert!(Arc::new(KeepInStore).keeps_in_store());
        let answers = futures_executor::block_on(KeepInStore.send(&[letter(), letter()]));
        assert!(matches!(answers[..], [Ok(()), Ok(())]), "{answers:?}");
    }
}
