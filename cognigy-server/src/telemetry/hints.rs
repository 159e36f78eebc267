//! How refusals are logged, and how often a refused delivery is tried against other settings.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// Logs a refusal as a warning if it is the first, and else at `debug`.
macro_rules! refusal {
    ($first:expr, $($fields:tt)*) => {
        if $first { tracing::warn!($($fields)*) } else { tracing::debug!($($fields)*) }
    };
}
pub(crate) use refusal;

/// The time within which hints are few.
const INTERVAL: Duration = Duration::from_secs(5);
/// How many hints are looked for within one interval: each costs some thirty signatures.
const MOST_HINTS: u32 = 5;

/// Limits how often a refused delivery is tried against other settings, whatever the number of refusals.
#[derive(Debug, Default)]
pub(crate) struct Hints(Mutex<Option<(Instant, u32)>>);

impl Hints {
    /// Whether one may be looked for now.
    pub(crate) fn may_be_given(&self) -> bool {
        let mut given = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (since, count) = given
            .filter(|(since, _)| since.elapsed() < INTERVAL)
            .unwrap_or_else(|| (Instant::now(), 0));
        *given = Some((since, count + 1));
        count < MOST_HINTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_are_few() {
        let hints = Hints::default();
        let given = (0..100).filter(|_| hints.may_be_given()).count();
        assert_eq!(given, MOST_HINTS as usize);
    }
}
