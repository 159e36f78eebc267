//! Calls to the store: how long one is waited for, and when the next of its kind may go out.

use std::{future::Future, time::Duration};

use futures_util::{
    future::{Either, select},
    pin_mut,
};

use crate::{
    event::Timestamp,
    ports::{Clock, StoreError, StoreErrorKind},
};

/// The first wait after a failed store call; doubles up to [`MAX_STORE_BACKOFF`].
const MIN_STORE_BACKOFF: Duration = Duration::from_millis(100);
/// A store that comes back is noticed within this time.
const MAX_STORE_BACKOFF: Duration = Duration::from_secs(5);

/// A kind of store call: one at a time, and after an error not again before a while.
#[derive(Default)]
pub(super) struct StoreCall {
    pub(super) under_way: bool,
    failures: u32,
    pub(super) not_before: Option<Timestamp>,
}

impl StoreCall {
    pub(super) fn may_start(&self, now: Timestamp) -> bool {
        !self.under_way && self.not_before.is_none_or(|time| time <= now)
    }

    pub(super) fn ended(&mut self, succeeded: bool, now: Timestamp) {
        self.under_way = false;
        if succeeded {
            self.failures = 0;
            self.not_before = None;
        } else {
            let wait = MIN_STORE_BACKOFF.saturating_mul(1 << self.failures.min(16));
            self.failures = self.failures.saturating_add(1);
            self.not_before = Some(now + wait.min(MAX_STORE_BACKOFF));
        }
    }
}

/// What `call` to the store answers, or an error at `deadline`: a call that hangs must not hang its
/// caller. As after any other error the effect is unknown, and every call is safe to repeat.
pub(crate) async fn answered_by<T>(
    deadline: Timestamp,
    clock: &dyn Clock,
    call: impl Future<Output = Result<T, StoreError>>,
) -> Result<T, StoreError> {
    pin_mut!(call);
    match select(call, clock.sleep_until(deadline)).await {
        Either::Left((answer, _)) => answer,
        Either::Right(_) => Err(StoreError::new(StoreErrorKind::Unavailable, "it did not answer")),
    }
}
