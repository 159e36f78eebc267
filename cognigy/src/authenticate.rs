//! How a delivery proves who sent it: signatures of every documented shape, credentials, addresses.
//!
//! A [`Source`](crate::Source) takes one of these [`Authenticator`]s, or one of your own.

pub use cognigy_core::{
    AllowedAddresses, AuthenticationError, Authenticator, Challenge, CredentialPlace,
    CredentialVerifier, DEFAULT_TOLERANCE, IncompleteScheme, KeyEncoding, MIN_SECRET_BYTES,
    MatchedSecret, SignatureEncoding, SignatureFormat, SignedContent, SigningScheme,
    SigningVerifier, TimestampUnit, ToSign, UnknownScheme, UnusableKey,
};
