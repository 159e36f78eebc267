//! Where deliveries come from: a name, how they are authenticated, how a body becomes an event.

use std::{fmt, str::FromStr, sync::Arc};

use crate::{
    event::{IncomingEvent, InvalidEvent},
    intake::{
        Authenticator, CognigyFormat, DeliveryContext, EventFormat, Headers, Intake, RawDelivery,
        VerifiedDelivery,
    },
    ports::Timestamp,
};

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
    name: SourceName,
    /// None for a source that takes no deliveries.
    authenticator: Option<Arc<dyn Authenticator>>,
    format: Arc<dyn EventFormat>,
    /// The headers that are kept: those of the format, and those that were added.
    kept: Vec<String>,
}

impl Source {
    /// A source whose sender is known by `authenticator` and whose deliveries are read by `format`.
    pub fn new(
        name: SourceName,
        authenticator: impl Authenticator,
        format: impl EventFormat,
    ) -> Self {
        let authenticator: Arc<dyn Authenticator> = Arc::new(authenticator);
        Self { authenticator: Some(authenticator), ..Self::without_intake(name, format) }
    }

    /// The source of the contract: named `cognigy`, in Cognigy's event format.
    #[must_use]
    pub fn cognigy(authenticator: impl Authenticator) -> Self {
        Self::new(SourceName::default(), authenticator, CognigyFormat)
    }

    /// A source that takes no deliveries. Its stored events can be processed and replayed; `format`
    /// reads what comes back from the quarantine or from a queue of dead letters.
    pub fn without_intake(name: SourceName, format: impl EventFormat) -> Self {
        let kept = format.context_headers().iter().map(|name| (*name).to_owned()).collect();
        Self { name, authenticator: None, format: Arc::new(format), kept }
    }

    /// Keeps these headers beside each body, besides those that the format needs: names, or
    /// beginnings of names with `*` behind them. Never name one that holds a credential.
    #[must_use]
    pub fn keep_headers<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.kept.extend(names.into_iter().map(Into::into));
        self
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &SourceName {
        &self.name
    }

    /// Lets `raw`, received at `now`, through if it comes from the source's sender.
    ///
    /// # Errors
    ///
    /// It does not, or the source takes no deliveries, or the headers that have to be kept are too
    /// large.
    pub fn verify<H: Headers>(
        &self,
        raw: RawDelivery<H>,
        now: Timestamp,
    ) -> Result<VerifiedDelivery, Intake> {
        let authenticator = self.authenticator.as_deref().ok_or(Intake::Closed)?;
        let matched = authenticator.authenticate(&raw.request(now)).map_err(Intake::Unsigned)?;
        let context = match self.kept.is_empty() {
            true => DeliveryContext::default(),
            false => DeliveryContext::of(&raw.headers, &self.kept)
                .map_err(|_| Intake::HeadersTooLarge)?,
        };
        Ok(VerifiedDelivery { source: self.name.clone(), body: raw.body, context, matched })
    }

    /// The events of a delivery that was verified.
    ///
    /// # Errors
    ///
    /// The delivery is not made of valid events.
    pub fn read(&self, delivery: &VerifiedDelivery) -> Result<Vec<IncomingEvent>, InvalidEvent> {
        IncomingEvent::read(delivery, &*self.format)
    }
}

impl<A: Authenticator> From<A> for Source {
    fn from(authenticator: A) -> Self {
        Self::cognigy(authenticator)
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
    use crate::intake::{Secret, SignatureVerifier};

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
