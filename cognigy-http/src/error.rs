//! Why a client could not be set up.

use std::error::Error;

/// The settings of an HTTP client are unusable. No message repeats a setting's value: a base URL
/// may hold a password, and a token is one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The base URL cannot be used; the text completes "the base URL …".
    #[error("the base URL {0}")]
    BaseUrl(String),
    /// A setting that must not be empty is.
    #[error("{0} is empty")]
    Empty(&'static str),
    /// A token holds a line break, a blank or anything else but visible ASCII, and so cannot go
    /// into an HTTP header.
    #[error("{0} holds something other than visible ASCII characters")]
    NotAToken(&'static str),
    /// A timeout of zero would fail every request.
    #[error("the timeout is zero")]
    ZeroTimeout,
    /// There is no root certificate to check an `https` server against. Install the system's
    /// certificates (`ca-certificates` in most distributions), or name a file of them in
    /// `SSL_CERT_FILE`.
    #[error("no trusted root certificate was found: install ca-certificates or set SSL_CERT_FILE")]
    NoRoots(#[source] Option<Box<dyn Error + Send + Sync>>),
    /// The TLS stack or the client refused its set-up.
    #[error("the HTTP client could not be set up")]
    Client(#[source] Box<dyn Error + Send + Sync>),
}
