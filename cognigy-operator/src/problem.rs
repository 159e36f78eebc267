//! Why a request is refused.

use std::{error::Error, fmt};

use cognigy_core::{BoxError, Reply, StoreError};

/// A request that is refused: the problem document (RFC 9457) that answers it, and what a log should say
/// beside that.
#[derive(Debug)]
pub struct Problem {
    reply: Reply,
    error: Option<BoxError>,
}

impl Problem {
    /// A problem with that status, its name and what is wrong.
    #[must_use]
    pub fn new(status: u16, title: &'static str, detail: &str) -> Self {
        Self { reply: Reply::problem(status, title, detail), error: None }
    }

    /// 400: something about the request is malformed.
    #[must_use]
    pub fn bad_request(detail: &str) -> Self {
        Self::new(400, "Bad Request", detail)
    }

    /// 403: the operator may not do that.
    #[must_use]
    pub fn forbidden(detail: &str) -> Self {
        Self::new(403, "Forbidden", detail)
    }

    /// 404: there is no such thing.
    #[must_use]
    pub fn not_found(detail: &str) -> Self {
        Self::new(404, "Not Found", detail)
    }

    /// 409: it cannot be done as things are now.
    #[must_use]
    pub fn conflict(detail: &str) -> Self {
        Self::new(409, "Conflict", detail)
    }

    /// 503: it may be possible in a second.
    pub(crate) fn unavailable(detail: &str) -> Self {
        let reply = Reply::problem(503, "Service Unavailable", detail).with_retry_after(1);
        // The rest of the request's body may still come (RFC 9110, section 15.5.9).
        Self { reply: reply.closing(), error: None }
    }

    /// 408: the body did not come in time.
    pub(crate) fn timed_out(detail: &str) -> Self {
        let reply = Reply::problem(408, "Request Timeout", detail);
        Self { reply: reply.closing(), error: None }
    }

    pub(crate) fn because(self, error: impl Into<BoxError>) -> Self {
        Self { error: Some(error.into()), ..self }
    }

    /// The status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.reply.status()
    }

    /// What went wrong on this side, which the answer does not say; none where the request is at fault.
    #[must_use]
    pub fn error(&self) -> Option<&(dyn Error + Send + Sync + 'static)> {
        self.error.as_deref()
    }

    /// The answer.
    #[must_use]
    pub fn into_reply(self) -> Reply {
        self.reply
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the request is answered with {}", self.reply.status())
    }
}

impl Error for Problem {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.as_deref().map(|error| error as _)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        Self::unavailable("The store cannot answer now").because(error)
    }
}
