//! What a worker holds: claims, attempts in flight, settlements that wait to be stored.

use std::{
    collections::{BTreeMap, VecDeque},
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::Poll,
};

use futures_util::{
    FutureExt, StreamExt,
    future::{AbortHandle, Abortable},
    stream::FuturesUnordered,
};

use super::{WorkerOptions, capacity::Capacity, store_call::StoreCall};
use crate::{
    event::{EventKey, Timestamp},
    pipeline::Pipeline,
    ports::{Clock, Observation, Settling, StoreError},
    processing::{Admission, ClaimTime, Ending, Occasion, answered_by},
    store::{
        ClaimBatch, ClaimRequest, ClaimToken, ClaimedDeadLetter, ClaimedRun, DeadLetterEnd, RunEnd,
        Settled, Settlement, WorkEnd, WorkKind,
    },
};

/// The capacity for runs divided by the capacity for dead letters. A sink takes a few dead letters at a
/// time, and each of them is held with its whole body.
const RUNS_PER_DEAD_LETTER: usize = 4;
/// Dead letters handed to the sink in one call: as many as SQS takes in one request.
const SINK_BATCH: usize = 10;
/// Such calls at once: four of them, at SQS's usual ten to twenty milliseconds, are 2,000 dead
/// letters a second and more.
const SINK_CALLS: usize = 4;

/// Something that was under way and has ended.
pub(super) enum Done {
    Claimed { wanted: Wanted, until: Timestamp, result: Result<ClaimBatch, StoreError> },
    Attempted(ClaimToken, Ending),
    Sent(Vec<Settlement>),
    Settled { settlements: Vec<Settlement>, result: Result<Vec<Settled>, StoreError> },
    Renewed { tokens: Vec<ClaimToken>, until: Timestamp, result: Result<Vec<Settled>, StoreError> },
}

/// How much a claim asked for.
#[derive(Clone, Copy)]
pub(super) struct Wanted {
    runs: usize,
    dead_letters: usize,
}

type Task = Pin<Box<dyn Future<Output = Done> + Send>>;

/// A claim we hold.
struct Held {
    /// Of which event.
    key: EventKey,
    leased_until: Timestamp,
    /// Whether there is nothing left to do but to settle it.
    ended: bool,
    abort: Option<AbortHandle>,
    claimed: ClaimTime,
    settling: Settling,
}

pub(super) struct InFlight {
    pub(super) tasks: FuturesUnordered<Task>,
    pipeline: Pipeline,
    clock: Arc<dyn Clock>,
    options: WorkerOptions,
    run_capacity: Capacity,
    dead_letter_capacity: Capacity,
    unbegun: VecDeque<ClaimedRun>,
    unsent: VecDeque<ClaimedDeadLetter>,
    /// Handfuls on their way to the sink.
    sending: usize,
    /// In a fixed order, so that a run can be repeated step for step.
    held: BTreeMap<ClaimToken, Held>,
    in_flight: usize,
    unsettled: Vec<Settlement>,
    claim: StoreCall,
    settle: StoreCall,
    renew: StoreCall,
    next_renewal: Timestamp,
    /// No lease in `held` ends before this, but for those that have ended.
    first_lease_end: Timestamp,
    closed: bool,
}

impl InFlight {
    pub(super) fn new(pipeline: Pipeline, clock: Arc<dyn Clock>, options: WorkerOptions) -> Self {
        let now = clock.now();
        let capacity = options.batch.max(options.concurrency);
        Self {
            tasks: FuturesUnordered::new(),
            run_capacity: Capacity::new(capacity, now),
            dead_letter_capacity: Capacity::new(capacity / RUNS_PER_DEAD_LETTER, now),
            next_renewal: now + pipeline.inner.lease / 3,
            first_lease_end: Timestamp::MAX_UTC,
            pipeline,
            clock,
            options,
            unbegun: VecDeque::new(),
            unsent: VecDeque::new(),
            sending: 0,
            held: BTreeMap::new(),
            in_flight: 0,
            unsettled: Vec::new(),
            claim: StoreCall::default(),
            settle: StoreCall::default(),
            renew: StoreCall::default(),
            closed: false,
        }
    }

    /// Claims no more.
    pub(super) fn close(&mut self) {
        self.closed = true;
    }

    /// Begins whatever can be begun. `announced`: someone said there is new work.
    pub(super) fn start_due(&mut self, announced: bool, now: Timestamp) {
        if announced {
            self.run_capacity.expect(now);
            self.dead_letter_capacity.expect(now);
        }
        self.abandon_expired(now);
        self.begin_attempts(now);
        self.begin_sending(now);
        self.finish_up(now);
        if self.next_claim().is_some_and(|next| next <= now) && self.claim.may_start(now) {
            self.begin_claim(now);
        }
    }

    /// Sends errands that end work: settlements and renewals.
    pub(super) fn finish_up(&mut self, now: Timestamp) {
        if !self.unsettled.is_empty() && self.settle.may_start(now) {
            self.begin_settle(now);
        }
        if self.next_renewal <= now && self.renew.may_start(now) {
            self.begin_renew(now);
        }
    }

    /// Whether a claim could follow the news that there are more events.
    pub(super) fn listens(&self) -> bool {
        !self.closed && !self.claim.under_way && self.run_capacity.has_room()
    }

    /// When to claim next, if there is room for anything.
    fn next_claim(&self) -> Option<Timestamp> {
        let may_claim = !self.closed && !self.claim.under_way;
        let runs = self.run_capacity.next_claim().map(|next| match self.admission(next) {
            Admission::NotBefore(probe) => next.max(probe),
            Admission::All | Admission::Probe => next,
        });
        let next = [runs, self.dead_letter_capacity.next_claim()];
        next.into_iter().flatten().min().filter(|_| may_claim)
    }

    /// How many attempts may begin at `now`: none while the pipeline is paused, and else as many as the
    /// breaker lets.
    fn admission(&self, now: Timestamp) -> Admission {
        if self.pipeline.is_paused() {
            // The worker is woken when the pipeline is resumed.
            return Admission::NotBefore(Timestamp::MAX_UTC);
        }
        let breaker = self.pipeline.inner.breaker.as_ref();
        breaker.map_or(Admission::All, |breaker| breaker.admission(now))
    }

    fn capacity_for(&mut self, work: WorkKind) -> &mut Capacity {
        match work {
            WorkKind::Run => &mut self.run_capacity,
            WorkKind::DeadLetter => &mut self.dead_letter_capacity,
        }
    }

    /// A claim is not held any more. Yields its event.
    fn let_go(&mut self, token: ClaimToken) -> Option<EventKey> {
        let held = self.held.remove(&token)?;
        self.capacity_for(token.work).vacate(held.ended);
        Some(held.key)
    }

    /// The lease of a claim was taken over by another worker.
    fn lost(&self, key: Option<&EventKey>) {
        if let Some(key) = key {
            self.pipeline.inner.observer.observe(&Observation::LeaseLost { key });
        }
    }

    /// All that is left to do about a claim is to settle it.
    fn end(&mut self, settlement: Settlement) {
        let token = settlement.token();
        if let Some(held) = self.held.get_mut(&token) {
            held.ended = true;
            self.capacity_for(token.work).end();
        }
        self.unsettled.push(settlement);
    }

    /// Whether nothing is left to be done before stopping.
    pub(super) fn is_clear(&self) -> bool {
        self.held.is_empty() && self.unsettled.is_empty() && !self.claim.under_way
    }

    /// When to look again at the latest.
    pub(super) fn next_deadline(&self) -> Timestamp {
        let mut deadline =
            self.next_renewal.max(self.renew.not_before.unwrap_or(self.next_renewal));
        if self.renew.under_way {
            deadline = self.clock.now() + self.pipeline.inner.lease;
        }
        deadline = deadline.min(self.first_lease_end);
        if let Some(next) = self.next_claim() {
            deadline = deadline.min(next.max(self.claim.not_before.unwrap_or(next)));
        }
        if let (false, false, Some(settle)) =
            (self.unsettled.is_empty(), self.settle.under_way, self.settle.not_before)
        {
            deadline = deadline.min(settle);
        }
        deadline
    }

    /// Gives claims back that were not begun; their attempts do not count.
    pub(super) fn give_back_unbegun(&mut self, now: Timestamp) {
        let released = self.unbegun.drain(..);
        self.unsettled.extend(released.map(|work| work.claim.settle(RunEnd::Release, None, now)));
        let unsent = self.unsent.drain(..);
        let again = DeadLetterEnd::Retry { due: now };
        self.unsettled.extend(unsent.map(|work| work.claim.settle(again, now)));
    }

    /// Deals with everything else that has ended by now, in one go: at tens of thousands of events
    /// a second, arming the loop's timer for each of them would cost more than the work.
    pub(super) fn end_tasks_that_are_done(&mut self, now: Timestamp) {
        for _ in 0..self.tasks.len() {
            let Some(Some(done)) = self.tasks.next().now_or_never() else { return };
            self.end_task(done, now);
        }
    }

    /// Deals with something that has ended.
    pub(super) fn end_task(&mut self, done: Done, now: Timestamp) {
        match done {
            Done::Claimed { wanted, until, result } => {
                self.claim.ended(result.is_ok(), now);
                match result {
                    Ok(batch) => self.accept(batch, wanted, until, now),
                    Err(error) => self.pipeline.report_store_error("claim", &error),
                }
            }
            Done::Attempted(token, ending) => {
                self.in_flight -= 1;
                match ending {
                    Ending::Unsettled(settlement) => self.end(settlement),
                    Ending::Settled(answer) => {
                        let key = self.let_go(token);
                        match answer {
                            Settled::Done => {}
                            // The next event of its contact is due.
                            Settled::UnblockedNext => self.run_capacity.expect(now),
                            Settled::LeaseLost => self.lost(key.as_ref()),
                        }
                    }
                }
            }
            Done::Sent(settlements) => {
                self.sending -= 1;
                settlements.into_iter().for_each(|sent| self.end(sent));
            }
            Done::Settled { settlements, result } => {
                self.settle.ended(result.is_ok(), now);
                match result {
                    Ok(answers) => self.forget(&settlements, &answers, now),
                    Err(error) => {
                        // Whether they took effect is unknown; repeating them is harmless: what
                        // did take effect answers LeaseLost.
                        self.pipeline.report_store_error("settle", &error);
                        self.unsettled.extend(settlements);
                    }
                }
            }
            Done::Renewed { tokens, until, result } => {
                self.renew.ended(result.is_ok(), now);
                match result {
                    Ok(answers) => self.renewed(&tokens, &answers, until),
                    Err(error) => {
                        // Again as soon as the errand may go, while there is time.
                        self.next_renewal = now;
                        self.pipeline.report_store_error("renew", &error);
                    }
                }
            }
        }
    }

    /// Ready, when it is looked at, once a lease has run out. Looked at before the attempts: a worker
    /// that was paused must not go on with an attempt whose claim another worker has. It sets no alarm;
    /// [`next_deadline`](Self::next_deadline) has one.
    pub(super) fn lease_ended(&self) -> impl Future<Output = ()> + use<> {
        let (clock, first_lease_end) = (Arc::clone(&self.clock), self.first_lease_end);
        poll_fn(move |_| match clock.now() >= first_lease_end {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
    }

    /// Stops attempts whose leases have run out, as far as this worker knows: renewing failed for too
    /// long. The worker that claims their events next must not work beside this one.
    pub(super) fn abandon_expired(&mut self, now: Timestamp) {
        if self.first_lease_end > now {
            return;
        }
        self.first_lease_end = Timestamp::MAX_UTC;
        for held in self.held.values() {
            if held.leased_until > now {
                self.first_lease_end = self.first_lease_end.min(held.leased_until);
            } else if let Some(abort) = &held.abort {
                abort.abort();
            }
        }
    }

    fn begin_claim(&mut self, now: Timestamp) {
        self.claim.under_way = true;
        let (runs, dead_letters) = (self.run_capacity.wanted(), self.dead_letter_capacity.wanted());
        let runs = match self.admission(now) {
            Admission::All => runs,
            Admission::Probe => runs.min(1),
            Admission::NotBefore(_) => 0,
        };
        let wanted = Wanted { runs, dead_letters };
        let lease = self.pipeline.inner.lease;
        let until = now + self.pipeline.inner.usable_lease();
        let source = self.pipeline.inner.source.name().clone();
        let request = ClaimRequest { source, runs, dead_letters, lease, now };
        let (store, clock) = (Arc::clone(&self.pipeline.inner.store), Arc::clone(&self.clock));
        self.tasks.push(Box::pin(async move {
            let result = answered_by(until, &*clock, store.claim_due(request)).await;
            Done::Claimed { wanted, until, result }
        }));
    }

    /// Takes claims over that may be worked on until `until`: the store counts from when it was
    /// asked, not from when it answered.
    fn accept(&mut self, batch: ClaimBatch, wanted: Wanted, until: Timestamp, now: Timestamp) {
        let poll = now + self.options.poll_interval;
        let (runs, letters) = (batch.runs.len(), batch.dead_letters.len());
        if wanted.runs > 0 {
            self.run_capacity.look_again([wanted.runs, runs], batch.next_due, poll, now);
        }
        if wanted.dead_letters > 0 {
            let answer = [wanted.dead_letters, letters];
            self.dead_letter_capacity.look_again(answer, batch.next_due, poll, now);
        }
        if until <= now {
            // The answer took as long as the leases last: another worker may claim the same work now.
            batch.runs.iter().for_each(|work| self.lost(Some(&work.key)));
            batch.dead_letters.iter().for_each(|work| self.lost(Some(&work.dead_letter.key)));
            return;
        }
        if !batch.is_empty() {
            self.first_lease_end = self.first_lease_end.min(until);
        }
        let claimed =
            ClaimTime { asked: until - self.pipeline.inner.usable_lease(), answered: now };
        self.run_capacity.fill(runs);
        self.dead_letter_capacity.fill(letters);
        let runs = batch.runs.iter().map(|work| (work.claim.token(), &work.key));
        let letters = batch.dead_letters.iter();
        let letters = letters.map(|work| (work.claim.token(), &work.dead_letter.key));
        self.held.extend(runs.chain(letters).map(|(token, key)| {
            let (key, settling) = (key.clone(), Settling::default());
            (token, Held { key, leased_until: until, ended: false, abort: None, claimed, settling })
        }));
        self.unbegun.extend(batch.runs);
        self.unsent.extend(batch.dead_letters);
    }

    fn begin_attempts(&mut self, now: Timestamp) {
        self.give_back_what_may_not_begin(now);
        while self.in_flight < self.options.concurrency.max(1) {
            let Some(work) = self.unbegun.pop_front() else { return };
            let token = work.claim.token();
            let held = self.held.get_mut(&token).filter(|held| held.leased_until > now);
            let Some(held) = held else {
                self.forfeit(token);
                continue;
            };
            let (abort, registration) = AbortHandle::new_pair();
            held.abort = Some(abort);
            self.in_flight += 1;
            if let Some(breaker) = &self.pipeline.inner.breaker {
                breaker.begin(now + self.pipeline.inner.attempt_timeout);
            }
            let (claimed, settling) = (held.claimed, held.settling.clone());
            let pipeline = self.pipeline.clone();
            let clock = Arc::clone(&self.clock);
            self.tasks.push(Box::pin(async move {
                let attempt = pipeline.attempt(work, claimed, Occasion::Worker, &*clock, &settling);
                // Aborted, since the lease ran out or a renewal found that another worker has the claim.
                let aborted = |_| Ending::Settled(Settled::LeaseLost);
                let ending = Abortable::new(attempt, registration).await;
                Done::Attempted(token, ending.map_or_else(aborted, |attempted| attempted.ending))
            }));
        }
    }

    /// While the breaker is open or the pipeline is paused, claims that cannot be begun are given back: no
    /// lease holds their events then, and another node, whose breaker may be closed, can take them.
    fn give_back_what_may_not_begin(&mut self, now: Timestamp) {
        let admitted = match self.admission(now) {
            Admission::All => return,
            Admission::Probe => 1,
            Admission::NotBefore(_) => 0,
        };
        let admitted = self.unbegun.len().min(admitted);
        for work in self.unbegun.split_off(admitted) {
            self.end(work.claim.settle(RunEnd::Release, None, now));
        }
    }

    /// Drops a claim that was not begun in time: its lease ran out while this process stood still (a
    /// paused machine), and another worker may have the event now.
    fn forfeit(&mut self, token: ClaimToken) {
        let key = self.let_go(token);
        self.lost(key.as_ref());
    }

    /// A batch at a time: each is settled as soon as it is sent, and a crash, or a sink that hangs,
    /// has no more than these sent again.
    fn begin_sending(&mut self, now: Timestamp) {
        while self.sending < SINK_CALLS {
            let mut batch = Vec::new();
            while batch.len() < SINK_BATCH
                && let Some(work) = self.unsent.pop_front()
            {
                let token = work.claim.token();
                match self.held.get(&token) {
                    Some(held) if held.leased_until > now => batch.push(work),
                    _ => self.forfeit(token),
                }
            }
            if batch.is_empty() {
                return;
            }
            self.sending += 1;
            let pipeline = self.pipeline.clone();
            let clock = Arc::clone(&self.clock);
            self.tasks.push(Box::pin(async move {
                Done::Sent(pipeline.send_dead_letters(batch, &*clock).await)
            }));
        }
    }

    fn begin_settle(&mut self, now: Timestamp) {
        self.settle.under_way = true;
        let settlements = std::mem::take(&mut self.unsettled);
        let until = now + self.pipeline.inner.lease;
        let (store, clock) = (Arc::clone(&self.pipeline.inner.store), Arc::clone(&self.clock));
        self.tasks.push(Box::pin(async move {
            let result = answered_by(until, &*clock, store.settle(&settlements)).await;
            Done::Settled { settlements, result }
        }));
    }

    fn forget(&mut self, settlements: &[Settlement], answers: &[Settled], now: Timestamp) {
        for (settlement, answer) in settlements.iter().zip(answers) {
            let key = self.let_go(settlement.token());
            if *answer == Settled::LeaseLost {
                self.lost(key.as_ref());
                continue;
            }
            match settlement.end() {
                WorkEnd::Run { end: RunEnd::GiveUp { .. }, .. } => {
                    // Its dead letter is due now.
                    self.dead_letter_capacity.expect(now);
                }
                WorkEnd::Run { end: RunEnd::Retry { due } | RunEnd::PutOff { due }, .. } => {
                    self.run_capacity.expect(*due);
                }
                WorkEnd::DeadLetter(DeadLetterEnd::Retry { due }) => {
                    self.dead_letter_capacity.expect(*due);
                }
                WorkEnd::Run { .. } | WorkEnd::DeadLetter(DeadLetterEnd::Sent) => {}
            }
            if *answer == Settled::UnblockedNext {
                // The next event of its contact is due now.
                self.run_capacity.expect(now);
            }
        }
    }

    fn begin_renew(&mut self, now: Timestamp) {
        let lease = self.pipeline.inner.lease;
        self.next_renewal = now + lease / 3;
        if self.held.is_empty() {
            return;
        }
        self.renew.under_way = true;
        let until = now + self.pipeline.inner.usable_lease();
        let tokens: Vec<_> = self.held.keys().copied().collect();
        let (store, clock) = (Arc::clone(&self.pipeline.inner.store), Arc::clone(&self.clock));
        self.tasks.push(Box::pin(async move {
            // Early enough for two more tries.
            let renewal = store.renew(&tokens, lease, now);
            let result = answered_by(now + lease / 3, &*clock, renewal).await;
            Done::Renewed { tokens, until, result }
        }));
    }

    fn renewed(&mut self, tokens: &[ClaimToken], answers: &[Settled], until: Timestamp) {
        for (token, answer) in tokens.iter().zip(answers) {
            let Some(held) = self.held.get_mut(token) else { continue };
            match (answer, &held.abort) {
                (Settled::Done | Settled::UnblockedNext, _) => held.leased_until = until,
                // Settled by its own handler, if by anyone; it is about to say.
                (Settled::LeaseLost, _) if held.settling.has_begun() => {}
                // Someone else works on it: stop, and do not settle.
                (Settled::LeaseLost, Some(abort)) => abort.abort(),
                // Not begun, or waiting to be settled; the first is skipped when its turn comes,
                // the second is told by its settlement.
                (Settled::LeaseLost, None) => held.leased_until = Timestamp::MIN_UTC,
            }
        }
    }
}
