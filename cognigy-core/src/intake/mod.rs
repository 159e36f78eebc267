//! The way in: a raw delivery is authenticated, read, recorded and answered.

mod authenticate;
mod delivery;
mod derived;
mod format;
mod ingest;
mod keep;
mod reply;
mod source;

pub use authenticate::{
    AllowedAddresses, AuthenticationError, Authenticator, Challenge, CredentialPlace,
    CredentialVerifier, DEFAULT_TOLERANCE, IncompleteScheme, InvalidContent, KeyEncoding,
    MIN_SECRET_BYTES, MatchedSecret, Request, Secret, SecretError, SignatureEncoding,
    SignatureFormat, SignatureScheme, SignatureVerifier, SignedContent, SigningScheme,
    SigningVerifier, TimestampUnit, ToSign, UnknownScheme, UnusableKey, sign,
};
pub(crate) use delivery::DeliveryIdentity;
pub use delivery::{Headers, RawDelivery, VerifiedDelivery};
pub use derived::DerivedId;
pub use format::{
    CognigyFormat, EventFormat, FormatOptions, FormatPreset, HandshakeRefused, InvalidEventType,
    InvalidJsonPointer, JsonPointer, MAX_EVENTS, ReadEvent, UnknownPreset, WebhookHandshake,
};
pub(crate) use ingest::Comparison;
pub use ingest::{DEFAULT_MAX_BODY_BYTES, Intake, Received};
pub use keep::MAX_CONTEXT_BYTES;
pub(crate) use keep::keep;
pub use reply::Reply;
pub use source::Source;
