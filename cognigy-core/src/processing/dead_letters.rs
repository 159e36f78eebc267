//! Handing dead letters from the outbox to the sink.

use std::{panic::AssertUnwindSafe, sync::Arc};

use futures_util::{
    FutureExt,
    future::{Either, select},
    pin_mut,
};

use crate::{
    pipeline::Pipeline,
    ports::{
        Clock, DeadLetter, Failure, FailureKind, Observation, Operation, Origin, Scope, Span,
        SpanEnd,
    },
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
        let mut letters: Vec<_> = batch.iter().map(|work| work.dead_letter.clone()).collect();
        let spans: Vec<Option<Span>> = letters.iter_mut().map(|it| self.follow(it)).collect();
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
            .zip(spans)
            .map(|(work, span)| {
                let key = &work.dead_letter.key;
                let traceparent = span.as_ref().map(Span::traceparent);
                let scope = Scope { event_id: Some(key.id.clone()), traceparent };
                let observe =
                    |it: &Observation<'_>| Arc::new(scope).run(|| self.inner.observer.observe(it));
                let answer = answers.next().unwrap_or_else(|| Err(Failure::transient(unanswered)));
                let end = match answer {
                    Ok(()) => {
                        let (observation, outcome) = match self.inner.sink.keeps_in_store() {
                            true => (Observation::DeadLetterKept { key }, "kept"),
                            false => (Observation::DeadLetterSent { key }, "sent"),
                        };
                        observe(&observation);
                        end(span, SpanEnd::Done(outcome));
                        DeadLetterEnd::Sent
                    }
                    Err(failure) => {
                        let error = &failure.report();
                        observe(&Observation::DeadLetterFailed { key, error });
                        end(span, SpanEnd::Failed("not_sent"));
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

    /// Begins the span of a dead letter, which it carries from now on.
    fn follow(&self, letter: &mut DeadLetter) -> Option<Span> {
        let operation = Operation::DeadLetter { key: &letter.key, run: letter.run };
        let origin = Origin::After(letter.context.traceparent());
        let span = self.inner.span(operation, origin, None)?;
        letter.context = letter.context.with_traceparent(span.traceparent());
        Some(span)
    }
}

fn end(span: Option<Span>, end: SpanEnd) {
    if let Some(span) = span {
        span.end(end);
    }
}
