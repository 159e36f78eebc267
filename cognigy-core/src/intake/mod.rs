//! The way in: a raw delivery is authenticated, read, recorded and answered.

mod authenticate;
mod delivery;
mod format;
mod ingest;
mod reply;
mod source;

pub use authenticate::{
    MIN_SECRET_BYTES, MatchedSecret, Secret, SecretError, SignatureError, SignatureScheme,
    SignatureVerifier, sign,
};
pub use delivery::{Headers, RawDelivery, VerifiedDelivery};
pub use format::{CognigyFormat, EventFormat};
pub(crate) use ingest::Comparison;
pub use ingest::{DEFAULT_MAX_BODY_BYTES, Intake};
pub use reply::Reply;
pub use source::{DEFAULT_SOURCE, InvalidSourceName, Source, SourceName};
