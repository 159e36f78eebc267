//! What a source did in each minute of the last day, for the console's charts.
//!
//! It is kept in memory: it begins with the process and tells of this process only. A store would have
//! to read all events of a day to answer that.

use std::{
    sync::{Mutex, PoisonError},
    time::{SystemTime, UNIX_EPOCH},
};

/// How many minutes are kept: a day.
pub(crate) const MINUTES: usize = 24 * 60;

/// What happened in one minute.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Minute {
    /// Deliveries.
    pub(crate) received: u32,
    /// Attempts that succeeded.
    pub(crate) processed: u32,
    /// Attempts that failed.
    pub(crate) failed: u32,
}

impl std::ops::AddAssign for Minute {
    fn add_assign(&mut self, other: Self) {
        self.received = self.received.saturating_add(other.received);
        self.processed = self.processed.saturating_add(other.processed);
        self.failed = self.failed.saturating_add(other.failed);
    }
}

/// The minutes of the last day. The memory is taken with the first event.
#[derive(Default)]
pub(crate) struct History(Mutex<Vec<(u64, Minute)>>);

impl History {
    /// Adds what happens now.
    pub(crate) fn add(&self, happened: Minute) {
        self.add_at(this_minute(), happened);
    }

    /// The minutes of the last day, the present one last.
    pub(crate) fn last_day(&self) -> Vec<Minute> {
        self.up_to(this_minute())
    }

    fn add_at(&self, minute: u64, happened: Minute) {
        let mut slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if slots.is_empty() {
            slots.resize(MINUTES, (0, Minute::default()));
        }
        let slot = &mut slots[place(minute)];
        if slot.0 != minute {
            *slot = (minute, Minute::default());
        }
        slot.1 += happened;
    }

    fn up_to(&self, now: u64) -> Vec<Minute> {
        let slots = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = now.saturating_sub(MINUTES as u64 - 1);
        let of = |minute: u64| match slots.get(place(minute)) {
            Some((at, happened)) if *at == minute => *happened,
            _ => Minute::default(),
        };
        (first..=now).map(of).collect()
    }
}

fn place(minute: u64) -> usize {
    usize::try_from(minute % MINUTES as u64).unwrap_or_default()
}

/// The number of this minute since 1970.
fn this_minute() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs() / 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_kept_and_what_is_older_is_forgotten() {
        let history = History::default();
        let one = Minute { received: 1, processed: 2, failed: 3 };
        let now = 30_000_000;
        assert_eq!(history.up_to(now), vec![Minute::default(); MINUTES]);
        history.add_at(now - 1, one);
        history.add_at(now, one);
        history.add_at(now, one);
        let day = history.up_to(now);
        assert_eq!(day.len(), MINUTES);
        assert_eq!(day[MINUTES - 1], Minute { received: 2, processed: 4, failed: 6 });
        assert_eq!((day[MINUTES - 2], day[MINUTES - 3]), (one, Minute::default()));
        assert_eq!(history.up_to(now + MINUTES as u64), vec![Minute::default(); MINUTES]);
        assert_eq!(history.up_to(now + 5)[MINUTES - 7], one);
    }
}
