//! How many deliveries there were since the start, for `stats`.

use std::sync::atomic::{AtomicU64, Ordering};

/// The number of deliveries since the start, by outcome.
#[derive(Default)]
pub(super) struct Tallies {
    pub(super) new: AtomicU64,
    pub(super) duplicates: AtomicU64,
    pub(super) conflicts: AtomicU64,
    pub(super) refused: AtomicU64,
}

/// Deliveries since the start: `received` is the sum of the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Deliveries {
    pub(crate) received: u64,
    pub(crate) new: u64,
    pub(crate) duplicates: u64,
    pub(crate) conflicts: u64,
    pub(crate) refused: u64,
}

impl std::ops::Add for Deliveries {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            received: self.received + other.received,
            new: self.new + other.new,
            duplicates: self.duplicates + other.duplicates,
            conflicts: self.conflicts + other.conflicts,
            refused: self.refused + other.refused,
        }
    }
}

impl Tallies {
    /// Deliveries since the start.
    pub(super) fn read(&self) -> Deliveries {
        let read = |tally: &AtomicU64| tally.load(Ordering::Relaxed);
        let (new, duplicates, conflicts, refused) =
            (read(&self.new), read(&self.duplicates), read(&self.conflicts), read(&self.refused));
        let received = new + duplicates + conflicts + refused;
        Deliveries { received, new, duplicates, conflicts, refused }
    }
}
