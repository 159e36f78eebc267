//! Handing dead letters from the outbox to the sink.

use std::panic::AssertUnwindSafe;

use futures_util::{
    FutureExt,
    future::{Either, select},
    pin_mut,
};

use crate::{
    pipeline::Pipeline,
    ports::{Clock, Failure, FailureKind, Observation},
    processing::retry::spread,
    store::{ClaimedDeadLetter, DeadLetterEnd, Settlement},
};

impl Pipeline {
    /// Hands a batch of dead letters to the sink and turns its answers into settlements.
    pub(crate) async fn send_dead_letters(
        &self,
        batch: Vec<ClaimedDeadLetter>,
        clock: &dyn Clock,
    ) -> Vec<Settlement> {
        let letters: Vec<_> = batch.iter().map(|work| work.dead_letter.clone()).collect();
        let send = AssertUnwindSafe(self.inner.sink.send(&letters)).catch_unwind();
        pin_mut!(send);
        let timeout = clock.sleep_until(clock.now() + self.inner.attempt_timeout);
        let (answers, unanswered) = match select(send, timeout).await {
            Either::Left((Ok(answers), _)) => (answers, "the sink gave no answer for this entry"),
            Either::Left((Err(_panic), _)) => (Vec::new(), "the sink panicked"),
            Either::Right(_) => (Vec::new(), "the sink took too long"),
        };
        let mut answers = answers.into_iter();
        let now = clock.now();
        batch
            .into_iter()
            .map(|work| {
                let key = &work.dead_letter.key;
                let answer = answers.next().unwrap_or_else(|| Err(Failure::transient(unanswered)));
                let end = match answer {
                    Ok(()) => {
                        self.inner.observer.observe(&match self.inner.sink.keeps_in_store() {
                            true => Observation::DeadLetterKept { key },
                            false => Observation::DeadLetterSent { key },
                        });
                        DeadLetterEnd::Sent
                    }
                    Err(failure) => {
                        let error = &failure.report();
                        self.inner.observer.observe(&Observation::DeadLetterFailed { key, error });
                        let retry_after = match failure.kind() {
                            FailureKind::Transient { retry_after } => retry_after,
                            // Permanent as things stand; someone may still mend the queue.
                            FailureKind::Permanent => None,
                        };
                        let random = spread(&(key, work.attempt));
                        let delay = self.inner.sink_retry.delay(work.attempt, retry_after, random);
                        DeadLetterEnd::Retry { due: now + delay }
                    }
                };
                work.claim.settle(end, now)
            })
            .collect()
    }
}
