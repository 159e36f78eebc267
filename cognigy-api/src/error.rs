//! What can go wrong when talking to Cognigy.

use std::fmt;

use cognigy_http::{ReadError, TransportError};
use reqwest::StatusCode;

/// Which request an error belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum ApiCall {
    /// The OAuth token request (RFC 6749, section 4.4).
    Token,
    /// The registration of a webhook.
    RegisterWebhook,
    /// The list of webhooks.
    ListWebhooks,
    /// A change of a webhook.
    UpdateWebhook,
    /// The removal of a webhook.
    DeleteWebhook,
}

impl fmt::Display for ApiCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Token => "getting an access token",
            Self::RegisterWebhook => "registering the webhook",
            Self::ListWebhooks => "listing the webhooks",
            Self::UpdateWebhook => "changing the webhook",
            Self::DeleteWebhook => "removing the webhook",
        })
    }
}

/// A call to Cognigy's API failed. No text of it holds a secret or a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ApiError {
    /// No complete answer came. Unless `error` is a
    /// [`Connect`](cognigy_http::TransportErrorKind::Connect), a registration may have happened:
    /// look at Cognigy's list of webhooks before trying again.
    #[error("{call} failed: Cognigy's API {error}")]
    Transport {
        /// The request that failed.
        call: ApiCall,
        /// How far it got.
        error: TransportError,
    },
    /// The API refused. Below 500 the same request will be refused again: something has to be
    /// changed first. A 401 has already been tried with a new token.
    #[error("{call} failed: Cognigy's API answered {}{}", told(*status), after_colon(excerpt))]
    Status {
        /// The request that was refused.
        call: ApiCall,
        /// The HTTP status.
        status: u16,
        /// What the answer said: its `detail` and `traceId` where it is an RFC 9457 problem, else
        /// its beginning. One line, 512 bytes at most, secrets masked; empty if it said nothing.
        excerpt: String,
    },
    /// The answer is not of the expected form. The base URL may name something that is not
    /// Cognigy's API. If the call was a [`RegisterWebhook`](ApiCall::RegisterWebhook), it may have
    /// happened all the same: look at Cognigy's list of webhooks before trying again.
    #[error("{call} failed: Cognigy's API answered with {problem}")]
    Unreadable {
        /// The request that was answered so.
        call: ApiCall,
        /// What the answer was instead. For a registration: status, content type and the beginning
        /// of the body; for a token request: the error that it names, or what is missing. One line,
        /// less than 1 KiB, secrets masked.
        problem: String,
    },
}

impl ApiError {
    /// The HTTP status, where the API refused.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Status { status, .. } => Some(*status),
            _ => None,
        }
    }

    pub(crate) fn read(call: ApiCall, error: ReadError) -> Self {
        match error {
            ReadError::Transport(error) => Self::Transport { call, error },
            ReadError::TooLarge { .. } => {
                Self::Unreadable { call, problem: "far too much".to_owned() }
            }
        }
    }
}

pub(crate) fn told(status: u16) -> String {
    match StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()) {
        Some(reason) => format!("{status} {reason}"),
        None => status.to_string(),
    }
}

pub(crate) fn after_colon(text: &str) -> String {
    if text.is_empty() { String::new() } else { format!(": {text}") }
}
