//! Time as a parameter: the one trait through which the worker loop learns the time and waits.
//!
//! Everything that decides takes `now` as an argument; only loops that must wait hold a [`Clock`].

use std::{future::Future, pin::Pin};

use crate::event::Timestamp;

/// Tells the time and waits for it, so that no runtime is named in the core.
///
/// ## Contract
/// * `now` never goes backwards between two calls on the same clock.
/// * The future of `sleep_until` resolves once `now() >= deadline`, at once if that is already so,
///   and may be dropped at any time.
///
/// ```
/// use std::{pin::Pin, time::Duration};
///
/// use cognigy_core::{Clock, Timestamp, TokioClock};
///
/// /// The machine's clock for a site whose clock is set wrong by a known time.
/// struct Shifted(TokioClock, Duration);
///
/// impl Clock for Shifted {
///     fn now(&self) -> Timestamp {
///         self.0.now() + self.1
///     }
///
///     fn sleep_until(&self, deadline: Timestamp) -> Pin<Box<dyn Future<Output = ()> + Send>> {
///         self.0.sleep_until(deadline - self.1)
///     }
/// }
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let clock = Shifted(TokioClock::new(), Duration::from_secs(3600));
/// let deadline = clock.now() + Duration::from_millis(5);
/// clock.sleep_until(deadline).await;
/// assert!(clock.now() >= deadline);
/// # }
/// ```
pub trait Clock: Send + Sync + 'static {
    /// The current time.
    fn now(&self) -> Timestamp;

    /// A future that resolves at `deadline`.
    fn sleep_until(&self, deadline: Timestamp) -> Pin<Box<dyn Future<Output = ()> + Send>>;
}

impl<C: Clock + ?Sized> Clock for std::sync::Arc<C> {
    fn now(&self) -> Timestamp {
        (**self).now()
    }

    fn sleep_until(&self, deadline: Timestamp) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        (**self).sleep_until(deadline)
    }
}

/// The machine's clock on a tokio runtime.
///
/// It reads the wall clock once, when it is made, and then follows the monotonic one: a wall clock
/// that is set forward by an hour must not expire every lease at once, and one set back must not
/// hold every retry. A restart picks the corrected wall clock up.
///
/// The monotonic clock is tokio's own, so that a test under `tokio::time::pause` passes hours in an
/// instant, and the clock and its timers agree.
///
/// ```
/// use std::time::Duration;
///
/// use cognigy_core::{Clock, TokioClock};
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() {
/// // In a test whose time tokio has paused, an hour passes at once.
/// let clock = TokioClock::new();
/// let tomorrow = clock.now() + Duration::from_secs(24 * 3600);
/// clock.sleep_until(tomorrow).await;
/// assert!(clock.now() >= tomorrow);
/// # }
/// ```
#[cfg(feature = "tokio")]
#[derive(Debug, Clone, Copy)]
pub struct TokioClock {
    wall: Timestamp,
    monotonic: tokio::time::Instant,
}

#[cfg(feature = "tokio")]
impl TokioClock {
    /// A clock that starts from the machine's wall clock.
    #[must_use]
    pub fn new() -> Self {
        Self { wall: std::time::SystemTime::now().into(), monotonic: tokio::time::Instant::now() }
    }
}

#[cfg(feature = "tokio")]
impl Default for TokioClock {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(feature = "tokio")]
impl Clock for TokioClock {
    fn now(&self) -> Timestamp {
        self.wall + self.monotonic.elapsed()
    }

    fn sleep_until(&self, deadline: Timestamp) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let wait = (deadline - self.now()).to_std().unwrap_or_default();
        Box::pin(tokio::time::sleep(wait))
    }
}

#[cfg(all(test, feature = "tokio"))]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn the_machine_s_clock_tells_the_time_of_day_and_goes_forward() {
        let before = Timestamp::from(SystemTime::now());
        let clock = std::sync::Arc::new(TokioClock::new());
        let first = clock.now();
        std::thread::sleep(Duration::from_millis(20));
        let second = clock.now();
        assert!(first >= before, "{first} is before {before}");
        assert!(second - first >= chrono::TimeDelta::milliseconds(20), "{first} to {second}");
        assert!(second <= Timestamp::from(SystemTime::now()) + Duration::from_secs(1));
    }
}
