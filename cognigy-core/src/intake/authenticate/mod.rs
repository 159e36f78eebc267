//! Who may hand us events.

mod credential;
mod hmac;
mod signed;

use std::{net::IpAddr, sync::Arc};

pub use credential::{AllowedAddresses, CredentialPlace, CredentialVerifier};
pub use hmac::{
    MIN_SECRET_BYTES, Secret, SecretError, SignatureScheme, SignatureVerifier, UnknownScheme, sign,
};

pub use signed::{
    DEFAULT_TOLERANCE, IncompleteScheme, InvalidContent, KeyEncoding, SignatureEncoding,
    SignatureFormat, SignedContent, SigningScheme, SigningVerifier, TimestampUnit, ToSign,
    UnusableKey,
};

use crate::{event::Timestamp, intake::Headers};

/// Bytes in an HMAC-SHA256 tag.
const TAG_BYTES: usize = 32;

type Tag = [u8; TAG_BYTES];

/// What `read` makes of the value of the header called `name`, which has to come exactly once.
fn only_header<T>(
    headers: &(impl Headers + ?Sized),
    name: &str,
    mut read: impl FnMut(&[u8]) -> T,
) -> Result<T, AuthenticationError> {
    let mut found = 0;
    let mut value = None;
    headers.visit(name, &mut |bytes| {
        found += 1;
        value = Some(read(bytes));
    });
    match value {
        None => Err(AuthenticationError::Missing),
        Some(value) if found == 1 => Ok(value),
        Some(_) => Err(AuthenticationError::Repeated),
    }
}

/// A request that asks to be taken, as an [`Authenticator`] sees it. Nothing of it is trusted.
///
/// ```
/// use cognigy_core::{AuthenticationError, RawDelivery, Timestamp};
///
/// let raw = RawDelivery::new([("X-Key", "a"), ("X-Key", "b")], "body").target("/hook?x=1");
/// let request = raw.request(Timestamp::UNIX_EPOCH);
/// assert_eq!((request.method(), request.target()), ("POST", "/hook?x=1"));
/// assert_eq!(request.header("x-key"), Err(AuthenticationError::Repeated));
/// assert_eq!(request.header("x-other"), Err(AuthenticationError::Missing));
/// ```
#[derive(Clone, Copy)]
pub struct Request<'a> {
    pub(crate) headers: &'a dyn Headers,
    pub(crate) body: &'a [u8],
    pub(crate) method: &'a str,
    pub(crate) target: &'a str,
    pub(crate) peer: Option<IpAddr>,
    pub(crate) now: Timestamp,
}

impl AuthenticationError {
    /// Every name that [`as_str`](Self::as_str) gives.
    pub const NAMES: [&'static str; 5] = ["missing", "repeated", "malformed", "mismatch", "stale"];

    /// The name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Repeated => "repeated",
            Self::Malformed => "malformed",
            Self::Mismatch => "mismatch",
            Self::Stale { .. } => "stale",
        }
    }
}

impl<'a> Request<'a> {
    /// Its headers.
    #[must_use]
    pub fn headers(&self) -> &'a dyn Headers {
        self.headers
    }

    /// The value of the header called `name`. It has to come exactly once: which of two a proxy in
    /// front looked at is not known.
    ///
    /// # Errors
    ///
    /// The header is absent, or came more than once.
    pub fn header(&self, name: &str) -> Result<Vec<u8>, AuthenticationError> {
        only_header(self.headers, name, <[u8]>::to_vec)
    }

    /// The body, byte for byte.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.body
    }

    /// The method, `POST` unless the server said otherwise.
    #[must_use]
    pub fn method(&self) -> &'a str {
        self.method
    }

    /// The path and the query as received; empty where the server did not say.
    #[must_use]
    pub fn target(&self) -> &'a str {
        self.target
    }

    /// The sender's address, where the server said.
    #[must_use]
    pub fn peer(&self) -> Option<IpAddr> {
        self.peer
    }

    /// When it was received.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.now
    }
}

/// A way to show a credential that has a registered name, for `WWW-Authenticate`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Challenge {
    /// A user's name and password (RFC 7617).
    Basic,
    /// A bearer token (RFC 6750).
    Bearer,
}

impl Challenge {
    /// The header's value.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Basic => "Basic realm=\"webhooks\", charset=\"UTF-8\"",
            Self::Bearer => "Bearer realm=\"webhooks\"",
        }
    }
}

/// Decides whether a request comes from a source's sender.
///
/// ## Contract
/// * Pure: the same request always gets the same answer.
/// * Takes as long for a credential that is nearly right as for one that is wrong from the start:
///   secrets, tags and tokens are compared in constant time.
/// * Reads the body as bytes. Nothing is parsed before the sender is known.
/// * An error names the kind of fault and repeats nothing that was received.
///
/// ```
/// use cognigy_core::{
///     AuthenticationError, Authenticator, MatchedSecret, Pipeline, RawDelivery, Request, Secret,
///     Timestamp, memory::MemoryStore,
/// };
///
/// /// A sender that shows a key in one header and its customer's number in another one.
/// struct CustomerKey(Secret);
///
/// impl Authenticator for CustomerKey {
///     fn authenticate(&self, request: &Request<'_>) -> Result<MatchedSecret, AuthenticationError> {
///         let key = request.header("X-Key")?;
///         let customer = request.header("X-Customer")?;
///         if !customer.iter().all(u8::is_ascii_digit) {
///             return Err(AuthenticationError::Malformed);
///         }
///         // Compares in constant time.
///         if self.0.is(&key) { Ok(MatchedSecret::Current) } else { Err(AuthenticationError::Mismatch) }
///     }
///
///     fn refusal(&self) -> &'static str {
///         "The key is not known"
///     }
/// }
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let key = CustomerKey(Secret::new("a key of the sender")?);
/// let pipeline = Pipeline::builder(key).store(MemoryStore::new()).build()?;
/// let forged = RawDelivery::new([("X-Key", "guessed"), ("X-Customer", "7")], "{}");
/// let reply = futures_executor::block_on(pipeline.ingest(forged, Timestamp::UNIX_EPOCH));
/// assert_eq!(reply.status(), 401);
/// # Ok(())
/// # }
/// ```
pub trait Authenticator: Send + Sync + 'static {
    /// Lets `request` through and says with which of the source's secrets.
    ///
    /// # Errors
    ///
    /// The request does not prove that its sender has one of them.
    fn authenticate(&self, request: &Request<'_>) -> Result<MatchedSecret, AuthenticationError>;

    /// What a sender is told whose request is refused: the same whatever was wrong.
    fn refusal(&self) -> &'static str {
        "Invalid HMAC signature"
    }

    /// What such an answer asks for, where the way to show the credential has a registered name (RFC 9110,
    /// section 11.6.1).
    fn challenge(&self) -> Option<Challenge> {
        None
    }
}

impl<A: Authenticator + ?Sized> Authenticator for Arc<A> {
    fn authenticate(&self, request: &Request<'_>) -> Result<MatchedSecret, AuthenticationError> {
        (**self).authenticate(request)
    }

    fn refusal(&self) -> &'static str {
        (**self).refusal()
    }

    fn challenge(&self) -> Option<Challenge> {
        (**self).challenge()
    }
}

/// Which of the two secrets a delivery was made with.
///
/// ```
/// use cognigy_core::{MatchedSecret, Secret, SignatureScheme, SignatureVerifier, sign};
///
/// let (old, new) = (Secret::new("the old secret")?, Secret::new("the new secret")?);
/// let verifier = SignatureVerifier::new(&new).previous_secret(&old);
///
/// // While senders move to the new secret, both are accepted, and the answer tells which one it was.
/// let signature = sign(&old, SignatureScheme::Base64, b"{}");
/// let headers = [("X-Cognigy-Signature", signature.as_str())];
/// assert_eq!(verifier.check(&headers, b"{}"), Ok(MatchedSecret::Previous));
/// # Ok::<_, cognigy_core::SecretError>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MatchedSecret {
    /// The current one.
    Current,
    /// The one that is being rotated out.
    Previous,
}

/// Why a delivery was refused. For operators only: the sender is told the same in every case.
///
/// ```
/// use cognigy_core::{AuthenticationError, testing::sample};
///
/// let verifier = sample::verifier();
/// let none: [(&str, &str); 0] = [];
/// assert_eq!(verifier.check(&none, b"{}"), Err(AuthenticationError::Missing));
/// let wrong = [("X-Cognigy-Signature", "AAAA")];
/// assert_eq!(verifier.check(&wrong, b"{}"), Err(AuthenticationError::Malformed));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AuthenticationError {
    /// The header that holds the credential is absent.
    #[error("there is no credential")]
    Missing,
    /// The header came more than once: which of them a proxy in front looked at is not known.
    #[error("there is more than one credential")]
    Repeated,
    /// The credential is not written as expected: for a signature, not 32 bytes in the scheme's
    /// encoding.
    #[error("the credential is not written as expected")]
    Malformed,
    /// The credential is well-formed and wrong.
    #[error("the credential does not match")]
    Mismatch,
    /// The signed time is too far from ours.
    #[error("the signed time is outside the tolerance, {seconds} s from ours")]
    Stale {
        /// How far it lies back, in seconds; negative for a time in the future.
        seconds: i64,
    },
}
