//! One attempt at one run: asks the CRM, calls the handler, and says how the claim ends.
//!
//! What to do after a failure is decided by a pure function, [`RetryPolicy::next_step`].

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use futures_util::{
    FutureExt,
    future::{Either, select},
    pin_mut,
};

use crate::{
    event::{Correlation, Event, EventKey, EventType, Timestamp, TraceParent},
    pipeline::{Handler, OnAmbiguous, Pipeline},
    ports::{
        Clock, Completion, Contact, ContactQuery, CrmOutcome, Failure, FailureKind, FailureScope,
        GaveUp, Observation, Operation, Origin, Scope, Settling, Span, SpanEnd, Stage,
    },
    processing::{NextStep, RetryPolicy, retry::spread},
    store::{Attempt, AttemptOutcome, ClaimedRun, RunEnd, Settled, Settlement, WorkEnd},
};

/// What an attempt came to, for the store and for who asked for it.
pub(crate) struct Attempted {
    pub(crate) ending: Ending,
    pub(crate) result: Result<Option<Contact>, String>,
}

/// What is left to do about an attempt's claim.
pub(crate) enum Ending {
    /// To settle it.
    Unsettled(Settlement),
    /// Nothing: it was settled, with this answer. `LeaseLost`: another worker has the claim, and the attempt
    /// changed nothing.
    Settled(Settled),
}

/// A run that went well: what the CRM knew, and the answer to the settlement if the handler made it.
struct Success {
    contact: Option<Contact>,
    settled: Option<Settled>,
}

/// What an attempt has found out so far. It outlives the attempt's future, which may panic or be cut off.
#[derive(Default)]
struct Found(Mutex<Progress>);

#[derive(Default, Clone, Copy)]
struct Progress {
    correlation: Correlation,
    /// The look-up failed, and the attempt does not count: when the next one is due.
    put_off: Option<Timestamp>,
    /// How far it has come: where it failed, if it fails now.
    stage: Option<Stage>,
}

impl Found {
    fn progress(&self) -> MutexGuard<'_, Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, correlation: Correlation) {
        self.progress().correlation = correlation;
    }

    fn reached(&self, stage: Stage) {
        self.progress().stage = Some(stage);
    }

    fn put_off(&self, due: Timestamp) {
        self.progress().put_off = Some(due);
    }

    fn correlation(&self) -> Correlation {
        self.progress().correlation
    }

    fn end(&self) -> Progress {
        *self.progress()
    }
}

impl Attempted {
    /// How the span of the attempt ends.
    fn span_end(&self) -> SpanEnd {
        match &self.ending {
            Ending::Settled(Settled::LeaseLost) => SpanEnd::Failed("lease_lost"),
            Ending::Settled(_) => SpanEnd::Done("processed"),
            Ending::Unsettled(settlement) => match settlement.end() {
                WorkEnd::Run { end: RunEnd::Retry { .. }, .. } => SpanEnd::Failed("retry"),
                WorkEnd::Run { end: RunEnd::GiveUp { .. }, .. } => SpanEnd::Failed("given_up"),
                WorkEnd::Run { end: RunEnd::PutOff { .. }, .. } => SpanEnd::Failed("put_off"),
                _ => SpanEnd::Done("processed"),
            },
        }
    }
}

/// When a claim was asked for, and when it was answered.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClaimTime {
    pub(crate) asked: Timestamp,
    pub(crate) answered: Timestamp,
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
    /// Makes one attempt at the claimed run. `settling` tells whether it may have settled itself.
    pub(crate) async fn attempt(
        &self,
        work: ClaimedRun,
        claimed: ClaimTime,
        occasion: Occasion,
        clock: &dyn Clock,
        settling: &Settling,
    ) -> Attempted {
        let (key, run, number) = (&work.key, work.run, work.attempt);
        let delivery = work.event.as_ref().ok().and_then(|event| event.context().traceparent());
        let operation = Operation::Attempt { key, run, number };
        let span = self.inner.span(operation, Origin::After(delivery), Some(claimed.asked));
        let traceparent = span.as_ref().map(Span::traceparent);
        if let Some(parent) = traceparent
            && let Some(claim) =
                self.inner.span(Operation::Claim, Origin::Child(parent), Some(claimed.asked))
        {
            claim.end_at(SpanEnd::Done("claimed"), claimed.answered);
        }
        let scope = Arc::new(Scope { event_id: Some(key.id.clone()), traceparent });
        let work = self.attempt_within(traceparent, work, occasion, clock, settling);
        let attempted = scope.within(work).await;
        if let Some(span) = span {
            span.end_at(attempted.span_end(), clock.now());
        }
        attempted
    }

    async fn attempt_within(
        &self,
        span: Option<TraceParent>,
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
            let end = RunEnd::GiveUp { reason: reason.clone(), attempts };
            let settlement = claim.settle(end, None, clock.now());
            return Attempted { ending: Ending::Unsettled(settlement), result: Err(reason) };
        }
        let started_at = clock.now();
        let found = Found::default();
        let retry =
            event.as_ref().ok().and_then(|event| self.inner.handler.retry_policy(event.kind()));
        self.inner.observer.observe(&Observation::AttemptBegun { key: &key, run, number });
        let result = match event {
            Ok(event) => {
                let (token, contact, correlation) = (claim.token(), None, Correlation::NotAsked);
                let completion = Completion {
                    token,
                    run,
                    number,
                    started_at,
                    contact,
                    correlation,
                    clock,
                    settling,
                };
                self.run_within_timeout(span, event, completion, &found, clock).await
            }
            Err(reason) => {
                Err(Failure::permanent(format!("the stored event is unreadable: {reason}")))
            }
        };
        let ended_at = clock.now();
        let duration = (ended_at - started_at).to_std().unwrap_or_default();
        let Progress { correlation, put_off, stage } = found.end();
        if let (Err(failure), Some(due), Occasion::Worker) = (&result, put_off, occasion) {
            let error = failure.report();
            self.inner.observer.observe(&Observation::PutOff { key: &key, error: &error });
            let settlement = claim.settle(RunEnd::PutOff { due }, None, ended_at);
            return Attempted { ending: Ending::Unsettled(settlement), result: Err(error) };
        }

        let (end, outcome, error, stage) = match &result {
            Ok(Success { contact, settled: Some(Settled::LeaseLost) }) => {
                let ending = Ending::Settled(Settled::LeaseLost);
                return Attempted { ending, result: Ok(contact.clone()) };
            }
            Ok(Success { contact, .. }) => {
                let end = RunEnd::Processed { contact: contact.clone() };
                (end, AttemptOutcome::Succeeded, None, None)
            }
            Err(failure) => {
                let outcome = match failure.kind() {
                    FailureKind::Transient { .. } => AttemptOutcome::FailedTransient,
                    FailureKind::Permanent => AttemptOutcome::FailedPermanent,
                };
                let policy = retry.unwrap_or(self.inner.retry);
                let end = after_failure(policy, &key, run, counted, failure, occasion, ended_at);
                // Before the look-up there is only the event to be read.
                let stage = failure.stage().or(stage).unwrap_or(Stage::Store);
                (end, outcome, Some(failure.report()), Some(stage))
            }
        };
        self.inner.observer.observe(&Observation::Attempt {
            key: &key,
            run,
            number,
            outcome,
            duration,
            error: error.as_deref(),
            stage,
            gave_up: matches!(end, RunEnd::GiveUp { .. }).then(|| why_given_up(occasion, outcome)),
        });
        let is_over = !matches!(end, RunEnd::Retry { .. });
        if is_over {
            self.inner.observer.observe(&Observation::Correlated { key: &key, correlation });
        }
        let ending = if let Ok(Success { settled: Some(answer), .. }) = &result {
            Ending::Settled(*answer)
        } else {
            let attempt = Attempt { number, run, started_at, duration, outcome, error };
            let settlement = claim.settle(end, Some(attempt), ended_at);
            Ending::Unsettled(if is_over { settlement.correlated(correlation) } else { settlement })
        };
        let result = result.map(|success| success.contact).map_err(|failure| failure.report());
        Attempted { ending, result }
    }

    async fn run_within_timeout(
        &self,
        span: Option<TraceParent>,
        event: Event,
        completion: Completion<'_>,
        found: &Found,
        clock: &dyn Clock,
    ) -> Result<Success, Failure> {
        let timeout = self.inner.attempt_timeout;
        // A panic, in the CRM client or in the handler, is that event's failure alone.
        let run = AssertUnwindSafe(self.run(span, event, completion, found, clock)).catch_unwind();
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
        span: Option<TraceParent>,
        event: Event,
        mut completion: Completion<'_>,
        found: &Found,
        clock: &dyn Clock,
    ) -> Result<Success, Failure> {
        let number = completion.number;
        let contact = match event.contact_key() {
            Some(contact_key) => {
                let look_up = self.inner.span_within(span, Operation::CrmLookUp);
                let query = ContactQuery {
                    contact_key: contact_key.to_owned(),
                    idempotency_key: event.idempotency_key(),
                    fresh: event.kind() == &EventType::ProfileUpdated || event.run() > 1,
                    traceparent: look_up.as_ref().map(Span::traceparent),
                };
                let contact = self.correlate(&query, found, clock).await;
                if let Some(look_up) = look_up {
                    let outcome = found.correlation().as_str();
                    look_up.end(match contact {
                        Ok(_) => SpanEnd::Done(outcome),
                        Err(_) => SpanEnd::Failed(outcome),
                    });
                }
                contact?
            }
            None => {
                if let Some(breaker) = &self.inner.breaker {
                    breaker.not_asked(clock.now());
                }
                None
            }
        };
        found.reached(Stage::Handler);
        let correlation = found.correlation();
        let mut event = event.at_attempt(number, correlation);
        let span = self.inner.span_within(span, Operation::Handler);
        if let Some(span) = &span {
            event = event.with_traceparent(span.traceparent());
        }
        let event = Arc::new(event);
        let settled = match &self.inner.handler {
            Handler::Plain(handler) => handler.handle(event, contact.clone()).await.map(|()| None),
            Handler::Settling(handler) => {
                completion.contact.clone_from(&contact);
                completion.correlation = correlation;
                handler.handle(event, contact.clone(), completion).await.map(Some)
            }
        };
        if let Some(span) = span {
            span.end(match &settled {
                Ok(_) => SpanEnd::Done("handled"),
                Err(failure) if failure.kind() == FailureKind::Permanent => {
                    SpanEnd::Failed("permanent")
                }
                Err(_) => SpanEnd::Failed("transient"),
            });
        }
        Ok(Success { contact, settled: settled? })
    }

    /// Asks the CRM, and decides what its answer means for the event.
    async fn correlate(
        &self,
        query: &ContactQuery,
        found: &Found,
        clock: &dyn Clock,
    ) -> Result<Option<Contact>, Failure> {
        // Until there is an answer: the attempt may also be cut off.
        found.set(Correlation::Failed);
        found.reached(Stage::Crm);
        let answer = self.find_contact(query, clock).await;
        self.tell_breaker(&answer, found, clock.now());
        let (correlation, contact) = of_answer(answer, self.inner.on_ambiguous);
        found.set(correlation);
        contact
    }

    /// Opens the breaker, or closes it, by how a look-up ended.
    fn tell_breaker(
        &self,
        answer: &Result<Option<Contact>, Failure>,
        found: &Found,
        now: Timestamp,
    ) {
        let Some(breaker) = &self.inner.breaker else { return };
        let observer = &self.inner.observer;
        let failure = answer.as_ref().err();
        let transient = failure.and_then(|failure| match failure.kind() {
            FailureKind::Transient { retry_after } => Some((failure, retry_after)),
            FailureKind::Permanent => None,
        });
        if let Some((failure, retry_after)) = transient {
            let of_service = *failure.scope() == FailureScope::Service;
            let tripped = breaker.failed(now, of_service, retry_after);
            if !tripped.counts {
                found.put_off(tripped.next_probe);
            }
            if tripped.opened {
                let error = &*failure.report();
                observer.observe(&Observation::Breaker { open: true, error: Some(error) });
            }
        } else if breaker.answered() {
            // Whatever the CRM said, it is there.
            observer.observe(&Observation::Breaker { open: false, error: None });
        }
    }

    pub(crate) async fn find_contact(
        &self,
        query: &ContactQuery,
        clock: &dyn Clock,
    ) -> Result<Option<Contact>, Failure> {
        let started_at = clock.now();
        let answer = self.inner.crm.find_contact(query).await;
        let outcome = match &answer {
            Ok(Some(_)) => CrmOutcome::Found,
            Ok(None) => CrmOutcome::NotFound,
            Err(failure) if matches!(failure.scope(), FailureScope::Ambiguous { .. }) => {
                CrmOutcome::Ambiguous
            }
            Err(failure) if failure.kind() == FailureKind::Permanent => CrmOutcome::Permanent,
            Err(_) => CrmOutcome::Transient,
        };
        let duration = (clock.now() - started_at).to_std().unwrap_or_default();
        self.inner.observer.observe(&Observation::CrmRequest { outcome, duration });
        answer
    }
}

/// What follows attempt `number` that failed, by `policy`.
fn after_failure(
    policy: RetryPolicy,
    key: &EventKey,
    run: u32,
    number: u32,
    failure: &Failure,
    occasion: Occasion,
    now: Timestamp,
) -> RunEnd {
    let report = failure.report();
    if occasion == Occasion::Replay {
        return RunEnd::GiveUp { reason: format!("Replay failed: {report}"), attempts: number };
    }
    match policy.next_step(number, failure, spread(&(key, run, number))) {
        NextStep::RetryIn(delay) => RunEnd::Retry { due: now + delay },
        NextStep::GiveUp => {
            let plural = if number == 1 { "" } else { "s" };
            let reason = format!("gave up after {number} attempt{plural}: {report}");
            RunEnd::GiveUp { reason, attempts: number }
        }
    }
}

/// Why a run was given up after an attempt that failed so.
fn why_given_up(occasion: Occasion, outcome: AttemptOutcome) -> GaveUp {
    match (occasion, outcome) {
        (Occasion::Replay, _) => GaveUp::Replay,
        (Occasion::Worker, AttemptOutcome::FailedPermanent) => GaveUp::Permanent,
        (Occasion::Worker, _) => GaveUp::Attempts,
    }
}

/// What the CRM's answer means for an event: what asking came to, and the contact or the failure.
pub(crate) fn of_answer(
    answer: Result<Option<Contact>, Failure>,
    on_ambiguous: OnAmbiguous,
) -> (Correlation, Result<Option<Contact>, Failure>) {
    match answer {
        Ok(Some(contact)) => (Correlation::Matched, Ok(Some(contact))),
        Ok(None) => (Correlation::None, Ok(None)),
        Err(failure) => match failure.scope() {
            FailureScope::Ambiguous { first } => {
                let contact = match on_ambiguous {
                    OnAmbiguous::NoContact => Ok(None),
                    OnAmbiguous::First => Ok(first.clone()),
                    OnAmbiguous::DeadLetter => Err(failure),
                };
                (Correlation::Ambiguous, contact)
            }
            _ => (Correlation::Failed, Err(failure)),
        },
    }
}
