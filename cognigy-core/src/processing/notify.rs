//! A notification: wakes the tasks that wait for it, and is remembered for a task that waits later.
//!
//! Enough for hints ("there is new work") and for stopping, on any executor.

use std::{
    future::poll_fn,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Poll, Waker},
};

#[derive(Debug, Default)]
pub(crate) struct Notify {
    notified: AtomicBool,
    waiting: Mutex<Vec<Waker>>,
}

impl Notify {
    /// Wakes the tasks that wait. Several notifications between two waits are remembered as one.
    pub(crate) fn notify(&self) {
        if !self.notified.swap(true, Ordering::AcqRel) {
            for waker in self.waiting().drain(..) {
                waker.wake();
            }
        }
    }

    /// Whether there is a notification that was not taken yet.
    pub(crate) fn is_notified(&self) -> bool {
        self.notified.load(Ordering::Acquire)
    }

    /// Takes the notification, if there is one.
    pub(crate) fn take(&self) -> bool {
        self.notified.swap(false, Ordering::AcqRel)
    }

    /// Resolves once there is a notification, without taking it.
    pub(crate) async fn notified(&self) {
        poll_fn(|context| {
            if self.is_notified() {
                return Poll::Ready(());
            }
            let mut waiting = self.waiting();
            if !waiting.iter().any(|waker| waker.will_wake(context.waker())) {
                waiting.push(context.waker().clone());
            }
            drop(waiting);
            // A notification between the first look and the registration would otherwise be missed.
            if self.is_notified() { Poll::Ready(()) } else { Poll::Pending }
        })
        .await;
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Vec<Waker>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
