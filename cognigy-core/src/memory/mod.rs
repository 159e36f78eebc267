//! The reference store: it keeps everything in memory and shows every rule plainly.
//!
//! For tests, demos and as the model that other stores are compared with. It keeps its contract in
//! every point but one: nothing survives the process.

mod administration;
mod archive;
mod contact_queue;
mod settle;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::{
    event::{
        Correlation, DeliveryContext, Event, EventKey, EventParts, IncomingEvent, Move, State,
        Timestamp,
    },
    ports::{Contact, DeadLetter, StoreError},
    store::{
        Attempt, AttemptOutcome, AuditEntry, Claim, ClaimBatch, ClaimRequest, ClaimToken,
        ClaimedDeadLetter, ClaimedRun, DeadLetterClaim, EventOrder, EventStore, Forgotten,
        QuarantinedItem, Recorded, ReplayClaim, Requeued, Settled, Settlement, WorkKind,
    },
};
use contact_queue::ContactQueues;

/// An event store in memory.
///
/// ```
/// use cognigy_core::{
///     AfterDeadLetter, EventOrder, Pipeline, memory::MemoryStore, testing::sample,
/// };
///
/// // For a test of an application, in place of a database.
/// let store = MemoryStore::keeping(EventOrder::PerContact(AfterDeadLetter::Stop));
/// let pipeline = Pipeline::builder(sample::verifier()).store(store).build()?;
/// let delivery = sample::delivery(sample::body("e1"));
/// let reply = futures_executor::block_on(pipeline.ingest(delivery, sample::start()));
/// assert_eq!(reply.status(), 200);
/// # Ok::<_, cognigy_core::BuildError>(())
/// ```
#[derive(Debug, Default)]
pub struct MemoryStore {
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    ids: HashMap<EventKey, i64>,
    events: BTreeMap<i64, Row>,
    outbox: BTreeMap<i64, OutboxEntry>,
    quarantine: BTreeMap<i64, QuarantinedItem>,
    queues: ContactQueues,
    shared: BTreeMap<String, String>,
    audit: Vec<AuditEntry>,
    last_handle: i64,
}

#[derive(Debug)]
struct Row {
    key: EventKey,
    parts: EventParts,
    body: Bytes,
    context: DeliveryContext,
    received_at: Timestamp,
    processed_at: Option<Timestamp>,
    contact: Option<Contact>,
    /// As a settlement said; none where the CRM was not asked.
    correlation: Option<Correlation>,
    /// Why the body is not there any more; then it is the digest of what was received.
    forgotten: Option<Forgotten>,
    state: State,
    /// When the event is due: at its next attempt, or at the end of its lease. None if no time
    /// makes it due, for example while it waits for another event of its contact.
    due: Option<Timestamp>,
    claimed_at: Timestamp,
    fence: i64,
    run: u32,
    attempt: u32,
    attempts: Vec<Attempt>,
    /// How many of its dead letters the sink has.
    letters_sent: u64,
}

#[derive(Debug)]
struct OutboxEntry {
    event: i64,
    dead_letter: DeadLetter,
    due: Timestamp,
    fence: i64,
    tries: u32,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store that keeps `order`.
    #[must_use]
    pub fn keeping(order: EventOrder) -> Self {
        let tables = Tables { queues: ContactQueues::keeping(order), ..Tables::default() };
        Self { tables: Mutex::new(tables) }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // No method leaves the tables half changed, so the store stays usable after a panic
        // elsewhere.
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Row {
    /// Moves the event on, if the state table allows it.
    fn apply(&mut self, attempted: Move) -> bool {
        match self.state.apply(attempted) {
            Ok(state) => {
                self.state = state;
                true
            }
            Err(_) => false,
        }
    }

    fn event(&self) -> Event {
        Event::restore(
            self.key.clone(),
            self.parts.clone(),
            self.forgotten.map_or_else(|| self.body.clone(), |_| Bytes::new()),
            self.received_at,
            self.run,
        )
        .with_context(self.context.clone())
    }

    fn claim(&mut self, handle: i64, lease: Duration, now: Timestamp) -> ClaimedRun {
        let took_over = self.state == State::Processing;
        if took_over {
            let lease_end = self.due.unwrap_or(now);
            self.attempts.push(Attempt {
                number: self.attempt,
                run: self.run,
                started_at: self.claimed_at,
                duration: (lease_end - self.claimed_at).to_std().unwrap_or_default(),
                outcome: AttemptOutcome::LeaseExpired,
                error: Some("the worker's lease ran out".to_owned()),
            });
            self.apply(Move::Expire);
        }
        self.apply(Move::Claim);
        self.fence += 1;
        self.attempt += 1;
        self.claimed_at = now;
        self.due = Some(now + lease);
        ClaimedRun {
            claim: Claim::granted(handle, self.fence),
            key: self.key.clone(),
            run: self.run,
            attempt: self.attempt,
            lost: self.lost(),
            took_over,
            event: Ok(self.event()),
        }
    }

    /// How many attempts of the present run were lost.
    fn lost(&self) -> u32 {
        let of_run = self.attempts.iter().filter(|attempt| attempt.run == self.run);
        let lost = of_run.filter(|attempt| attempt.outcome == AttemptOutcome::LeaseExpired);
        u32::try_from(lost.count()).unwrap_or(u32::MAX)
    }

    fn begin_run(&mut self, now: Timestamp) {
        self.apply(Move::Replay);
        self.run += 1;
        self.attempt = 0;
        self.due = Some(now);
    }
}

impl Tables {
    fn next_handle(&mut self) -> i64 {
        self.last_handle += 1;
        self.last_handle
    }

    fn row(&self, key: &EventKey) -> Option<(i64, &Row)> {
        let handle = *self.ids.get(key)?;
        self.events.get(&handle).map(|row| (handle, row))
    }

    fn record(&mut self, event: IncomingEvent, now: Timestamp) -> Recorded {
        if let Some((_, row)) = self.row(&event.key) {
            let (stored, is_same) = match row.forgotten {
                None => (row.body.clone(), row.body == event.body),
                Some(_) => (Bytes::new(), row.body == digest(&event.body)),
            };
            return if is_same { Recorded::Identical } else { Recorded::Differs { stored } };
        }
        let handle = self.next_handle();
        self.ids.insert(event.key.clone(), handle);
        let contact = self.queues.contact(&event.key.source, &event.parts);
        let is_first = contact.is_none_or(|contact| self.queues.enter(contact, handle));
        let row = Row {
            key: event.key,
            parts: event.parts,
            body: event.body,
            context: event.context,
            received_at: now,
            processed_at: None,
            contact: None,
            correlation: None,
            forgotten: None,
            state: State::Pending,
            due: is_first.then_some(now),
            claimed_at: now,
            fence: 0,
            run: 1,
            attempt: 0,
            attempts: Vec::new(),
            letters_sent: 0,
        };
        self.events.insert(handle, row);
        Recorded::New
    }

    fn holds(&self, token: &ClaimToken) -> bool {
        let fence = match token.work {
            WorkKind::Run => self.events.get(&token.handle).map(|row| row.fence),
            WorkKind::DeadLetter => self.outbox.get(&token.handle).map(|entry| entry.fence),
        };
        fence == Some(token.fence)
    }

    /// Makes an event run again, at once or when its contact's queue reaches it.
    fn requeue(&mut self, key: &EventKey, now: Timestamp) -> Requeued {
        let Self { ids, events, queues, .. } = self;
        let Some(handle) = ids.get(key).copied() else { return Requeued::NotFound };
        let Some(row) = events.get_mut(&handle) else { return Requeued::NotFound };
        if row.forgotten.is_some() {
            return Requeued::Forgotten;
        }
        match row.state {
            State::Processing => return Requeued::Busy,
            State::Pending => {
                // None for an event that waits for another one; it stays None.
                row.due = row.due.min(Some(now));
                return Requeued::Waiting;
            }
            _ => row.begin_run(now),
        }
        let Some(contact) = queues.contact(&key.source, &row.parts) else {
            return Requeued::Scheduled;
        };
        if queues.enter(contact.clone(), handle) {
            return Requeued::Scheduled;
        }
        row.due = None;
        // A later event that was not begun lets this one go first.
        let unbegun = |head: &Row| head.state == State::Pending && head.attempt == 0;
        let head = queues.head(&contact).filter(|head| *head > handle);
        if let Some(head) = head.and_then(|head| events.get_mut(&head)).filter(|head| unbegun(head))
        {
            head.due = None;
            queues.overtake(&contact, handle);
            if let Some(row) = events.get_mut(&handle) {
                row.due = Some(now);
            }
        }
        Requeued::Scheduled
    }
}

/// What stays of a body that was forgotten.
fn digest(body: &Bytes) -> Bytes {
    Bytes::copy_from_slice(&Sha256::digest(body))
}

/// The first of `waiting` that are due, at most `limit`, and when the one after them is due.
fn earliest(
    mut waiting: Vec<(Timestamp, i64)>,
    limit: usize,
    now: Timestamp,
) -> (Vec<(Timestamp, i64)>, Option<Timestamp>) {
    if limit == 0 {
        return (Vec::new(), None);
    }
    waiting.sort_unstable();
    let due = waiting.iter().take_while(|(due, _)| *due <= now).take(limit).count();
    let next = waiting.get(due).map(|(due, _)| *due);
    waiting.truncate(due);
    (waiting, next)
}

#[async_trait]
impl EventStore for MemoryStore {
    async fn record(&self, event: IncomingEvent, now: Timestamp) -> Result<Recorded, StoreError> {
        Ok(self.tables().record(event, now))
    }

    async fn record_all(
        &self,
        events: Vec<IncomingEvent>,
        now: Timestamp,
    ) -> Result<Vec<Recorded>, StoreError> {
        let mut tables = self.tables();
        Ok(events.into_iter().map(|event| tables.record(event, now)).collect())
    }

    async fn claim_due(&self, request: ClaimRequest) -> Result<ClaimBatch, StoreError> {
        let ClaimRequest { source, runs, dead_letters, lease, now } = request;
        let mut tables = self.tables();
        let mut batch = ClaimBatch::default();

        let entries =
            tables.outbox.iter().filter(|(_, entry)| entry.dead_letter.key.source == source);
        let entries = entries.map(|(handle, entry)| (entry.due, *handle)).collect();
        let (entries, next_dead_letter) = earliest(entries, dead_letters, now);
        let events = tables.events.iter().filter(|(_, row)| row.key.source == source);
        let events = events.filter_map(|(handle, row)| row.due.map(|due| (due, *handle))).collect();
        let (events, next_event) = earliest(events, runs, now);
        batch.next_due = next_dead_letter.into_iter().chain(next_event).min();

        for (_, handle) in &entries {
            let Some(entry) = tables.outbox.get_mut(handle) else { continue };
            entry.fence += 1;
            entry.tries += 1;
            entry.due = now + lease;
            batch.dead_letters.push(ClaimedDeadLetter {
                claim: DeadLetterClaim::granted(*handle, entry.fence),
                dead_letter: entry.dead_letter.clone(),
                attempt: entry.tries,
            });
        }
        for (_, handle) in &events {
            if let Some(row) = tables.events.get_mut(handle) {
                batch.runs.push(row.claim(*handle, lease, now));
            }
        }
        Ok(batch)
    }

    async fn renew(
        &self,
        tokens: &[ClaimToken],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Settled>, StoreError> {
        let mut tables = self.tables();
        let renew = |token: &ClaimToken| {
            if !tables.holds(token) {
                return Settled::LeaseLost;
            }
            match token.work {
                WorkKind::Run => {
                    if let Some(row) = tables.events.get_mut(&token.handle) {
                        row.due = row.due.max(Some(now + lease));
                    }
                }
                WorkKind::DeadLetter => {
                    if let Some(entry) = tables.outbox.get_mut(&token.handle) {
                        entry.due = entry.due.max(now + lease);
                    }
                }
            }
            Settled::Done
        };
        Ok(tokens.iter().map(renew).collect())
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Settled>, StoreError> {
        let mut tables = self.tables();
        Ok(settlements.iter().map(|settlement| tables.settle(settlement)).collect())
    }

    async fn replay(
        &self,
        key: &EventKey,
        lease: Duration,
        now: Timestamp,
    ) -> Result<ReplayClaim, StoreError> {
        let mut tables = self.tables();
        let Tables { ids, events, queues, .. } = &mut *tables;
        let Some(handle) = ids.get(key).copied() else { return Ok(ReplayClaim::NotFound) };
        let Some(row) = events.get_mut(&handle) else { return Ok(ReplayClaim::NotFound) };
        if row.forgotten.is_some() {
            return Ok(ReplayClaim::Forgotten);
        }
        if row.state == State::Processing && row.due.is_some_and(|lease_end| lease_end > now) {
            return Ok(ReplayClaim::Busy);
        }
        if let Some(contact) = queues.contact(&key.source, &row.parts) {
            if queues.head(&contact).is_some_and(|head| head != handle) {
                return Ok(ReplayClaim::Busy);
            }
            queues.enter(contact, handle);
        }
        let took_over = row.state == State::Processing;
        if took_over {
            // The worker vanished: its attempt goes into the history before the new run begins.
            drop(row.claim(handle, lease, now));
            row.apply(Move::Release);
        }
        row.begin_run(now);
        let claimed = ClaimedRun { took_over, ..row.claim(handle, lease, now) };
        Ok(ReplayClaim::Claimed(Box::new(claimed)))
    }

    async fn requeue(
        &self,
        keys: &[EventKey],
        now: Timestamp,
    ) -> Result<Vec<Requeued>, StoreError> {
        let mut tables = self.tables();
        Ok(keys.iter().map(|key| tables.requeue(key, now)).collect())
    }
}
