//! The few headers of a delivery that are kept beside its body.
//!
//! A format may need more than the body: CloudEvents in binary mode has its attributes in headers,
//! Standard Webhooks has the id there. What the first reading read has to be there for every later
//! one (a retry from the quarantine, a redrive, a handler), so the source says which headers it needs,
//! and they are stored with the body.

use std::{fmt, sync::Arc};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::intake::Headers;

/// The most that the kept headers of one delivery may take up, names and values together, in bytes.
/// More than the attributes of any event need; each delivery stores it.
pub const MAX_CONTEXT_BYTES: usize = 16 * 1024;

/// Headers that were kept with a delivery: names in lower case, values as text, in the order in which
/// they came. Bytes that are not UTF-8 are replaced by U+FFFD.
///
/// `Debug` shows the names only: values may be about people.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct DeliveryContext(Option<Arc<[Pair]>>);

/// A header's name and its value.
type Pair = (Box<str>, Box<str>);

/// The kept headers are larger than [`MAX_CONTEXT_BYTES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the headers that have to be kept are larger than {MAX_CONTEXT_BYTES} bytes")]
pub struct ContextTooLarge;

impl DeliveryContext {
    /// The headers among `headers` that one of `patterns` names: a header's name, or the beginning of
    /// one with `*` behind it. Case does not matter.
    ///
    /// # Errors
    ///
    /// They are too large together.
    pub fn of(
        headers: &dyn Headers,
        patterns: &[impl AsRef<str>],
    ) -> Result<Self, ContextTooLarge> {
        if patterns.is_empty() {
            return Ok(Self::default());
        }
        let (mut kept, mut bytes) = (Vec::new(), 0);
        headers.for_each(&mut |name, value| {
            if patterns.iter().any(|pattern| names(pattern.as_ref(), name)) {
                bytes += name.len() + value.len();
                if bytes <= MAX_CONTEXT_BYTES {
                    let value = String::from_utf8_lossy(value).into_owned();
                    kept.push((name.to_ascii_lowercase().into(), value.into()));
                }
            }
        });
        if bytes > MAX_CONTEXT_BYTES {
            Err(ContextTooLarge)
        } else {
            Ok(kept.into_iter().collect())
        }
    }

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

fn names(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => {
            name.get(..start.len()).is_some_and(|prefix| prefix.eq_ignore_ascii_case(start))
        }
        None => name.eq_ignore_ascii_case(pattern),
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

    const HEADERS: [(&str, &[u8]); 5] = [
        ("Authorization", b"Bearer marked"),
        ("CE-Id", b"e 1"),
        ("ce-type", b"a\xffb"),
        ("Traceparent", b"00-1"),
        ("traceparent", b"00-2"),
    ];

    #[test]
    fn only_what_is_named_is_kept_and_it_reads_back() {
        let context = DeliveryContext::of(&HEADERS, &["ce-*", "traceparent"]).unwrap();
        let kept: Vec<_> = context.iter().collect();
        let expected = [
            ("ce-id", "e 1"),
            ("ce-type", "a\u{fffd}b"),
            ("traceparent", "00-1"),
            ("traceparent", "00-2"),
        ];
        assert_eq!(kept, expected);
        assert_eq!((context.get("CE-ID"), context.get("traceparent")), (Some("e 1"), None));
        let json = context.to_json().unwrap();
        assert_eq!(DeliveryContext::from_json(Some(&json)).unwrap(), context);
        assert_eq!(format!("{context:?}"), r#"["ce-id", "ce-type", "traceparent", "traceparent"]"#);
    }

    #[test]
    fn nothing_that_is_kept_takes_no_room_and_too_much_is_refused() {
        for patterns in [&[][..], &["x-other", "c"][..]] {
            let context = DeliveryContext::of(&HEADERS, patterns).unwrap();
            assert!(context.is_empty() && context.to_json().is_none());
            assert_eq!(context, DeliveryContext::from_json(None).unwrap());
        }
        let long = vec![b'x'; MAX_CONTEXT_BYTES];
        let headers = [("a", &long[..])];
        assert_eq!(DeliveryContext::of(&headers, &["a"]), Err(ContextTooLarge));
        let headers = [("a", &long[1..])];
        assert!(DeliveryContext::of(&headers, &["a"]).is_ok());
        assert!(DeliveryContext::from_json(Some("{}")).is_err());
    }
}
