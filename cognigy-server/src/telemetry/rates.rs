//! How many per second, over the last minute.

use std::{
    sync::{Mutex, PoisonError},
    time::Instant,
};

/// The window in seconds.
const WINDOW: usize = 60;

/// Counts occurrences and tells how many there were lately.
pub(crate) struct Rate {
    started: Instant,
    slots: Mutex<[Slot; WINDOW]>,
}

#[derive(Clone, Copy, Default)]
struct Slot {
    second: u64,
    count: u64,
}

impl Default for Rate {
    fn default() -> Self {
        Self { started: Instant::now(), slots: Mutex::new([Slot::default(); WINDOW]) }
    }
}

impl Rate {
    /// Adds `count` occurrences now.
    pub(crate) fn add(&self, count: u64) {
        self.add_at(self.started.elapsed().as_secs(), count);
    }

    /// Occurrences per second, over the last minute, or since the start if that is shorter.
    pub(crate) fn per_second(&self) -> f64 {
        self.per_second_at(self.started.elapsed().as_secs())
    }

    fn add_at(&self, second: u64, count: u64) {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        // No process runs for more than u32::MAX seconds.
        #[allow(clippy::cast_possible_truncation)]
        let slot = &mut slots[second as usize % WINDOW];
        if slot.second != second {
            *slot = Slot { second, count: 0 };
        }
        slot.count += count;
    }

    fn per_second_at(&self, second: u64) -> f64 {
        let slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let recent = slots.iter().filter(|slot| slot.second + WINDOW as u64 > second);
        let count: u64 = recent.map(|slot| slot.count).sum();
        // A double holds such a number exactly.
        #[allow(clippy::cast_precision_loss)]
        let rate = count as f64 / (second + 1).min(WINDOW as u64) as f64;
        rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_covers_the_last_minute_only() {
        let rate = Rate::default();
        rate.add_at(0, 10);
        assert_eq!(rate.per_second_at(0), 10.0);
        rate.add_at(9, 10);
        assert_eq!(rate.per_second_at(9), 2.0);
        assert_eq!(rate.per_second_at(59), 20.0 / 60.0);
        assert_eq!(rate.per_second_at(60), 10.0 / 60.0);
        rate.add_at(69, 6);
        assert_eq!(rate.per_second_at(69), 0.1);
    }
}
