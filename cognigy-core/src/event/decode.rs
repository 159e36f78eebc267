//! Why JSON does not fit the type that a handler reads it as.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_json::error::Category;

/// JSON that does not fit a type. It names the position and never quotes the content: serde's own
/// message repeats the value that it did not expect, and an error of a handler is kept in the store,
/// logged, and sent with the dead letter.
///
/// `?` makes it a permanent [`Failure`](crate::Failure) in a handler: the same bytes will not fit at
/// the next attempt either.
///
/// ```
/// use cognigy_core::Contact;
///
/// let contact = Contact::from_json(r#"{"age":"forty"}"#)?;
/// #[derive(Debug, serde::Deserialize)]
/// struct Person {
///     #[allow(dead_code)]
///     age: u8,
/// }
/// let error = contact.read::<Person>().unwrap_err();
/// assert_eq!(error.to_string(), "the contact does not have the expected form (line 1, column 14)");
/// assert_eq!((error.line(), error.column()), (Some(1), Some(14)));
/// # Ok::<_, cognigy_core::DecodeError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DecodeError {
    what: &'static str,
    /// What is wrong with the JSON itself, in serde's words, which quote nothing then. None: it is JSON, of
    /// another form.
    syntax: Option<String>,
    /// From 1. 0 where serde does not know it.
    line: usize,
    column: usize,
}

impl DecodeError {
    fn new(what: &'static str, error: &serde_json::Error) -> Self {
        let syntax = (error.classify() != Category::Data).then(|| error.to_string());
        Self { what, syntax, line: error.line(), column: error.column() }
    }

    /// The line of the JSON text at which it stops to fit, from 1. None where the position is not known:
    /// serde loses it in untagged enums and behind `#[serde(flatten)]`.
    #[must_use]
    pub fn line(&self) -> Option<usize> {
        Some(self.line).filter(|line| *line > 0)
    }

    /// How many bytes of that line were read until then.
    #[must_use]
    pub fn column(&self) -> Option<usize> {
        self.line().map(|_| self.column)
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(syntax) = &self.syntax {
            return write!(f, "{} is not JSON: {syntax}", self.what);
        }
        write!(f, "{} does not have the expected form", self.what)?;
        match self.line() {
            Some(line) => write!(f, " (line {line}, column {})", self.column),
            None => Ok(()),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Reads JSON as a type of the caller's. `what` names it in the error: `the payload`.
pub(crate) fn decode<T: DeserializeOwned>(
    what: &'static str,
    json: &[u8],
) -> Result<T, DecodeError> {
    serde_json::from_slice(json).map_err(|error| DecodeError::new(what, &error))
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    enum Card {
        Visa,
    }

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Order {
        amount: u32,
        card: Option<Card>,
    }

    #[derive(Debug, Deserialize)]
    #[serde(untagged)]
    #[allow(dead_code)]
    enum Either {
        One { amount: u32 },
    }

    #[test]
    fn an_error_names_the_position_and_quotes_nothing() {
        for (json, expected) in [
            ("{\"amount\":\"4111\"}", "does not have the expected form (line 1, column 16)"),
            ("{\n\"amount\":1,\"4111\":2}", "does not have the expected form (line 2, column 17)"),
            (
                "{\"amount\":1,\"card\":\"4111\"}",
                "does not have the expected form (line 1, column 25)",
            ),
            ("{}", "does not have the expected form (line 1, column 2)"),
            ("4111 1111", "does not have the expected form (line 1, column 4)"),
            ("{\"amount\":4111", "is not JSON: EOF while parsing an object at line 1 column 14"),
            ("{\"4111\\q", "is not JSON: invalid escape at line 1 column 8"),
            ("", "is not JSON: EOF while parsing a value at line 1 column 0"),
        ] {
            let error = decode::<Order>("the payload", json.as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), format!("the payload {expected}"), "{json}");
            assert!(!format!("{error:?}").contains("4111"), "{error:?}");
        }
    }

    #[test]
    fn a_position_that_serde_does_not_know_is_left_out() {
        let error = decode::<Either>("the contact", b"{\"amount\":\"4111\"}").unwrap_err();
        assert_eq!(error.to_string(), "the contact does not have the expected form");
        assert_eq!((error.line(), error.column()), (None, None));
    }
}
