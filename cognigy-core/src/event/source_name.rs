//! The name of a source, which is part of every event's identity.

use std::{fmt, str::FromStr, sync::Arc};

/// The source that the plain webhook path serves.
pub const DEFAULT_SOURCE: &str = "cognigy";

/// The name of a source: 1–64 of `a-z`, `0-9`, `-`, `_`. It is part of every event's identity, of
/// paths and of metric labels, hence the narrow alphabet.
///
/// ```
/// use cognigy_core::SourceName;
///
/// let shop: SourceName = "shop-eu".parse()?;
/// assert!(!shop.is_default());
/// assert_eq!(SourceName::default().as_str(), "cognigy");
/// assert!("Shop EU".parse::<SourceName>().is_err());
/// # Ok::<_, cognigy_core::InvalidSourceName>(())
/// ```
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
