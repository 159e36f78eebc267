//! A webhook request as it travels towards the format: raw, then verified.
//!
//! The types carry the order. Only [`Source::verify`](crate::Source::verify), which asks the source's
//! [`Authenticator`](crate::Authenticator), turns a [`RawDelivery`] into a [`VerifiedDelivery`], and
//! only a verified delivery can be read.

use std::{borrow::Cow, net::IpAddr};

use bytes::Bytes;

use crate::{
    event::{DeliveryContext, EventId, SourceName, Timestamp, TraceParent},
    intake::{MatchedSecret, Request},
};

/// Request headers of any web framework, looked up without copying them.
///
/// Implemented for everything that is `Copy` and iterates over name and value pairs: a reference to
/// the header map of `http`, actix-web or hyper, or an array of string pairs.
///
/// ```
/// use std::collections::HashMap;
///
/// use cognigy_core::{Headers, RawDelivery};
///
/// /// The headers of a framework that keeps several values under one name.
/// struct Multi(HashMap<String, Vec<Vec<u8>>>);
///
/// impl Headers for Multi {
///     fn for_each(&self, visit: &mut dyn FnMut(&str, &[u8])) {
///         for (name, values) in &self.0 {
///             values.iter().for_each(|value| visit(name, value));
///         }
///     }
/// }
///
/// let headers = Multi(HashMap::from([("x-key".to_owned(), vec![b"a key".to_vec()])]));
/// let mut found = 0;
/// headers.visit("X-Key", &mut |value| found += usize::from(value == b"a key"));
/// assert_eq!(found, 1);
/// let delivery = RawDelivery::new(headers, "{}");
/// # let _ = delivery;
/// ```
pub trait Headers {
    /// Calls `visit` with the name and the value of every header.
    fn for_each(&self, visit: &mut dyn FnMut(&str, &[u8]));

    /// Calls `visit` with the value of every header called `name` (case does not matter).
    fn visit(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        self.for_each(&mut |candidate, value| {
            if candidate.eq_ignore_ascii_case(name) {
                visit(value);
            }
        });
    }
}

impl<H, N, V> Headers for H
where
    H: Copy + IntoIterator<Item = (N, V)>,
    N: AsRef<str>,
    V: AsRef<[u8]>,
{
    fn for_each(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        for (name, value) in *self {
            visit(name.as_ref(), value.as_ref());
        }
    }
}

/// A request as received: headers and the exact bytes of the body. Nothing is parsed or trusted yet.
///
/// ```
/// use cognigy_core::{RawDelivery, Timestamp};
///
/// // What a route of a web framework has: headers, the body's bytes, and for some authenticators the
/// // path and the sender's address.
/// let headers = [("Content-Type", "application/json"), ("X-Cognigy-Signature", "…")];
/// let delivery = RawDelivery::new(headers, r#"{"eventId":"e1"}"#)
///     .target("/webhooks/cognigy?tenant=7")
///     .peer("203.0.113.9".parse()?);
/// let request = delivery.request(Timestamp::UNIX_EPOCH);
/// assert_eq!(request.body(), br#"{"eventId":"e1"}"#);
/// # Ok::<_, std::net::AddrParseError>(())
/// ```
#[derive(Debug, Clone)]
pub struct RawDelivery<H> {
    pub(crate) headers: H,
    pub(crate) body: Bytes,
    method: Cow<'static, str>,
    target: String,
    peer: Option<IpAddr>,
}

impl<H: Headers> RawDelivery<H> {
    /// Wraps a `POST`. `body` must be the bytes as they came, before any decompression: a signature
    /// is over them.
    pub fn new(headers: H, body: impl Into<Bytes>) -> Self {
        let (method, target) = (Cow::Borrowed("POST"), String::new());
        Self { headers, body: body.into(), method, target, peer: None }
    }

    /// The path and the query as received, for authenticators that look at them.
    #[must_use]
    pub fn target(mut self, target: impl Into<String>) -> Self {
        self.target = target.into();
        self
    }

    /// The method, where it is not `POST`.
    #[must_use]
    pub fn method(mut self, method: impl Into<Cow<'static, str>>) -> Self {
        self.method = method.into();
        self
    }

    /// The sender's address, for authenticators that go by it. Behind a proxy it is the address that
    /// the proxy names, and only where the proxy is trusted.
    #[must_use]
    pub fn peer(mut self, address: IpAddr) -> Self {
        self.peer = Some(address);
        self
    }

    /// The sender's address, where it was told.
    pub(crate) fn from(&self) -> Option<IpAddr> {
        self.peer
    }

    /// What an authenticator sees of it at `now`.
    #[must_use]
    pub fn request(&self, now: Timestamp) -> Request<'_> {
        Request {
            headers: &self.headers,
            body: &self.body,
            method: &self.method,
            target: &self.target,
            peer: self.peer,
            now,
        }
    }

    /// Whether the body is encoded (`Content-Encoding` other than `identity` or nothing); such a body
    /// is refused, since nothing may be inflated before it is authenticated.
    pub(crate) fn is_encoded(&self) -> bool {
        let mut encoded = false;
        self.headers.visit("content-encoding", &mut |value| {
            let value = value.trim_ascii();
            encoded |= !value.is_empty() && !value.eq_ignore_ascii_case(b"identity");
        });
        encoded
    }
}

/// A delivery whose sender was authenticated. Made by [`Source::verify`](crate::Source::verify) alone.
///
/// ```
/// use cognigy_core::{CognigyFormat, MatchedSecret, Source, SourceName, testing::sample};
///
/// let source = Source::new(SourceName::default(), sample::verifier(), CognigyFormat);
/// let delivery = source.verify(sample::delivery(sample::body("e1")), sample::start()).unwrap();
/// assert_eq!(delivery.body(), &sample::body("e1"));
/// assert_eq!(delivery.matched(), MatchedSecret::Current);
/// ```
#[derive(Debug, Clone)]
pub struct VerifiedDelivery {
    pub(crate) source: SourceName,
    pub(crate) body: Bytes,
    pub(crate) context: DeliveryContext,
    pub(crate) matched: MatchedSecret,
    pub(crate) received_at: Timestamp,
    /// The span that its sender says it belongs to, where the source trusts its sender with that.
    pub(crate) traceparent: Option<TraceParent>,
    pub(crate) identity: DeliveryIdentity,
}

/// What the id of an event is made from whose sender gives none; see
/// [`VerifiedDelivery::derive_id`].
#[derive(Debug, Clone)]
pub(crate) enum DeliveryIdentity {
    /// It has just been received.
    New,
    /// It comes out of the quarantine: the item's number.
    Quarantined(i64),
    /// It comes back under the id that it was given when it was received.
    Known(EventId),
}

impl VerifiedDelivery {
    /// A delivery that was verified when it first arrived and has been in our own keeping since: in
    /// quarantine, or in a dead letter.
    pub(crate) fn verified_earlier(
        source: SourceName,
        body: Bytes,
        context: DeliveryContext,
        received_at: Timestamp,
        identity: DeliveryIdentity,
    ) -> Self {
        let (matched, traceparent) = (MatchedSecret::Current, None);
        Self { source, body, context, matched, received_at, traceparent, identity }
    }

    /// When it was received, by our clock. Of a delivery that comes back from a queue of dead letters,
    /// when its event was first received.
    #[must_use]
    pub fn received_at(&self) -> Timestamp {
        self.received_at
    }

    /// The source that it came from.
    #[must_use]
    pub fn source(&self) -> &SourceName {
        &self.source
    }

    /// The verified bytes.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// The headers that the source keeps.
    #[must_use]
    pub fn context(&self) -> &DeliveryContext {
        &self.context
    }

    /// Which secret matched: once no delivery matches the previous one, a rotation is finished.
    #[must_use]
    pub fn matched(&self) -> MatchedSecret {
        self.matched
    }
}
