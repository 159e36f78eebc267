//! Running a stored event again: one at once, or many by the workers.

use futures_util::{
    future::{Either, select},
    pin_mut,
};

use crate::{
    event::{EventKey, Timestamp},
    pipeline::Pipeline,
    ports::{Clock, Contact, Observation, Settling, StoreError, StoreErrorKind},
    processing::{ClaimTime, Ending, Occasion, answered_by},
    store::{ClaimToken, ReplayClaim, Requeued, RunEnd, Settled, Settlement},
};

/// What came of a replay.
///
/// ```
/// use cognigy_core::{ReplayOutcome, State, testing::{CrmAnswer, World}};
///
/// let mut world = World::start(cognigy_core::NoHandler);
/// world.crm.set_default(CrmAnswer::Permanent("no such field".into()));
/// world.deliver("e1");
/// world.pass(std::time::Duration::from_secs(1));
/// assert_eq!(world.state("e1"), State::DeadLettered);
///
/// // The field is there now.
/// world.crm.set_default(CrmAnswer::Found(r#"{"name":"Ada"}"#.into()));
/// assert!(matches!(world.replay("e1"), ReplayOutcome::Replayed(Some(_))));
/// assert_eq!(world.state("e1"), State::Processed);
/// ```
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
    /// The event's body was forgotten: there is nothing to run.
    Forgotten,
    /// It was stopped; the event was given back and is due, the attempt does not count.
    Stopped,
}

impl ReplayOutcome {
    /// The name in logs and metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Replayed(_) => "replayed",
            Self::Failed(_) => "failed",
            Self::NotFound => "not_found",
            Self::Busy => "busy",
            Self::Forgotten => "forgotten",
            Self::Stopped => "stopped",
        }
    }
}

/// A replay whose outcome could not be stored. Its lease runs out and a worker repeats the run.
#[derive(Debug, thiserror::Error)]
#[error("the outcome of the replay could not be stored")]
pub struct ReplayError(#[from] StoreError);

impl Pipeline {
    /// Runs a stored event once, now, whatever became of it before, and waits for the outcome.
    ///
    /// The run has an identity of its own ([`Event::run`](crate::Event::run)). If it fails, it
    /// leaves a dead letter "Replay failed: …" and is not retried.
    ///
    /// # Errors
    ///
    /// The store cannot answer, or the outcome cannot be stored.
    ///
    /// ```
    /// use cognigy_core::{ReplayOutcome, testing::{World, sample}};
    ///
    /// # fn main() -> Result<(), cognigy_core::ReplayError> {
    /// let world = World::new();
    /// world.deliver("e1");
    /// let key = sample::key("e1");
    /// let replay = world.pipeline.replay(&key, &world.clock);
    /// match futures_executor::block_on(replay)? {
    ///     ReplayOutcome::Replayed(contact) => assert!(contact.is_some()),
    ///     other => panic!("{}", other.as_str()),
    /// }
    /// # Ok(())
    /// # }
    /// ```
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
        let ended = self.run_again(key, clock, stop).await;
        let outcome = ended.as_ref().map_or("error", ReplayOutcome::as_str);
        self.inner.observer.observe(&Observation::Replay { key, outcome });
        ended
    }

    async fn run_again(
        &self,
        key: &EventKey,
        clock: &dyn Clock,
        stop: impl Future<Output = ()>,
    ) -> Result<ReplayOutcome, ReplayError> {
        let lease = self.inner.lease;
        // Leases count from when the store was asked, not from when it answered.
        let asked = clock.now();
        let leased_until = asked + self.inner.usable_lease();
        let work = match self.inner.store.replay(key, lease, asked).await? {
            ReplayClaim::Claimed(work) => *work,
            ReplayClaim::NotFound => return Ok(ReplayOutcome::NotFound),
            ReplayClaim::Busy => return Ok(ReplayOutcome::Busy),
            ReplayClaim::Forgotten => return Ok(ReplayOutcome::Forgotten),
        };
        let token = work.claim.token();
        let lost = self.lease_lost(token, leased_until, clock);
        let settling = Settling::default();
        let claimed = ClaimTime { asked, answered: clock.now() };
        let attempt = self.attempt(work, claimed, Occasion::Replay, clock, &settling);
        pin_mut!(lost, attempt, stop);
        let ended = match select(stop, select(lost, attempt)).await {
            Either::Left(((), run)) if settling.has_begun() => run.await,
            Either::Left(..) => return self.give_back(key, token, clock).await,
            Either::Right((ended, _)) => ended,
        };
        let attempted = match ended {
            Either::Right((attempted, _)) => attempted,
            // The claim is gone because the attempt has settled it, or else it will be told so.
            Either::Left((None, attempt)) if settling.has_begun() => attempt.await,
            Either::Left((reason, _)) => {
                self.inner.observer.observe(&Observation::LeaseLost { key });
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
                self.inner.observer.observe(&Observation::LeaseLost { key });
                return Ok(ReplayOutcome::Busy);
            }
            Some(Settled::UnblockedNext) => self.inner.new_work.notify(),
            Some(Settled::Done) | None => {}
        }
        Ok(match attempted.result {
            Ok(contact) => ReplayOutcome::Replayed(contact),
            Err(reason) => {
                // The dead letter waits in the outbox.
                self.inner.new_work.notify();
                ReplayOutcome::Failed(reason)
            }
        })
    }

    /// Gives back what was claimed for a replay.
    async fn give_back(
        &self,
        key: &EventKey,
        token: ClaimToken,
        clock: &dyn Clock,
    ) -> Result<ReplayOutcome, ReplayError> {
        let settlement = Settlement::of_run(token, RunEnd::Release, None, clock.now());
        let answers = self.inner.store.settle(&[settlement]).await?;
        if answers.contains(&Settled::LeaseLost) {
            self.inner.observer.observe(&Observation::LeaseLost { key });
            return Ok(ReplayOutcome::Busy);
        }
        self.inner.new_work.notify();
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
    ///
    /// # Errors
    /// The store could not answer: the events may be due or not. Repeating the call adds nothing.
    pub async fn requeue(
        &self,
        keys: &[EventKey],
        now: Timestamp,
    ) -> Result<Vec<Requeued>, StoreError> {
        let answers = self.inner.store.requeue(keys, now).await?;
        self.inner.new_work.notify();
        Ok(answers)
    }
}
