//! A process's own clock: virtual time and an error that may grow while the process runs.
//!
//! Like the core's clock on tokio it never goes backwards while its process lives; a restart reads
//! a corrected time, which may be earlier.

use std::{
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicI64, Ordering},
    },
    task::{Context, Poll},
    time::Duration,
};

use cognigy_core::{Clock, Timestamp, testing::sample};

use crate::executor::{Handle, Micros, Sleep};

/// The clock of one process.
#[derive(Clone)]
pub(crate) struct ProcessClock {
    handle: Handle,
    /// How far it is ahead, in microseconds.
    error: Arc<AtomicI64>,
}

impl ProcessClock {
    pub(crate) fn new(handle: Handle, error: i64) -> Self {
        Self { handle, error: Arc::new(AtomicI64::new(error)) }
    }

    pub(crate) fn error(&self) -> i64 {
        self.error.load(Ordering::Relaxed)
    }

    /// Jumps ahead, as after a suspended machine woke up.
    pub(crate) fn jump(&self, ahead: Micros) {
        self.error.fetch_add(i64::try_from(ahead).unwrap_or(0), Ordering::Relaxed);
        self.handle.wake_sleepers();
    }
}

/// The virtual time as an accurate clock would show it.
pub(crate) fn wall(now: Micros) -> Timestamp {
    sample::start() + Duration::from_micros(now)
}

impl Clock for ProcessClock {
    fn now(&self) -> Timestamp {
        wall(self.handle.now()) + chrono::Duration::microseconds(self.error())
    }

    fn sleep_until(&self, deadline: Timestamp) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        Box::pin(Wait { clock: self.clone(), deadline, sleep: None })
    }
}

struct Wait {
    clock: ProcessClock,
    deadline: Timestamp,
    sleep: Option<Sleep>,
}

impl Future for Wait {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        let left = self.deadline - self.clock.now();
        if left <= chrono::Duration::zero() {
            return Poll::Ready(());
        }
        // Rounded up: a jittered deadline may lie between two microseconds.
        let nanos = left.num_nanoseconds().and_then(|left| u64::try_from(left).ok());
        let micros = nanos.map_or(u64::MAX / 2, |nanos| nanos.div_ceil(1000));
        let mut sleep = self.clock.handle.sleep(micros);
        // The new sleep cannot have ended yet; polling it sets its alarm.
        let polled = Pin::new(&mut sleep).poll(context);
        self.sleep = Some(sleep);
        polled
    }
}
