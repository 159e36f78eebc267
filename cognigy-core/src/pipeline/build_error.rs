//! What a pipeline cannot be built with.

use std::time::Duration;

use crate::processing::RetryPolicy;

/// A setting of a [`PipelineBuilder`](crate::PipelineBuilder) with which no event could be processed.
///
/// ```
/// use cognigy_core::{BuildError, Pipeline, RetryPolicy, memory::MemoryStore, testing::sample};
///
/// let never = RetryPolicy { max_attempts: 0, ..RetryPolicy::default() };
/// let built = Pipeline::builder(sample::verifier()).store(MemoryStore::new()).retry(never).build();
/// assert_eq!(built.unwrap_err(), BuildError::NoAttempts);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BuildError {
    /// A retry policy with `max_attempts` 0: not even the first attempt would be made.
    #[error("`retry` allows no attempt: `max_attempts` is 0 and has to be at least 1")]
    NoAttempts,
    /// A retry policy whose first delay is longer than its longest.
    #[error("the `base_delay` of `{setting}`, {base:?}, is longer than its `max_delay`, {max:?}")]
    DelayOverMaximum {
        /// The setting: `retry` or `dead_letter_retry`.
        setting: &'static str,
        /// The first delay.
        base: Duration,
        /// The longest delay.
        max: Duration,
    },
    /// A lease of no time: each claim would be lost at once.
    #[error("`lease` is zero: each claim would be lost before its work began")]
    NoLease,
    /// An attempt of no time.
    #[error("`attempt_timeout` is zero: each attempt would be ended before it began")]
    NoTimeForAttempts,
    /// Bodies of no length: each delivery would be refused.
    #[error("`max_body_bytes` is 0: each delivery would be refused")]
    NoBodies,
    /// A run that may lose no lease: it would be given up before its first attempt.
    #[error("`max_lost_leases` is 0 and has to be at least 1")]
    NoLostLeases,
}

/// Whether `policy`, which is that of `setting`, can be followed.
pub(super) fn check_delays(setting: &'static str, policy: &RetryPolicy) -> Result<(), BuildError> {
    let (base, max) = (policy.base_delay, policy.max_delay);
    if base > max {
        return Err(BuildError::DelayOverMaximum { setting, base, max });
    }
    Ok(())
}
