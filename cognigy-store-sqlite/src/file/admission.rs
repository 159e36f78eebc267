//! How many deliveries may be on their way into the file at once.
//!
//! Counted from the call to its answer, so that the bound is one of waiting time: whoever gets in is
//! in one of the next commits, and whoever does not hears so at once and comes back later.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use cognigy_core::StoreError;

/// With this part of the limit inside, a commit has enough to do.
const BUSY_SHARE: usize = 8;

#[derive(Debug)]
pub(crate) struct Admission {
    inside: AtomicUsize,
    limit: usize,
}

impl Admission {
    pub(crate) fn up_to(limit: usize) -> Self {
        Self { inside: AtomicUsize::new(0), limit: limit.max(1) }
    }

    /// A place until it is dropped, or `Overloaded`.
    pub(crate) fn enter(&self) -> Result<Admitted<'_>, StoreError> {
        let place = Admitted(self);
        let others = self.inside.fetch_add(1, Ordering::Relaxed);
        if others >= self.limit {
            return Err(StoreError::overloaded());
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

/// A place inside.
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
        let intake = Admission::up_to(2);
        let (first, _second) = (intake.enter().unwrap(), intake.enter().unwrap());
        for _ in 0..3 {
            assert!(intake.enter().is_err(), "refusals take no place");
        }
        drop(first);
        assert!(intake.enter().is_ok());
    }
}
