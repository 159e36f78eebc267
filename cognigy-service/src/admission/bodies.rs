//! Memory for the bodies of deliveries, and how much of it one sender may hold.

use std::{net::IpAddr, sync::Arc};

use cognigy_core::Intake;

use super::{Budget, Reservation, SENDERS_PART, Share, Shares, UsedUp};

/// The least memory for bodies that are being received, however small one may be; all sources
/// share it.
const MIN_BODY_BUDGET: usize = 32 * 1024 * 1024;

/// What the bodies of one source may take.
pub(crate) struct Bodies {
    /// The length of the longest body that is taken, in bytes.
    pub(crate) longest: usize,
    /// Bytes that have arrived, of all of the source's bodies.
    memory: Budget,
    /// How many of those bytes each sender may hold.
    senders: Arc<Shares>,
    unfinished: Arc<Shares>,
}

impl Bodies {
    /// The bodies of one of `sources` sources: memory for a few dozen bodies of the largest size, or
    /// for thousands of usual ones.
    pub(crate) fn new(longest: usize, sources: usize, unfinished: &Arc<Shares>) -> Self {
        let limit = longest.saturating_mul(8).max(MIN_BODY_BUDGET / sources.max(1));
        Self {
            longest,
            memory: Budget::of(limit),
            senders: Shares::of(limit / SENDERS_PART),
            unfinished: Arc::clone(unfinished),
        }
    }

    /// Memory for a body of which nothing has arrived yet.
    pub(crate) fn memory(&self) -> Result<Reservation, Intake> {
        self.memory.reserve(0)
    }

    /// Counts a request of `sender` whose body is not complete.
    pub(crate) fn unfinished(&self, sender: IpAddr) -> Result<Unfinished, UsedUp> {
        let mut request = self.unfinished.share(sender);
        request.grow_to(1)?;
        Ok(Unfinished { memory: self.senders.share(sender), _request: request })
    }
}

/// What a sender holds by a body that is not complete.
pub(crate) struct Unfinished {
    /// The sender's share of the memory.
    pub(crate) memory: Share,
    _request: Share,
}

#[cfg(test)]
mod tests {
    use super::{super::UNKNOWN, *};

    #[test]
    fn sources_divide_the_memory_and_each_sender_has_half_of_a_source_s() {
        let unfinished = Shares::of_requests(100);
        let reserves = |bodies: &Bodies, amount| bodies.memory.reserve(amount).is_ok();
        for (longest, sources, limit) in [
            (1, 1, MIN_BODY_BUDGET),
            (1, 4, MIN_BODY_BUDGET / 4),
            (MIN_BODY_BUDGET, 4, MIN_BODY_BUDGET * 8),
        ] {
            let bodies = Bodies::new(longest, sources, &unfinished);
            assert!(reserves(&bodies, limit) && !reserves(&bodies, limit + 1));
            let mut share = bodies.senders.share(UNKNOWN);
            assert!(share.grow_to(limit / 2).is_ok() && share.grow_to(limit / 2 + 1).is_err());
        }
    }
}
