//! The states of an event and the only moves between them.
//!
//! ```text
//!            ┌────────── retry · lease expired · released ──────────┐
//!            ▼                                                      │
//!  (new)─▶ pending ──────── claim ──────▶ processing ── complete ──▶ processed
//!            ▲                                │ give up
//!            │                                ▼
//!            └─ replay (from any but      dead_lettering ── sent ──▶ dead_lettered
//!               processing)                   └──── discard ────┬────────┘
//!                                                               ▼
//!                                                           discarded
//! ```
//!
//! The erasure of a person discards an event from every state but `processed`.
//!
//! Stores keep the state as its name and enforce the moves; this table is what they enforce.

use std::{fmt, str::FromStr};

/// Where an event is in its life.
///
/// ```
/// use cognigy_core::{Move, State};
///
/// let claimed = State::Pending.apply(Move::Claim)?;
/// assert_eq!(claimed.apply(Move::GiveUp)?, State::DeadLettering);
/// assert!(State::Processed.apply(Move::Claim).is_err());
/// assert_eq!("dead_lettered".parse(), Ok(State::DeadLettered));
/// # Ok::<_, cognigy_core::IllegalMove>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum State {
    /// Waits for its first or next attempt.
    Pending,
    /// A worker holds it.
    Processing,
    /// Done.
    Processed,
    /// Given up; its dead letter waits in the outbox until the sink has it.
    DeadLettering,
    /// Given up, and the sink has the dead letter.
    DeadLettered,
    /// Given up, and an operator decided that nothing more is to be done.
    Discarded,
}

/// What can happen to an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// A worker takes it.
    Claim,
    /// Its run succeeded.
    Complete,
    /// Its attempt failed and another is due later.
    Retry,
    /// Its worker let the lease run out.
    Expire,
    /// Its worker gave it back unworked.
    Release,
    /// Its run failed for good.
    GiveUp,
    /// The sink took its dead letter.
    DeadLetterSent,
    /// An operator wants another run.
    Replay,
    /// An operator drops its dead letter.
    Discard,
    /// The person whom it is about is erased before it was processed.
    Erase,
}

/// A move that the state does not allow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("an event that is {state} does not {attempted:?}")]
pub struct IllegalMove {
    /// The state it is in.
    pub state: State,
    /// The move that was tried.
    pub attempted: Move,
}

impl State {
    /// All states, in the order of an event's life.
    pub const ALL: [Self; 6] = [
        Self::Pending,
        Self::Processing,
        Self::Processed,
        Self::DeadLettering,
        Self::DeadLettered,
        Self::Discarded,
    ];

    /// The state after `attempted`, if it is allowed.
    ///
    /// # Errors
    /// The state does not allow the move. A store answers such a call with the outcome that names it (`LeaseLost`,
    /// say) and changes nothing.
    pub fn apply(self, attempted: Move) -> Result<Self, IllegalMove> {
        use State::{DeadLettered, DeadLettering, Discarded, Pending, Processed, Processing};
        Ok(match (self, attempted) {
            (Pending, Move::Claim) => Processing,
            (Processing, Move::Complete) => Processed,
            (Processing, Move::Retry | Move::Expire | Move::Release) => Pending,
            (Processing, Move::GiveUp) => DeadLettering,
            (DeadLettering, Move::DeadLetterSent) => DeadLettered,
            (Pending | Processed | DeadLettering | DeadLettered | Discarded, Move::Replay) => {
                Pending
            }
            (DeadLettering | DeadLettered, Move::Discard) => Discarded,
            (Pending | Processing | DeadLettering | DeadLettered, Move::Erase) => Discarded,
            (state, attempted) => return Err(IllegalMove { state, attempted }),
        })
    }

    /// The name in stores, APIs and metrics.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Processing => "processing",
            Self::Processed => "processed",
            Self::DeadLettering => "dead_lettering",
            Self::DeadLettered => "dead_lettered",
            Self::Discarded => "discarded",
        }
    }

    /// Whether nothing more happens by itself.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(self, Self::Processed | Self::DeadLettered | Self::Discarded)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not the name of a [`State`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected pending, processing, processed, dead_lettering, dead_lettered or discarded")]
pub struct UnknownState;

impl FromStr for State {
    type Err = UnknownState;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or(UnknownState)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_legal_moves_are_admitted() {
        use Move::*;
        use State::*;
        let legal = [
            (Pending, Claim, Processing),
            (Processing, Complete, Processed),
            (Processing, Retry, Pending),
            (Processing, Expire, Pending),
            (Processing, Release, Pending),
            (Processing, GiveUp, DeadLettering),
            (DeadLettering, DeadLetterSent, DeadLettered),
            (Pending, Replay, Pending),
            (Processed, Replay, Pending),
            (DeadLettering, Replay, Pending),
            (DeadLettered, Replay, Pending),
            (Discarded, Replay, Pending),
            (DeadLettering, Discard, Discarded),
            (DeadLettered, Discard, Discarded),
            (Pending, Erase, Discarded),
            (Processing, Erase, Discarded),
            (DeadLettering, Erase, Discarded),
            (DeadLettered, Erase, Discarded),
        ];
        let moves = [
            Claim,
            Complete,
            Retry,
            Expire,
            Release,
            GiveUp,
            DeadLetterSent,
            Replay,
            Discard,
            Erase,
        ];
        for state in State::ALL {
            for attempted in moves {
                let expected = legal
                    .iter()
                    .find(|(from, by, _)| (*from, *by) == (state, attempted))
                    .map(|(.., to)| *to)
                    .ok_or(IllegalMove { state, attempted });
                assert_eq!(state.apply(attempted), expected);
            }
        }
    }

    #[test]
    fn names_read_back() {
        for state in State::ALL {
            assert_eq!(state.to_string().parse(), Ok(state));
        }
        assert!("done".parse::<State>().is_err());
    }
}
