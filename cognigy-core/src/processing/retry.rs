//! When to try again, and when to stop. Pure: the random number is handed in.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use crate::ports::{Failure, FailureKind};

/// How delays are spread, so that events that failed together do not come back together.
///
/// ```
/// use std::time::Duration;
///
/// use cognigy_core::{Jitter, RetryPolicy};
///
/// let second = Duration::from_secs(1);
/// let spread = |jitter| {
///     let policy = RetryPolicy { jitter, base_delay: 4 * second, ..RetryPolicy::default() };
///     [0.0, 1.0].map(|random| policy.delay(1, None, random))
/// };
/// assert_eq!(spread(Jitter::None), [4 * second, 4 * second]);
/// assert_eq!(spread(Jitter::Equal), [2 * second, 4 * second]);
/// assert_eq!(spread(Jitter::Full), [0 * second, 4 * second]);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Jitter {
    /// The full delay every time. For tests.
    None,
    /// Anywhere between half the delay and all of it: spreads, and never comes back at once.
    #[default]
    Equal,
    /// Anywhere between nothing and the delay: spreads most.
    Full,
}

/// How often and how far apart a failing step is tried.
///
/// ```
/// use std::time::Duration;
///
/// use cognigy_core::{Failure, Jitter, NextStep, RetryPolicy};
///
/// let policy = RetryPolicy {
///     max_attempts: 3,
///     base_delay: Duration::from_secs(1),
///     max_delay: Duration::from_secs(60),
///     jitter: Jitter::None,
/// };
/// let busy = Failure::transient("the CRM answered 503");
/// assert_eq!(policy.next_step(1, &busy, 0.0), NextStep::RetryIn(Duration::from_secs(1)));
/// assert_eq!(policy.next_step(2, &busy, 0.0), NextStep::RetryIn(Duration::from_secs(2)));
/// assert_eq!(policy.next_step(3, &busy, 0.0), NextStep::GiveUp);
///
/// // The other side may ask for a longer wait, up to the maximum.
/// let wait = Failure::transient("429").retry_after(Duration::from_secs(3600));
/// assert_eq!(policy.next_step(1, &wait, 0.0), NextStep::RetryIn(Duration::from_secs(60)));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Attempts in one run, the first included. At least 1.
    pub max_attempts: u32,
    /// The delay after the first attempt; it doubles with each further one.
    pub base_delay: Duration,
    /// No delay is longer, whatever a `Retry-After` asks for.
    pub max_delay: Duration,
    /// How delays are spread.
    pub jitter: Jitter,
}

impl Default for RetryPolicy {
    /// 4 attempts, 2 s doubling, at most 1 h, equal jitter.
    fn default() -> Self {
        Self {
            max_attempts: 4,
            base_delay: Duration::from_secs(2),
            max_delay: Duration::from_secs(3600),
            jitter: Jitter::Equal,
        }
    }
}

/// What follows a failed attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NextStep {
    /// Try again after this long.
    RetryIn(Duration),
    /// Stop trying.
    GiveUp,
}

impl RetryPolicy {
    /// What to do after attempt number `attempt` (the first is 1) ended in `failure`.
    /// `random` is a number from `[0, 1)`.
    #[must_use]
    pub fn next_step(&self, attempt: u32, failure: &Failure, random: f64) -> NextStep {
        match failure.kind() {
            FailureKind::Transient { retry_after } if attempt < self.max_attempts => {
                NextStep::RetryIn(self.delay(attempt, retry_after, random))
            }
            _ => NextStep::GiveUp,
        }
    }

    /// The delay after attempt number `attempt`, at least `retry_after` and at most the maximum.
    /// A `Retry-After` is spread upwards by up to the base delay: events that were told the same time
    /// should not come back in the same instant.
    #[must_use]
    pub fn delay(&self, attempt: u32, retry_after: Option<Duration>, random: f64) -> Duration {
        let doublings = attempt.saturating_sub(1).min(31);
        let full = self.base_delay.saturating_mul(1 << doublings).min(self.max_delay);
        let random = random.clamp(0.0, 1.0);
        let backoff = match self.jitter {
            Jitter::None => full,
            Jitter::Equal => full.mul_f64(0.5 + random / 2.0),
            Jitter::Full => full.mul_f64(random),
        };
        let asked = retry_after.map_or(Duration::ZERO, |wait| match self.jitter {
            Jitter::None => wait,
            _ => wait.saturating_add(self.base_delay.mul_f64(random)),
        });
        backoff.max(asked).min(self.max_delay)
    }
}

/// A number from `[0, 1)` that differs from event to event and attempt to attempt. Jitter only has
/// to spread retries; a hash does that without a random generator, and the same each time it is
/// asked, which makes a simulated run repeatable.
pub(crate) fn spread(seed: &impl Hash) -> f64 {
    let mut hasher = DefaultHasher::new();
    seed.hash(&mut hasher);
    // 53 bits are what a double holds exactly.
    #[allow(clippy::cast_precision_loss)]
    let fraction = (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64;
    fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn delays_double_up_to_the_maximum() {
        let policy = RetryPolicy { jitter: Jitter::None, ..RetryPolicy::default() };
        let delays: Vec<_> = (1..=4).map(|n| policy.delay(n, None, 0.5).as_secs()).collect();
        assert_eq!(delays, [2, 4, 8, 16]);
        assert_eq!(policy.delay(u32::MAX, None, 0.5), policy.max_delay);
    }

    #[test]
    fn jitter_stays_in_its_bounds() {
        for (jitter, low, high) in [(Jitter::Equal, 4.0, 8.0), (Jitter::Full, 0.0, 8.0)] {
            let policy = RetryPolicy { jitter, ..RetryPolicy::default() };
            assert_eq!(policy.delay(3, None, 0.0).as_secs_f64(), low);
            assert_eq!(policy.delay(3, None, 1.0).as_secs_f64(), high);
        }
    }

    #[test]
    fn a_retry_after_is_a_floor_within_the_maximum() {
        let policy = RetryPolicy::default();
        let after = |wait| policy.delay(1, Some(wait), 0.0);
        assert_eq!(after(30 * SECOND), 30 * SECOND);
        assert_eq!(after(Duration::ZERO), SECOND);
        assert_eq!(after(Duration::MAX), policy.max_delay);
        assert_eq!(policy.delay(1, Some(30 * SECOND), 1.0), 32 * SECOND);
        let exact = RetryPolicy { jitter: Jitter::None, ..policy };
        assert_eq!(exact.delay(1, Some(30 * SECOND), 1.0), 30 * SECOND);
    }

    #[test]
    fn four_attempts_then_it_gives_up_and_a_permanent_failure_at_once() {
        let policy = RetryPolicy::default();
        let transient = Failure::transient("503");
        assert!(matches!(policy.next_step(3, &transient, 0.0), NextStep::RetryIn(_)));
        assert_eq!(policy.next_step(4, &transient, 0.0), NextStep::GiveUp);
        assert_eq!(policy.next_step(1, &Failure::permanent("400"), 0.0), NextStep::GiveUp);
    }
    #[test]
    fn spread_covers_the_unit_interval() {
        let numbers: Vec<f64> = (0..1000).map(|n: u32| spread(&n)).collect();
        assert!(numbers.iter().all(|number| (0.0..1.0).contains(number)));
        for tenth in 0..10 {
            let low = f64::from(tenth) / 10.0;
            let inside = numbers.iter().filter(|n| (low..low + 0.1).contains(*n)).count();
            assert!((50..200).contains(&inside), "{inside} of 1000 in the tenth from {low}");
        }
    }
}
