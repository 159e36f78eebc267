//! The reference store: everything in memory, every rule in plain sight.
//!
//! For tests, demos and as the model that other stores are compared with. It keeps its contract in
//! every point but one: nothing survives the process.

mod lanes;

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;

use crate::{
    Attempt, AttemptOutcome, Backlog, Claim, ClaimBatch, ClaimRequest, ClaimToken,
    ClaimedDeadLetter, ClaimedRun, Contact, Counts, Cursor, DeadLetter, Event, EventArchive,
    EventFilter, EventKey, EventOrder, EventPage, EventParts, EventStore, EventSummary,
    IncomingEvent, Move, PageRequest, Quarantine, QuarantineEntry, QuarantinePage, QuarantinedItem,
    Recorded, ReplayClaim, Requeued, Settled, Settlement, SourceName, State, StoreError,
    StoredEvent, Timestamp, Verdict, WorkKind,
};
use lanes::Lanes;

/// How many bodies the quarantine holds.
const QUARANTINE_CAPACITY: usize = 1000;

/// An event store in memory.
#[derive(Debug, Default)]
pub struct MemoryStore {
    tables: Mutex<Tables>,
}

#[derive(Debug, Default)]
struct Tables {
    ids: HashMap<EventKey, i64>,
    events: BTreeMap<i64, Row>,
    outbox: BTreeMap<i64, Letter>,
    quarantine: BTreeMap<i64, QuarantinedItem>,
    lanes: Lanes,
    last_handle: i64,
}

#[derive(Debug)]
struct Row {
    key: EventKey,
    parts: EventParts,
    body: Bytes,
    received_at: Timestamp,
    processed_at: Option<Timestamp>,
    contact: Option<Contact>,
    state: State,
    /// When it needs attention: its next attempt, or the end of its lease. None where nothing
    /// happens by itself, as while another event of its contact comes first.
    due: Option<Timestamp>,
    claimed_at: Timestamp,
    fence: i64,
    run: u32,
    attempt: u32,
    attempts: Vec<Attempt>,
}

#[derive(Debug)]
struct Letter {
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
        let tables = Tables { lanes: Lanes::keeping(order), ..Tables::default() };
        Self { tables: Mutex::new(tables) }
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        // No method leaves the tables half changed, so a panic elsewhere is no reason to stop.
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
            self.body.clone(),
            self.received_at,
            self.run,
        )
    }

    fn claim(&mut self, handle: i64, lease: Duration, now: Timestamp) -> ClaimedRun {
        if self.state == State::Processing {
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
        let token = ClaimToken { work: WorkKind::Run, handle, fence: self.fence };
        ClaimedRun {
            claim: Claim::granted(token),
            key: self.key.clone(),
            run: self.run,
            attempt: self.attempt,
            event: Ok(self.event()),
        }
    }

    fn begin_run(&mut self, now: Timestamp) {
        self.apply(Move::Replay);
        self.run += 1;
        self.attempt = 0;
        self.due = Some(now);
    }

    fn summary(&self) -> EventSummary {
        EventSummary {
            source: self.key.source.clone(),
            id: self.key.id.clone(),
            kind: self.parts.kind.clone(),
            state: self.state,
            time: self.parts.time.clone(),
            external_id: self.parts.external_id.clone(),
            user_id: self.parts.user_id.clone(),
            received_at: self.received_at,
            processed_at: self.processed_at,
        }
    }

    fn matches(&self, filter: &EventFilter) -> bool {
        fn holds<T: PartialEq>(wanted: Option<&T>, actual: Option<&T>) -> bool {
            wanted.is_none() || wanted == actual
        }
        holds(filter.state.as_ref(), Some(&self.state))
            && holds(filter.kind.as_ref(), Some(&self.parts.kind))
            && holds(filter.user_id.as_ref(), self.parts.user_id.as_ref())
            && holds(filter.external_id.as_ref(), self.parts.external_id.as_ref())
            && holds(filter.source.as_ref(), Some(&self.key.source))
            && filter.from.is_none_or(|from| self.received_at >= from)
            && filter.to.is_none_or(|to| self.received_at < to)
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

    fn holds(&self, token: &ClaimToken) -> bool {
        let fence = match token.work {
            WorkKind::Run => self.events.get(&token.handle).map(|row| row.fence),
            WorkKind::DeadLetter => self.outbox.get(&token.handle).map(|letter| letter.fence),
        };
        fence == Some(token.fence)
    }

    fn settle(&mut self, settlement: &Settlement) -> Settled {
        let Settlement { token, verdict, attempt, at } = settlement;
        if !self.holds(token) {
            return Settled::LeaseLost;
        }
        match token.work {
            WorkKind::Run => {
                self.settle_run(token.handle, verdict, attempt.as_ref(), *at);
                let given_up = match verdict {
                    Verdict::Processed { .. } => false,
                    Verdict::GiveUp { .. } => true,
                    _ => return Settled::Done,
                };
                if self.make_way(token.handle, given_up, *at) {
                    return Settled::MadeWay;
                }
            }
            WorkKind::DeadLetter => self.settle_dead_letter(token.handle, verdict),
        }
        Settled::Done
    }

    /// An event has ended: the next of its contact is due, if one waits.
    fn make_way(&mut self, handle: i64, given_up: bool, at: Timestamp) -> bool {
        let Self { events, lanes, .. } = self;
        let next = events
            .get(&handle)
            .and_then(|row| lanes.contact(&row.key.source, &row.parts))
            .and_then(|contact| lanes.end(&contact, given_up));
        let Some(row) = next.and_then(|next| events.get_mut(&next)) else { return false };
        // In its first run it has waited since it came, and should not wait as long again.
        row.due = Some(if row.run == 1 { row.received_at } else { at });
        true
    }

    /// Has an event run again when its turn comes.
    fn requeue(&mut self, key: &EventKey, now: Timestamp) -> Requeued {
        let Self { ids, events, lanes, .. } = self;
        let Some(handle) = ids.get(key).copied() else { return Requeued::NotFound };
        let Some(row) = events.get_mut(&handle) else { return Requeued::NotFound };
        match row.state {
            State::Processing => return Requeued::Busy,
            State::Pending => {
                // None for one that waits for another: that stays as it is.
                row.due = row.due.min(Some(now));
                return Requeued::Waiting;
            }
            _ => row.begin_run(now),
        }
        let Some(contact) = lanes.contact(&key.source, &row.parts) else {
            return Requeued::Scheduled;
        };
        if lanes.enter(contact.clone(), handle) {
            return Requeued::Scheduled;
        }
        row.due = None;
        // One that came later and was not begun lets it go first.
        let unbegun = |head: &Row| head.state == State::Pending && head.attempt == 0;
        let head = lanes.head(&contact).filter(|head| *head > handle);
        if let Some(head) = head.and_then(|head| events.get_mut(&head)).filter(|head| unbegun(head))
        {
            head.due = None;
            lanes.overtake(&contact, handle);
            if let Some(row) = events.get_mut(&handle) {
                row.due = Some(now);
            }
        }
        Requeued::Scheduled
    }

    fn settle_run(
        &mut self,
        handle: i64,
        verdict: &Verdict,
        attempt: Option<&Attempt>,
        at: Timestamp,
    ) {
        let outbox_handle = self.next_handle();
        let Some(row) = self.events.get_mut(&handle) else { return };
        row.fence += 1;
        row.attempts.extend(attempt.cloned());
        row.due = None;
        match verdict {
            Verdict::Processed { contact } => {
                row.apply(Move::Complete);
                row.processed_at = Some(at);
                row.contact.clone_from(contact);
            }
            Verdict::Retry { due } => {
                row.apply(Move::Retry);
                row.due = Some(*due);
            }
            Verdict::Release => {
                row.apply(Move::Release);
                row.attempt -= 1;
                row.due = Some(at);
            }
            Verdict::GiveUp { reason, attempts } => {
                row.apply(Move::GiveUp);
                let dead_letter = DeadLetter {
                    key: row.key.clone(),
                    run: row.run,
                    kind: row.parts.kind.clone(),
                    time: row.parts.time.clone(),
                    error_message: reason.clone(),
                    attempts: *attempts,
                    first_received_at: row.received_at,
                    raw_payload: row.body.clone(),
                };
                let letter = Letter { event: handle, dead_letter, due: at, fence: 0, tries: 0 };
                self.outbox.insert(outbox_handle, letter);
            }
            Verdict::DeadLetterSent | Verdict::DeadLetterRetry { .. } => {}
        }
    }

    fn settle_dead_letter(&mut self, handle: i64, verdict: &Verdict) {
        match verdict {
            Verdict::DeadLetterSent => {
                let Some(letter) = self.outbox.remove(&handle) else { return };
                if let Some(row) = self.events.get_mut(&letter.event)
                    && row.run == letter.dead_letter.run
                {
                    row.apply(Move::DeadLetterSent);
                }
            }
            Verdict::DeadLetterRetry { due } => {
                if let Some(letter) = self.outbox.get_mut(&handle) {
                    letter.fence += 1;
                    letter.due = *due;
                }
            }
            _ => {}
        }
    }
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
        let mut tables = self.tables();
        if let Some((_, row)) = tables.row(&event.key) {
            let stored = row.body.clone();
            return Ok(if stored == event.body {
                Recorded::Identical
            } else {
                Recorded::Differs { stored }
            });
        }
        let handle = tables.next_handle();
        tables.ids.insert(event.key.clone(), handle);
        let contact = tables.lanes.contact(&event.key.source, &event.parts);
        let is_first = contact.is_none_or(|contact| tables.lanes.enter(contact, handle));
        let row = Row {
            key: event.key,
            parts: event.parts,
            body: event.body,
            received_at: now,
            processed_at: None,
            contact: None,
            state: State::Pending,
            due: is_first.then_some(now),
            claimed_at: now,
            fence: 0,
            run: 1,
            attempt: 0,
            attempts: Vec::new(),
        };
        tables.events.insert(handle, row);
        Ok(Recorded::New)
    }

    async fn claim_due(&self, request: ClaimRequest) -> Result<ClaimBatch, StoreError> {
        let ClaimRequest { source, runs, dead_letters, lease, now } = request;
        let mut tables = self.tables();
        let mut batch = ClaimBatch::default();

        let letters =
            tables.outbox.iter().filter(|(_, letter)| letter.dead_letter.key.source == source);
        let letters = letters.map(|(handle, letter)| (letter.due, *handle)).collect();
        let (letters, next_letter) = earliest(letters, dead_letters, now);
        let events = tables.events.iter().filter(|(_, row)| row.key.source == source);
        let events = events.filter_map(|(handle, row)| row.due.map(|due| (due, *handle))).collect();
        let (events, next_event) = earliest(events, runs, now);
        batch.next_due = next_letter.into_iter().chain(next_event).min();

        for (_, handle) in &letters {
            let Some(letter) = tables.outbox.get_mut(handle) else { continue };
            letter.fence += 1;
            letter.tries += 1;
            letter.due = now + lease;
            let token =
                ClaimToken { work: WorkKind::DeadLetter, handle: *handle, fence: letter.fence };
            batch.dead_letters.push(ClaimedDeadLetter {
                claim: Claim::granted(token),
                dead_letter: letter.dead_letter.clone(),
                attempt: letter.tries,
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
                    if let Some(letter) = tables.outbox.get_mut(&token.handle) {
                        letter.due = letter.due.max(now + lease);
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
        let Tables { ids, events, lanes, .. } = &mut *tables;
        let Some(handle) = ids.get(key).copied() else { return Ok(ReplayClaim::NotFound) };
        let Some(row) = events.get_mut(&handle) else { return Ok(ReplayClaim::NotFound) };
        if row.state == State::Processing && row.due.is_some_and(|lease_end| lease_end > now) {
            return Ok(ReplayClaim::Busy);
        }
        if let Some(contact) = lanes.contact(&key.source, &row.parts) {
            if lanes.head(&contact).is_some_and(|head| head != handle) {
                return Ok(ReplayClaim::Busy);
            }
            lanes.enter(contact, handle);
        }
        if row.state == State::Processing {
            // Its worker vanished: that attempt goes into the history before the new run begins.
            drop(row.claim(handle, lease, now));
            row.apply(Move::Release);
        }
        row.begin_run(now);
        Ok(ReplayClaim::Claimed(Box::new(row.claim(handle, lease, now))))
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

#[async_trait]
impl EventArchive for MemoryStore {
    async fn find(&self, key: &EventKey) -> Result<Option<StoredEvent>, StoreError> {
        Ok(self.tables().row(key).map(|(_, row)| StoredEvent {
            event: row.event(),
            state: row.state,
            processed_at: row.processed_at,
            contact: row.contact.clone(),
        }))
    }

    async fn list(&self, filter: &EventFilter, page: PageRequest) -> Result<EventPage, StoreError> {
        let tables = self.tables();
        let before = page.after.map_or(i64::MAX, |cursor| cursor.0);
        let mut matching =
            tables.events.range(..before).rev().filter(|(_, row)| row.matches(filter)).peekable();
        let mut found = EventPage::default();
        while found.events.len() < page.limit {
            let Some((handle, row)) = matching.next() else { break };
            found.events.push(row.summary());
            found.next = matching.peek().map(|_| Cursor(*handle));
        }
        Ok(found)
    }

    async fn attempts(&self, key: &EventKey) -> Result<Vec<Attempt>, StoreError> {
        Ok(self.tables().row(key).map(|(_, row)| row.attempts.clone()).unwrap_or_default())
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        let tables = self.tables();
        let (waiting, stopped_contacts) = tables.lanes.counts();
        let mut counts = Counts {
            unsent_dead_letters: tables.outbox.len() as u64,
            quarantined: tables.quarantine.len() as u64,
            held_back: waiting,
            stopped_contacts,
            ..Counts::default()
        };
        for row in tables.events.values() {
            *counts.by_state.entry(row.state).or_default() += 1;
            *counts.by_type.entry(row.parts.kind.as_str().to_owned()).or_default() += 1;
            if matches!(row.state, State::Pending | State::Processing) {
                let oldest = counts.oldest_pending.get_or_insert(row.received_at);
                *oldest = (*oldest).min(row.received_at);
            }
        }
        Ok(counts)
    }

    async fn backlog(&self) -> Result<BTreeMap<SourceName, Backlog>, StoreError> {
        let tables = self.tables();
        let mut backlog = BTreeMap::<SourceName, Backlog>::new();
        let is_unfinished = |row: &&Row| matches!(row.state, State::Pending | State::Processing);
        for row in tables.events.values().filter(is_unfinished) {
            backlog.entry(row.key.source.clone()).or_default().events += 1;
        }
        for letter in tables.outbox.values() {
            backlog.entry(letter.dead_letter.key.source.clone()).or_default().dead_letters += 1;
        }
        Ok(backlog)
    }

    async fn purge(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        let unsent: Vec<i64> = tables.outbox.values().map(|letter| letter.event).collect();
        let stops = |handle: i64, row: &Row| {
            let contact = tables.lanes.contact(&row.key.source, &row.parts);
            contact.is_some_and(|contact| tables.lanes.is_stopped_by(&contact, handle))
        };
        let old: Vec<i64> = tables
            .events
            .iter()
            .filter(|(handle, row)| {
                let is_over = row.state.is_final() && row.received_at < before;
                is_over && !unsent.contains(handle) && !stops(**handle, row)
            })
            .map(|(handle, _)| *handle)
            .take(limit)
            .collect();
        for handle in &old {
            if let Some(row) = tables.events.remove(handle) {
                tables.ids.remove(&row.key);
            }
        }
        let stale: Vec<i64> = tables
            .quarantine
            .values()
            .filter(|item| item.received_at < before)
            .map(|item| item.id)
            .take(limit)
            .collect();
        for id in stale {
            tables.quarantine.remove(&id);
        }
        Ok(old.len() as u64)
    }

    async fn ready(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[async_trait]
impl Quarantine for MemoryStore {
    async fn quarantine(&self, entry: QuarantineEntry, now: Timestamp) -> Result<(), StoreError> {
        let mut tables = self.tables();
        let known = tables.quarantine.values().any(|item| {
            item.body == entry.body && item.source == entry.source && item.reason == entry.reason
        });
        if known {
            return Ok(());
        }
        if tables.quarantine.len() >= QUARANTINE_CAPACITY {
            tables.quarantine.pop_first();
        }
        let id = tables.next_handle();
        let QuarantineEntry { source, reason, event_id, detail, body } = entry;
        let item = QuarantinedItem { id, source, reason, event_id, detail, body, received_at: now };
        tables.quarantine.insert(id, item);
        Ok(())
    }

    async fn quarantined(&self, page: PageRequest) -> Result<QuarantinePage, StoreError> {
        let tables = self.tables();
        let before = page.after.map_or(i64::MAX, |cursor| cursor.0);
        let mut items = tables.quarantine.range(..before).rev().map(|(_, item)| item).peekable();
        let mut found = QuarantinePage::default();
        while found.items.len() < page.limit {
            let Some(item) = items.next() else { break };
            found.next = items.peek().map(|_| Cursor(item.id));
            found.items.push(item.clone());
        }
        Ok(found)
    }

    async fn quarantined_item(&self, id: i64) -> Result<Option<QuarantinedItem>, StoreError> {
        Ok(self.tables().quarantine.get(&id).cloned())
    }

    async fn discharge(&self, id: i64) -> Result<bool, StoreError> {
        Ok(self.tables().quarantine.remove(&id).is_some())
    }
}
