//! What can go wrong at a port, sorted by what the caller does about it.
//!
//! Two kinds of error cross the ports. A [`StoreError`] means the store could not answer: nothing
//! may be assumed about the effect. A [`Failure`] means a step of an event's run failed: the retry
//! policy decides what follows. Adapters keep their own error enums private and box them as sources.

use std::{error::Error, fmt, time::Duration};

use crate::{event::DecodeError, ports::Contact};

/// Any error, boxed as the source of another one.
pub type BoxError = Box<dyn Error + Send + Sync>;

/// What the caller of a store should do about a [`StoreError`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreErrorKind {
    /// The store cannot be reached or cannot write. The effect of the call is unknown: repeat it
    /// (every port method is safe to repeat) or tell the sender to.
    Unavailable,
    /// The store's queue is full and nothing was done. Wait a little, then repeat.
    Overloaded,
    /// What is stored cannot be read, or the store's schema is not one this version knows.
    /// Repeating will not help; an operator has to look.
    Corrupt,
}

/// The store could not answer.
///
/// ```
/// use cognigy_core::{StoreError, StoreErrorKind, report};
///
/// /// What a program does about a store that did not answer.
/// fn advice(error: &StoreError) -> &'static str {
///     match error.kind() {
///         StoreErrorKind::Unavailable => "repeat the call",
///         StoreErrorKind::Overloaded => "wait a little, then repeat the call",
///         _ => "an operator has to look",
///     }
/// }
///
/// let error = StoreError::new(StoreErrorKind::Unavailable, "the connection was refused");
/// assert_eq!(advice(&error), "repeat the call");
/// assert_eq!(report(&error), "the event store is unavailable: the connection was refused");
/// ```
#[derive(Debug)]
pub struct StoreError {
    kind: StoreErrorKind,
    source: Option<BoxError>,
}

impl StoreError {
    /// An error of `kind`, caused by `source`.
    pub fn new(kind: StoreErrorKind, source: impl Into<BoxError>) -> Self {
        Self { kind, source: Some(source.into()) }
    }

    /// The queue is full; nothing was done.
    #[must_use]
    pub fn overloaded() -> Self {
        Self { kind: StoreErrorKind::Overloaded, source: None }
    }

    /// What the caller should do.
    #[must_use]
    pub fn kind(&self) -> StoreErrorKind {
        self.kind
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            StoreErrorKind::Unavailable => "the event store is unavailable",
            StoreErrorKind::Overloaded => "the event store is overloaded",
            StoreErrorKind::Corrupt => "the event store holds data that cannot be read",
        })
    }
}

impl Error for StoreError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// What the retry policy should do about a [`Failure`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// May pass by itself: try again, not before `retry_after` if the other side named a time.
    Transient {
        /// The wait the other side asked for (HTTP `Retry-After`), if any.
        retry_after: Option<Duration>,
    },
    /// Will fail the same way again: give up.
    Permanent,
}

/// What a [`Failure`] says beyond its own event.
///
/// ```
/// use cognigy_core::{Failure, FailureScope};
///
/// // A CRM client that was told that the quota of the day is used up.
/// let failure = Failure::transient("the CRM's quota is used up").of_service();
/// assert_eq!(*failure.scope(), FailureScope::Service); // opens a breaker at once
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum FailureScope {
    /// It may be this event's alone: nothing is known about others.
    #[default]
    Event,
    /// The whole service is out of reach or refuses everyone for now: it does not accept connections, is
    /// overloaded, throttles, or a quota is used up. Other events would fail the same way, so that a
    /// breaker opens at once and the attempt is not counted.
    Service,
    /// The CRM knows several contacts by the key. The pipeline decides what follows.
    Ambiguous {
        /// The first of them, if the CRM's answer holds it.
        first: Option<Contact>,
    },
}

/// Where an attempt at an event's run failed.
///
/// ```
/// use cognigy_core::{Failure, Stage};
///
/// // A handler that calls another service says so, and a metric tells it from the handler's own faults.
/// let failure = Failure::transient("the service answered 503").at_stage(Stage::Forward);
/// assert_eq!(failure.stage().map(Stage::as_str), Some("forward"));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// The stored event could not be read back.
    Store,
    /// The CRM look-up.
    Crm,
    /// The handler.
    Handler,
    /// The hand-over to another service. Handlers that make one say so, by [`Failure::at_stage`].
    Forward,
}

impl Stage {
    /// All of them, in their order in a run.
    pub const ALL: [Self; 4] = [Self::Store, Self::Crm, Self::Handler, Self::Forward];

    /// The name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Crm => "crm",
            Self::Handler => "handler",
            Self::Forward => "forward",
        }
    }
}

/// A step of an event's run failed: a CRM look-up, the handler, or a dead letter on its way out.
///
/// The message is kept in the attempts table and in dead letters, so it must hold no secret and no
/// part of a body.
///
/// ```
/// use std::time::Duration;
///
/// use cognigy_core::{Failure, FailureKind};
///
/// /// What a handler makes of the answer of a service that it called.
/// fn outcome(status: u16, retry_after: Option<Duration>) -> Result<(), Failure> {
///     match status {
///         200..=299 => Ok(()),
///         429 | 500..=599 => {
///             let failure = Failure::transient(format!("the service answered {status}"));
///             Err(match retry_after {
///                 Some(wait) => failure.retry_after(wait),
///                 None => failure,
///             })
///         }
///         _ => Err(Failure::permanent(format!("the service answered {status}"))),
///     }
/// }
///
/// let busy = outcome(429, Some(Duration::from_secs(30))).unwrap_err();
/// assert_eq!(busy.kind(), FailureKind::Transient { retry_after: Some(Duration::from_secs(30)) });
/// assert_eq!(outcome(404, None).unwrap_err().kind(), FailureKind::Permanent);
/// ```
#[derive(Debug)]
pub struct Failure {
    kind: FailureKind,
    scope: FailureScope,
    stage: Option<Stage>,
    message: String,
    source: Option<BoxError>,
}

impl Failure {
    /// A failure that may pass by itself.
    pub fn transient(message: impl Into<String>) -> Self {
        Self {
            kind: FailureKind::Transient { retry_after: None },
            scope: FailureScope::Event,
            stage: None,
            message: message.into(),
            source: None,
        }
    }

    /// A failure that will not pass by itself.
    pub fn permanent(message: impl Into<String>) -> Self {
        Self {
            kind: FailureKind::Permanent,
            scope: FailureScope::Event,
            stage: None,
            message: message.into(),
            source: None,
        }
    }

    /// The CRM knows several contacts by one key. `first` is the first of them, if the answer holds it.
    /// Permanent: the next look-up would find them, too.
    pub fn ambiguous(message: impl Into<String>, first: Option<Contact>) -> Self {
        Self { scope: FailureScope::Ambiguous { first }, ..Self::permanent(message) }
    }

    /// Says that the whole service is out of reach or refuses everyone for now; see
    /// [`FailureScope::Service`]. A permanent failure does not change.
    #[must_use]
    pub fn of_service(mut self) -> Self {
        if matches!(self.kind, FailureKind::Transient { .. }) {
            self.scope = FailureScope::Service;
        }
        self
    }

    /// Waits at least `wait` before the next try. A permanent failure stays permanent.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        if let FailureKind::Transient { retry_after } = &mut self.kind {
            *retry_after = Some(wait);
        }
        self
    }

    /// Names the error that caused this one.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<BoxError>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Says where the run failed, where the pipeline cannot know it: a handler has several steps.
    #[must_use]
    pub fn at_stage(mut self, stage: Stage) -> Self {
        self.stage = Some(stage);
        self
    }

    /// Where the run failed, if the failure says so.
    #[must_use]
    pub fn stage(&self) -> Option<Stage> {
        self.stage
    }

    /// What the retry policy should do.
    #[must_use]
    pub fn kind(&self) -> FailureKind {
        self.kind
    }

    /// What it says beyond its own event.
    #[must_use]
    pub fn scope(&self) -> &FailureScope {
        &self.scope
    }

    /// The message and those of all its causes, outermost first, as one line for an operator.
    #[must_use]
    pub fn report(&self) -> String {
        report(self)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for Failure {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// JSON that does not fit its type will not fit at the next attempt either.
impl From<DecodeError> for Failure {
    fn from(error: DecodeError) -> Self {
        Self::permanent(error.to_string())
    }
}

/// Says what an error of another crate means for the attempt, so that `?` takes it out of a handler.
///
/// ```
/// use cognigy_core::{Failure, OrFail};
///
/// fn amount(text: &str) -> Result<u32, Failure> {
///     let amount = text.parse::<u32>().or_permanent("the amount is not a number")?;
///     std::fs::read("prices").or_transient("the list of prices cannot be read")?;
///     Ok(amount)
/// }
/// assert_eq!(amount("4,111").unwrap_err().report(), "the amount is not a number: invalid digit found in string");
/// ```
pub trait OrFail<T> {
    /// A failure that may pass by itself: the attempt is repeated.
    ///
    /// `message` and the error's own text are kept in the store, logged, and sent with the dead letter:
    /// neither may hold a secret or a part of an event.
    ///
    /// # Errors
    /// The error, as the cause of a transient failure.
    fn or_transient(self, message: impl Into<String>) -> Result<T, Failure>;

    /// A failure that will not pass by itself: the event is dead-lettered. The same holds for the texts as
    /// in [`or_transient`](Self::or_transient).
    ///
    /// # Errors
    /// The error, as the cause of a permanent failure.
    fn or_permanent(self, message: impl Into<String>) -> Result<T, Failure>;
}

impl<T, E: Into<BoxError>> OrFail<T> for Result<T, E> {
    fn or_transient(self, message: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| Failure::transient(message).caused_by(error))
    }

    fn or_permanent(self, message: impl Into<String>) -> Result<T, Failure> {
        self.map_err(|error| Failure::permanent(message).caused_by(error))
    }
}

/// `error` and its causes in one line for an operator, outermost first. A cause whose text was said
/// already is left out.
///
/// ```
/// use cognigy_core::{Failure, report};
///
/// let cause = "4,111".parse::<u32>().unwrap_err();
/// let failure = Failure::permanent("the amount is not a number").caused_by(cause);
/// assert_eq!(report(&failure), "the amount is not a number: invalid digit found in string");
/// ```
#[must_use]
pub fn report(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let line = error.to_string();
        if !says(&text, &line) {
            text.push_str(": ");
            text.push_str(&line);
        }
        cause = error.source();
    }
    text
}

/// Whether `phrase` stands in `text`, and not only as a part of longer words.
fn says(text: &str, phrase: &str) -> bool {
    let is_inside = |neighbour: Option<char>| neighbour.is_some_and(char::is_alphanumeric);
    phrase.is_empty()
        || text.match_indices(phrase).any(|(at, _)| {
            let (before, after) = (&text[..at], &text[at + phrase.len()..]);
            !is_inside(before.chars().next_back()) && !is_inside(after.chars().next())
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_every_cause_once() {
        let failure = Failure::transient("CRM look-up failed")
            .caused_by(Failure::permanent("connection refused").caused_by("connection refused"));
        assert_eq!(failure.report(), "CRM look-up failed: connection refused");
    }

    #[test]
    fn a_report_leaves_a_cause_out_only_if_its_whole_text_was_said() {
        let repeated = Failure::transient("the file cannot be opened (no such file)")
            .caused_by("no such file");
        assert_eq!(repeated.report(), "the file cannot be opened (no such file)");
        // "no" is in "cannot", "time" in "timeout": that says nothing of the cause.
        let part_of_a_word = Failure::transient("the name cannot be found").caused_by("no");
        assert_eq!(part_of_a_word.report(), "the name cannot be found: no");
        let part_of_a_word = Failure::transient("a timeout passed").caused_by("time");
        assert_eq!(part_of_a_word.report(), "a timeout passed: time");
        assert_eq!(Failure::transient("stopped").caused_by("").report(), "stopped");
    }

    #[test]
    fn a_permanent_failure_takes_no_wait() {
        let failure = Failure::permanent("no").retry_after(Duration::from_secs(1));
        assert_eq!(failure.kind(), FailureKind::Permanent);
    }

    #[test]
    fn a_store_s_error_says_what_is_wrong_and_why() {
        let error = StoreError::new(StoreErrorKind::Unavailable, "the disk is full");
        assert_eq!(error.to_string(), "the event store is unavailable");
        assert_eq!(report(&error), "the event store is unavailable: the disk is full");
        let overloaded = StoreError::overloaded();
        assert_eq!(report(&overloaded), "the event store is overloaded");
    }
}
