//! A clock that moves only when a test moves it.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Poll, Waker},
    time::Duration,
};

use crate::{event::Timestamp, ports::Clock};

/// A clock for tests. Clones are the same clock.
///
/// ```
/// use std::time::Duration;
///
/// use cognigy_core::{Clock, testing::{ManualClock, sample}};
///
/// let clock = ManualClock::new(sample::start());
/// let sleep = clock.sleep_until(sample::start() + Duration::from_secs(3600));
/// clock.advance(Duration::from_secs(3600)); // wakes what waits for that time
/// futures_executor::block_on(sleep);
/// assert_eq!(clock.now(), sample::start() + Duration::from_secs(3600));
/// ```
#[derive(Debug, Clone)]
pub struct ManualClock(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    now: Timestamp,
    sleepers: Vec<(Timestamp, Waker)>,
}

impl ManualClock {
    /// A clock that stands at `now`.
    #[must_use]
    pub fn new(now: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(Inner { now, sleepers: Vec::new() })))
    }

    /// Moves on by `step` and wakes the tasks that waited for that time.
    pub fn advance(&self, step: Duration) {
        let now = self.now() + step;
        self.set(now);
    }

    /// Moves to `now`, forwards or backwards, and wakes the tasks that waited for that time.
    pub fn set(&self, now: Timestamp) {
        let mut inner = self.lock();
        inner.now = now;
        let (due, waiting) = inner.sleepers.drain(..).partition(|(deadline, _)| *deadline <= now);
        inner.sleepers = waiting;
        drop(inner);
        let due: Vec<(Timestamp, Waker)> = due;
        for (_, waker) in due {
            waker.wake();
        }
    }

    /// The earliest time for which a task waits.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.lock().sleepers.iter().map(|(deadline, _)| *deadline).min()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clock for ManualClock {
    fn now(&self) -> Timestamp {
        self.lock().now
    }

    fn sleep_until(&self, deadline: Timestamp) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let clock = self.clone();
        Box::pin(poll_fn(move |context| {
            let mut inner = clock.lock();
            if inner.now >= deadline {
                return Poll::Ready(());
            }
            inner.sleepers.push((deadline, context.waker().clone()));
            Poll::Pending
        }))
    }
}
