//! Log lines about failures that repeat, such as those of a task that tries again every second while the
//! database is gone.

use std::{
    collections::HashMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// How often a failure that goes on is logged.
const INTERVAL: Duration = Duration::from_secs(60);

/// Has the first failure logged, and then one in a minute, with the number of those that were not.
///
/// ```
/// use cognigy_service::Repeated;
///
/// let failures = Repeated::default();
/// assert_eq!(failures.again("purge"), Some(0)); // a line in the log
/// assert_eq!(failures.again("purge"), None); // within the same minute
/// failures.over("purge");
/// assert_eq!(failures.again("purge"), Some(0));
/// ```
#[derive(Debug, Default)]
pub struct Repeated(Mutex<HashMap<&'static str, (Instant, u64)>>);

impl Repeated {
    /// `what` failed again. If that is to be logged: how many failures of it were not since the last line.
    #[must_use]
    pub fn again(&self, what: &'static str) -> Option<u64> {
        self.again_at(what, Instant::now())
    }

    /// `what` succeeded: its next failure is a first one.
    pub fn over(&self, what: &'static str) {
        self.logged().remove(what);
    }

    fn again_at(&self, what: &'static str, now: Instant) -> Option<u64> {
        let mut logged = self.logged();
        match logged.get_mut(what) {
            Some((at, unlogged)) if now.saturating_duration_since(*at) < INTERVAL => {
                *unlogged += 1;
                None
            }
            known => {
                let unlogged = known.map_or(0, |(_, unlogged)| *unlogged);
                logged.insert(what, (now, 0));
                Some(unlogged)
            }
        }
    }

    fn logged(&self) -> MutexGuard<'_, HashMap<&'static str, (Instant, u64)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_is_logged_and_then_one_in_a_minute_with_a_count() {
        let (repeated, start) = (Repeated::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(repeated.again_at("a", at(0)), Some(0));
        for second in 1..60 {
            assert_eq!(repeated.again_at("a", at(second)), None);
        }
        assert_eq!(repeated.again_at("b", at(30)), Some(0), "each for itself");
        assert_eq!(repeated.again_at("a", at(60)), Some(59));
        repeated.over("a");
        assert_eq!(repeated.again_at("a", at(61)), Some(0), "a new outage");
    }
}
