//! Who may hand us events.

mod hmac;

pub use hmac::{
    MIN_SECRET_BYTES, MatchedSecret, Secret, SecretError, SignatureError, SignatureScheme,
    SignatureVerifier, sign,
};
