//! Where deliveries come from: a name, how they are authenticated, how a body becomes an event.

use std::{fmt, str::FromStr, sync::Arc};

use crate::intake::{CognigyFormat, EventFormat, SignatureVerifier};

/// The source that the plain webhook path serves.
pub const DEFAULT_SOURCE: &str = "cognigy";

/// The name of a source: 1–64 of `a-z`, `0-9`, `-`, `_`. It is part of every event's identity, of
/// paths and of metric labels, hence the narrow alphabet.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceName(Arc<str>);

/// Not a source name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a source name is 1-64 characters of a-z, 0-9, '-' and '_'")]
pub struct InvalidSourceName;

impl SourceName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is the default source, `cognigy`.
    #[must_use]
    pub fn is_default(&self) -> bool {
        &*self.0 == DEFAULT_SOURCE
    }
}

impl Default for SourceName {
    fn default() -> Self {
        Self(DEFAULT_SOURCE.into())
    }
}

impl FromStr for SourceName {
    type Err = InvalidSourceName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed = |byte: u8| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_');
        if (1..=64).contains(&text.len()) && text.bytes().all(allowed) {
            Ok(Self(text.into()))
        } else {
            Err(InvalidSourceName)
        }
    }
}

impl fmt::Display for SourceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A sender of events and all that is particular to it.
#[derive(Clone)]
pub struct Source {
    pub(crate) name: SourceName,
    pub(crate) verifier: SignatureVerifier,
    pub(crate) format: Arc<dyn EventFormat>,
}

impl Source {
    /// A source that signs as `verifier` expects and writes as `format` reads.
    pub fn new(name: SourceName, verifier: SignatureVerifier, format: impl EventFormat) -> Self {
        Self { name, verifier, format: Arc::new(format) }
    }

    /// The source of the contract: named `cognigy`, in Cognigy's event format.
    #[must_use]
    pub fn cognigy(verifier: SignatureVerifier) -> Self {
        Self::new(SourceName::default(), verifier, CognigyFormat)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &SourceName {
        &self.name
    }
}

impl From<SignatureVerifier> for Source {
    fn from(verifier: SignatureVerifier) -> Self {
        Self::cognigy(verifier)
    }
}

impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source").field("name", &self.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::intake::Secret;

    #[test]
    fn a_name_is_short_and_of_the_narrow_alphabet() {
        let longest = "a".repeat(64);
        for name in ["a", "crm-2_eu", "0", &longest] {
            let read: SourceName = name.parse().unwrap();
            assert_eq!((read.as_str(), read.to_string()), (name, name.to_owned()));
            assert!(!read.is_default());
        }
        for name in ["", "A", "a b", "a/b", "ä", &"a".repeat(65)] {
            assert_eq!(name.parse::<SourceName>(), Err(InvalidSourceName), "{name}");
        }
        let default = SourceName::default();
        assert_eq!((default.as_str(), default.is_default()), (DEFAULT_SOURCE, true));
    }

    #[test]
    fn a_source_shows_its_name_and_no_secret() {
        let verifier = SignatureVerifier::new(&Secret::new("marked-secret").unwrap());
        let source = Source::new("crm".parse().unwrap(), verifier, CognigyFormat);
        assert_eq!(source.name().as_str(), "crm");
        assert_eq!(format!("{source:?}"), r#"Source { name: SourceName("crm"), .. }"#);
    }
}
