//! What can go wrong between a request and the end of its answer.

use std::{error::Error, fmt, io};

/// How far a request got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum TransportErrorKind {
    /// No connection came about: name look-up, TCP or TLS failed. The server saw no request.
    Connect,
    /// The deadline passed. Whether the server acted on the request is unknown.
    Timeout,
    /// The connection broke before an answer came, or what came was not HTTP. Whether the server
    /// acted on the request is unknown.
    NoAnswer,
    /// The answer began, with a status, and broke off.
    Body,
}

/// A request got no complete answer.
///
/// Reads as the rest of a sentence that begins with the server's name: "could not be reached:
/// connection refused". It holds no part of the URL, of a header or of a body, and so may be logged
/// and stored; for the same reason it keeps the text of its cause and not the cause itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TransportError {
    kind: TransportErrorKind,
    cause: String,
}

impl TransportError {
    /// How far the request got.
    #[must_use]
    pub fn kind(&self) -> TransportErrorKind {
        self.kind
    }
}

impl From<reqwest::Error> for TransportError {
    fn from(error: reqwest::Error) -> Self {
        let kind = if error.is_connect() {
            TransportErrorKind::Connect
        } else if error.is_timeout() {
            TransportErrorKind::Timeout
        } else if error.is_body() || error.is_decode() {
            TransportErrorKind::Body
        } else {
            TransportErrorKind::NoAnswer
        };
        Self { kind, cause: root_cause(&error.without_url()) }
    }
}

/// The text of the innermost error. The outer errors only name the layers.
fn root_cause(error: &(dyn Error + 'static)) -> String {
    let mut cause = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    match cause.downcast_ref::<io::Error>() {
        // "connection refused" rather than "Connection refused (os error 111)".
        Some(io) if io.raw_os_error().is_some() => io.kind().to_string(),
        _ => cause.to_string(),
    }
}

impl fmt::Display for TransportError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cause = &self.cause;
        match self.kind {
            TransportErrorKind::Connect => write!(f, "could not be reached: {cause}"),
            TransportErrorKind::Timeout => f.write_str("did not answer in time"),
            TransportErrorKind::NoAnswer => write!(f, "gave no usable answer: {cause}"),
            TransportErrorKind::Body => write!(f, "broke its answer off: {cause}"),
        }
    }
}

impl Error for TransportError {}
