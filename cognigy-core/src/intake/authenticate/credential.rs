//! Credentials that a sender shows as they are: a key in a header, a bearer token, a user's name and
//! password, a token in the path; and no credential at all, from addresses that are trusted.
//!
//! Weaker than a signature: one request that is read on the way is enough to make others. Use them over
//! TLS only.

use std::{fmt, net::IpAddr};

use base64::{Engine, engine::general_purpose::STANDARD};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::intake::{
    AuthenticationError, Authenticator, Challenge, MatchedSecret, Request, Secret,
};

/// Where a credential is in a request.
///
/// ```
/// use cognigy_core::{CredentialPlace, Secret};
///
/// // The header that a sender has to send.
/// let password = Secret::new("user:password")?;
/// let header = CredentialPlace::Basic.header_for(&password);
/// assert_eq!(header.unwrap().1, "Basic dXNlcjpwYXNzd29yZA==");
/// # Ok::<_, cognigy_core::SecretError>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CredentialPlace {
    /// The whole value of the header of that name.
    Header(String),
    /// `Authorization: Bearer` (RFC 6750, section 2.1).
    Bearer,
    /// The same, or a parameter of that name in the query (RFC 6750, section 2.3), which proxies may
    /// write into their logs.
    BearerOrQuery(String),
    /// `Authorization: Basic` (RFC 7617). The secret is `user:password`.
    Basic,
    /// The last segment of the path, compared as received.
    PathEnd,
}

impl CredentialPlace {
    /// The header in which a sender shows `secret`, as a name and a value; none where it stands in the
    /// path, or where the secret is not UTF-8.
    #[must_use]
    pub fn header_for(&self, secret: &Secret) -> Option<(String, String)> {
        let text = secret.as_text()?;
        Some(match self {
            Self::Header(name) => (name.clone(), text),
            Self::Bearer | Self::BearerOrQuery(_) => {
                ("Authorization".to_owned(), format!("Bearer {text}"))
            }
            Self::Basic => ("Authorization".to_owned(), format!("Basic {}", STANDARD.encode(text))),
            Self::PathEnd => return None,
        })
    }
}

/// Compares a credential with a secret. Holds digests, not secrets.
///
/// ```
/// use cognigy_core::{
///     Authenticator, CredentialPlace, CredentialVerifier, MatchedSecret, RawDelivery, Secret,
///     Timestamp,
/// };
///
/// let (old, new) = (Secret::new("the old token")?, Secret::new("the new token")?);
/// let verifier = CredentialVerifier::new(CredentialPlace::Bearer, &new).previous_secret(&old);
///
/// let raw = RawDelivery::new([("Authorization", "Bearer the old token")], "{}");
/// let matched = verifier.authenticate(&raw.request(Timestamp::UNIX_EPOCH));
/// assert_eq!(matched, Ok(MatchedSecret::Previous));
/// # Ok::<_, cognigy_core::SecretError>(())
/// ```
#[derive(Clone)]
pub struct CredentialVerifier {
    place: CredentialPlace,
    current: [u8; 32],
    previous: Option<[u8; 32]>,
}

impl CredentialVerifier {
    /// Expects `secret` in `place`.
    #[must_use]
    pub fn new(place: CredentialPlace, secret: &Secret) -> Self {
        Self { place, current: digest(secret.bytes()), previous: None }
    }

    /// Accepts `secret` as well, while senders move from it to the current one.
    #[must_use]
    pub fn previous_secret(mut self, secret: &Secret) -> Self {
        self.previous = Some(digest(secret.bytes()));
        self
    }

    fn shown(&self, request: &Request<'_>) -> Result<Vec<u8>, AuthenticationError> {
        match &self.place {
            CredentialPlace::Header(name) => request.header(name),
            CredentialPlace::Bearer => authorization(request, b"bearer "),
            CredentialPlace::BearerOrQuery(name) => match authorization(request, b"bearer ") {
                Err(AuthenticationError::Missing) => in_query(request.target(), name),
                shown => shown,
            },
            CredentialPlace::Basic => STANDARD
                .decode(authorization(request, b"basic ")?)
                .map_err(|_| AuthenticationError::Malformed),
            CredentialPlace::PathEnd => {
                let path = request.target().split('?').next().unwrap_or_default();
                let end = path.rsplit('/').next().filter(|end| !end.is_empty());
                end.map(|end| end.as_bytes().to_vec()).ok_or(AuthenticationError::Missing)
            }
        }
    }
}

/// Digests are compared, so that neither the length of the secret nor where the two differ shows in how
/// long it takes.
fn digest(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

/// What stands behind the scheme in `Authorization`. The scheme's case does not matter.
fn authorization(request: &Request<'_>, scheme: &[u8]) -> Result<Vec<u8>, AuthenticationError> {
    let value = request.header("authorization")?;
    let (start, rest) =
        value.split_at_checked(scheme.len()).ok_or(AuthenticationError::Malformed)?;
    if start.eq_ignore_ascii_case(scheme) {
        Ok(rest.trim_ascii().to_vec())
    } else {
        Err(AuthenticationError::Malformed)
    }
}

/// The parameter called `name` in the query of `target`, which may come once.
fn in_query(target: &str, name: &str) -> Result<Vec<u8>, AuthenticationError> {
    let (_, query) = target.split_once('?').ok_or(AuthenticationError::Missing)?;
    let mut values = query
        .split('&')
        .filter_map(|pair| pair.split_once('='))
        .filter(|(key, _)| *key == name)
        .map(|(_, value)| value);
    let value = values.next().ok_or(AuthenticationError::Missing)?;
    if values.next().is_some() {
        return Err(AuthenticationError::Repeated);
    }
    percent_decoded(value).ok_or(AuthenticationError::Malformed)
}

fn percent_decoded(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut decoded) = (text.bytes(), Vec::with_capacity(text.len()));
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let mut digit = || char::from(bytes.next()?).to_digit(16);
                u8::try_from(digit()? * 16 + digit()?).ok()?
            }
            b'+' => b' ',
            other => other,
        });
    }
    Some(decoded)
}

impl Authenticator for CredentialVerifier {
    fn authenticate(&self, request: &Request<'_>) -> Result<MatchedSecret, AuthenticationError> {
        let shown = digest(&self.shown(request)?);
        let is_previous = self.previous.map(|previous| previous.ct_eq(&shown));
        if bool::from(self.current.ct_eq(&shown)) {
            Ok(MatchedSecret::Current)
        } else if is_previous.is_some_and(bool::from) {
            Ok(MatchedSecret::Previous)
        } else {
            Err(AuthenticationError::Mismatch)
        }
    }

    fn refusal(&self) -> &'static str {
        "Invalid credentials"
    }

    fn challenge(&self) -> Option<Challenge> {
        match &self.place {
            CredentialPlace::Basic => Some(Challenge::Basic),
            CredentialPlace::Bearer | CredentialPlace::BearerOrQuery(_) => Some(Challenge::Bearer),
            CredentialPlace::Header(_) | CredentialPlace::PathEnd => None,
        }
    }
}

impl fmt::Debug for CredentialVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CredentialVerifier").field("place", &self.place).finish_non_exhaustive()
    }
}

/// Lets requests through by the sender's address alone, for senders that can show no credential.
///
/// The server has to tell the address ([`RawDelivery::peer`](crate::RawDelivery::peer)); a request
/// without one is refused.
///
/// ```
/// use std::net::IpAddr;
///
/// use cognigy_core::{AllowedAddresses, Authenticator, RawDelivery, Timestamp};
///
/// let inside = AllowedAddresses::new(|address: IpAddr| match address {
///     IpAddr::V4(address) => address.is_private(),
///     IpAddr::V6(_) => false,
/// });
/// let no_headers: [(&str, &str); 0] = [];
/// let from = |text: &str| {
///     let raw = RawDelivery::new(no_headers, "{}").peer(text.parse().unwrap());
///     inside.authenticate(&raw.request(Timestamp::UNIX_EPOCH))
/// };
/// assert!(from("10.0.0.7").is_ok());
/// assert!(from("203.0.113.9").is_err());
/// ```
pub struct AllowedAddresses<F>(F);

impl<F: Fn(IpAddr) -> bool + Send + Sync + 'static> AllowedAddresses<F> {
    /// Lets those through that `is_allowed` says so of.
    pub fn new(is_allowed: F) -> Self {
        Self(is_allowed)
    }
}

impl<F: Fn(IpAddr) -> bool + Send + Sync + 'static> Authenticator for AllowedAddresses<F> {
    fn authenticate(&self, request: &Request<'_>) -> Result<MatchedSecret, AuthenticationError> {
        match request.peer() {
            Some(peer) if (self.0)(peer) => Ok(MatchedSecret::Current),
            Some(_) => Err(AuthenticationError::Mismatch),
            None => Err(AuthenticationError::Missing),
        }
    }

    fn refusal(&self) -> &'static str {
        "The address is not allowed"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        event::Timestamp,
        intake::{Headers, RawDelivery},
    };

    const NO_HEADERS: [(&str, &str); 0] = [];

    fn secret(text: &str) -> Secret {
        Secret::new(text.as_bytes()).unwrap()
    }

    fn outcome<H: Headers>(
        place: &CredentialPlace,
        target: &str,
        headers: H,
    ) -> Result<MatchedSecret, AuthenticationError> {
        let (current, previous) = match place {
            CredentialPlace::Basic => ("user:pass:word", "user:before"),
            _ => ("a current key", "a previous key"),
        };
        let verifier = CredentialVerifier::new(place.clone(), &secret(current));
        let verifier = verifier.previous_secret(&secret(previous));
        let raw = RawDelivery::new(headers, "body").target(target);
        verifier.authenticate(&raw.request(Timestamp::UNIX_EPOCH))
    }

    use AuthenticationError::{Malformed, Mismatch, Missing, Repeated};
    use MatchedSecret::{Current, Previous};

    #[test]
    fn a_key_in_a_header_is_the_whole_value_and_comes_once() {
        let place = CredentialPlace::Header("X-API-Key".to_owned());
        let of = |values: &[&str]| {
            let headers: Vec<_> = values.iter().map(|value| ("x-api-key", *value)).collect();
            outcome(&place, "/in", &headers.iter().copied().collect::<Pairs<'_>>())
        };
        assert_eq!(of(&["a current key"]), Ok(Current));
        assert_eq!(of(&["a previous key"]), Ok(Previous));
        assert_eq!(of(&[]), Err(Missing));
        assert_eq!(of(&["a current key", "a current key"]), Err(Repeated));
        for wrong in ["", "a current ke", "a current key ", "A current key"] {
            assert_eq!(of(&[wrong]), Err(Mismatch), "{wrong:?}");
        }
    }

    /// Any number of headers.
    struct Pairs<'a>(Vec<(&'a str, &'a str)>);

    impl<'a> FromIterator<(&'a str, &'a str)> for Pairs<'a> {
        fn from_iter<I: IntoIterator<Item = (&'a str, &'a str)>>(pairs: I) -> Self {
            Self(pairs.into_iter().collect())
        }
    }

    impl Headers for &Pairs<'_> {
        fn for_each(&self, visit: &mut dyn FnMut(&str, &[u8])) {
            self.0.iter().for_each(|(name, value)| visit(name, value.as_bytes()));
        }
    }

    #[test]
    fn a_bearer_token_and_a_basic_pair_stand_behind_their_scheme() {
        let bearer = |value: &str| {
            outcome(
                &CredentialPlace::Bearer,
                "/in?access_token=a+current+key",
                [("Authorization", value)],
            )
        };
        assert_eq!(bearer("Bearer a current key"), Ok(Current));
        assert_eq!(bearer("bearer  a previous key"), Ok(Previous));
        assert_eq!(bearer("Bearer wrong"), Err(Mismatch));
        for malformed in ["a current key", "Basic a current key", "Beare", ""] {
            assert_eq!(bearer(malformed), Err(Malformed), "{malformed:?}");
        }
        assert_eq!(
            outcome(&CredentialPlace::Bearer, "/in?access_token=x", NO_HEADERS),
            Err(Missing)
        );
        let basic =
            |value: &str| outcome(&CredentialPlace::Basic, "/in", [("authorization", value)]);
        // printf 'user:pass:word' | base64, and 'user:before'.
        assert_eq!(basic("Basic dXNlcjpwYXNzOndvcmQ="), Ok(Current));
        assert_eq!(basic("basic dXNlcjpiZWZvcmU="), Ok(Previous));
        assert_eq!(basic("Basic dXNlcjpwYXNzOndvcmQ"), Err(Malformed));
        assert_eq!(basic("Basic dXNlcjp4"), Err(Mismatch));
    }

    #[test]
    fn a_token_in_the_query_is_decoded_once_and_the_header_goes_first() {
        let place = CredentialPlace::BearerOrQuery("access_token".to_owned());
        let query = |target: &str| outcome(&place, target, NO_HEADERS);
        assert_eq!(query("/in?a=b&access_token=a%20current%20key"), Ok(Current));
        assert_eq!(query("/in?access_token=a+previous+key&a=b"), Ok(Previous));
        assert_eq!(query("/in?access_token=a%2520current%2520key"), Err(Mismatch));
        assert_eq!(query("/in?access_token=x&access_token=x"), Err(Repeated));
        for malformed in ["/in?access_token=%", "/in?access_token=%2", "/in?access_token=%zz"] {
            assert_eq!(query(malformed), Err(Malformed), "{malformed}");
        }
        for missing in ["/in", "/in?", "/in?token=x", "/access_token=x"] {
            assert_eq!(query(missing), Err(Missing), "{missing}");
        }
        let both =
            outcome(&place, "/in?access_token=a+current+key", [("Authorization", "Bearer no")]);
        assert_eq!(both, Err(Mismatch));
    }

    #[test]
    fn a_token_in_the_path_is_its_last_segment() {
        let verifier = CredentialVerifier::new(CredentialPlace::PathEnd, &secret("token-1234"));
        let of = |target: &str| {
            let raw = RawDelivery::new(NO_HEADERS, "").target(target);
            verifier.authenticate(&raw.request(Timestamp::UNIX_EPOCH))
        };
        assert_eq!(of("/webhooks/cognigy/shop/token-1234"), Ok(Current));
        assert_eq!(of("/webhooks/cognigy/shop/token-1234?a=/b"), Ok(Current));
        assert_eq!(of("/webhooks/cognigy/token-1234/shop"), Err(Mismatch));
        assert_eq!(of("/webhooks/cognigy/shop/token%2D1234"), Err(Mismatch));
        assert_eq!(of("/webhooks/cognigy/shop/"), Err(Missing));
        assert_eq!(of(""), Err(Missing));
    }

    #[test]
    fn without_a_credential_the_address_decides() {
        let verifier = AllowedAddresses::new(|peer: IpAddr| peer.is_loopback());
        let of = |peer: Option<&str>| {
            let raw = RawDelivery::new(NO_HEADERS, "");
            let raw = match peer {
                Some(peer) => raw.peer(peer.parse().unwrap()),
                None => raw,
            };
            verifier.authenticate(&raw.request(Timestamp::UNIX_EPOCH))
        };
        assert_eq!(of(Some("127.0.0.9")), Ok(Current));
        assert_eq!(of(Some("192.0.2.1")), Err(Mismatch));
        assert_eq!(of(None), Err(Missing));
    }

    #[test]
    fn nothing_shows_a_secret() {
        let verifier = CredentialVerifier::new(CredentialPlace::Basic, &secret("marked:secret"));
        assert_eq!(format!("{verifier:?}"), "CredentialVerifier { place: Basic, .. }");
    }
}
