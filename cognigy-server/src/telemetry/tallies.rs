//! How many deliveries there were since the start, for `stats`.

use std::sync::atomic::{AtomicU64, Ordering};

use cognigy_operator::view::Deliveries;

/// The number of deliveries since the start, by outcome.
#[derive(Default)]
pub(super) struct Tallies {
    pub(super) new: AtomicU64,
    pub(super) duplicates: AtomicU64,
    pub(super) conflicts: AtomicU64,
    pub(super) refused: AtomicU64,
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
