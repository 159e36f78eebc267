//! The errors of this crate: a public one for connecting, and a private one for calls.

use cognigy_core::Failure;

/// The sink or the source cannot be set up. Nothing was sent over the network yet. The setting has
/// to be corrected.
///
/// No text repeats the setting, which may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The queue URL is not valid.
    #[error(
        "not an SQS queue URL (https://sqs.<region>.amazonaws.com/<account>/<name>): it {reason}"
    )]
    QueueUrl {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The endpoint in [`SqsOptions`](crate::SqsOptions::endpoint) is not an HTTP URL.
    #[error("not an endpoint URL (http://host:port): it {reason}")]
    Endpoint {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The SDK panicked over its settings. Those in the environment can be checked before, with
    /// [`check_variable`](crate::check_variable); what remains are its profile files.
    #[error(
        "the AWS SDK cannot use its settings: check the profile files (AWS_CONFIG_FILE, \
         AWS_SHARED_CREDENTIALS_FILE) and the variables that begin with AWS_"
    )]
    Settings,
}

/// What to do about a failed call or entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Class {
    /// May pass by itself; the effect of the call may be unknown.
    Transient,
    /// The queue refuses this message, or this batch, in this form; it may accept another form.
    Content,
    /// Fails again until an operator repairs the cause.
    Permanent,
}

/// A call to SQS, or one entry of it, failed. Cheap to copy for every dead letter that it concerns.
/// It holds no secret: the SDK's own errors hold whole responses, so they are not kept.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{text}")]
pub(crate) struct SqsError {
    class: Class,
    text: String,
}

impl SqsError {
    pub(crate) fn new(class: Class, text: impl Into<String>) -> Self {
        Self { class, text: text.into() }
    }

    pub(crate) fn class(&self) -> Class {
        self.class
    }

    /// The port's error, saying `what` did not work.
    pub(crate) fn into_failure(self, what: &'static str) -> Failure {
        match self.class {
            Class::Transient => Failure::transient(what),
            Class::Content | Class::Permanent => Failure::permanent(what),
        }
        .caused_by(self)
    }
}
