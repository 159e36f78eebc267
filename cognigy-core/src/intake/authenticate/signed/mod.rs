//! Signatures of other senders: HMAC-SHA256 over a text that a template describes.
//!
//! What differs between senders is data ([`SigningScheme`]): which header, how the signature is written in
//! it, what is signed, where the time is. The named schemes are the rows of one table; any other sender's
//! is a row of one's own. Sources: the senders' documentation and their own libraries, with the published
//! test vectors in the tests.

use std::{str::FromStr, time::Duration};

use base64::{Engine, engine::general_purpose::STANDARD};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

use super::{TAG_BYTES, Tag};
use crate::{
    event::Timestamp,
    intake::{AuthenticationError, Authenticator, MatchedSecret, Request, Secret},
};

use KeyEncoding::{Raw, Whsec};
use SignatureEncoding::{Base64, Hex};
use TimestampUnit::{Iso8601, Milliseconds, Seconds};
use Written::{List, Pairs, Prefix};

/// How far the signed time may be from ours, in both directions, unless set otherwise. What Stripe, Slack,
/// Standard Webhooks and jambonz recommend.
pub const DEFAULT_TOLERANCE: Duration = Duration::from_secs(300);

/// The most signatures that one header may hold. Senders that rotate a secret send two.
const MAX_SIGNATURES: usize = 8;

/// How the signature is written in its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SignatureFormat {
    /// The signature alone, behind this prefix, which may be empty.
    Prefix(String),
    /// `key=value` pairs with commas between them: `signature` names those that hold a signature,
    /// `timestamp` the one that holds the time. Other keys are passed over.
    Pairs {
        /// The key of a signature; it may come several times.
        signature: String,
        /// The key of the time, which has to come once.
        timestamp: String,
    },
    /// Signatures with spaces between them. Those behind this prefix count, others are passed over.
    List(String),
}

/// How the 32 bytes of a signature are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SignatureEncoding {
    /// Hexadecimal, either case.
    Hex,
    /// Standard base64 with padding.
    Base64,
}

impl SignatureEncoding {
    /// The tag in `value`, if it is written so and exactly 32 bytes long. A shorter tag must never be
    /// compared "up to its length" (RUSTSEC-2024-0010).
    pub(super) fn decode(self, value: &[u8]) -> Option<Tag> {
        // The decoder may want room for its worst case: 44 characters of base64 are at most 33 bytes.
        // More than there is room for is an error of either decoder.
        let mut tag = [0; TAG_BYTES + 1];
        let written = match self {
            Self::Base64 => STANDARD.decode_slice(value, &mut tag).ok()?,
            Self::Hex => base16ct::mixed::decode(value, &mut tag).ok()?.len(),
        };
        if written != TAG_BYTES {
            return None;
        }
        tag[..TAG_BYTES].try_into().ok()
    }
}

/// How the key of the HMAC is made of the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyEncoding {
    /// Its bytes as they are.
    Raw,
    /// It is base64 of the key.
    Base64,
    /// It is base64 of the key behind `whsec_`.
    Whsec,
}

/// How the time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimestampUnit {
    /// Whole seconds since 1970.
    Seconds,
    /// Whole milliseconds since 1970.
    Milliseconds,
    /// RFC 3339.
    Iso8601,
}

/// What is signed: a template of `{body}`, `{ts}`, `{id}`, `{method}`, `{url}` and any other text.
///
/// ```
/// use cognigy_core::{InvalidContent, SignedContent};
///
/// let content: SignedContent = "{ts}.{body}".parse()?;
/// assert_eq!("{ts}".parse::<SignedContent>(), Err(InvalidContent::NoBody));
/// assert_eq!("{nonce}.{body}".parse::<SignedContent>(), Err(InvalidContent::Placeholder));
/// # let _ = content;
/// # Ok::<_, InvalidContent>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SignedContent(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Text(String),
    Body,
    Time,
    Id,
    Method,
    Url,
}

/// Not a template of what is signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidContent {
    /// It has a placeholder that does not exist, or a brace without its partner.
    #[error("expected text with {{body}}, {{ts}}, {{id}}, {{method}} and {{url}}")]
    Placeholder,
    /// The body is not a part of it: any body would do.
    #[error("must contain {{body}}")]
    NoBody,
}

impl SignedContent {
    fn has(&self, part: &Part) -> bool {
        self.0.contains(part)
    }
}

impl FromStr for SignedContent {
    type Err = InvalidContent;

    fn from_str(template: &str) -> Result<Self, Self::Err> {
        let (mut parts, mut rest) = (Vec::new(), template);
        while !rest.is_empty() {
            let at = rest.find(['{', '}']).unwrap_or(rest.len());
            if at > 0 {
                parts.push(Part::Text(rest[..at].to_owned()));
                rest = &rest[at..];
                continue;
            }
            let placeholders = [
                ("{body}", Part::Body),
                ("{ts}", Part::Time),
                ("{id}", Part::Id),
                ("{method}", Part::Method),
                ("{url}", Part::Url),
            ];
            let found = placeholders.into_iter().find(|(name, _)| rest.starts_with(name));
            let (name, part) = found.ok_or(InvalidContent::Placeholder)?;
            parts.push(part);
            rest = &rest[name.len()..];
        }
        let content = Self(parts);
        if content.has(&Part::Body) { Ok(content) } else { Err(InvalidContent::NoBody) }
    }
}

/// How a sender signs its deliveries.
///
/// ```
/// use cognigy_core::{
///     KeyEncoding, SignatureEncoding, SignatureFormat, SigningScheme, TimestampUnit,
/// };
///
/// let stripe = SigningScheme::named("stripe").unwrap();
/// assert!(stripe.signs_time());
///
/// // A sender that has no name here: `X-Signature: t=1772366400,sig=5f…`
/// let own = SigningScheme {
///     header: "X-Signature".into(),
///     format: SignatureFormat::Pairs { signature: "sig".into(), timestamp: "t".into() },
///     encoding: SignatureEncoding::Hex,
///     key: KeyEncoding::Raw,
///     content: "{ts}:{body}".parse()?,
///     timestamp_header: None,
///     timestamp_unit: TimestampUnit::Seconds,
///     id_header: None,
/// };
/// assert!(own.signs_time());
/// # Ok::<_, cognigy_core::InvalidContent>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SigningScheme {
    /// The header with the signature.
    pub header: String,
    /// How it is written there.
    pub format: SignatureFormat,
    /// How its bytes are written.
    pub encoding: SignatureEncoding,
    /// How the secret becomes the key.
    pub key: KeyEncoding,
    /// What is signed.
    pub content: SignedContent,
    /// The header with the time, where it is not in the signature's own header.
    pub timestamp_header: Option<String>,
    /// How the time is written.
    pub timestamp_unit: TimestampUnit,
    /// The header with the id.
    pub id_header: Option<String>,
}

/// Name, header, format, encoding, key, content, header and unit of the time, header of the id.
type Row = (
    &'static str,
    &'static str,
    Written,
    SignatureEncoding,
    KeyEncoding,
    &'static str,
    Option<&'static str>,
    TimestampUnit,
    Option<&'static str>,
);

/// [`SignatureFormat`], as the table has it.
#[derive(Clone, Copy)]
enum Written {
    Prefix(&'static str),
    Pairs(&'static str, &'static str),
    List(&'static str),
}

#[rustfmt::skip]
const NAMED: [Row; 13] = [
    ("native", "X-Cognigy-Signature", Prefix(""), Base64, Raw, "{body}", None, Seconds, None),
    ("line", "X-Line-Signature", Prefix(""), Base64, Raw, "{body}", None, Seconds, None),
    ("shopify", "X-Shopify-Hmac-Sha256", Prefix(""), Base64, Raw, "{body}", None, Seconds, None),
    ("genesys", "X-Hub-Signature-256", Prefix("sha256="), Base64, Raw, "{body}", None, Seconds, None),
    ("github", "X-Hub-Signature-256", Prefix("sha256="), Hex, Raw, "{body}", None, Seconds, None),
    ("stripe", "Stripe-Signature", Pairs("v1", "t"), Hex, Raw, "{ts}.{body}", None, Seconds, None),
    ("voice-gateway", "Jambonz-Signature", Pairs("v1", "t"), Hex, Raw, "{ts}.{body}", None, Seconds, None),
    ("chatwoot", "X-Chatwoot-Signature", Prefix("sha256="), Hex, Raw, "{ts}.{body}",
        Some("X-Chatwoot-Timestamp"), Seconds, None),
    ("cxone-expert", "X-Nexus-Signature-256", Prefix("sha256="), Hex, Raw, "{ts}.{body}",
        Some("X-Nexus-Timestamp"), Seconds, None),
    ("slack", "X-Slack-Signature", Prefix("v0="), Hex, Raw, "v0:{ts}:{body}",
        Some("X-Slack-Request-Timestamp"), Seconds, None),
    ("zendesk", "X-Zendesk-Webhook-Signature", Prefix(""), Base64, Raw, "{ts}{body}",
        Some("X-Zendesk-Webhook-Signature-Timestamp"), Iso8601, None),
    ("standard-webhooks", "webhook-signature", List("v1,"), Base64, Whsec, "{id}.{ts}.{body}",
        Some("webhook-timestamp"), Seconds, Some("webhook-id")),
    ("hubspot-v3", "X-HubSpot-Signature-v3", Prefix(""), Base64, Raw, "{method}{url}{body}{ts}",
        Some("X-HubSpot-Request-Timestamp"), Milliseconds, None),
];

impl SigningScheme {
    /// The scheme with that name: `native`, `line`, `shopify`, `genesys`, `github`, `stripe`,
    /// `voice-gateway`, `chatwoot`, `cxone-expert`, `slack`, `zendesk`, `standard-webhooks`, `hubspot-v3`.
    ///
    /// That Cognigy's Voice Gateway keeps jambonz' header is not confirmed, nor in which order Zendesk joins
    /// time and body today: the header and the content can be set.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let (
            _,
            header,
            written,
            encoding,
            key,
            content,
            timestamp_header,
            timestamp_unit,
            id_header,
        ) = NAMED.into_iter().find(|(known, ..)| *known == name)?;
        let format = match written {
            Prefix(prefix) => SignatureFormat::Prefix(prefix.to_owned()),
            List(prefix) => SignatureFormat::List(prefix.to_owned()),
            Pairs(signature, timestamp) => SignatureFormat::Pairs {
                signature: signature.to_owned(),
                timestamp: timestamp.to_owned(),
            },
        };
        Some(Self {
            header: header.to_owned(),
            format,
            encoding,
            key,
            content: content.parse().ok()?,
            timestamp_header: timestamp_header.map(ToOwned::to_owned),
            timestamp_unit,
            id_header: id_header.map(ToOwned::to_owned),
        })
    }

    /// Whether the time is signed, so that an old delivery cannot be sent again.
    #[must_use]
    pub fn signs_time(&self) -> bool {
        self.content.has(&Part::Time)
    }

    /// The names that [`named`](Self::named) knows.
    pub fn names() -> impl Iterator<Item = &'static str> {
        NAMED.into_iter().map(|(name, ..)| name)
    }

    /// The headers that a sender puts beside `delivery`, as pairs of name and value: those of the
    /// signature, the time and the id.
    ///
    /// # Errors
    ///
    /// The secret is not written as the scheme asks.
    pub fn sign(
        &self,
        secret: &Secret,
        delivery: &ToSign<'_>,
    ) -> Result<Vec<(String, String)>, UnusableKey> {
        let ToSign { body, id, at, method, url } = delivery;
        let time = match self.timestamp_unit {
            Seconds => at.timestamp().to_string(),
            Milliseconds => at.timestamp_millis().to_string(),
            Iso8601 => at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true),
        };
        let mut mac = self.key_of(secret)?;
        for part in &self.content.0 {
            mac.update(match part {
                Part::Text(text) => text.as_bytes(),
                Part::Body => body,
                Part::Time => time.as_bytes(),
                Part::Id => id.as_bytes(),
                Part::Method => method.as_bytes(),
                Part::Url => url.as_bytes(),
            });
        }
        let tag: Tag = mac.finalize().into_bytes().into();
        let tag = match self.encoding {
            Hex => base16ct::lower::encode_string(&tag),
            Base64 => STANDARD.encode(tag),
        };
        let written = match &self.format {
            SignatureFormat::Prefix(prefix) | SignatureFormat::List(prefix) => {
                format!("{prefix}{tag}")
            }
            SignatureFormat::Pairs { signature, timestamp } => {
                format!("{timestamp}={time},{signature}={tag}")
            }
        };
        let mut headers = vec![(self.header.clone(), written)];
        headers.extend(self.timestamp_header.clone().map(|name| (name, time)));
        headers.extend(self.id_header.clone().map(|name| (name, (*id).to_owned())));
        Ok(headers)
    }

    fn key_of(&self, secret: &Secret) -> Result<Hmac<Sha256>, UnusableKey> {
        let bytes = secret.bytes();
        let decode = |bytes: &[u8]| STANDARD.decode(bytes).map_err(|_| UnusableKey::Base64);
        let key = match self.key {
            KeyEncoding::Raw => bytes.to_vec(),
            KeyEncoding::Base64 => decode(bytes)?,
            KeyEncoding::Whsec => decode(bytes.strip_prefix(b"whsec_").ok_or(UnusableKey::Whsec)?)?,
        };
        let key = zeroize::Zeroizing::new(key);
        Hmac::new_from_slice(&key).map_err(|_| UnusableKey::Base64)
    }
}

/// A delivery that a sender is about to sign.
///
/// ```
/// use cognigy_core::{Secret, SigningScheme, ToSign, testing::sample};
///
/// let scheme = SigningScheme::named("standard-webhooks").unwrap();
/// let secret = Secret::new("whsec_c2VjcmV0IG9mIHRoZSB0ZXN0")?;
/// let delivery = ToSign {
///     body: b"{}",
///     id: "msg_1",
///     at: sample::start(),
///     method: "POST",
///     url: "https://example.com/webhooks",
/// };
/// let headers = scheme.sign(&secret, &delivery)?;
/// let names: Vec<_> = headers.iter().map(|(name, _)| name.as_str()).collect();
/// assert_eq!(names, ["webhook-signature", "webhook-timestamp", "webhook-id"]);
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy)]
pub struct ToSign<'a> {
    /// The body.
    pub body: &'a [u8],
    /// Its id, for schemes that sign one; without a dot in it.
    pub id: &'a str,
    /// The sender's time.
    pub at: Timestamp,
    /// The method.
    pub method: &'a str,
    /// The URL that it is sent to, for schemes that sign it.
    pub url: &'a str,
}

/// A secret that is not written as its scheme asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum UnusableKey {
    /// It is not base64.
    #[error("the secret must be base64")]
    Base64,
    /// It does not begin with `whsec_`.
    #[error("the secret must begin with whsec_")]
    Whsec,
}

/// A scheme that signs what its verifier was not told.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum IncompleteScheme {
    /// The URL is signed.
    #[error("the scheme signs the URL: the public URL is needed")]
    Url,
    /// The time is signed, and no header is said to hold it.
    #[error("the scheme signs a time: its header is needed")]
    Time,
    /// The id is signed, and no header is said to hold it.
    #[error("the scheme signs an id: its header is needed")]
    Id,
}

/// Checks signatures that are made as a [`SigningScheme`] says. Holds hash states, not secrets.
///
/// ```
/// use std::time::Duration;
///
/// use cognigy_core::{
///     AuthenticationError, Authenticator, MatchedSecret, RawDelivery, Secret, SigningScheme,
///     SigningVerifier, ToSign, testing::sample,
/// };
///
/// let scheme = SigningScheme::named("slack").unwrap();
/// let secret = Secret::new("the signing secret of the app")?;
/// let verifier = SigningVerifier::new(scheme.clone(), &secret)?.tolerance(Duration::from_secs(60));
///
/// let at = sample::start();
/// let delivery = ToSign { body: b"{}", id: "", at, method: "POST", url: "" };
/// let headers = scheme.sign(&secret, &delivery)?;
/// let headers = [0, 1].map(|n| (headers[n].0.as_str(), headers[n].1.as_str()));
/// let raw = RawDelivery::new(headers, "{}");
/// assert_eq!(verifier.authenticate(&raw.request(at)), Ok(MatchedSecret::Current));
///
/// // The same delivery, sent again an hour later by an attacker who has read it.
/// let later = at + Duration::from_secs(3600);
/// let refused = verifier.authenticate(&raw.request(later));
/// assert_eq!(refused, Err(AuthenticationError::Stale { seconds: 3600 }));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone)]
pub struct SigningVerifier {
    scheme: SigningScheme,
    keys: Vec<(MatchedSecret, Hmac<Sha256>)>,
    tolerance: Duration,
    public_url: String,
}

impl SigningVerifier {
    /// Expects signatures that `scheme` makes with `secret`.
    ///
    /// # Errors
    ///
    /// The secret is not written as the scheme asks.
    pub fn new(scheme: SigningScheme, secret: &Secret) -> Result<Self, UnusableKey> {
        let keys = vec![(MatchedSecret::Current, scheme.key_of(secret)?)];
        Ok(Self { scheme, keys, tolerance: DEFAULT_TOLERANCE, public_url: String::new() })
    }

    /// Accepts `secret` as well, while senders move from it to the current one.
    ///
    /// # Errors
    ///
    /// The secret is not written as the scheme asks.
    pub fn previous_secret(mut self, secret: &Secret) -> Result<Self, UnusableKey> {
        let key = self.scheme.key_of(secret)?;
        self.keys.push((MatchedSecret::Previous, key));
        Ok(self)
    }

    /// How far a signed time may be from ours, in both directions. Default: [`DEFAULT_TOLERANCE`].
    #[must_use]
    pub fn tolerance(mut self, tolerance: Duration) -> Self {
        self.tolerance = tolerance;
        self
    }

    /// The URL under which the sender knows this receiver, for schemes that sign it: whole, as it is set at
    /// the sender. What a proxy makes of it is not the sender's.
    #[must_use]
    pub fn public_url(mut self, url: impl Into<String>) -> Self {
        self.public_url = url.into();
        self
    }

    /// Whether everything that the scheme signs can be had.
    ///
    /// # Errors
    ///
    /// Something cannot: every delivery would be refused.
    pub fn check(&self) -> Result<(), IncompleteScheme> {
        let SigningScheme { content, format, timestamp_header, id_header, .. } = &self.scheme;
        let has_time =
            timestamp_header.is_some() || matches!(format, SignatureFormat::Pairs { .. });
        if content.has(&Part::Url) && self.public_url.is_empty() {
            return Err(IncompleteScheme::Url);
        }
        if content.has(&Part::Time) && !has_time {
            return Err(IncompleteScheme::Time);
        }
        if content.has(&Part::Id) && id_header.is_none() {
            return Err(IncompleteScheme::Id);
        }
        Ok(())
    }

    /// The signatures in the header's `value`, and the time where it is there too.
    fn read(&self, value: &str) -> Result<(Vec<Tag>, Option<String>), AuthenticationError> {
        const MALFORMED: AuthenticationError = AuthenticationError::Malformed;
        let decode = |text: &str| self.scheme.encoding.decode(text.as_bytes()).ok_or(MALFORMED);
        let (mut tags, mut time) = (Vec::new(), None);
        match &self.scheme.format {
            SignatureFormat::Prefix(prefix) => {
                tags.push(decode(value.strip_prefix(prefix.as_str()).ok_or(MALFORMED)?)?);
            }
            SignatureFormat::List(prefix) => {
                for text in value.split(' ').filter_map(|it| it.strip_prefix(prefix.as_str())) {
                    tags.push(decode(text)?);
                }
            }
            SignatureFormat::Pairs { signature, timestamp } => {
                for pair in value.split(',') {
                    let (key, text) = pair.trim().split_once('=').ok_or(MALFORMED)?;
                    if key == signature {
                        tags.push(decode(text)?);
                    } else if key == timestamp && time.replace(text.to_owned()).is_some() {
                        return Err(AuthenticationError::Repeated);
                    }
                }
            }
        }
        if tags.is_empty() || tags.len() > MAX_SIGNATURES {
            Err(MALFORMED)
        } else {
            Ok((tags, time))
        }
    }

    fn is_near(&self, time: &str, now: Timestamp) -> Result<(), AuthenticationError> {
        let number = || -> Option<i64> {
            let digits = time.strip_prefix('-').unwrap_or(time);
            let plain = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            plain.then(|| time.parse().ok()).flatten()
        };
        let signed = match self.scheme.timestamp_unit {
            Seconds => number().and_then(|seconds| Timestamp::from_timestamp(seconds, 0)),
            Milliseconds => number().and_then(Timestamp::from_timestamp_millis),
            Iso8601 => chrono::DateTime::parse_from_rfc3339(time).ok().map(Into::into),
        };
        let signed = signed.ok_or(AuthenticationError::Malformed)?;
        let late = (now - signed).num_milliseconds();
        if u128::from(late.unsigned_abs()) > self.tolerance.as_millis() {
            return Err(AuthenticationError::Stale { seconds: late / 1000 });
        }
        Ok(())
    }
}

impl Authenticator for SigningVerifier {
    fn authenticate(&self, request: &Request<'_>) -> Result<MatchedSecret, AuthenticationError> {
        let text = |name: &str| -> Result<String, AuthenticationError> {
            String::from_utf8(request.header(name)?).map_err(|_| AuthenticationError::Malformed)
        };
        let (tags, time) = self.read(&text(&self.scheme.header)?)?;
        let time = match (&self.scheme.timestamp_header, time) {
            (Some(header), _) => Some(text(header)?),
            (None, time) => time,
        };
        if self.scheme.content.has(&Part::Time) {
            self.is_near(time.as_deref().ok_or(AuthenticationError::Missing)?, request.now())?;
        }
        let id = match &self.scheme.id_header {
            // A dot in it could move bytes between the id, the time and the body.
            Some(header) => Some(text(header)?)
                .filter(|id| !id.contains('.'))
                .map_or(Err(AuthenticationError::Malformed), |id| Ok(Some(id)))?,
            None => None,
        };
        let mut matched = None;
        // Every key with every signature, whichever fits: how long it takes tells nothing.
        for (which, key) in &self.keys {
            let mut mac = key.clone();
            for part in &self.scheme.content.0 {
                mac.update(match part {
                    Part::Text(text) => text.as_bytes(),
                    Part::Body => request.body(),
                    Part::Time => time.as_deref().unwrap_or_default().as_bytes(),
                    Part::Id => id.as_deref().unwrap_or_default().as_bytes(),
                    Part::Method => request.method().as_bytes(),
                    Part::Url => self.public_url.as_bytes(),
                });
            }
            let expected: Tag = mac.finalize().into_bytes().into();
            let fits =
                tags.iter().fold(subtle::Choice::from(0), |fits, tag| fits | tag.ct_eq(&expected));
            if bool::from(fits) && matched.is_none() {
                matched = Some(*which);
            }
        }
        matched.ok_or(AuthenticationError::Mismatch)
    }
}

#[cfg(test)]
mod tests;
