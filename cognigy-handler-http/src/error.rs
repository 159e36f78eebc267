//! What is wrong with the settings, and why an event could not be forwarded.

use std::time::Duration;

use cognigy_core::{Failure, FailureKind};
use cognigy_http::{TransportError, TransportErrorKind};
use reqwest::StatusCode;

use crate::SECRET_BYTES;

/// The handler cannot be set up. Nothing was sent yet; a setting has to be corrected. No text repeats the
/// setting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The URL cannot be used.
    #[error("the forward URL {0}")]
    Url(InvalidUrl),
    /// No secret is set.
    #[error("the forward URL needs a secret to sign with")]
    NoSecret,
    /// The secret cannot be used.
    #[error("the forward secret {0}")]
    Secret(InvalidSecret),
    /// [`types`](crate::ForwardHandlerBuilder::types) named no type.
    #[error("no event type is named, so that no event would be forwarded")]
    NoTypes,
    /// The timeout is zero, there are no certificates to check an `https` server against, or TLS cannot be
    /// set up.
    #[error(transparent)]
    Client(cognigy_http::ConfigError),
}

/// What is wrong with a URL to forward to: the rest of a sentence that begins with the name of the setting.
/// It repeats no part of the URL.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidUrl(pub(crate) String);

/// What is wrong with a secret to sign with: the rest of a sentence that begins with the name of the
/// setting. It repeats no part of the secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidSecret {
    /// It does not begin with `whsec_`.
    #[error("must begin with whsec_")]
    Prefix,
    /// What follows `whsec_` is not base64.
    #[error("must be standard base64 with padding after whsec_")]
    Base64,
    /// It is shorter or longer than Standard Webhooks allows: see [`SECRET_BYTES`].
    #[error(
        "must have {} to {} bytes in base64 after whsec_, and has {bytes}",
        SECRET_BYTES.start(),
        SECRET_BYTES.end()
    )]
    Length {
        /// How many bytes it has.
        bytes: usize,
    },
}

/// An event was not forwarded. The messages are kept with attempts and in dead letters: none may hold the
/// secret, the URL, the event or any of the answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ForwardError {
    #[error("the forward URL answered {}", told(*status))]
    Status { status: StatusCode, retry_after: Option<Duration> },
    #[error("the forward URL did not answer within {0:?}")]
    Timeout(Duration),
    #[error("the forward URL {0}")]
    Transport(TransportError),
    #[error("the message could not be written as JSON")]
    Message(#[source] serde_json::Error),
}

impl ForwardError {
    pub(crate) fn transport(error: TransportError, timeout: Duration) -> Self {
        match error.kind() {
            TransportErrorKind::Timeout => Self::Timeout(timeout),
            _ => Self::Transport(error),
        }
    }

    fn kind(&self) -> FailureKind {
        match *self {
            Self::Status { status, retry_after } if may_pass(status) => {
                FailureKind::Transient { retry_after }
            }
            // A fault between this process and the receiver, certificates included, may be repaired before
            // the attempts are used up.
            Self::Timeout(_) | Self::Transport(_) => FailureKind::Transient { retry_after: None },
            Self::Status { .. } | Self::Message(_) => FailureKind::Permanent,
        }
    }
}

/// Statuses that mean "later": too slow, too early (RFC 8470), too many requests (RFC 6585), and all
/// server errors. All others say that the receiver will not take the message; 410, that it will take none.
fn may_pass(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 425 | 429) || status.is_server_error()
}

/// `404 Not Found`
fn told(status: StatusCode) -> String {
    let note = if status.is_redirection() { " (redirects are not followed)" } else { "" };
    match status.canonical_reason() {
        Some(reason) => format!("{} {reason}{note}", status.as_str()),
        None => format!("{}{note}", status.as_str()),
    }
}

impl From<ForwardError> for Failure {
    fn from(error: ForwardError) -> Self {
        let message = error.to_string();
        match error.kind() {
            FailureKind::Transient { retry_after: Some(wait) } => {
                Self::transient(message).retry_after(wait)
            }
            FailureKind::Transient { retry_after: None } => Self::transient(message),
            FailureKind::Permanent => Self::permanent(message),
        }
    }
}
