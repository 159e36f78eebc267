//! Why a signed body is not an event.

use std::fmt;

/// One rule that one field broke. Names the field, never repeats its content.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct FieldError {
    /// The path of the field, such as `payload.profile`; `body` where it is the whole body.
    pub field: String,
    /// What is wrong with it.
    pub message: String,
}

/// A signed body that is not a valid event, with every rule it broke.
///
/// ```
/// use cognigy_core::InvalidEvent;
///
/// // As a format does it that needs two fields and finds none.
/// let mut invalid = InvalidEvent::new("call_sid", "is missing");
/// invalid.add("call_status", "is missing");
/// assert_eq!(
///     invalid.to_string(),
///     "Payload validation failed: call_sid is missing; call_status is missing"
/// );
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct InvalidEvent {
    /// At least one.
    pub errors: Vec<FieldError>,
    /// The event's id, if that much could be read.
    pub event_id: Option<String>,
    /// Its sender asked that the content be logged nowhere: the body is not kept.
    pub sensitive: bool,
    /// The body is in a format that the source does not know, by its media type: the answer is 415, and
    /// the body is not kept.
    pub unsupported: bool,
}

impl InvalidEvent {
    /// One broken rule.
    pub fn new(field: impl Into<String>, message: impl Into<String>) -> Self {
        let mut invalid = Self::default();
        invalid.add(field, message);
        invalid
    }

    /// The media type names a format that the source does not know.
    #[must_use]
    pub fn unsupported(message: impl Into<String>) -> Self {
        Self { unsupported: true, ..Self::new("Content-Type", message) }
    }

    /// Adds a broken rule.
    pub fn add(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.errors.push(FieldError { field: field.into(), message: message.into() });
    }
}

impl fmt::Display for InvalidEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Payload validation failed: ")?;
        for (index, error) in self.errors.iter().enumerate() {
            let separator = if index == 0 { "" } else { "; " };
            write!(f, "{separator}{} {}", error.field, error.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for InvalidEvent {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_broken_rule_is_named_in_one_line() {
        let mut invalid = InvalidEvent::new("eventId", "is missing");
        assert_eq!(invalid.to_string(), "Payload validation failed: eventId is missing");
        invalid.add("type", "is unknown");
        assert_eq!(
            invalid.to_string(),
            "Payload validation failed: eventId is missing; type is unknown"
        );
    }
}
