//! How the body of a delivery becomes an event.

mod cognigy;

pub use cognigy::CognigyFormat;

use crate::event::{EventParts, InvalidEvent};

/// How a source's verified body becomes an event.
///
/// ## Contract
/// * Pure: the same bytes always give the same answer.
/// * Error messages name fields and rules and repeat no content.
pub trait EventFormat: Send + Sync + 'static {
    /// Reads the fields of the event in `body`.
    fn read(&self, body: &[u8]) -> Result<EventParts, InvalidEvent>;
}
