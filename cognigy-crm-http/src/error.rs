//! Why a look-up failed, and whether it is worth another try.

use std::time::Duration;

use cognigy_core::{DecodeError, Failure, FailureKind};
use cognigy_http::{ReadError, TransportError, TransportErrorKind};
use reqwest::StatusCode;

/// A look-up that failed. The messages end up in the attempts table and in dead letters: none may
/// hold the URL, the token or the key. Of an answer's body they hold only the first words of a page
/// or of an error object, which are meant for people, and no part of a possible contact.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LookUpError {
    #[error("CRM answered {}", told(*status))]
    Status { status: StatusCode, retry_after: Option<Duration> },
    #[error("CRM did not answer within {0:?}")]
    Timeout(Duration),
    #[error("CRM {0}")]
    Transport(TransportError),
    #[error("CRM answered with more than {0} bytes")]
    TooLarge(usize),
    #[error("CRM answered with text that is not UTF-8")]
    NotUtf8,
    #[error("CRM answered with something that is not JSON {told}")]
    NotJson { told: String, cause: DecodeError },
    #[error("CRM answered with an error {0}")]
    ErrorObject(String),
    #[error("the contact key is too long to ask the CRM for")]
    KeyTooLong,
}

impl LookUpError {
    pub(crate) fn transport(error: TransportError, timeout: Duration) -> Self {
        match error.kind() {
            TransportErrorKind::Timeout => Self::Timeout(timeout),
            _ => Self::Transport(error),
        }
    }

    pub(crate) fn read(error: ReadError, timeout: Duration) -> Self {
        match error {
            ReadError::TooLarge { limit } => Self::TooLarge(limit),
            ReadError::Transport(error) => Self::transport(error, timeout),
        }
    }

    fn kind(&self) -> FailureKind {
        match *self {
            Self::Status { status, retry_after } if may_pass(status, retry_after) => {
                FailureKind::Transient { retry_after }
            }
            // A fault between this process and the CRM, certificates included, may be repaired
            // before the attempts are used up.
            Self::Timeout(_) | Self::Transport(_) => FailureKind::Transient { retry_after: None },
            _ => FailureKind::Permanent,
        }
    }
}

impl LookUpError {
    /// Whether every other look-up would fail the same way: the CRM cannot be reached, is overloaded, or
    /// takes no more requests for now. A 500 or an answer that does not come may be one contact's.
    fn is_of_service(&self) -> bool {
        match self {
            Self::Status { status, .. } => matches!(status.as_u16(), 403 | 429 | 503),
            Self::Transport(error) => error.kind() == TransportErrorKind::Connect,
            _ => false,
        }
    }
}

/// Statuses that mean "later": too slow, too early (RFC 8470), too many requests (RFC 6585), and
/// all server errors. A 403 with a `Retry-After` means the same, because some CRMs answer "too many
/// requests" with it. Without one it means missing rights.
fn may_pass(status: StatusCode, retry_after: Option<Duration>) -> bool {
    match status.as_u16() {
        408 | 425 | 429 => true,
        403 => retry_after.is_some(),
        _ => status.is_server_error(),
    }
}

fn told(code: StatusCode) -> String {
    let note = if code.is_redirection() { " (redirects are not followed)" } else { "" };
    format!("{}{note}", status(code))
}

/// `404 Not Found`
pub(crate) fn status(status: StatusCode) -> String {
    let code = status.as_str();
    match status.canonical_reason() {
        Some(reason) => format!("{code} {reason}"),
        None => code.to_owned(),
    }
}

impl From<LookUpError> for Failure {
    fn from(error: LookUpError) -> Self {
        let message = error.to_string();
        let failure = match error.kind() {
            FailureKind::Transient { retry_after: Some(wait) } => {
                Failure::transient(message).retry_after(wait)
            }
            FailureKind::Transient { retry_after: None } => Failure::transient(message),
            FailureKind::Permanent => Failure::permanent(message),
        };
        let failure = if error.is_of_service() { failure.of_service() } else { failure };
        match error {
            // The position at which parsing failed, but no part of the text.
            LookUpError::NotJson { cause, .. } => failure.caused_by(cause),
            _ => failure,
        }
    }
}
