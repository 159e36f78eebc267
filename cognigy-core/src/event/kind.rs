//! What kinds of event there are.

use std::{fmt, sync::Arc};

/// The kind of an event. The contract's source sends the first four; a source of another kind keeps
/// the names it knows in [`EventType::Other`].
///
/// ```
/// use cognigy_core::EventType;
///
/// let said = EventType::from_name("USER_INPUT_RECEIVED");
/// assert_eq!(said, EventType::UserInputReceived);
/// assert_eq!(said.required_payload_key(), Some("input"));
///
/// let own = EventType::from_name("ORDER_PLACED");
/// assert!(matches!(&own, EventType::Other(name) if &**name == "ORDER_PLACED"));
/// assert_eq!(EventType::from_contract("ORDER_PLACED"), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EventType {
    /// `DIALOG_STARTED`
    DialogStarted,
    /// `USER_INPUT_RECEIVED`
    UserInputReceived,
    /// `PROFILE_UPDATED`
    ProfileUpdated,
    /// `DIALOG_ENDED`
    DialogEnded,
    /// Another source's name for a kind of its own.
    Other(Arc<str>),
}

impl EventType {
    /// The four kinds of the contract.
    pub const CONTRACT: [Self; 4] =
        [Self::DialogStarted, Self::UserInputReceived, Self::ProfileUpdated, Self::DialogEnded];

    /// The name as sent.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::DialogStarted => "DIALOG_STARTED",
            Self::UserInputReceived => "USER_INPUT_RECEIVED",
            Self::ProfileUpdated => "PROFILE_UPDATED",
            Self::DialogEnded => "DIALOG_ENDED",
            Self::Other(name) => name,
        }
    }

    /// The kind with that name in the contract, if there is one.
    #[must_use]
    pub fn from_contract(name: &str) -> Option<Self> {
        Self::CONTRACT.into_iter().find(|kind| kind.as_str() == name)
    }

    /// The kind with that name: a contract's or another.
    #[must_use]
    pub fn from_name(name: &str) -> Self {
        Self::from_contract(name).unwrap_or_else(|| Self::Other(name.into()))
    }

    /// The key that the contract demands in the payload of such an event.
    #[must_use]
    pub fn required_payload_key(&self) -> Option<&'static str> {
        match self {
            Self::UserInputReceived => Some("input"),
            Self::ProfileUpdated => Some("profile"),
            _ => None,
        }
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl serde::Serialize for EventType {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> serde::Deserialize<'de> for EventType {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|name| Self::from_name(&name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for kind in EventType::CONTRACT {
            assert_eq!(EventType::from_name(&kind.to_string()), kind);
        }
        let other = EventType::from_name("ORDER_PLACED");
        assert_eq!(
            (other.as_str(), EventType::from_contract("ORDER_PLACED")),
            ("ORDER_PLACED", None)
        );
    }
}
