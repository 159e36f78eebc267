//! How a delivery becomes events.

mod cognigy;

use bytes::Bytes;

pub use cognigy::CognigyFormat;

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
