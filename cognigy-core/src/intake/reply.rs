//! The HTTP answer to a delivery, for any web framework: a status, a few headers, a body.

use bytes::Bytes;
use serde::Serialize;

use crate::{
    event::FieldError,
    intake::{Challenge, Intake},
};

/// Seconds after which a sender should come back when the store cannot take its event. The queue
/// in front of the store drains in well under a second.
const RETRY_AFTER_SECONDS: u32 = 1;

/// What the body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Content {
    None,
    Json,
    Problem,
}

impl Content {
    fn media_type(self) -> Option<&'static str> {
        match self {
            Self::None => None,
            Self::Json => Some("application/json"),
            Self::Problem => Some("application/problem+json"),
        }
    }
}

/// An answer to a delivery.
///
/// ```
/// use cognigy_core::testing::World;
///
/// let reply = World::new().deliver("e1");
/// assert_eq!(reply.status(), 200);
/// assert_eq!(&reply.body()[..], br#"{"status":"accepted"}"#);
/// let headers: Vec<_> = reply.headers().collect(); // for the response of any framework
/// assert_eq!(headers, [("Content-Type", "application/json".to_owned())]);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    status: u16,
    content: Content,
    retry_after: Option<u32>,
    closes_connection: bool,
    challenge: Option<Challenge>,
    further: Vec<(&'static str, String)>,
    body: Bytes,
}

/// ProblemDocument details (RFC 9457).
#[derive(Serialize)]
struct ProblemDocument<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    title: &'static str,
    status: u16,
    detail: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    errors: Option<&'a [FieldError]>,
}

impl Reply {
    /// The HTTP status code.
    #[must_use]
    pub fn status(&self) -> u16 {
        self.status
    }

    /// The headers to send: `Content-Type`, and `Retry-After`, `Connection` and `WWW-Authenticate` where
    /// they apply, and those that were [added](Self::with_header).
    pub fn headers(&self) -> impl Iterator<Item = (&'static str, String)> {
        [
            self.content.media_type().map(|kind| ("Content-Type", kind.to_owned())),
            self.retry_after.map(|seconds| ("Retry-After", seconds.to_string())),
            self.closes_connection.then(|| ("Connection", "close".to_owned())),
            self.challenge.map(|scheme| ("WWW-Authenticate", scheme.as_str().to_owned())),
        ]
        .into_iter()
        .flatten()
        .chain(self.further.iter().cloned())
    }

    /// Whether the connection should be closed after the answer: what follows on it is not known
    /// to be a request.
    #[must_use]
    pub fn closes_connection(&self) -> bool {
        self.closes_connection
    }

    /// The body: JSON, or nothing.
    #[must_use]
    pub fn body(&self) -> &Bytes {
        &self.body
    }

    /// ProblemDocument details (RFC 9457) for anything a server refuses on its own account.
    #[must_use]
    pub fn problem(status: u16, title: &'static str, detail: &str) -> Self {
        Self::build_problem(status, title, detail, None)
    }

    /// A body of JSON, for what a server says on its own account, such as that it is alive.
    #[must_use]
    pub fn json(status: u16, body: impl Into<Bytes>) -> Self {
        Self { content: Content::Json, body: body.into(), ..Self::empty(status) }
    }

    /// No body.
    #[must_use]
    pub fn empty(status: u16) -> Self {
        Self {
            status,
            content: Content::None,
            retry_after: None,
            closes_connection: false,
            challenge: None,
            further: Vec::new(),
            body: Bytes::new(),
        }
    }

    /// Adds a header, such as `Allow`.
    #[must_use]
    pub fn with_header(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.further.push((name, value.into()));
        self
    }

    /// Asks the other side to come back after `seconds`.
    #[must_use]
    pub fn with_retry_after(mut self, seconds: u32) -> Self {
        self.retry_after = Some(seconds);
        self
    }

    fn accepted(body: &'static [u8]) -> Self {
        Self::json(200, body)
    }

    fn build_problem(
        status: u16,
        title: &'static str,
        detail: &str,
        errors: Option<&[FieldError]>,
    ) -> Self {
        let problem = ProblemDocument { kind: "about:blank", title, status, detail, errors };
        let body = serde_json::to_vec(&problem).unwrap_or_default().into();
        Self { content: Content::Problem, body, ..Self::empty(status) }
    }

    /// The same answer with the status that the sender wants for success.
    pub(crate) fn with_status(mut self, status: u16) -> Self {
        self.status = status;
        self
    }

    /// The answer to a delivery that was not authenticated: one text whatever was wrong, so that a forger
    /// learns nothing; and what RFC 9110, section 11.6.1, asks for where there is a registered scheme.
    pub(crate) fn unauthorized(self, detail: &str, challenge: Option<Challenge>) -> Self {
        Self { challenge, ..Self::problem(401, "Unauthorized", detail) }
    }

    /// Asks that the connection be closed after the answer: what follows on it may be the rest of a body.
    #[must_use]
    pub fn closing(mut self) -> Self {
        self.closes_connection = true;
        self
    }
}

impl From<&Intake> for Reply {
    fn from(intake: &Intake) -> Self {
        match intake {
            Intake::Accepted { .. } => Self::accepted(br#"{"status":"accepted"}"#),
            Intake::Duplicate { .. } => {
                Self::accepted(br#"{"status":"accepted","duplicate":true}"#)
            }
            Intake::Conflict { .. } => {
                Self::accepted(br#"{"status":"accepted","duplicate":true,"conflict":true}"#)
            }
            // One answer whatever was wrong: a forger learns nothing.
            Intake::Unsigned(_) => Self::problem(401, "Unauthorized", "Invalid HMAC signature"),
            Intake::Invalid(invalid) => {
                Self::build_problem(400, "Bad Request", &invalid.to_string(), Some(&invalid.errors))
            }
            Intake::TooLarge => {
                Self::problem(413, "Content Too Large", "The body is over the limit").closing()
            }
            Intake::Encoded => Self::problem(
                415,
                "Unsupported Media Type",
                "Content-Encoding must be absent or identity",
            )
            .closing(),
            Intake::Unsupported(invalid) => {
                Self::problem(415, "Unsupported Media Type", &invalid.to_string())
            }
            Intake::HeadersTooLarge => Self::problem(
                431,
                "Request Header Fields Too Large",
                "The headers that belong to the event are over the limit",
            ),
            Intake::Closed => Self::problem(404, "Not Found", "The source takes no deliveries"),
            Intake::TimedOut => {
                Self::problem(408, "Request Timeout", "The body did not arrive in time").closing()
            }
            Intake::Malformed => {
                Self::problem(400, "Bad Request", "The body could not be read").closing()
            }
            Intake::Unavailable(_) => Self::problem(
                503,
                "Service Unavailable",
                "The event could not be stored now; please send it again",
            )
            .with_retry_after(RETRY_AFTER_SECONDS),
        }
    }
}
