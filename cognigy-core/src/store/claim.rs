//! A claim on work, and what becomes of it.
//!
//! A [`Claim`] is granted by a store, cannot be copied, and is consumed by settling it. What a
//! worker may keep is the [`ClaimToken`]: enough to renew the lease, not to settle.

use std::time::Duration;

use crate::ports::{Contact, Timestamp};

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

/// The right to work on something until its lease runs out.
#[derive(Debug)]
#[must_use = "a claim that is not settled blocks its event until the lease runs out"]
pub struct Claim {
    token: ClaimToken,
}

impl Claim {
    /// For stores: grants the work that `token` names.
    pub fn granted(token: ClaimToken) -> Self {
        Self { token }
    }

    /// What renewing needs.
    #[must_use]
    pub fn token(&self) -> ClaimToken {
        self.token
    }

    /// Ends the claim with `verdict`, reached at `at`; `attempt` goes into the event's history.
    #[must_use]
    pub fn settle(self, verdict: Verdict, attempt: Option<Attempt>, at: Timestamp) -> Settlement {
        Settlement { token: self.token, verdict, attempt, at }
    }
}

/// How a piece of work ended.
#[derive(Debug, Clone)]
pub enum Verdict {
    /// The run succeeded; `contact` is what the CRM knew.
    Processed {
        /// Kept as the event's CRM context.
        contact: Option<Contact>,
    },
    /// The attempt failed; another is due at `due`.
    Retry {
        /// When.
        due: Timestamp,
    },
    /// The run failed for good: the event becomes `dead_lettering` and `reason` goes to the outbox
    /// in the same transaction.
    GiveUp {
        /// The dead letter's `errorMessage`.
        reason: String,
        /// How many attempts the run made.
        attempts: u32,
    },
    /// Not worked on at all: back to `pending`, due at once, the attempt not counted.
    Release,
    /// The sink has the dead letter.
    DeadLetterSent,
    /// The sink did not take the dead letter; try again at `due`.
    DeadLetterRetry {
        /// When.
        due: Timestamp,
    },
}

/// A claim's end, ready for [`EventStore::settle`](crate::EventStore::settle).
#[derive(Debug, Clone)]
pub struct Settlement {
    /// Whose end it is.
    pub token: ClaimToken,
    /// How it ended.
    pub verdict: Verdict,
    /// What to write into the event's history.
    pub attempt: Option<Attempt>,
    /// When it ended.
    pub at: Timestamp,
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
        }
    }

    /// The outcome with that name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Succeeded, Self::FailedTransient, Self::FailedPermanent, Self::LeaseExpired]
            .into_iter()
            .find(|outcome| outcome.as_str() == name)
    }
}

/// One attempt in an event's history.
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
        ];
        for (outcome, name) in names {
            assert_eq!((outcome.as_str(), AttemptOutcome::from_name(name)), (name, Some(outcome)));
        }
        assert_eq!(AttemptOutcome::from_name("failed"), None);
    }
}
