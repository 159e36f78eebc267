//! Events for tests: valid, signed, and distinguished by their ids.

use bytes::Bytes;

use crate::{
    event::{DeliveryContext, EventKey, IncomingEvent, SourceName, Timestamp},
    intake::{
        CognigyFormat, Headers, RawDelivery, Secret, SignatureScheme, SignatureVerifier, Source,
        sign,
    },
};

/// The secret that [`verifier`] expects.
pub const SECRET: &str = "sample-secret-for-tests";

/// The time tests begin at: 2026-01-01, midnight UTC.
#[must_use]
pub fn start() -> Timestamp {
    Timestamp::from_timestamp(1_767_225_600, 0).expect("a valid time")
}

/// The key of event `id` at the default source.
#[must_use]
pub fn key(id: &str) -> EventKey {
    EventKey::cognigy(id.parse().expect("a valid event id"))
}

/// The body of a `USER_INPUT_RECEIVED` from contact `c-{id}`.
///
/// ```
/// use cognigy_core::testing::sample;
///
/// let body: serde_json::Value = serde_json::from_slice(&sample::body("e1"))?;
/// assert_eq!((&body["eventId"], &body["externalId"]), (&"e1".into(), &"c-e1".into()));
/// # Ok::<_, serde_json::Error>(())
/// ```
#[must_use]
pub fn body(id: &str) -> Bytes {
    let body = serde_json::json!({
        "eventId": id,
        "timestamp": "2026-01-01T00:00:00Z",
        "type": "USER_INPUT_RECEIVED",
        "externalId": format!("c-{id}"),
        "userId": format!("u-{id}"),
        "payload": { "input": "hello" },
    });
    body.to_string().into()
}

/// The body of a `USER_INPUT_RECEIVED` from `contact`.
#[must_use]
pub fn body_from(contact: &str, id: &str) -> Bytes {
    let mut body: serde_json::Value = serde_json::from_slice(&body(id)).expect("JSON");
    body["externalId"] = contact.into();
    body.to_string().into()
}

/// The secret as a [`Secret`].
#[must_use]
pub fn secret() -> Secret {
    Secret::new(SECRET).expect("a usable secret")
}

/// A verifier for deliveries signed with [`SECRET`].
#[must_use]
pub fn verifier() -> SignatureVerifier {
    SignatureVerifier::new(&secret())
}

/// Headers with nothing but a signature.
#[derive(Debug, Clone)]
pub struct Signed(pub String);

impl Headers for Signed {
    fn for_each(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        visit(SignatureVerifier::DEFAULT_HEADER, self.0.as_bytes());
    }
}

/// A delivery of `body`, signed with [`SECRET`].
///
/// ```
/// use cognigy_core::{Pipeline, memory::MemoryStore, testing::sample};
///
/// let pipeline = Pipeline::builder(sample::verifier()).store(MemoryStore::new()).build()?;
/// let delivery = sample::delivery(sample::body("e1"));
/// let reply = futures_executor::block_on(pipeline.ingest(delivery, sample::start()));
/// assert_eq!(reply.status(), 200);
/// # Ok::<_, cognigy_core::BuildError>(())
/// ```
#[must_use]
pub fn delivery(body: impl Into<Bytes>) -> RawDelivery<Signed> {
    let body = body.into();
    RawDelivery::new(Signed(sign(&secret(), SignatureScheme::Base64, &body)), body)
}

/// `body` as an event that came from the default source.
///
/// ```
/// use cognigy_core::{EventStore, Recorded, memory::MemoryStore, testing::sample};
///
/// // For a test of a store, without a pipeline.
/// let event = sample::incoming(sample::body("e1"));
/// let recorded = futures_executor::block_on(MemoryStore::new().record(event, sample::start()));
/// assert_eq!(recorded.unwrap(), Recorded::New);
/// ```
#[must_use]
pub fn incoming(body: impl Into<Bytes>) -> IncomingEvent {
    incoming_from(&SourceName::default(), body)
}

/// `body` as an event with kept headers and a conversation.
#[must_use]
pub fn incoming_in(
    body: impl Into<Bytes>,
    context: DeliveryContext,
    conversation: Option<&str>,
) -> IncomingEvent {
    let mut event = incoming(body);
    event.context = context;
    event.parts.conversation = conversation.map(ToOwned::to_owned);
    event
}

/// A context of these headers.
#[must_use]
pub fn context(headers: &[(&str, &str)]) -> DeliveryContext {
    headers.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
}

/// `body` as an event that came from `source`.
#[must_use]
pub fn incoming_from(source: &SourceName, body: impl Into<Bytes>) -> IncomingEvent {
    let source = Source::new(source.clone(), verifier(), CognigyFormat);
    let delivery = source.verify(delivery(body), start()).expect("a right signature");
    source.read(&delivery).expect("a valid event").remove(0)
}
