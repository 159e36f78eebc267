//! How a delivery proves who sent it: signatures of every documented shape, credentials, addresses.
//!
//! A [`Source`](crate::Source) takes one of these [`Authenticator`]s, or one of your own.
//!
//! ```
//! use cognigy::authenticate::{SigningScheme, SigningVerifier};
//! use cognigy::{Secret, Source, format::{FormatOptions, FormatPreset}};
//!
//! // A sender that signs as Standard Webhooks says.
//! let secret = Secret::new("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")?;
//! let scheme = SigningScheme::named("standard-webhooks").ok_or("unknown")?;
//! let source = Source::new(
//!     "orders".parse()?,
//!     SigningVerifier::new(scheme, &secret)?,
//!     FormatPreset::StandardWebhooks.format(FormatOptions::default())?,
//! );
//! # let _ = source;
//! # Ok::<_, Box<dyn std::error::Error>>(())
//! ```

pub use cognigy_core::{
    AllowedAddresses, AuthenticationError, Authenticator, Challenge, CredentialPlace,
    CredentialVerifier, DEFAULT_TOLERANCE, IncompleteScheme, KeyEncoding, MIN_SECRET_BYTES,
    MatchedSecret, SignatureEncoding, SignatureFormat, SignedContent, SigningScheme,
    SigningVerifier, TimestampUnit, ToSign, UnknownScheme, UnusableKey,
};
