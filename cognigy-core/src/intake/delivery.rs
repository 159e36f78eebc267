//! A webhook request as it travels towards the parser: raw, then verified.
//!
//! The types carry the order. Only [`SignatureVerifier::verify`](crate::SignatureVerifier::verify)
//! turns a [`RawDelivery`] into a [`VerifiedDelivery`], and only a verified one can be parsed.

use bytes::Bytes;

use crate::intake::{MatchedSecret, SourceName};

/// Request headers of any web framework, looked up without copying them.
///
/// Implemented for everything that is `Copy` and iterates over name and value pairs: a reference to
/// the header map of `http`, actix-web or hyper, or an array of string pairs.
pub trait Headers {
    /// Calls `visit` with the value of every header called `name` (case does not matter).
    fn visit(&self, name: &str, visit: &mut dyn FnMut(&[u8]));
}

impl<H, N, V> Headers for H
where
    H: Copy + IntoIterator<Item = (N, V)>,
    N: AsRef<str>,
    V: AsRef<[u8]>,
{
    fn visit(&self, name: &str, visit: &mut dyn FnMut(&[u8])) {
        for (candidate, value) in *self {
            if candidate.as_ref().eq_ignore_ascii_case(name) {
                visit(value.as_ref());
            }
        }
    }
}

/// A request as received: headers and the exact bytes of the body. Nothing is parsed or trusted yet.
#[derive(Debug, Clone)]
pub struct RawDelivery<H> {
    pub(crate) headers: H,
    pub(crate) body: Bytes,
}

impl<H: Headers> RawDelivery<H> {
    /// Wraps a request. `body` must be the bytes as they came, before any decompression: the
    /// signature is over them.
    pub fn new(headers: H, body: impl Into<Bytes>) -> Self {
        Self { headers, body: body.into() }
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

/// A body whose signature was right. Made by the verifier alone.
#[derive(Debug, Clone)]
pub struct VerifiedDelivery {
    pub(crate) source: SourceName,
    pub(crate) body: Bytes,
    pub(crate) matched: MatchedSecret,
}

impl VerifiedDelivery {
    /// A body that was verified when it first arrived and has been in our own keeping since: in
    /// quarantine, or in a dead letter.
    pub(crate) fn verified_earlier(source: SourceName, body: Bytes) -> Self {
        Self { source, body, matched: MatchedSecret::Current }
    }

    /// The verified bytes.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// Which secret matched: once no delivery matches the previous one, a rotation is finished.
    #[must_use]
    pub fn matched(&self) -> MatchedSecret {
        self.matched
    }
}
