//! How many claims of one kind of work a worker holds, and when to ask the store for more.
//!
//! Runs and dead letters have capacities of their own: a sink that hangs does not use up the capacity
//! for events, nor a CRM that hangs the capacity for dead letters.

use std::time::Duration;

use crate::event::Timestamp;

/// An empty claim that promised more work at once is not repeated sooner: another worker is about
/// to take it.
const CONTENDED_PAUSE: Duration = Duration::from_millis(10);

pub(super) struct Capacity {
    capacity: usize,
    /// Worked on, or about to be.
    taken: usize,
    /// Finished, and not yet settled. Up to `capacity` of these do not count against the capacity, so
    /// that the next claim can run beside the last settlement.
    ended: usize,
    next_claim: Timestamp,
}

impl Capacity {
    pub(super) fn new(capacity: usize, now: Timestamp) -> Self {
        Self { capacity: capacity.max(1), taken: 0, ended: 0, next_claim: now }
    }

    fn free(&self) -> usize {
        self.capacity.saturating_sub(self.taken + self.ended.saturating_sub(self.capacity))
    }

    /// Whether a further claim is worth its commit: a quarter of what may be held is free.
    pub(super) fn has_room(&self) -> bool {
        self.free() * 4 >= self.capacity
    }

    /// How much to ask for.
    pub(super) fn wanted(&self) -> usize {
        if self.has_room() { self.free() } else { 0 }
    }

    /// When to ask for more, if there is room.
    pub(super) fn next_claim(&self) -> Option<Timestamp> {
        self.has_room().then_some(self.next_claim)
    }

    /// There will be more at `due`.
    pub(super) fn expect(&mut self, due: Timestamp) {
        self.next_claim = self.next_claim.min(due);
    }

    /// The store gave `got` of the `wanted` it was asked for; more, of either kind, is due at
    /// `next_due`, and is looked for at `poll` at the latest.
    pub(super) fn look_again(
        &mut self,
        [wanted, got]: [usize; 2],
        next_due: Option<Timestamp>,
        poll: Timestamp,
        now: Timestamp,
    ) {
        self.next_claim = if got >= wanted {
            // There may be more now, to be asked for once there is room.
            now
        } else {
            let floor = if got == 0 { now + CONTENDED_PAUSE } else { now };
            next_due.map_or(poll, |due| due.clamp(floor.min(poll), poll))
        };
    }

    /// So many more are held.
    pub(super) fn fill(&mut self, count: usize) {
        self.taken += count;
    }

    /// One has only to be settled.
    pub(super) fn end(&mut self) {
        self.taken = self.taken.saturating_sub(1);
        self.ended += 1;
    }

    /// One is not held any more, and had `ended` or not.
    pub(super) fn vacate(&mut self, ended: bool) {
        let count = if ended { &mut self.ended } else { &mut self.taken };
        *count = count.saturating_sub(1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_claim_is_as_soon_as_it_can_bring_something() {
        let now = Timestamp::UNIX_EPOCH;
        let millis = |count| now + Duration::from_millis(count);
        let poll = millis(500);
        for (got, next_due, expected) in [
            (10, None, now),
            (3, None, poll),
            (3, Some(now), now),
            (3, Some(millis(70)), millis(70)),
            (3, Some(millis(700)), poll),
            (0, Some(now), now + CONTENDED_PAUSE),
            (0, Some(millis(70)), millis(70)),
        ] {
            let mut places = Capacity::new(10, now);
            places.look_again([10, got], next_due, poll, now);
            assert_eq!(places.next_claim(), Some(expected), "{got} of 10, more at {next_due:?}");
        }
    }
}
