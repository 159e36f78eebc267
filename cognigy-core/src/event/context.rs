//! The few headers of a delivery that are kept beside its body.
//!
//! A format may need more than the body: CloudEvents in binary mode has its attributes in headers,
//! Standard Webhooks has the id there. What the first reading read has to be there for every later
//! one (a retry from the quarantine, a redrive, a handler), so the source says which headers it needs,
//! and they are stored with the body.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{DecodeError, TraceParent, decode};

/// What a delivery's span is kept as. No header can have this name, so that no sender can make one.
const TRACE: &str = ":traceparent";

/// Headers that were kept with a delivery: names in lower case, values as text, in the order in which
/// they came. Bytes that are not UTF-8 are replaced by U+FFFD.
///
/// `Debug` shows the names only: values may be about people.
///
/// ```
/// use cognigy_core::DeliveryContext;
///
/// let kept: DeliveryContext = [("ce-id".into(), "A-1".into())].into_iter().collect();
/// assert_eq!(kept.get("CE-Id"), Some("A-1"));
///
/// // A store keeps it as text beside the body.
/// let stored = kept.to_json();
/// assert_eq!(DeliveryContext::from_json(stored.as_deref())?, kept);
/// # Ok::<_, cognigy_core::DecodeError>(())
/// ```
#[derive(Clone, Default, PartialEq, Eq)]
pub struct DeliveryContext(Option<Arc<[Pair]>>);

/// A header's name and its value.
type Pair = (Box<str>, Box<str>);

impl DeliveryContext {
    /// Whether nothing was kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The names and values.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().flat_map(|kept| kept.iter()).map(|(name, value)| (&**name, &**value))
    }

    /// The value of the header called `name`, if it was kept and came exactly once. Case does not
    /// matter.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        let mut values = self.iter().filter(|(kept, _)| kept.eq_ignore_ascii_case(name));
        let (_, value) = values.next()?;
        values.next().is_none().then_some(value)
    }

    /// The span that the delivery was received in, if it was recorded or is in its sender's trace.
    #[must_use]
    pub fn traceparent(&self) -> Option<TraceParent> {
        self.get(TRACE)?.parse().ok()
    }

    /// The same as received in the span `traceparent`.
    #[must_use]
    pub fn with_traceparent(&self, traceparent: TraceParent) -> Self {
        let trace = (TRACE.into(), traceparent.to_string().into());
        self.received().chain([trace]).collect()
    }

    /// The same without the span: what the sender has sent.
    #[must_use]
    pub fn without_traceparent(&self) -> Self {
        match self.iter().any(|(name, _)| name == TRACE) {
            true => self.received().collect(),
            false => self.clone(),
        }
    }

    fn received(&self) -> impl Iterator<Item = Pair> {
        let pairs = self.0.iter().flat_map(|kept| kept.iter());
        pairs.filter(|(name, _)| &**name != TRACE).cloned()
    }

    /// For stores: the context as JSON text, an array of pairs; `None` for an empty one.
    #[must_use]
    pub fn to_json(&self) -> Option<String> {
        // Pairs of strings: nothing here can fail.
        (!self.is_empty()).then(|| serde_json::to_string(self).unwrap_or_default())
    }

    /// For stores: reads what [`to_json`](Self::to_json) wrote.
    ///
    /// # Errors
    ///
    /// It is not such a text.
    pub fn from_json(json: Option<&str>) -> Result<Self, DecodeError> {
        json.map_or_else(|| Ok(Self::default()), |json| decode("the kept headers", json.as_bytes()))
    }
}

impl FromIterator<Pair> for DeliveryContext {
    fn from_iter<I: IntoIterator<Item = Pair>>(kept: I) -> Self {
        let kept: Arc<[_]> = kept.into_iter().collect();
        Self((!kept.is_empty()).then_some(kept))
    }
}

impl Serialize for DeliveryContext {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

impl<'de> Deserialize<'de> for DeliveryContext {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Vec::<Pair>::deserialize(deserializer)?.into_iter().collect())
    }
}

impl fmt::Debug for DeliveryContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter().map(|(name, _)| name)).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_span_of_a_delivery_is_kept_beside_its_headers() {
        let sent: DeliveryContext = [("ce-id".into(), "e1".into())].into_iter().collect();
        let [first, second] = [1, 2].map(|id| TraceParent::new([id; 16], [id; 8], true).unwrap());
        let kept = sent.with_traceparent(first);
        assert_eq!((sent.traceparent(), kept.traceparent()), (None, Some(first)));
        assert_eq!(kept.with_traceparent(second).traceparent(), Some(second), "it has one span");
        let read = DeliveryContext::from_json(kept.to_json().as_deref()).unwrap();
        assert_eq!((read.traceparent(), read.get("ce-id")), (Some(first), Some("e1")));
        assert_eq!(kept.without_traceparent(), sent);
        let alone = DeliveryContext::default().with_traceparent(first);
        assert!(alone.without_traceparent().is_empty());
    }

    #[test]
    fn a_header_that_was_kept_is_no_span() {
        let value = TraceParent::new([1; 16], [1; 8], true).unwrap().to_string();
        let sent: DeliveryContext = [("traceparent".into(), value.into())].into_iter().collect();
        assert_eq!(sent.traceparent(), None);
        assert_eq!(sent.without_traceparent(), sent);
    }
}
