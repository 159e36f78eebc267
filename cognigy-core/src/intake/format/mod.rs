//! How a delivery becomes events.
//!
//! Each file is the format of one kind of sender, and [`FormatPreset`] names them. All of them are made
//! of the same parts: `object` reads JSON member by member, `pointer` finds what an operator's JSON
//! pointers name, `fields` collects an event's fields and the rules that were broken, `conversation`
//! names conversations.

mod callback;
mod chatwoot;
mod cloud_events;
mod cognigy;
mod contract;
mod conversation;
mod fields;
mod json;
mod object;
mod options;
mod pointer;
mod preset;
mod standard_webhooks;
mod voice_gateway;

use std::sync::Arc;

use bytes::Bytes;

pub use cloud_events::{HandshakeRefused, WebhookHandshake};
pub use cognigy::CognigyFormat;
pub use options::FormatOptions;
pub use pointer::{InvalidJsonPointer, JsonPointer};
pub use preset::{FormatPreset, InvalidEventType, UnknownPreset};

use crate::{
    event::{EarlierId, EventParts, InvalidEvent},
    intake::VerifiedDelivery,
};

/// The most events that one delivery may hold. All of them are recorded in one commit, and every other
/// delivery waits for it.
pub const MAX_EVENTS: usize = 1000;

/// How a source's verified deliveries become events.
///
/// ## Contract
/// * Pure: the same delivery always gives the same answer, but for the ids that
///   [`derive_id`](VerifiedDelivery::derive_id) makes.
/// * A delivery may hold several events, or none. Each has a body of its own, a part of what was
///   received. All of them are recorded, or none.
/// * `read` takes such a part, too, with the context of the delivery that it came in: a redrive brings
///   events back one by one.
/// * One invalid event makes the delivery invalid.
/// * Error messages name fields and rules and repeat no content.
///
/// ```
/// use cognigy_core::{
///     EventFormat, EventParts, EventTime, EventType, InvalidEvent, ReadEvent, Source,
///     VerifiedDelivery,
///     testing::{World, sample},
/// };
///
/// /// Readings of a meter: one line of text, `meter reading`.
/// struct Meter;
///
/// impl EventFormat for Meter {
///     fn read(&self, delivery: &VerifiedDelivery) -> Result<Vec<ReadEvent>, InvalidEvent> {
///         let text = std::str::from_utf8(delivery.body())
///             .map_err(|_| InvalidEvent::new("body", "is not UTF-8"))?;
///         let Some((meter, _reading)) = text.split_once(' ') else {
///             return Err(InvalidEvent::new("body", "must be a meter and its reading"));
///         };
///         let derived = delivery.derive_id(&[delivery.body()], std::time::Duration::ZERO);
///         let parts = EventParts {
///             id: derived.id,
///             kind: EventType::from_name("METER_READ"),
///             time: EventTime::from(delivery.received_at()),
///             external_id: Some(meter.to_owned()),
///             user_id: None,
///             conversation: None,
///             sensitive: false,
///         };
///         Ok(vec![ReadEvent { parts, body: delivery.body().clone(), earlier: derived.earlier }])
///     }
/// }
///
/// let source = Source::new("meters".parse()?, sample::verifier(), Meter);
/// let world = World::of_source(source, cognigy_core::NoHandler);
/// assert_eq!(world.deliver_body("m-7 1042").status(), 200);
/// assert_eq!(world.deliver_body("nonsense").status(), 400);
/// # Ok::<_, cognigy_core::InvalidSourceName>(())
/// ```
pub trait EventFormat: Send + Sync + 'static {
    /// Reads the events of `delivery`, in their order.
    ///
    /// # Errors
    ///
    /// The delivery is not made of valid events.
    fn read(&self, delivery: &VerifiedDelivery) -> Result<Vec<ReadEvent>, InvalidEvent>;

    /// The headers that [`read`](Self::read) looks at: names, or beginnings of names with `*` behind
    /// them. Only these, and those that the source adds, are in a delivery's context.
    fn context_headers(&self) -> &[&str] {
        &[]
    }

    /// The status of the answer to a delivery that was taken. Some senders want another one than 200;
    /// it must say success.
    fn accepted_status(&self) -> u16 {
        200
    }

    /// Whether its senders ask with `OPTIONS` whether they may deliver ([`WebhookHandshake`]).
    fn shakes_hands(&self) -> bool {
        false
    }
}

/// A format that is chosen when the program runs.
impl EventFormat for Arc<dyn EventFormat> {
    fn read(&self, delivery: &VerifiedDelivery) -> Result<Vec<ReadEvent>, InvalidEvent> {
        (**self).read(delivery)
    }

    fn context_headers(&self) -> &[&str] {
        (**self).context_headers()
    }

    fn accepted_status(&self) -> u16 {
        (**self).accepted_status()
    }

    fn shakes_hands(&self) -> bool {
        (**self).shakes_hands()
    }
}

/// One event of a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadEvent {
    /// Its fields.
    pub parts: EventParts,
    /// Its part of the received bytes, unchanged.
    pub body: Bytes,
    /// Another id under which it may be known, if its id was derived.
    pub earlier: Option<EarlierId>,
}

impl ReadEvent {
    /// An event whose sender gave its id.
    #[must_use]
    pub fn new(parts: EventParts, body: Bytes) -> Self {
        Self { parts, body, earlier: None }
    }
}
