//! The identity of an event: the source's name and the sender's id within it.

use std::{fmt, str::FromStr};

use crate::event::SourceName;

/// The sender's id of an event: 1–256 characters, none of them a control character. Compared byte
/// for byte: no normalisation, no case folding.
///
/// ```
/// use cognigy_core::{EventId, InvalidEventId};
///
/// let id: EventId = "order-1/ä".parse()?;
/// assert_eq!(id.as_str(), "order-1/ä");
/// assert_eq!("".parse::<EventId>(), Err(InvalidEventId::Empty));
/// assert_eq!("a\nb".parse::<EventId>(), Err(InvalidEventId::ControlCharacter));
/// # Ok::<_, InvalidEventId>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventId(Box<str>);

impl EventId {
    /// The longest id, in characters.
    pub const MAX_CHARS: usize = 256;

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Not an event id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidEventId {
    /// It has no characters.
    #[error("must not be empty")]
    Empty,
    /// It has more than [`EventId::MAX_CHARS`] characters.
    #[error("must not be longer than {} characters", EventId::MAX_CHARS)]
    TooLong,
    /// It has a control character.
    #[error("must not contain control characters")]
    ControlCharacter,
}

impl FromStr for EventId {
    type Err = InvalidEventId;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            Err(InvalidEventId::Empty)
        } else if text.chars().count() > Self::MAX_CHARS {
            Err(InvalidEventId::TooLong)
        } else if text.chars().any(char::is_control) {
            Err(InvalidEventId::ControlCharacter)
        } else {
            Ok(Self(text.into()))
        }
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The identity of an event in every store and every API. Two sources may use the same id.
///
/// ```
/// use cognigy_core::EventKey;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let one = EventKey::cognigy("order-1".parse()?); // at the default source
/// let other = EventKey { source: "shop".parse()?, id: "order-1".parse()? };
/// assert_ne!(one, other);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventKey {
    /// Whose id it is.
    pub source: SourceName,
    /// The id.
    pub id: EventId,
}

impl EventKey {
    /// `id` at the default source.
    #[must_use]
    pub fn cognigy(id: EventId) -> Self {
        Self { source: SourceName::default(), id }
    }
}
