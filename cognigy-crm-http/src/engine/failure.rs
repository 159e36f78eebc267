//! Why a look-up failed, whether it is worth another try, and whether it says something of the whole
//! CRM.

use std::time::Duration;

use cognigy_core::{Contact, Failure};
use cognigy_http::{ReadError, TransportError, TransportErrorKind};
use reqwest::StatusCode;

use crate::{auth::TokenError, error::status as shown, template::Class};

/// A look-up that gave no answer. The texts end up in the attempts table and in dead letters: none may
/// hold a token, a key, a URL or any part of a contact.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum CrmError {
    #[error("this CRM cannot be asked for such a contact key")]
    Declined,
    #[error("the contact key is too long to ask the CRM for")]
    KeyTooLong,
    #[error("CRM did not answer within {0:?}")]
    Timeout(Duration),
    #[error("CRM {0}")]
    Transport(TransportError),
    #[error("CRM answered with more than {0} bytes")]
    TooLarge(usize),
    #[error("CRM answered with text that is not UTF-8")]
    NotUtf8,
    #[error("CRM answered with something that is not JSON ({0})")]
    NotJson(String),
    #[error("CRM answered without a record in the place where the template expects one")]
    NoRecord,
    #[error(
        "CRM sent a record without the field of the external id: check how the field's name is written"
    )]
    NoExternalId,
    #[error("CRM sent a record without an id of its own, so that it could not be confirmed")]
    NoRecordId,
    #[error("CRM found more than {0} records that might be the contact")]
    TooManyCandidates(usize),
    #[error("CRM says that the record was merged into another one, but gives no usable link to it")]
    NoLink,
    #[error("CRM answered {}{}{}", shown(*.status), coded(.code), advice(*.status))]
    Status { status: StatusCode, code: Option<String>, retry_after: Option<Duration> },
    #[error("CRM {}: it answered {}{}", used_up(*.class), shown(*.status), coded(.code))]
    Throttled {
        class: Class,
        status: StatusCode,
        code: Option<String>,
        retry_after: Option<Duration>,
    },
    #[error("CRM refused the credential: it answered {}{}", shown(*.status), coded(.code))]
    Credential { status: StatusCode, code: Option<String> },
    #[error("{0}")]
    Token(TokenError),
    #[error("the rate limit for the CRM leaves no room before the look-up's time limit")]
    NoRoom { wait: Duration },
    #[error("CRM knows {} contacts by this key", count(*.0))]
    Ambiguous(Option<usize>, Option<Contact>),
    #[error("the look-up was cut short")]
    CutShort,
}

impl CrmError {
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

    /// What an answer means that no rule of a template is about.
    pub(crate) fn of_status(
        status: StatusCode,
        code: Option<String>,
        retry_after: Option<Duration>,
    ) -> Self {
        let class = Class::Short;
        match status.as_u16() {
            401 => Self::Credential { status, code },
            429 | 503 => Self::Throttled { class, status, code, retry_after },
            // Some CRMs say "too many requests" with it. Without a wait, it means missing rights.
            403 if retry_after.is_some() => Self::Throttled { class, status, code, retry_after },
            _ => Self::Status { status, code, retry_after },
        }
    }

    /// Whether another contact, asked for alone, may well get an answer.
    pub(crate) fn is_of_request(&self) -> bool {
        matches!(
            self,
            Self::Status { .. }
                | Self::TooLarge(_)
                | Self::NotUtf8
                | Self::NotJson(_)
                | Self::KeyTooLong
                | Self::Declined
        )
    }
}

impl From<CrmError> for Failure {
    fn from(error: CrmError) -> Self {
        let message = error.to_string();
        let transient = |wait: Option<Duration>| {
            let failure = Failure::transient(&*message);
            match wait {
                Some(wait) => failure.retry_after(wait),
                None => failure,
            }
        };
        match error {
            CrmError::Timeout(_) | CrmError::CutShort => transient(None),
            CrmError::Transport(error) if error.kind() == TransportErrorKind::Connect => {
                transient(None).of_service()
            }
            CrmError::Transport(_) => transient(None),
            CrmError::Throttled { retry_after, .. } => transient(retry_after).of_service(),
            // Every look-up fails until the credential is renewed, and no event is at fault.
            CrmError::Credential { .. } => transient(None).of_service(),
            CrmError::Token(error) => transient(error.retry_after()).of_service(),
            CrmError::NoRoom { wait } => transient(Some(wait)).of_service(),
            CrmError::Status { status, retry_after, .. } if may_pass(status) => {
                transient(retry_after)
            }
            CrmError::Ambiguous(_, first) => Failure::ambiguous(message, first),
            _ => Failure::permanent(message),
        }
    }
}

/// Too slow, too early (RFC 8470), in conflict with another change, locked, and server errors, which
/// may be one record's.
fn may_pass(status: StatusCode) -> bool {
    matches!(status.as_u16(), 408 | 409 | 423 | 425) || status.is_server_error()
}

fn coded(code: &Option<String>) -> String {
    code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default()
}

fn advice(status: StatusCode) -> &'static str {
    match status.as_u16() {
        300..=399 => "; redirects are not followed",
        404 => {
            ", which does not say that it has no such contact: check the base URL, the version and \
             the field of the external id"
        }
        _ => "",
    }
}

fn used_up(class: Class) -> &'static str {
    match class {
        Class::Short => "takes no requests for now",
        Class::Quota => "has no requests left in its quota",
    }
}

fn count(records: Option<usize>) -> String {
    records.map_or_else(|| "several".to_owned(), |count| count.to_string())
}
