//! Ids for events whose senders give none.

use std::{
    collections::hash_map::RandomState,
    hash::{BuildHasher, Hasher},
    time::Duration,
};

use sha2::{Digest, Sha256};

use crate::{
    event::{EarlierId, EventId, Timestamp},
    intake::{DeliveryIdentity, VerifiedDelivery},
};

/// An id that was derived from what a delivery holds.
///
/// ```
/// use std::time::Duration;
///
/// use cognigy_core::{CognigyFormat, Source, SourceName, testing::sample};
///
/// let source = Source::new(SourceName::default(), sample::verifier(), CognigyFormat);
/// let delivery = source.verify(sample::delivery("a line of text"), sample::start()).unwrap();
///
/// // Within the window, the same content is the same event.
/// let window = Duration::from_secs(600);
/// let once = delivery.derive_id(&[delivery.body()], window);
/// let again = delivery.derive_id(&[delivery.body()], window);
/// assert_eq!(once.id, again.id);
/// assert!(once.id.as_str().starts_with("derived-"));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DerivedId {
    /// The event's id.
    pub id: EventId,
    /// Another id under which the same content may be known.
    pub earlier: Option<EarlierId>,
}

impl VerifiedDelivery {
    /// An id for an event whose sender gives none, derived from `content`: whatever tells the event from
    /// the other events of its source. Of several events in one delivery, the content of each must
    /// differ.
    ///
    /// The same content within `window` is the same event, a repetition by a sender that got no answer.
    /// After the window it is another event: two people who write "yes" are two events. With a window of
    /// zero each delivery is an event of its own, and nothing is taken for a repetition.
    #[must_use]
    pub fn derive_id(&self, content: &[&[u8]], window: Duration) -> DerivedId {
        if let DeliveryIdentity::Known(id) = &self.identity {
            return DerivedId { id: id.clone(), earlier: None };
        }
        let mut digest = Sha256::new();
        for part in content {
            // With its length in front, so that no two lists of parts give the same digest.
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        let digest = base16ct::lower::encode_string(&digest.finalize()[..16]);
        let of = |distinction: String| {
            // Hexadecimal digits, hyphens and numbers: always an id.
            format!("derived-{digest}-{distinction}").parse::<EventId>()
        };
        let received = self.received_at.timestamp_micros();
        let window_micros = i64::try_from(window.as_micros()).unwrap_or(i64::MAX);
        let made = if window_micros == 0 {
            let distinction = match self.identity {
                DeliveryIdentity::Quarantined(number) => format!("q{number}"),
                // Seeded by the operating system: no two nodes draw the same.
                _ => format!("{received:x}-{:016x}", RandomState::new().build_hasher().finish()),
            };
            of(distinction).map(|id| DerivedId { id, earlier: None })
        } else {
            let number = received.div_euclid(window_micros);
            let since =
                Timestamp::from_timestamp_micros(received.saturating_sub(window_micros) + 1)
                    .unwrap_or(Timestamp::MIN_UTC);
            of(number.to_string()).and_then(|id| {
                let earlier = EarlierId { id: of((number - 1).to_string())?, since };
                Ok(DerivedId { id, earlier: Some(earlier) })
            })
        };
        #[allow(clippy::expect_used)]
        made.expect("a derived id keeps the rules for ids")
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::event::{DeliveryContext, SourceName};

    fn delivery(micros: i64, identity: DeliveryIdentity) -> VerifiedDelivery {
        let received_at = Timestamp::from_timestamp_micros(micros).unwrap();
        let (body, context) = (Bytes::new(), DeliveryContext::default());
        VerifiedDelivery::verified_earlier(
            SourceName::default(),
            body,
            context,
            received_at,
            identity,
        )
    }

    fn id(micros: i64, content: &[&[u8]], window: u64) -> DerivedId {
        delivery(micros, DeliveryIdentity::New).derive_id(content, Duration::from_micros(window))
    }

    #[test]
    fn without_a_window_every_delivery_is_an_event_of_its_own() {
        let (one, other) = (id(7, &[b"yes"], 0), id(7, &[b"yes"], 0));
        assert_ne!(one.id, other.id);
        assert_eq!((one.earlier, other.earlier), (None, None));
    }

    #[test]
    fn within_a_window_the_same_content_is_the_same_event() {
        let first = id(1_000, &[b"a", b"b"], 100);
        assert_eq!(id(1_099, &[b"a", b"b"], 100).id, first.id);
        for other in [&[&b"ab"[..], b""][..], &[b"a", b"c"], &[b"a"]] {
            assert_ne!(id(1_000, other, 100).id, first.id, "{other:?}");
        }
        let next = id(1_150, &[b"a", b"b"], 100);
        assert_ne!(next.id, first.id);
        let earlier = next.earlier.unwrap();
        assert_eq!(earlier.id, first.id);
        assert_eq!(earlier.since.timestamp_micros(), 1_051, "a whole window ago is too long ago");
    }

    #[test]
    fn what_comes_back_keeps_its_identity() {
        let known: EventId = "its-id".parse().unwrap();
        let back = delivery(5, DeliveryIdentity::Known(known.clone()));
        assert_eq!(back.derive_id(&[b"a"], Duration::ZERO).id, known);
        let item = |number| delivery(5, DeliveryIdentity::Quarantined(number));
        let retried = |number| item(number).derive_id(&[b"a"], Duration::ZERO).id;
        assert_eq!(retried(3), retried(3), "a retry that is repeated adds no event");
        assert_ne!(retried(3), retried(4));
    }
}
