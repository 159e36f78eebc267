//! The few headers of a delivery that are kept beside its body.
//!
//! A format may need more than the body: CloudEvents in binary mode has its attributes in headers,
//! Standard Webhooks has the id there. What the first reading read has to be there for every later
//! one (a retry from the quarantine, a redrive, a handler), so the source says which headers it needs,
//! and they are stored with the body.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// Headers that were kept with a delivery: names in lower case, values as text, in the order in which
/// they came. Bytes that are not UTF-8 are replaced by U+FFFD.
///
/// `Debug` shows the names only: values may be about people.
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
    pub fn from_json(json: Option<&str>) -> Result<Self, serde_json::Error> {
        json.map_or_else(|| Ok(Self::default()), serde_json::from_str)
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
