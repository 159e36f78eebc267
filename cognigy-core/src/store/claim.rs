//! A claim on work, and what becomes of it.
//!
//! A [`Claim`] is granted by a store, cannot be copied, and is consumed by settling it. What a
//! worker may keep is the [`ClaimToken`]: enough to renew the lease, not to settle.

use std::time::Duration;

use crate::{
    event::{Correlation, Timestamp},
    ports::Contact,
};

/// What a claim is on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkKind {
    /// An attempt at an event's run.
    Run,
    /// Handing a dead letter from the outbox to the sink.
    DeadLetter,
}

/// Identifies one grant of one piece of work: the store's handle of it and a fencing token that
/// grows with every grant. A store changes nothing on behalf of a token that is not the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClaimToken {
    /// What kind of work it is.
    pub work: WorkKind,
    /// The store's own handle of the row; means nothing outside it.
    pub handle: i64,
    /// The fencing token.
    pub fence: i64,
}

/// The right to work on an event's run until the lease runs out.
///
/// ```
/// use std::time::Duration;
///
/// use cognigy_core::{Claim, RunEnd, Settlement, Timestamp};
///
/// // A claim is consumed by its end, so that it cannot be settled twice.
/// let now = Timestamp::UNIX_EPOCH;
/// let claim = Claim::granted(7, 1); // by a store
/// let end = RunEnd::Retry { due: now + Duration::from_secs(2) };
/// let settlement: Settlement = claim.settle(end, None, now);
/// assert_eq!(settlement.token().fence, 1);
/// ```
#[derive(Debug)]
#[must_use = "a claim that is not settled blocks its event until the lease runs out"]
pub struct Claim {
    token: ClaimToken,
}

impl Claim {
    /// For stores: grants the run with the store's `handle` under the fencing token `fence`.
    pub fn granted(handle: i64, fence: i64) -> Self {
        Self { token: ClaimToken { work: WorkKind::Run, handle, fence } }
    }

    /// What renewing needs.
    #[must_use]
    pub fn token(&self) -> ClaimToken {
        self.token
    }

    /// Ends the claim with `end`, reached at `at`; `attempt` goes into the event's history.
    #[must_use]
    pub fn settle(self, end: RunEnd, attempt: Option<Attempt>, at: Timestamp) -> Settlement {
        Settlement::new(self.token, WorkEnd::Run { end, attempt }, at)
    }
}

/// The right to hand a dead letter to the sink until the lease runs out.
#[derive(Debug)]
#[must_use = "a claim that is not settled delays its dead letter until the lease runs out"]
pub struct DeadLetterClaim {
    token: ClaimToken,
}

impl DeadLetterClaim {
    /// For stores: grants the dead letter with the store's `handle` under the fencing token `fence`.
    pub fn granted(handle: i64, fence: i64) -> Self {
        Self { token: ClaimToken { work: WorkKind::DeadLetter, handle, fence } }
    }

    /// What renewing needs.
    #[must_use]
    pub fn token(&self) -> ClaimToken {
        self.token
    }

    /// Ends the claim with `end`, reached at `at`.
    #[must_use]
    pub fn settle(self, end: DeadLetterEnd, at: Timestamp) -> Settlement {
        Settlement::new(self.token, WorkEnd::DeadLetter(end), at)
    }
}

/// How a claimed run ended.
#[derive(Debug, Clone)]
pub enum RunEnd {
    /// The run succeeded.
    Processed {
        /// What the CRM knew. Kept as the event's CRM context.
        contact: Option<Contact>,
    },
    /// The attempt failed; another follows.
    Retry {
        /// When the next attempt is due.
        due: Timestamp,
    },
    /// The run failed for good: the event becomes `dead_lettering`, and its dead letter goes to the
    /// outbox in the same transaction.
    GiveUp {
        /// The dead letter's `errorMessage`.
        reason: String,
        /// How many attempts the run made.
        attempts: u32,
    },
    /// The run was not begun: the event is `pending` again, due at once, and the attempt is not
    /// counted.
    Release,
    /// The attempt says nothing about the event, such as one that found the whole CRM out of reach: the
    /// event is `pending` again, and the attempt is not counted.
    PutOff {
        /// When the next attempt is due.
        due: Timestamp,
    },
}

/// How a claimed dead letter ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeadLetterEnd {
    /// The sink has it.
    Sent,
    /// The sink did not take it.
    Retry {
        /// When sending it is tried again.
        due: Timestamp,
    },
}

/// How claimed work of either kind ended.
#[derive(Debug, Clone)]
pub enum WorkEnd {
    /// A run.
    Run {
        /// How it ended.
        end: RunEnd,
        /// What goes into the event's history.
        attempt: Option<Attempt>,
    },
    /// A dead letter.
    DeadLetter(DeadLetterEnd),
}

/// The end of a claim, ready for [`EventStore::settle`](crate::EventStore::settle). Made by
/// [`Claim::settle`] and [`DeadLetterClaim::settle`], so that a run ends as runs do, and a dead letter as
/// dead letters do.
///
/// ```
/// use cognigy_core::{Claim, RunEnd, Timestamp, WorkEnd};
///
/// // What a store does with one.
/// let end = RunEnd::GiveUp { reason: "the CRM answered 400".into(), attempts: 1 };
/// let settlement = Claim::granted(7, 1).settle(end, None, Timestamp::UNIX_EPOCH);
/// match settlement.end() {
///     WorkEnd::Run { end: RunEnd::GiveUp { reason, .. }, .. } => {
///         assert_eq!(reason, "the CRM answered 400"); // into the outbox
///     }
///     other => panic!("{other:?}"),
/// }
/// ```
#[derive(Debug, Clone)]
pub struct Settlement {
    token: ClaimToken,
    end: WorkEnd,
    at: Timestamp,
    correlation: Option<Correlation>,
}

impl Settlement {
    fn new(token: ClaimToken, end: WorkEnd, at: Timestamp) -> Self {
        Self { token, end, at, correlation: None }
    }

    /// The same with what asking the CRM for the contact came to, which is kept with the event. Without
    /// it, what was kept stays.
    #[must_use]
    pub fn correlated(self, correlation: Correlation) -> Self {
        Self { correlation: Some(correlation), ..self }
    }

    /// What asking the CRM came to, if it is to be kept.
    #[must_use]
    pub fn correlation(&self) -> Option<Correlation> {
        self.correlation
    }

    /// The end of the run that `token` names, whose claim was handed to the attempt.
    pub(crate) fn of_run(
        token: ClaimToken,
        end: RunEnd,
        attempt: Option<Attempt>,
        at: Timestamp,
    ) -> Self {
        Self::new(token, WorkEnd::Run { end, attempt }, at)
    }

    /// The grant that ends.
    #[must_use]
    pub fn token(&self) -> ClaimToken {
        self.token
    }

    /// How it ended.
    #[must_use]
    pub fn end(&self) -> &WorkEnd {
        &self.end
    }

    /// How it ended, if it is a run's.
    #[must_use]
    pub fn run_end(&self) -> Option<&RunEnd> {
        match &self.end {
            WorkEnd::Run { end, .. } => Some(end),
            WorkEnd::DeadLetter(_) => None,
        }
    }

    /// When it ended.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        self.at
    }
}

/// How one attempt ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttemptOutcome {
    /// The CRM answered and the handler was content.
    Succeeded,
    /// Failed in a way that may pass.
    FailedTransient,
    /// Failed in a way that will not pass.
    FailedPermanent,
    /// Its worker vanished: the lease ran out. Written by the store when the work is claimed again.
    LeaseExpired,
    /// No run of the handler: the CRM was asked again for the contact of a processed event, and knew it.
    Recorrelated,
    /// Nothing ran: another system processed the event or gave it up before it was imported.
    Imported,
}

impl AttemptOutcome {
    /// The name in stores and APIs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Succeeded => "succeeded",
            Self::FailedTransient => "failed_transient",
            Self::FailedPermanent => "failed_permanent",
            Self::LeaseExpired => "lease_expired",
            Self::Recorrelated => "recorrelated",
            Self::Imported => "imported",
        }
    }

    /// The outcome with that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [
            Self::Succeeded,
            Self::FailedTransient,
            Self::FailedPermanent,
            Self::LeaseExpired,
            Self::Recorrelated,
            Self::Imported,
        ]
        .into_iter()
        .find(|outcome| outcome.as_str() == name)
    }
}

/// One attempt in an event's history.
///
/// ```
/// use cognigy_core::{AttemptOutcome, testing::{CrmAnswer, World}};
///
/// let mut world = World::start(cognigy_core::NoHandler);
/// world.crm.then([CrmAnswer::Transient("the CRM answered 503".into())]);
/// world.deliver("e1");
/// world.pass(std::time::Duration::from_secs(10));
/// let [first, second] = &world.attempts("e1")[..] else { panic!() };
/// assert_eq!((first.number, first.outcome), (1, AttemptOutcome::FailedTransient));
/// assert!(first.error.as_ref().unwrap().contains("503"));
/// assert_eq!((second.number, second.outcome), (2, AttemptOutcome::Succeeded));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// Its number within the run, from 1.
    pub number: u32,
    /// The run it belongs to, from 1.
    pub run: u32,
    /// When it began.
    pub started_at: Timestamp,
    /// How long it took. For an expired lease: until it ran out.
    pub duration: Duration,
    /// How it ended.
    pub outcome: AttemptOutcome,
    /// Why, if it failed.
    pub error: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::AttemptOutcome;

    #[test]
    fn outcomes_are_told_by_names_that_stay() {
        let names = [
            (AttemptOutcome::Succeeded, "succeeded"),
            (AttemptOutcome::FailedTransient, "failed_transient"),
            (AttemptOutcome::FailedPermanent, "failed_permanent"),
            (AttemptOutcome::LeaseExpired, "lease_expired"),
            (AttemptOutcome::Recorrelated, "recorrelated"),
            (AttemptOutcome::Imported, "imported"),
        ];
        for (outcome, name) in names {
            assert_eq!((outcome.as_str(), AttemptOutcome::from_name(name)), (name, Some(outcome)));
        }
        assert_eq!(AttemptOutcome::from_name("failed"), None);
    }
}
