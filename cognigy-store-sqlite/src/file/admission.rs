//! How many deliveries may be on their way into the file at once.
//!
//! A delivery is counted from its call to its answer, so that the limit bounds the waiting time: an
//! admitted delivery is in one of the next commits, and a refused one is told at once and can be
//! sent again later.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use cognigy_core::StoreError;

use super::lock_wait::LockWait;

/// With this part of the limit admitted, a commit has enough to do.
const BUSY_SHARE: usize = 8;

#[derive(Debug)]
pub(crate) struct Admission {
    inside: AtomicUsize,
    limit: usize,
    lock: Arc<LockWait>,
}

impl Admission {
    pub(crate) fn up_to(limit: usize, lock: Arc<LockWait>) -> Self {
        Self { inside: AtomicUsize::new(0), limit: limit.max(1), lock }
    }

    /// Admits one delivery until the returned guard is dropped, or fails as `Overloaded`, or as
    /// `Unavailable` where another program keeps the writer from its work.
    pub(crate) fn enter(&self) -> Result<Admitted<'_>, StoreError> {
        let place = Admitted(self);
        let others = self.inside.fetch_add(1, Ordering::Relaxed);
        if others >= self.limit {
            return Err(self.lock.refusal());
        }
        self.let_the_writer_run(others);
        Ok(place)
    }

    /// The threads that receive share the processors with the one that writes. Left alone they would
    /// go on receiving until the limit is reached, and refuse deliveries while the disk idles.
    fn let_the_writer_run(&self, others: usize) {
        if others >= self.limit / BUSY_SHARE {
            thread::yield_now();
        }
    }
}

/// One admitted delivery.
#[derive(Debug)]
pub(crate) struct Admitted<'i>(&'i Admission);

impl Drop for Admitted<'_> {
    fn drop(&mut self) {
        self.0.inside.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_free_again_once_it_was_left() {
        let intake = Admission::up_to(2, Arc::default());
        let (first, _second) = (intake.enter().unwrap(), intake.enter().unwrap());
        for _ in 0..3 {
            assert!(intake.enter().is_err(), "a refusal does not count against the limit");
        }
        drop(first);
        assert!(intake.enter().is_ok());
    }
}
