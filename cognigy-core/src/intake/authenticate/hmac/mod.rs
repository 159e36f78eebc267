//! Who may hand us events: HMAC-SHA256 (RFC 2104, FIPS 180-4) over the raw body.
//!
//! The keyed hash state is computed once, the tag is decoded to exactly 32 bytes on the stack and
//! compared in constant time. Nothing allocates. A current and a previous secret may be set, so
//! that a secret can be rotated without losing a delivery.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use super::{Tag, only_header};
use crate::intake::{
    AuthenticationError, Authenticator, Headers, MatchedSecret, Request, SignatureEncoding,
};

/// Secrets shorter than this are refused: they can be guessed offline from one captured delivery.
/// RFC 2104 recommends 32 bytes; Cognigy lets its users choose, so the floor only stops accidents.
pub const MIN_SECRET_BYTES: usize = 6;

/// A shared webhook secret. Wiped from memory when dropped and never printed.
///
/// ```
/// use cognigy_core::Secret;
///
/// let secret = Secret::new("a shared secret")?;
/// assert_eq!(format!("{secret:?}"), "Secret(…)"); // never printed
/// assert!(secret.is(b"a shared secret")); // in constant time
/// assert!(Secret::new("short").is_err());
/// # Ok::<_, cognigy_core::SecretError>(())
/// ```
#[derive(Clone)]
pub struct Secret(Zeroizing<Vec<u8>>);

/// The secret is unusable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a webhook secret needs at least {MIN_SECRET_BYTES} bytes")]
pub struct SecretError;

impl Secret {
    /// Takes a secret of at least [`MIN_SECRET_BYTES`] bytes.
    ///
    /// # Errors
    /// The secret has fewer than [`MIN_SECRET_BYTES`] bytes, or is white space alone. The program should end: a setting is
    /// wrong.
    pub fn new(secret: impl Into<Vec<u8>>) -> Result<Self, SecretError> {
        let secret = Zeroizing::new(secret.into());
        if secret.len() < MIN_SECRET_BYTES || secret.iter().all(u8::is_ascii_whitespace) {
            return Err(SecretError);
        }
        Ok(Self(secret))
    }

    /// How many bytes it has.
    #[must_use]
    pub fn byte_len(&self) -> usize {
        self.0.len()
    }

    /// Whether all its bytes are as `rule` says.
    #[must_use]
    pub fn all(&self, rule: impl Fn(u8) -> bool) -> bool {
        self.0.iter().all(|byte| rule(*byte))
    }

    /// Whether `shown` is this secret. How long it takes tells neither how much of it is right nor how long the
    /// secret is: for authenticators of one's own.
    #[must_use]
    pub fn is(&self, shown: &[u8]) -> bool {
        // Digests have one length, and are compared in constant time.
        Sha256::digest(&self.0).ct_eq(&Sha256::digest(shown)).into()
    }

    /// The secret as text, for a sender that has to show it as it is; `None` if it is not UTF-8. It is not
    /// wiped from memory.
    #[must_use]
    pub fn as_text(&self) -> Option<String> {
        String::from_utf8(self.0.to_vec()).ok()
    }

    /// Its bytes.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }

    fn keyed(&self) -> Hmac<Sha256> {
        // HMAC takes keys of any length (RFC 2104, section 2), so this cannot fail.
        #[allow(clippy::expect_used)]
        Hmac::new_from_slice(&self.0).expect("HMAC takes any key length")
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

/// How the tag is written in the header.
///
/// ```
/// use cognigy_core::{SignatureScheme, sign, testing::sample};
///
/// let scheme: SignatureScheme = "sha256=hex".parse()?;
/// assert!(sign(&sample::secret(), scheme, b"{}").starts_with("sha256="));
/// assert!("md5".parse::<SignatureScheme>().is_err());
/// # Ok::<_, cognigy_core::UnknownScheme>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SignatureScheme {
    /// Standard base64 with padding (RFC 4648, section 4). Cognigy's and LINE's form.
    #[default]
    Base64,
    /// Hexadecimal, either case (RFC 4648, section 8).
    Hex,
    /// `sha256=` and base64. Genesys Open Messaging's form.
    Sha256Base64,
    /// `sha256=` and hexadecimal. GitHub's form.
    Sha256Hex,
}

impl SignatureScheme {
    const ALL: [(Self, &'static str); 4] = [
        (Self::Base64, "base64"),
        (Self::Hex, "hex"),
        (Self::Sha256Base64, "sha256=base64"),
        (Self::Sha256Hex, "sha256=hex"),
    ];

    /// The tag in `value`, if it is written in this scheme and exactly 32 bytes long. A shorter tag
    /// must never be compared "up to its length" (RUSTSEC-2024-0010).
    fn decode(self, value: &[u8]) -> Option<Tag> {
        let value = match self {
            Self::Base64 | Self::Hex => value,
            Self::Sha256Base64 | Self::Sha256Hex => value.strip_prefix(b"sha256=")?,
        };
        let encoding = match self {
            Self::Base64 | Self::Sha256Base64 => SignatureEncoding::Base64,
            Self::Hex | Self::Sha256Hex => SignatureEncoding::Hex,
        };
        encoding.decode(value)
    }

    fn encode(self, tag: &Tag) -> String {
        match self {
            Self::Base64 => STANDARD.encode(tag),
            Self::Hex => base16ct::lower::encode_string(tag),
            Self::Sha256Base64 => format!("sha256={}", STANDARD.encode(tag)),
            Self::Sha256Hex => format!("sha256={}", base16ct::lower::encode_string(tag)),
        }
    }
}

impl fmt::Display for SignatureScheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Self::ALL.iter().find(|(scheme, _)| scheme == self).map_or("", |(_, name)| name);
        f.write_str(name)
    }
}

/// Not the name of a [`SignatureScheme`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected base64, hex, sha256=base64 or sha256=hex")]
pub struct UnknownScheme;

impl FromStr for SignatureScheme {
    type Err = UnknownScheme;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let known = Self::ALL.iter().find(|(_, name)| *name == text);
        known.map(|(scheme, _)| *scheme).ok_or(UnknownScheme)
    }
}

/// The header value a sender puts beside `body`.
///
/// ```
/// use cognigy_core::{Secret, SignatureScheme, sign};
///
/// // A test, or a tool that sends an event once more.
/// let secret = Secret::new("the secret you share with Cognigy")?;
/// let body = br#"{"eventId":"e1"}"#;
/// let header = ("X-Cognigy-Signature", sign(&secret, SignatureScheme::Base64, body));
/// assert_eq!(header.1.len(), 44); // 32 bytes in base64
/// # Ok::<_, cognigy_core::SecretError>(())
/// ```
#[must_use]
pub fn sign(secret: &Secret, scheme: SignatureScheme, body: &[u8]) -> String {
    scheme.encode(&tag(&secret.keyed(), body))
}

fn tag(key: &Hmac<Sha256>, body: &[u8]) -> Tag {
    key.clone().chain_update(body).finalize().into_bytes().into()
}

/// Checks signatures of one source. Cheap to clone; holds hash states, not secrets.
///
/// ```
/// use cognigy_core::{
///     AuthenticationError, MatchedSecret, Secret, SignatureScheme, SignatureVerifier, sign,
/// };
///
/// // Cognigy's own way is `SignatureVerifier::new(&secret)`; this is GitHub's.
/// let secret = Secret::new("the secret you share with the sender")?;
/// let verifier = SignatureVerifier::new(&secret)
///     .header("X-Hub-Signature-256")
///     .scheme(SignatureScheme::Sha256Hex);
///
/// let signature = sign(&secret, SignatureScheme::Sha256Hex, b"{}");
/// let headers = [("X-Hub-Signature-256", signature.as_str())];
/// assert_eq!(verifier.check(&headers, b"{}"), Ok(MatchedSecret::Current));
/// assert_eq!(verifier.check(&headers, b"{ }"), Err(AuthenticationError::Mismatch)); // other bytes
/// # Ok::<_, cognigy_core::SecretError>(())
/// ```
#[derive(Clone)]
pub struct SignatureVerifier {
    header: String,
    scheme: SignatureScheme,
    current: Hmac<Sha256>,
    previous: Option<Hmac<Sha256>>,
}

impl SignatureVerifier {
    /// The header Cognigy's contract names.
    pub const DEFAULT_HEADER: &'static str = "X-Cognigy-Signature";

    /// Expects base64 in [`Self::DEFAULT_HEADER`], made with `secret`.
    #[must_use]
    pub fn new(secret: &Secret) -> Self {
        Self {
            header: Self::DEFAULT_HEADER.to_owned(),
            scheme: SignatureScheme::Base64,
            current: secret.keyed(),
            previous: None,
        }
    }

    /// Accepts `secret` as well, while senders move from it to the current one.
    #[must_use]
    pub fn previous_secret(mut self, secret: &Secret) -> Self {
        self.previous = Some(secret.keyed());
        self
    }

    /// Reads the signature from the header called `name`.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>) -> Self {
        self.header = name.into();
        self
    }

    /// Expects the signature written as `scheme` says.
    #[must_use]
    pub fn scheme(mut self, scheme: SignatureScheme) -> Self {
        self.scheme = scheme;
        self
    }

    /// Checks the signature of `body` in `headers` and says which secret it was made with.
    ///
    /// # Errors
    /// What is wrong with the signature. The delivery is refused with 401, and its sender is told the same in every case.
    pub fn check(
        &self,
        headers: &(impl Headers + ?Sized),
        body: &[u8],
    ) -> Result<MatchedSecret, AuthenticationError> {
        let decode = |value: &[u8]| self.scheme.decode(value);
        let received =
            only_header(headers, &self.header, decode)?.ok_or(AuthenticationError::Malformed)?;
        let matches = |key: &Hmac<Sha256>| bool::from(tag(key, body).ct_eq(&received));
        if matches(&self.current) {
            Ok(MatchedSecret::Current)
        } else if self.previous.as_ref().is_some_and(matches) {
            Ok(MatchedSecret::Previous)
        } else {
            Err(AuthenticationError::Mismatch)
        }
    }
}

impl Authenticator for SignatureVerifier {
    fn authenticate(&self, request: &Request<'_>) -> Result<MatchedSecret, AuthenticationError> {
        self.check(request.headers, request.body)
    }
}

impl fmt::Debug for SignatureVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SignatureVerifier")
            .field("header", &self.header)
            .field("scheme", &self.scheme)
            .field("rotating", &self.previous.is_some())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
