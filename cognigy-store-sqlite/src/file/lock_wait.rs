//! How long the writer waits for the lock of the file, which another program holds.
//!
//! Calls that are refused meanwhile are not too many: what holds them up is that other program, and an
//! operator has to be told so.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use cognigy_core::StoreError;

use crate::error::SqliteError;

/// A wait that is shorter explains no refusal: the checks of a backup take milliseconds.
const LONG: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct LockWait {
    start: Instant,
    /// When the present wait began, in milliseconds since `start`, plus one; 0 if there is none.
    since: AtomicU64,
    /// How long the last one took, in milliseconds.
    last: AtomicU64,
}

impl Default for LockWait {
    fn default() -> Self {
        Self { start: Instant::now(), since: AtomicU64::new(0), last: AtomicU64::new(0) }
    }
}

impl LockWait {
    /// Does `take`, which may wait for the lock.
    pub(crate) fn during<T>(&self, take: impl FnOnce() -> T) -> T {
        self.since.store(self.now() + 1, Ordering::Relaxed);
        let taken = take();
        self.last.store(self.present(), Ordering::Relaxed);
        self.since.store(0, Ordering::Relaxed);
        taken
    }

    /// The error of a call that is refused because it or others would wait for too long.
    pub(crate) fn refusal(&self) -> StoreError {
        let waited = self.present().max(self.last.load(Ordering::Relaxed));
        let waited = Duration::from_millis(waited);
        if waited < LONG {
            return StoreError::overloaded();
        }
        SqliteError::Locked { seconds: waited.as_secs() }.into()
    }

    fn now(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX - 1)
    }

    fn present(&self) -> u64 {
        match self.since.load(Ordering::Relaxed) {
            0 => 0,
            since => self.now().saturating_sub(since - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use cognigy_core::{StoreErrorKind, report};

    use super::*;

    #[test]
    fn only_a_long_wait_is_told_until_the_lock_is_had_at_once() {
        let wait = LockWait::default();
        assert_eq!(wait.refusal().kind(), StoreErrorKind::Overloaded);
        wait.during(|| std::thread::sleep(LONG));
        let refusal = wait.refusal();
        assert_eq!(refusal.kind(), StoreErrorKind::Unavailable);
        assert!(report(&refusal).contains("another program"), "{}", report(&refusal));
        wait.during(|| {});
        assert_eq!(wait.refusal().kind(), StoreErrorKind::Overloaded);
    }
}
