//! What happens inside, told to an observer that counts or logs it.
//!
//! Observations carry ids, counts, durations and error texts; never a body, a secret or a token.

use std::{net::IpAddr, time::Duration};

use crate::{
    event::{Correlation, EventKey},
    intake::Intake,
    ports::Stage,
    store::AttemptOutcome,
};

/// How a CRM look-up ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CrmOutcome {
    /// The CRM knows the contact.
    Found,
    /// The CRM knows no such contact.
    NotFound,
    /// The CRM knows several such contacts.
    Ambiguous,
    /// Failed, may pass.
    Transient,
    /// Failed for good.
    Permanent,
}

impl CrmOutcome {
    /// The name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::NotFound => "not_found",
            Self::Ambiguous => "ambiguous",
            Self::Transient => "transient",
            Self::Permanent => "permanent",
        }
    }
}

/// Why a run was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum GaveUp {
    /// It failed in a way that will not pass.
    Permanent,
    /// Its last attempt failed.
    Attempts,
    /// It lost too many leases.
    LostLeases,
    /// It was a replay, which has one attempt.
    Replay,
}

impl GaveUp {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Permanent, Self::Attempts, Self::LostLeases, Self::Replay];

    /// The name in metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Permanent => "permanent",
            Self::Attempts => "attempts",
            Self::LostLeases => "lost_leases",
            Self::Replay => "replay",
        }
    }
}

/// Something that happened.
///
/// ```
/// use cognigy_core::{GaveUp, Observation};
///
/// /// The line of a log for what an operator should hear of.
/// fn line(observation: &Observation<'_>) -> Option<String> {
///     match observation {
///         Observation::Attempt { key, error: Some(error), gave_up: Some(why), .. } => {
///             Some(format!("{} was given up ({}): {error}", key.id, why.as_str()))
///         }
///         Observation::StoreError { operation, error } => Some(format!("{operation}: {error}")),
///         _ => None,
///     }
/// }
///
/// let error = Observation::StoreError { operation: "claim", error: "the disk is full" };
/// assert_eq!(line(&error).as_deref(), Some("claim: the disk is full"));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Observation<'a> {
    /// A delivery has its answer.
    Delivery {
        /// What became of it.
        intake: &'a Intake,
        /// The sender's address, where the server told it.
        peer: Option<IpAddr>,
        /// From the arrival of its head to its answer, where the server measured that.
        duration: Option<Duration>,
    },
    /// An attempt begins.
    AttemptBegun {
        /// Of which event.
        key: &'a EventKey,
        /// In which run.
        run: u32,
        /// Its number in the run.
        number: u32,
    },
    /// A replay whose outcome an operator waits for has ended.
    Replay {
        /// Of which event.
        key: &'a EventKey,
        /// Its outcome, by [`ReplayOutcome::as_str`](crate::ReplayOutcome::as_str), or `error` where
        /// the outcome could not be stored.
        outcome: &'a str,
    },
    /// A look-up ended: the CRM answered, or did not. One for each attempt that asks, whether the
    /// client asked the CRM for it alone, shared another look-up's answer, or remembered one.
    CrmRequest {
        /// How.
        outcome: CrmOutcome,
        /// How long it took.
        duration: Duration,
    },
    /// An attempt ended.
    Attempt {
        /// Of which event.
        key: &'a EventKey,
        /// In which run.
        run: u32,
        /// Its number in the run.
        number: u32,
        /// How it ended.
        outcome: AttemptOutcome,
        /// How long it took.
        duration: Duration,
        /// Why it failed.
        error: Option<&'a str>,
        /// Where it failed.
        stage: Option<Stage>,
        /// Why the run was given up, if it was.
        gave_up: Option<GaveUp>,
    },
    /// An attempt ended that does not count: the CRM is out of reach, and the breaker holds look-ups back.
    PutOff {
        /// Of which event.
        key: &'a EventKey,
        /// What the look-up failed with.
        error: &'a str,
    },
    /// The breaker opened, or closed because the CRM answered.
    Breaker {
        /// Whether it is open now.
        open: bool,
        /// What the look-up that opened it failed with.
        error: Option<&'a str>,
    },
    /// A run ended: what asking the CRM for its event's contact came to.
    Correlated {
        /// Of which event.
        key: &'a EventKey,
        /// What it came to.
        correlation: Correlation,
    },
    /// A worker's lease was taken over; its result changed nothing.
    LeaseLost {
        /// Of which event, or of which event's dead letter.
        key: &'a EventKey,
    },
    /// An attempt was lost: its worker ended or stood still, its lease ran out, and the event has
    /// been claimed again.
    LeaseExpired {
        /// Of which event.
        key: &'a EventKey,
        /// In which run; in the one before it, where a replay took the event over.
        run: u32,
        /// How many attempts of the run were lost so far.
        lost: u32,
        /// Whether the run was given up for it.
        gave_up: bool,
    },
    /// Invalid bodies went from the quarantine to make room for a newer one.
    QuarantineEvicted {
        /// How many.
        count: u64,
    },
    /// The sink took a dead letter.
    DeadLetterSent {
        /// Of which event.
        key: &'a EventKey,
    },
    /// There is no queue: a dead letter stays in the store.
    DeadLetterKept {
        /// Of which event.
        key: &'a EventKey,
    },
    /// The sink did not take a dead letter; it will be tried again.
    DeadLetterFailed {
        /// Of which event.
        key: &'a EventKey,
        /// Why.
        error: &'a str,
    },
    /// The store could not answer.
    StoreError {
        /// What was asked of it.
        operation: &'static str,
        /// The error with its causes.
        error: &'a str,
    },
}

/// Told of everything that happens, on the task that it happens on: be quick, never block.
///
/// ```
/// use std::sync::{Arc, atomic::{AtomicU64, Ordering}};
///
/// use cognigy_core::{
///     Observation, Observer, memory::MemoryStore,
///     testing::{ManualClock, World, sample},
/// };
///
/// /// Counts the attempts that failed.
/// #[derive(Default)]
/// struct Failures(AtomicU64);
///
/// impl Observer for Failures {
///     fn observe(&self, observation: &Observation<'_>) {
///         if matches!(observation, Observation::Attempt { error: Some(_), .. }) {
///             self.0.fetch_add(1, Ordering::Relaxed);
///         }
///     }
/// }
///
/// let failures = Arc::new(Failures::default());
/// let clock = ManualClock::new(sample::start());
/// let mut world = World::built(clock, MemoryStore::new(), |pipeline| {
///     pipeline
///         .handler(|_, _| async { Err(cognigy_core::Failure::transient("not yet")) })
///         .observer(Arc::clone(&failures))
/// });
/// world.start_worker();
/// world.deliver("e1");
/// world.pass(std::time::Duration::from_secs(60));
/// assert_eq!(failures.0.load(Ordering::Relaxed), 4);
/// ```
pub trait Observer: Send + Sync + 'static {
    /// Something happened.
    fn observe(&self, observation: &Observation<'_>);
}

impl<O: Observer + ?Sized> Observer for std::sync::Arc<O> {
    fn observe(&self, observation: &Observation<'_>) {
        (**self).observe(observation);
    }
}

/// Looks away.
#[derive(Debug, Clone, Copy, Default)]
pub struct Silent;

impl Observer for Silent {
    fn observe(&self, _observation: &Observation<'_>) {}
}
