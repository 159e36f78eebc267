//! The pipeline: everything an event needs on its way, and one attempt at one run.
//!
//! What to do is decided in pure functions ([`RetryPolicy`], [`State`](crate::State)); this module
//! acts: it asks the CRM, calls the handler, and turns what came of it into a [`Settlement`].

use std::{
    fmt,
    hash::{DefaultHasher, Hash, Hasher},
    panic::AssertUnwindSafe,
    sync::Arc,
    time::Duration,
};

use futures_util::{
    FutureExt,
    future::{Either, select},
    pin_mut,
};

use crate::{
    Attempt, AttemptOutcome, ClaimedDeadLetter, ClaimedRun, Clock, Completion, Contact,
    ContactQuery, CrmClient, CrmOutcome, DeadLetterSink, Event, EventHandler, EventKey, EventType,
    Failure, FailureKind, NeedsStore, NextStep, Observation, Observer, QuarantineLimits,
    RetryPolicy, Settled, Settlement, SettlingHandler, Source, Store, StoreError, StoreErrorKind,
    Timestamp, Verdict, bell::Bell, error, settling::Settling,
};

/// How long a claim lives without renewal: long enough for a slow disk or a paused virtual machine,
/// short enough that a crashed worker's events are soon taken over.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(60);

/// How long one attempt may take: twelve times the default CRM timeout leaves a handler room, and
/// a handler that hangs still gives its slot back.
pub const DEFAULT_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(120);

/// How many leases a run may lose before its event is given up: an event that kills the process that
/// works on it must not go on for ever, and ten crashes within one run are hardly anything else.
pub const DEFAULT_MAX_LOST_LEASES: u32 = 10;

/// Receives, stores, processes and replays events. Cheap to clone; all clones are one pipeline.
#[derive(Clone)]
pub struct Pipeline {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) source: Source,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) crm: Arc<dyn CrmClient>,
    pub(crate) handler: Handler,
    pub(crate) sink: Arc<dyn DeadLetterSink>,
    pub(crate) observer: Arc<dyn Observer>,
    pub(crate) retry: RetryPolicy,
    pub(crate) sink_retry: RetryPolicy,
    pub(crate) max_body_bytes: usize,
    pub(crate) quarantine_limits: QuarantineLimits,
    pub(crate) max_lost_leases: u32,
    pub(crate) lease: Duration,
    pub(crate) attempt_timeout: Duration,
    /// Rings when this process records or requeues an event. A hint: polling would find it too.
    pub(crate) new_work: Bell,
}

impl Inner {
    /// How much of a lease its holder makes use of. The last twentieth belongs to nobody: timers
    /// are late and clocks differ a little, and by the time the store grants the work to someone
    /// else, the holder must have stopped.
    pub(crate) fn usable_lease(&self) -> Duration {
        self.lease - self.lease / 20
    }
}

/// The user's business logic.
pub(crate) enum Handler {
    /// The worker settles what it has done.
    Plain(Arc<dyn EventHandler>),
    /// It settles what it has done.
    Settling(Arc<dyn SettlingHandler>),
}

/// What an attempt came to, for the store and for who asked for it.
pub(crate) struct Attempted {
    pub(crate) ending: Ending,
    pub(crate) result: Result<Option<Contact>, String>,
}

/// What is left to do about an attempt's claim.
pub(crate) enum Ending {
    /// To settle it.
    Unsettled(Settlement),
    /// Nothing: it was settled, with this answer. `LeaseLost`: somebody else has it, and the attempt
    /// changed nothing.
    Settled(Settled),
}

/// A run that went well: what the CRM knew, and the answer to the settlement if the handler made it.
struct Success {
    contact: Option<Contact>,
    settled: Option<Settled>,
}

/// Who an attempt is made for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// A worker: failures are retried as the policy says.
    Worker,
    /// An operator who waits for the answer: one attempt, then a dead letter.
    Replay,
}

impl Pipeline {
    /// Starts a pipeline for deliveries from `source`: a [`Source`], or just a
    /// [`SignatureVerifier`](crate::SignatureVerifier) for the default one. Pipelines for different
    /// sources may share a store: each has workers of its own, which claim its source's work only.
    pub fn builder(source: impl Into<Source>) -> NeedsStore {
        NeedsStore::new(source.into())
    }

    /// The store, for reading what is in it.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    /// The source of its deliveries.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.inner.source
    }

    /// Makes one attempt at the claimed run. `settling` tells whether it may have settled itself.
    pub(crate) async fn attempt(
        &self,
        work: ClaimedRun,
        occasion: Occasion,
        clock: &dyn Clock,
        settling: &Settling,
    ) -> Attempted {
        let ClaimedRun { claim, key, run, attempt: number, lost, took_over, event } = work;
        // Lost attempts are not the event's failures: their workers had ended or stood still.
        let counted = number.saturating_sub(lost);
        let gives_up = lost >= self.inner.max_lost_leases;
        if took_over {
            self.inner.observer.observe(&Observation::LeaseExpired {
                key: &key,
                run,
                lost,
                gave_up: gives_up,
            });
        }
        if gives_up {
            // An event that kills the process that works on it must not go on.
            let times = if lost == 1 { "once".to_owned() } else { format!("{lost} times") };
            let reason =
                format!("gave up: the lease on it was lost {times}, its workers had ended");
            let attempts = counted.saturating_sub(1);
            let verdict = Verdict::GiveUp { reason: reason.clone(), attempts };
            let settlement = claim.settle(verdict, None, clock.now());
            return Attempted { ending: Ending::Unsettled(settlement), result: Err(reason) };
        }
        let started_at = clock.now();
        let result = match event {
            Ok(event) => {
                let (token, contact) = (claim.token(), None);
                let completion =
                    Completion { token, run, number, started_at, contact, clock, settling };
                self.run_within_timeout(event, completion, clock).await
            }
            Err(reason) => {
                Err(Failure::permanent(format!("the stored event is unreadable: {reason}")))
            }
        };
        let ended_at = clock.now();
        let duration = (ended_at - started_at).to_std().unwrap_or_default();

        let (verdict, outcome, error) = match &result {
            Ok(Success { contact, settled: Some(Settled::LeaseLost) }) => {
                let ending = Ending::Settled(Settled::LeaseLost);
                return Attempted { ending, result: Ok(contact.clone()) };
            }
            Ok(Success { contact, .. }) => {
                (Verdict::Processed { contact: contact.clone() }, AttemptOutcome::Succeeded, None)
            }
            Err(failure) => {
                let outcome = match failure.kind() {
                    FailureKind::Transient { .. } => AttemptOutcome::FailedTransient,
                    FailureKind::Permanent => AttemptOutcome::FailedPermanent,
                };
                let verdict = self.after_failure(&key, run, counted, failure, occasion, ended_at);
                (verdict, outcome, Some(failure.report()))
            }
        };
        self.inner.observer.observe(&Observation::Attempt {
            key: &key,
            run,
            number,
            outcome,
            duration,
            error: error.as_deref(),
            gave_up: matches!(verdict, Verdict::GiveUp { .. }),
        });
        let ending = if let Ok(Success { settled: Some(answer), .. }) = &result {
            Ending::Settled(*answer)
        } else {
            let attempt = Attempt { number, run, started_at, duration, outcome, error };
            Ending::Unsettled(claim.settle(verdict, Some(attempt), ended_at))
        };
        let result = result.map(|success| success.contact).map_err(|failure| failure.report());
        Attempted { ending, result }
    }

    fn after_failure(
        &self,
        key: &EventKey,
        run: u32,
        number: u32,
        failure: &Failure,
        occasion: Occasion,
        now: Timestamp,
    ) -> Verdict {
        let report = failure.report();
        if occasion == Occasion::Replay {
            return Verdict::GiveUp {
                reason: format!("Replay failed: {report}"),
                attempts: number,
            };
        }
        match self.inner.retry.next_step(number, failure, spread(&(key, run, number))) {
            NextStep::RetryIn(delay) => Verdict::Retry { due: now + delay },
            NextStep::GiveUp => {
                let plural = if number == 1 { "" } else { "s" };
                let reason = format!("gave up after {number} attempt{plural}: {report}");
                Verdict::GiveUp { reason, attempts: number }
            }
        }
    }

    async fn run_within_timeout(
        &self,
        event: Event,
        completion: Completion<'_>,
        clock: &dyn Clock,
    ) -> Result<Success, Failure> {
        let timeout = self.inner.attempt_timeout;
        // A panic, in the CRM client or in the handler, is that event's failure alone.
        let run = AssertUnwindSafe(self.run(event, completion, clock)).catch_unwind();
        pin_mut!(run);
        match select(run, clock.sleep_until(clock.now() + timeout)).await {
            Either::Left((Ok(result), _)) => result,
            Either::Left((Err(_panic), _)) => Err(Failure::transient("the attempt panicked")),
            Either::Right(_) => {
                Err(Failure::transient(format!("the attempt took longer than {timeout:?}")))
            }
        }
    }

    /// The run itself: who is it, and what is to be done?
    async fn run(
        &self,
        event: Event,
        mut completion: Completion<'_>,
        clock: &dyn Clock,
    ) -> Result<Success, Failure> {
        let contact = match event.contact_key() {
            Some(contact_key) => {
                let query = ContactQuery {
                    contact_key: contact_key.to_owned(),
                    idempotency_key: event.idempotency_key(),
                    fresh: event.kind() == &EventType::ProfileUpdated || event.run() > 1,
                };
                self.find_contact(&query, clock).await?
            }
            None => None,
        };
        let settled = match &self.inner.handler {
            Handler::Plain(handler) => {
                handler.handle(Arc::new(event), contact.clone()).await?;
                None
            }
            Handler::Settling(handler) => {
                completion.contact.clone_from(&contact);
                Some(handler.handle(Arc::new(event), contact.clone(), completion).await?)
            }
        };
        Ok(Success { contact, settled })
    }

    async fn find_contact(
        &self,
        query: &ContactQuery,
        clock: &dyn Clock,
    ) -> Result<Option<Contact>, Failure> {
        let started_at = clock.now();
        let answer = self.inner.crm.find_contact(query).await;
        let outcome = match &answer {
            Ok(Some(_)) => CrmOutcome::Found,
            Ok(None) => CrmOutcome::NotFound,
            Err(failure) if failure.kind() == FailureKind::Permanent => CrmOutcome::Permanent,
            Err(_) => CrmOutcome::Transient,
        };
        let duration = (clock.now() - started_at).to_std().unwrap_or_default();
        self.inner.observer.observe(&Observation::CrmRequest { outcome, duration });
        answer
    }

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
                let verdict = match answer {
                    Ok(()) => {
                        self.inner.observer.observe(&match self.inner.sink.keeps_in_store() {
                            true => Observation::DeadLetterKept { key },
                            false => Observation::DeadLetterSent { key },
                        });
                        Verdict::DeadLetterSent
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
                        Verdict::DeadLetterRetry { due: now + delay }
                    }
                };
                work.claim.settle(verdict, None, now)
            })
            .collect()
    }

    pub(crate) fn report_store_error(&self, operation: &'static str, error: &StoreError) {
        let error = &error::report(error);
        self.inner.observer.observe(&Observation::StoreError { operation, error });
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline").field("source", &self.inner.source).finish_non_exhaustive()
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

/// A number from `[0, 1)` that differs from event to event and attempt to attempt. Jitter only has
/// to spread retries; a hash does that without a random generator, and the same each time it is
/// asked, which makes a simulated run repeatable.
fn spread(seed: &impl Hash) -> f64 {
    let mut hasher = DefaultHasher::new();
    seed.hash(&mut hasher);
    // 53 bits are what a double holds exactly.
    #[allow(clippy::cast_precision_loss)]
    let fraction = (hasher.finish() >> 11) as f64 / (1_u64 << 53) as f64;
    fraction
}

#[cfg(test)]
mod tests {
    use super::spread;

    #[test]
    fn spread_covers_the_unit_interval() {
        let numbers: Vec<f64> = (0..1000).map(|n: u32| spread(&n)).collect();
        assert!(numbers.iter().all(|number| (0.0..1.0).contains(number)));
        for tenth in 0..10 {
            let low = f64::from(tenth) / 10.0;
            let inside = numbers.iter().filter(|n| (low..low + 0.1).contains(*n)).count();
            assert!((50..200).contains(&inside), "{inside} of 1000 in the tenth from {low}");
        }
    }
}
