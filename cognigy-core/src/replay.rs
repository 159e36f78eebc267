//! Running again: one stored event now, or a quarantined body.

use futures_util::{
    future::{Either, select},
    pin_mut,
};

use crate::{
    ClaimToken, Clock, Contact, EventKey, IncomingEvent, InvalidEvent, Observation, Pipeline,
    QuarantineReason, ReplayClaim, Requeued, Settled, Settlement, StoreError, StoreErrorKind,
    Timestamp, Verdict, VerifiedDelivery,
    ingest::Comparison,
    pipeline::{Ending, Occasion, answered_by},
    settling::Settling,
};

/// What came of a replay.
#[derive(Debug)]
pub enum ReplayOutcome {
    /// The run succeeded; the contact as the CRM knows it now.
    Replayed(Option<Contact>),
    /// The run failed and left a dead letter; why.
    Failed(String),
    /// Nothing is stored under that key.
    NotFound,
    /// Another run holds the event, or took it over meanwhile, or an unfinished event of the same
    /// contact comes first.
    Busy,
    /// It was stopped; the event was given back and is due, the attempt does not count.
    Stopped,
}

/// A replay whose outcome could not be stored. Its lease runs out and a worker repeats the run.
#[derive(Debug, thiserror::Error)]
#[error("the outcome of the replay could not be stored")]
pub struct ReplayError(#[from] StoreError);

/// What came of trying a quarantined body again.
#[derive(Debug)]
pub enum QuarantineRetry {
    /// It is an event now, stored and due; out of quarantine.
    Accepted(EventKey),
    /// It says the same as a stored event; out of quarantine.
    Duplicate(EventKey),
    /// Still not valid; stays.
    Invalid(InvalidEvent),
    /// Its id is known with other content; stays.
    Conflict(EventKey),
    /// There is no such item.
    NotFound,
}

impl Pipeline {
    /// Runs a stored event once, now, whatever became of it before, and waits for the outcome.
    ///
    /// The run has an identity of its own ([`Event::run`](crate::Event::run)). If it fails, it
    /// leaves a dead letter "Replay failed: …" and is not retried.
    ///
    /// # Errors
    ///
    /// The store cannot answer, or the outcome cannot be stored.
    pub async fn replay(
        &self,
        key: &EventKey,
        clock: &dyn Clock,
    ) -> Result<ReplayOutcome, ReplayError> {
        self.replay_until(key, clock, std::future::pending()).await
    }

    /// The same, unless `stop` resolves before the run has ended: then the run is broken off and its
    /// event given back to the workers, so that no lease holds it.
    ///
    /// # Errors
    ///
    /// As [`replay`](Self::replay).
    pub async fn replay_until(
        &self,
        key: &EventKey,
        clock: &dyn Clock,
        stop: impl Future<Output = ()>,
    ) -> Result<ReplayOutcome, ReplayError> {
        let lease = self.inner.lease;
        // Leases count from when the store was asked, not from when it answered.
        let leased_until = clock.now() + self.inner.usable_lease();
        let work = match self.inner.store.replay(key, lease, clock.now()).await? {
            ReplayClaim::Claimed(work) => *work,
            ReplayClaim::NotFound => return Ok(ReplayOutcome::NotFound),
            ReplayClaim::Busy => return Ok(ReplayOutcome::Busy),
        };
        let token = work.claim.token();
        let lost = self.lease_lost(token, leased_until, clock);
        let settling = Settling::default();
        let attempt = self.attempt(work, Occasion::Replay, clock, &settling);
        pin_mut!(lost, attempt, stop);
        let ended = match select(stop, select(lost, attempt)).await {
            Either::Left(((), run)) if settling.has_begun() => run.await,
            Either::Left(..) => return self.give_back(token, clock).await,
            Either::Right((ended, _)) => ended,
        };
        let attempted = match ended {
            Either::Right((attempted, _)) => attempted,
            // The claim is gone because the attempt has settled it, or else it will be told so.
            Either::Left((None, attempt)) if settling.has_begun() => attempt.await,
            Either::Left((reason, _)) => {
                self.inner.observer.observe(&Observation::LeaseLost);
                return reason.map_or(Ok(ReplayOutcome::Busy), |error| Err(error.into()));
            }
        };
        let answer = match attempted.ending {
            Ending::Unsettled(settlement) => {
                self.inner.store.settle(&[settlement]).await?.first().copied()
            }
            Ending::Settled(answer) => Some(answer),
        };
        match answer {
            Some(Settled::LeaseLost) => {
                self.inner.observer.observe(&Observation::LeaseLost);
                return Ok(ReplayOutcome::Busy);
            }
            Some(Settled::MadeWay) => self.inner.new_work.ring(),
            Some(Settled::Done) | None => {}
        }
        Ok(match attempted.result {
            Ok(contact) => ReplayOutcome::Replayed(contact),
            Err(reason) => {
                // The dead letter waits in the outbox.
                self.inner.new_work.ring();
                ReplayOutcome::Failed(reason)
            }
        })
    }

    /// Gives back what was claimed for a replay.
    async fn give_back(
        &self,
        token: ClaimToken,
        clock: &dyn Clock,
    ) -> Result<ReplayOutcome, ReplayError> {
        let (verdict, at) = (Verdict::Release, clock.now());
        let settlement = Settlement { token, verdict, attempt: None, at };
        let answers = self.inner.store.settle(&[settlement]).await?;
        if answers.contains(&Settled::LeaseLost) {
            self.inner.observer.observe(&Observation::LeaseLost);
            return Ok(ReplayOutcome::Busy);
        }
        self.inner.new_work.ring();
        Ok(ReplayOutcome::Stopped)
    }

    /// Renews a lease until it is lost all the same: taken over by someone else (`None`), or run
    /// out because the store could not be asked in time.
    async fn lease_lost(
        &self,
        token: ClaimToken,
        mut leased_until: Timestamp,
        clock: &dyn Clock,
    ) -> Option<StoreError> {
        let lease = self.inner.lease;
        let mut error = None;
        loop {
            // After a failure there may be time for a few more tries.
            let wait = if error.is_some() { lease / 12 } else { lease / 3 };
            clock.sleep_until(leased_until.min(clock.now() + wait)).await;
            let now = clock.now();
            if now >= leased_until {
                let late = "the lease ran out before it could be renewed";
                let late = || StoreError::new(StoreErrorKind::Unavailable, late);
                return Some(error.unwrap_or_else(late));
            }
            let tokens = [token];
            let renewal = self.inner.store.renew(&tokens, lease, now);
            let deadline = leased_until.min(now + lease / 3);
            match answered_by(deadline, clock, renewal).await {
                Ok(answers) if answers.contains(&Settled::LeaseLost) => return None,
                Ok(_) => {
                    leased_until = now + self.inner.usable_lease();
                    error = None;
                }
                Err(failed) => {
                    self.report_store_error("renew", &failed);
                    error = Some(failed);
                }
            }
        }
    }

    /// Has the workers run stored events again, each with the full number of attempts.
    pub async fn requeue(
        &self,
        keys: &[EventKey],
        now: Timestamp,
    ) -> Result<Vec<Requeued>, StoreError> {
        let answers = self.inner.store.requeue(keys, now).await?;
        self.inner.new_work.ring();
        Ok(answers)
    }

    /// Parses a quarantined body again and takes it in if it is valid now.
    pub async fn retry_quarantined(
        &self,
        id: i64,
        now: Timestamp,
    ) -> Result<QuarantineRetry, StoreError> {
        let Some(item) = self.inner.store.quarantined_item(id).await? else {
            return Ok(QuarantineRetry::NotFound);
        };
        if item.source != self.inner.source.name {
            return Ok(QuarantineRetry::NotFound);
        }
        let delivery = VerifiedDelivery::verified_earlier(item.source, item.body);
        let event = match IncomingEvent::read(&delivery, &*self.inner.source.format) {
            Ok(event) => event,
            Err(invalid) => return Ok(QuarantineRetry::Invalid(invalid)),
        };
        let key = event.key.clone();
        let outcome = match self.record_and_compare(event, now).await? {
            Comparison::New => QuarantineRetry::Accepted(key),
            Comparison::Same => QuarantineRetry::Duplicate(key),
            Comparison::Other { key, body } => {
                if item.reason == QuarantineReason::Invalid {
                    // It became valid, and turned out to contradict a stored event.
                    self.quarantine_conflict(&key, body, now).await?;
                    self.inner.store.discharge(id).await?;
                }
                return Ok(QuarantineRetry::Conflict(key));
            }
        };
        self.inner.store.discharge(id).await?;
        Ok(outcome)
    }
}
