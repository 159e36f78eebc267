//! Bodies of deliveries: how much memory they may have, how long they may take, and from whom.

use std::{
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use actix_web::web;
use bytes::{Bytes, BytesMut};
use cognigy_core::{Intake, StoreErrorKind};
use futures_util::{FutureExt, StreamExt};
use tokio::time::Instant;

use super::{
    connections::MAX_CONNECTIONS,
    sender::{Share, Shares, UsedUp},
};

/// A body has to be there this long after its head. The contract's number.
const DEADLINE: Duration = Duration::from_secs(10);
/// A body of more bytes than this, announced or received, has to come at the least rate too. A
/// smaller one may use the whole deadline: it holds next to nothing.
const SMALL: usize = 16 * 1024;
/// The least rate, in bytes a second on average. Any sender that could finish a body of the largest
/// size within the deadline is six times as fast.
const LEAST_RATE: f64 = 16.0 * 1024.0;
/// The rate is asked for from this time on.
const GRACE: Duration = Duration::from_secs(2);
/// The least memory for bodies that are being received, however small one may be; all sources
/// share it.
const MIN_BODY_BUDGET: usize = 32 * 1024 * 1024;
/// Of memory and of connections one sender may use up this part with bodies that are not complete.
/// Half leaves the other half to everybody else, and is more than all senders behind one balancer
/// need: a body that comes in one piece with its head counts for nothing here.
const SENDERS_PART: usize = 2;

/// What deliveries of one source may take up together: places, or memory for bodies that are being
/// received. When it is used up, senders are told to come back instead of taking the process down.
#[derive(Clone)]
pub(crate) struct Budget {
    used: Arc<AtomicUsize>,
    limit: usize,
}

impl Budget {
    /// So much at most.
    pub(crate) fn of(limit: usize) -> Self {
        Self { used: Arc::new(AtomicUsize::new(0)), limit }
    }

    pub(super) fn reserve(&self, amount: usize) -> Result<Reservation, Intake> {
        let mut reservation = Reservation { budget: self.clone(), amount: 0 };
        reservation.grow_to(amount)?;
        Ok(reservation)
    }
}

/// A part of the budget, given back when dropped.
pub(super) struct Reservation {
    budget: Budget,
    amount: usize,
}

impl Reservation {
    fn grow_to(&mut self, amount: usize) -> Result<(), Intake> {
        let more = amount.saturating_sub(self.amount);
        let used = self.budget.used.fetch_add(more, Ordering::Relaxed) + more;
        self.amount += more;
        if used > self.budget.limit {
            return Err(Intake::Unavailable(StoreErrorKind::Overloaded));
        }
        Ok(())
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.used.fetch_sub(self.amount, Ordering::Relaxed);
    }
}

impl From<UsedUp> for Intake {
    fn from(_: UsedUp) -> Self {
        Self::Unavailable(StoreErrorKind::Overloaded)
    }
}

/// How many requests whose body is not complete each sender may have, of all sources together.
pub(crate) fn unfinished_requests() -> Arc<Shares> {
    Shares::of(MAX_CONNECTIONS / SENDERS_PART)
}

/// Takes in the bodies of one source.
pub(crate) struct Bodies {
    /// The longest that is taken, in bytes.
    pub(crate) longest: usize,
    /// Bytes that have come, of all of its bodies.
    memory: Budget,
    /// What of them each sender may hold.
    senders: Arc<Shares>,
    unfinished: Arc<Shares>,
}

impl Bodies {
    /// For one of so many sources: memory for a few dozen bodies of the largest size, or thousands
    /// of usual ones.
    pub(crate) fn new(longest: usize, sources: usize, unfinished: &Arc<Shares>) -> Self {
        let limit = longest.saturating_mul(8).max(MIN_BODY_BUDGET / sources.max(1));
        Self {
            longest,
            memory: Budget::of(limit),
            senders: Shares::of(limit / SENDERS_PART),
            unfinished: Arc::clone(unfinished),
        }
    }

    /// The whole body, which `announced` so many bytes, and its memory, to be held for as long as the
    /// body is.
    pub(super) async fn read(
        &self,
        mut payload: web::Payload,
        announced: Option<usize>,
        sender: IpAddr,
    ) -> Result<(Bytes, Reservation), Intake> {
        if announced.is_some_and(|length| length > self.longest) {
            return Err(Intake::TooLarge);
        }
        let started = Instant::now();
        let limit = self.longest;
        let mut memory = self.memory.reserve(0)?;
        let mut waiting: Option<Waiting> = None;
        let mut first = Bytes::new();
        let mut rest = BytesMut::new();
        let mut length = 0;
        loop {
            // Most bodies are there with their heads and wait for nothing.
            let next = match payload.next().now_or_never() {
                Some(next) => next,
                None => {
                    let waiting = match &mut waiting {
                        Some(waiting) => waiting,
                        None => waiting.insert(Waiting::new(self, sender)?),
                    };
                    waiting.memory.grow_to(length)?;
                    let deadline = started + allowed(length, announced);
                    let next = tokio::time::timeout_at(deadline, payload.next()).await;
                    next.map_err(|_| Intake::TimedOut)?
                }
            };
            let Some(chunk) = next else { break };
            let chunk = chunk.map_err(|_| Intake::Malformed)?;
            length += chunk.len();
            // Counted as it comes: a chunked body has no length to trust.
            if length > limit {
                return Err(Intake::TooLarge);
            }
            memory.grow_to(length)?;
            if first.is_empty() {
                // Most bodies come in one piece, which needs no copy.
                first = chunk;
            } else {
                if rest.is_empty() {
                    rest.extend_from_slice(&first);
                }
                rest.extend_from_slice(&chunk);
            }
        }
        Ok((if rest.is_empty() { first } else { rest.freeze() }, memory))
    }
}

/// What a sender holds by a body that is not complete.
struct Waiting {
    memory: Share,
    _request: Share,
}

impl Waiting {
    fn new(bodies: &Bodies, sender: IpAddr) -> Result<Self, UsedUp> {
        let mut request = bodies.unfinished.share(sender);
        request.grow_to(1)?;
        Ok(Self { memory: bodies.senders.share(sender), _request: request })
    }
}

/// How long after its head a body may go on if nothing is added to its `length` bytes.
fn allowed(length: usize, announced: Option<usize>) -> Duration {
    if length.max(announced.unwrap_or(0)) <= SMALL {
        return DEADLINE;
    }
    // Bodies are far shorter than what a double holds exactly.
    #[allow(clippy::cast_precision_loss)]
    let at_the_least_rate = Duration::from_secs_f64(length as f64 / LEAST_RATE);
    (GRACE + at_the_least_rate).min(DEADLINE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_used_up_budget_refuses_and_recovers() {
        let budget = Budget::of(MIN_BODY_BUDGET);
        let mut first = budget.reserve(MIN_BODY_BUDGET).unwrap_or_else(|_| panic!("it is empty"));
        assert!(first.grow_to(10).is_ok(), "what is reserved is not counted twice");
        assert!(budget.reserve(1).is_err());
        drop(first);
        assert_eq!(budget.used.load(Ordering::Relaxed), 0, "refused reservations are given back");
        assert!(budget.reserve(MIN_BODY_BUDGET).is_ok());
    }

    #[test]
    fn sources_divide_the_memory_and_each_sender_has_half_of_a_source_s() {
        let unfinished = unfinished_requests();
        let limits = |longest, sources| {
            let bodies = Bodies::new(longest, sources, &unfinished);
            let mut share = bodies.senders.share(super::super::sender::UNKNOWN);
            let half = bodies.memory.limit / 2;
            assert!(share.grow_to(half).is_ok() && share.grow_to(half + 1).is_err());
            bodies.memory.limit
        };
        assert_eq!(limits(1, 1), MIN_BODY_BUDGET);
        assert_eq!(limits(1, 4), MIN_BODY_BUDGET / 4);
        assert_eq!(limits(MIN_BODY_BUDGET, 4), MIN_BODY_BUDGET * 8);
    }

    #[test]
    fn only_large_bodies_have_to_hurry() {
        let seconds = |length, announced| allowed(length, announced).as_secs();
        assert_eq!(seconds(0, None), 10);
        assert_eq!(seconds(100, Some(SMALL)), 10);
        assert_eq!(seconds(100, Some(SMALL + 1)), 2, "it announces much and sends nothing");
        assert_eq!(seconds(4 * 16 * 1024, None), 6);
        assert_eq!(seconds(1024 * 1024, Some(1024 * 1024)), 10);
    }
}
