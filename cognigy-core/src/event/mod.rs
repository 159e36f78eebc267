//! What an event is: its identity, its type, its time, its contact, and the bytes it came in.
//!
//! An [`Event`] is a typed view; the received body travels beside it untouched, so that whatever
//! the types do not know is preserved byte for byte. Reading a body is the work of an
//! [`EventFormat`](crate::EventFormat); JSON limits and comparison are in [`json`].

mod context;
mod correlation;
mod decode;
mod id;
mod invalid;
pub(crate) mod json;
mod kind;
mod source_name;
mod state;
mod time;
mod trace_parent;

use bytes::Bytes;
use serde::de::{DeserializeOwned, IgnoredAny};

pub use context::DeliveryContext;
pub use correlation::{Correlation, UnknownCorrelation};
pub use decode::DecodeError;
pub(crate) use decode::decode;
pub use id::{EventId, EventKey, InvalidEventId};
pub use invalid::{FieldError, InvalidEvent};
pub use json::{MAX_JSON_DEPTH, same_content};
pub use kind::EventType;
pub use source_name::{DEFAULT_SOURCE, InvalidSourceName, SourceName};
pub use state::{IllegalMove, Move, State, UnknownState};
pub use time::{EventTime, InvalidEventTime, Timestamp};
pub use trace_parent::{InvalidTraceParent, TraceParent};

/// The fields an [`EventFormat`](crate::EventFormat) reads from a body, and a store keeps beside it.
///
/// ```
/// use cognigy_core::testing::sample;
///
/// let parts = sample::incoming(sample::body("e1")).parts;
/// assert_eq!(parts.external_id.as_deref(), Some("c-e1"));
/// assert_eq!(parts.contact_key(), Some("c-e1"));
///
/// let unknown_in_the_crm = cognigy_core::EventParts { external_id: None, ..parts };
/// assert_eq!(unknown_in_the_crm.contact_key(), Some("u-e1")); // the user's id
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventParts {
    /// The sender's id of the event.
    pub id: EventId,
    /// What kind of event it is.
    pub kind: EventType,
    /// When it happened, by the sender's word.
    pub time: EventTime,
    /// The contact's id in the CRM, if the sender knows it.
    pub external_id: Option<String>,
    /// The contact's id at the sender.
    pub user_id: Option<String>,
    /// What names the conversation that the event belongs to, where the format knows one.
    pub conversation: Option<String>,
    /// Whether its sender asked that its content be logged nowhere: lists, logs and dead letters then
    /// leave the body out, and it is forgotten soon after the event is processed.
    pub sensitive: bool,
}

/// A verified, valid event that is not stored yet. Made only from a
/// [`VerifiedDelivery`](crate::VerifiedDelivery).
///
/// ```
/// use cognigy_core::{CognigyFormat, Source, SourceName, testing::sample};
///
/// let source = Source::new(SourceName::default(), sample::verifier(), CognigyFormat);
/// let delivery = source.verify(sample::delivery(sample::body("e1")), sample::start()).unwrap();
/// let events = source.read(&delivery).unwrap();
/// assert_eq!(events[0].key, sample::key("e1"));
/// assert_eq!(events[0].body, sample::body("e1")); // byte for byte
/// ```
#[derive(Debug, Clone)]
// Other crates cannot write the literal: the way to one of these is through the verifier.
#[non_exhaustive]
pub struct IncomingEvent {
    /// Its identity.
    pub key: EventKey,
    /// What was read from the body.
    pub parts: EventParts,
    /// The received bytes: of a delivery with several events, this one's part.
    pub body: Bytes,
    /// The kept headers of the delivery.
    pub context: DeliveryContext,
    /// Another id under which the same delivery may be known, if its id was derived.
    pub earlier: Option<EarlierId>,
}

/// The id that a delivery would have had in the window of time before, and since when an event under
/// that id counts as the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EarlierId {
    /// The id.
    pub id: EventId,
    /// An event that was received before this is another one.
    pub since: Timestamp,
}

impl EventParts {
    /// What to ask the CRM for: `externalId`, or `userId` where that is empty or absent.
    #[must_use]
    pub fn contact_key(&self) -> Option<&str> {
        let ids = [self.external_id.as_deref(), self.user_id.as_deref()];
        ids.into_iter().flatten().find(|key| !key.is_empty())
    }
}

/// A stored event, as handlers see it.
///
/// ```
/// use std::sync::Arc;
///
/// use cognigy_core::{Contact, Event, Failure, testing::World};
///
/// #[derive(serde::Deserialize)]
/// struct Said {
///     input: String,
/// }
///
/// // A handler of all events, where typed `Handlers` are not wanted.
/// let handler = |event: Arc<Event>, contact: Option<Contact>| async move {
///     let said: Said = event.payload()?; // a payload of another form is a permanent failure
///     assert_eq!((event.id(), said.input.as_str()), ("e1", "hello"));
///     assert_eq!(event.contact_key(), Some("c-e1"));
///     assert_eq!(event.idempotency_key(), "cognigy/e1/1"); // for services that must not act twice
///     assert!(contact.is_some());
///     Ok::<_, Failure>(())
/// };
/// let mut world = World::start(handler);
/// world.deliver("e1");
/// world.pass(std::time::Duration::from_secs(1));
/// # assert_eq!(world.state("e1"), cognigy_core::State::Processed);
/// ```
#[derive(Debug, Clone)]
pub struct Event {
    key: EventKey,
    parts: EventParts,
    body: Bytes,
    context: DeliveryContext,
    received_at: Timestamp,
    run: u32,
    attempt: u32,
    correlation: Correlation,
    traceparent: Option<TraceParent>,
}

impl Event {
    /// Puts an event together from what a store kept. `run` is 1 for the first run.
    #[must_use]
    pub fn restore(
        key: EventKey,
        parts: EventParts,
        body: Bytes,
        received_at: Timestamp,
        run: u32,
    ) -> Self {
        let (context, correlation) = (DeliveryContext::default(), Correlation::NotAsked);
        let traceparent = None;
        Self { key, parts, body, context, received_at, run, attempt: 1, correlation, traceparent }
    }

    /// The same as the handler of this attempt sees it.
    pub(crate) fn at_attempt(self, attempt: u32, correlation: Correlation) -> Self {
        Self { attempt, correlation, ..self }
    }

    /// The same as the handler below the span `traceparent` sees it.
    #[must_use]
    pub fn with_traceparent(self, traceparent: TraceParent) -> Self {
        Self { traceparent: Some(traceparent), ..self }
    }

    /// The same with the headers that were kept of its delivery.
    #[must_use]
    pub fn with_context(self, context: DeliveryContext) -> Self {
        Self { context, ..self }
    }

    /// Its identity: source and id.
    #[must_use]
    pub fn key(&self) -> &EventKey {
        &self.key
    }

    /// The sender's id of the event.
    #[must_use]
    pub fn id(&self) -> &str {
        self.key.id.as_str()
    }

    /// What kind of event it is.
    #[must_use]
    pub fn kind(&self) -> &EventType {
        &self.parts.kind
    }

    /// When it happened, by the sender's word.
    #[must_use]
    pub fn time(&self) -> &EventTime {
        &self.parts.time
    }

    /// The contact's id in the CRM, if the sender sent one.
    #[must_use]
    pub fn external_id(&self) -> Option<&str> {
        self.parts.external_id.as_deref()
    }

    /// The contact's id at the sender, if it sent one.
    #[must_use]
    pub fn user_id(&self) -> Option<&str> {
        self.parts.user_id.as_deref()
    }

    /// What to ask the CRM for: `externalId`, or `userId` where that is empty or absent.
    #[must_use]
    pub fn contact_key(&self) -> Option<&str> {
        self.parts.contact_key()
    }

    /// What names the conversation that it belongs to, where the source's format knows one.
    #[must_use]
    pub fn conversation(&self) -> Option<&str> {
        self.parts.conversation.as_deref()
    }

    /// The headers that the source keeps of its deliveries.
    #[must_use]
    pub fn context(&self) -> &DeliveryContext {
        &self.context
    }

    /// When it was first received, by our clock.
    #[must_use]
    pub fn received_at(&self) -> Timestamp {
        self.received_at
    }

    /// The span that the handler runs in, where there are traces: for the header `traceparent` of the
    /// requests that the handler sends.
    #[must_use]
    pub fn traceparent(&self) -> Option<TraceParent> {
        self.traceparent
    }

    /// Which run this is: 1 for the first, one more for each replay.
    #[must_use]
    pub fn run(&self) -> u32 {
        self.run
    }

    /// Which attempt of the run this is, from 1. Attempts whose workers vanished count.
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// What asking the CRM came to in this attempt. A handler never sees `Failed`.
    #[must_use]
    pub fn correlation(&self) -> Correlation {
        self.correlation
    }

    /// Whether its sender asked that its content be logged nowhere.
    #[must_use]
    pub fn is_sensitive(&self) -> bool {
        self.parts.sensitive
    }

    /// The received bytes.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The value of the body's key `payload` as a type of yours. A body without that key has its payload under
    /// `data`, as authors of flows may write it.
    ///
    /// # Errors
    /// The body has neither key, or the value does not fit the type.
    pub fn payload<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        #[derive(serde::Deserialize)]
        struct Envelope<T> {
            payload: T,
        }
        #[derive(serde::Deserialize)]
        struct Data<T> {
            data: T,
        }
        let what = "the payload";
        decode(what, &self.body).map(|Envelope { payload }| payload).or_else(|error| {
            let has_payload = decode::<Envelope<IgnoredAny>>(what, &self.body).is_ok();
            if has_payload || decode::<Data<IgnoredAny>>(what, &self.body).is_err() {
                return Err(error);
            }
            decode(what, &self.body).map(|Data { data }| data)
        })
    }

    /// The whole body as a type of yours, for formats that have no `payload`.
    ///
    /// # Errors
    /// The body does not fit the type.
    pub fn body_as<T: DeserializeOwned>(&self) -> Result<T, DecodeError> {
        decode("the body", &self.body)
    }

    /// The same for every attempt of one run, another for each replay: hand it to services that
    /// drop repeated requests. Handlers run *at least* once, so effects outside the store need it.
    #[must_use]
    pub fn idempotency_key(&self) -> String {
        format!("{}/{}/{}", self.key.source, self.key.id, self.run)
    }
}
