//! Reads, counts and purges the stored events, and keeps the quarantine.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{MemoryStore, Row, Tables, digest};
use crate::{
    event::{Correlation, DeliveryContext, EventKey, SourceName, State, Timestamp},
    ports::StoreError,
    store::{
        Attempt, AuditEntry, AuditLog, AuditPage, Backlog, Counts, Cursor, EventArchive,
        EventFilter, EventPage, EventSummary, Forgotten, PAGE_BYTES, PageRequest, PurgeRequest,
        PurgeStep, Purged, Quarantine, QuarantineEntry, QuarantineLimits, QuarantinePage,
        QuarantineReason, QuarantinedItem, SharedValues, StoreSize, StoredEvent, UnsentDeadLetter,
        search,
    },
};

impl Row {
    fn correlation(&self) -> Correlation {
        let name = self.correlation.map(Correlation::as_str);
        Correlation::of_stored(name, self.contact.is_some())
    }

    pub(super) fn summary(&self) -> EventSummary {
        EventSummary {
            source: self.key.source.clone(),
            id: self.key.id.clone(),
            kind: self.parts.kind.clone(),
            state: self.state,
            time: self.parts.time.clone(),
            external_id: self.parts.external_id.clone(),
            user_id: self.parts.user_id.clone(),
            conversation: self.parts.conversation.clone(),
            correlation: self.correlation(),
            received_at: self.received_at,
            processed_at: self.processed_at,
        }
    }

    pub(super) fn matches(&self, filter: &EventFilter) -> bool {
        fn holds<T: PartialEq>(wanted: Option<&T>, actual: Option<&T>) -> bool {
            wanted.is_none() || wanted == actual
        }
        holds(filter.state.as_ref(), Some(&self.state))
            && holds(filter.kind.as_ref(), Some(&self.parts.kind))
            && holds(filter.user_id.as_ref(), self.parts.user_id.as_ref())
            && holds(filter.external_id.as_ref(), self.parts.external_id.as_ref())
            && holds(filter.source.as_ref(), Some(&self.key.source))
            && holds(filter.conversation.as_ref(), self.parts.conversation.as_ref())
            && holds(filter.correlation.as_ref(), Some(&self.correlation.unwrap_or_default()))
            && filter.from.is_none_or(|from| self.received_at >= from)
            && filter.to.is_none_or(|to| self.received_at < to)
    }
}

impl Tables {
    /// The dead letter of an event's latest run that left one, while it waits for the sink.
    fn unsent(&self, event: i64) -> Option<UnsentDeadLetter> {
        let entries = self.outbox.values().filter(|entry| entry.event == event);
        let latest = entries.max_by_key(|entry| entry.dead_letter.run)?;
        Some(UnsentDeadLetter {
            run: latest.dead_letter.run,
            reason: latest.dead_letter.error_message.clone(),
            tries: latest.tries,
            due: latest.due,
        })
    }

    /// The events and the quarantined bodies that a purge may take, oldest first.
    fn old(&self, request: PurgeRequest) -> (Vec<i64>, Vec<i64>) {
        let is_old = |received_at: Timestamp, unresolved: bool| {
            request.before_for(unresolved).is_some_and(|before| received_at < before)
        };
        let unsent: Vec<i64> = self.outbox.values().map(|entry| entry.event).collect();
        let stops = |handle: i64, row: &Row| {
            let contact = self.queues.contact(&row.key.source, &row.parts);
            contact.is_some_and(|contact| self.queues.is_stopped_by(&contact, handle))
        };
        let events = self.events.iter().filter(|(handle, row)| {
            let is_over =
                row.state.is_final() && is_old(row.received_at, row.state == State::DeadLettered);
            is_over && !unsent.contains(handle) && !stops(**handle, row)
        });
        let quarantined = self
            .quarantine
            .values()
            .filter(|item| is_old(item.received_at, item.reason.is_unresolved()));
        (events.map(|(handle, _)| *handle).collect(), quarantined.map(|item| item.id).collect())
    }

    /// How many of these there are, by state and by reason.
    fn count(&self, events: &[i64], quarantined: &[i64]) -> Purged {
        let mut counted = Purged::default();
        for row in events.iter().filter_map(|handle| self.events.get(handle)) {
            *counted.events.entry(row.state).or_default() += 1;
        }
        for item in quarantined.iter().filter_map(|id| self.quarantine.get(id)) {
            *counted.quarantined.entry(item.reason).or_default() += 1;
        }
        counted
    }
}

#[async_trait]
impl EventArchive for MemoryStore {
    async fn find(&self, key: &EventKey) -> Result<Option<StoredEvent>, StoreError> {
        let tables = self.tables();
        Ok(tables.row(key).map(|(handle, row)| StoredEvent {
            event: row.event(),
            state: row.state,
            due: row.due.filter(|_| row.state == State::Pending),
            processed_at: row.processed_at,
            contact: row.contact.clone(),
            correlation: row.correlation(),
            forgotten: row.forgotten,
            unsent: tables.unsent(handle),
        }))
    }

    async fn list(&self, filter: &EventFilter, page: PageRequest) -> Result<EventPage, StoreError> {
        if filter.is_search() {
            return search(self, filter, page).await;
        }
        let tables = self.tables();
        let before = page.after.map_or(i64::MAX, |cursor| cursor.0);
        let mut matching =
            tables.events.range(..before).rev().filter(|(_, row)| row.matches(filter)).peekable();
        let mut found = EventPage::default();
        let mut bytes = 0;
        while found.events.len() < page.limit && bytes <= PAGE_BYTES {
            let Some((handle, row)) = matching.next() else { break };
            let summary = row.summary();
            bytes += summary.page_bytes();
            found.events.push(summary);
            found.next = matching.peek().map(|_| Cursor(*handle));
        }
        Ok(found)
    }

    async fn attempts(&self, key: &EventKey) -> Result<Vec<Attempt>, StoreError> {
        Ok(self.tables().row(key).map(|(_, row)| row.attempts.clone()).unwrap_or_default())
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        let tables = self.tables();
        let (waiting, stopped_contacts) = tables.queues.counts();
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
        }
        let open = tables.events.values().filter(|row| !row.state.is_final());
        let unsent = tables.outbox.values().filter_map(|entry| tables.events.get(&entry.event));
        counts.oldest_pending = open.chain(unsent).map(|row| row.received_at).min();
        Ok(counts)
    }

    async fn size(&self) -> Result<StoreSize, StoreError> {
        Ok(StoreSize::default())
    }

    async fn backlog(&self) -> Result<BTreeMap<SourceName, Backlog>, StoreError> {
        let tables = self.tables();
        let mut backlog = BTreeMap::<SourceName, Backlog>::new();
        let is_unfinished = |row: &&Row| matches!(row.state, State::Pending | State::Processing);
        for row in tables.events.values().filter(is_unfinished) {
            backlog.entry(row.key.source.clone()).or_default().events += 1;
        }
        for entry in tables.outbox.values() {
            backlog.entry(entry.dead_letter.key.source.clone()).or_default().dead_letters += 1;
        }
        Ok(backlog)
    }

    async fn purge(&self, request: PurgeRequest) -> Result<PurgeStep, StoreError> {
        let mut tables = self.tables();
        let (mut events, mut quarantined) = tables.old(request);
        let from = request.after.map_or(i64::MIN, |cursor| cursor.0);
        events.retain(|handle| *handle > from);
        events.truncate(request.limit);
        quarantined.truncate(request.limit);
        let last = events.last().copied().filter(|_| events.len() == request.limit);
        let purged = tables.count(&events, &quarantined);
        for handle in &events {
            if let Some(row) = tables.events.remove(handle) {
                tables.ids.remove(&row.key);
            }
        }
        for id in &quarantined {
            tables.quarantine.remove(id);
        }
        Ok(PurgeStep::up_to(last, purged, request.limit))
    }

    async fn purgeable(&self, request: PurgeRequest) -> Result<Purged, StoreError> {
        let tables = self.tables();
        let (events, quarantined) = tables.old(request);
        Ok(tables.count(&events, &quarantined))
    }

    async fn forget_sensitive(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        let is_over = |row: &&mut Row| {
            row.parts.sensitive
                && row.forgotten.is_none()
                && row.state == State::Processed
                && row.processed_at.is_some_and(|at| at < before)
        };
        let mut count = 0;
        for row in tables.events.values_mut().filter(is_over).take(limit) {
            row.body = digest(&row.body);
            row.context = DeliveryContext::default();
            row.forgotten = Some(Forgotten::Sensitive);
            count += 1;
        }
        Ok(count)
    }

    async fn ready(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[async_trait]
impl Quarantine for MemoryStore {
    async fn quarantine(
        &self,
        entry: QuarantineEntry,
        limits: QuarantineLimits,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        let known = tables.quarantine.values().any(|item| {
            item.body == entry.body
                && item.context == entry.context
                && item.source == entry.source
                && item.reason == entry.reason
        });
        if known {
            return Ok(0);
        }
        let id = tables.next_handle();
        let QuarantineEntry { source, reason, event_id, detail, body, context } = entry;
        let received_at = now;
        let item =
            QuarantinedItem { id, source, reason, event_id, detail, body, context, received_at };
        let source = item.source.clone();
        tables.quarantine.insert(id, item);
        let of_source = tables.quarantine.values().rev().filter(|item| item.source == source);
        let invalid = of_source.filter(|item| item.reason == QuarantineReason::Invalid);
        let evicted = limits.surplus(invalid.map(|item| (item.id, &item.body)));
        for id in &evicted {
            tables.quarantine.remove(id);
        }
        Ok(evicted.len() as u64)
    }

    async fn quarantined(&self, page: PageRequest) -> Result<QuarantinePage, StoreError> {
        let tables = self.tables();
        let before = page.after.map_or(i64::MAX, |cursor| cursor.0);
        let mut items = tables.quarantine.range(..before).rev().map(|(_, item)| item).peekable();
        let mut found = QuarantinePage::default();
        while found.items.len() < page.limit {
            let Some(item) = items.next() else { break };
            found.next = items.peek().map(|_| Cursor(item.id));
            found.items.push(item.summary());
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

#[async_trait]
impl SharedValues for MemoryStore {
    async fn shared_value(&self, name: &str) -> Result<Option<String>, StoreError> {
        Ok(self.tables().shared.get(name).cloned())
    }

    async fn replace_shared_value(
        &self,
        name: &str,
        expected: Option<&str>,
        new: Option<&str>,
    ) -> Result<bool, StoreError> {
        let mut tables = self.tables();
        if tables.shared.get(name).map(String::as_str) != expected {
            return Ok(false);
        }
        match new {
            Some(new) => drop(tables.shared.insert(name.to_owned(), new.to_owned())),
            None => drop(tables.shared.remove(name)),
        }
        Ok(true)
    }
}

#[async_trait]
impl AuditLog for MemoryStore {
    async fn append_audit(&self, entry: AuditEntry) -> Result<(), StoreError> {
        self.tables().audit.push(entry);
        Ok(())
    }

    async fn audited(
        &self,
        about: Option<&EventKey>,
        page: PageRequest,
    ) -> Result<AuditPage, StoreError> {
        let tables = self.tables();
        // A cursor is the place of the last entry of the page before.
        let end = page.after.and_then(|cursor| usize::try_from(cursor.0).ok());
        let earlier = &tables.audit[..end.unwrap_or(tables.audit.len()).min(tables.audit.len())];
        let of_event = |entry: &AuditEntry| match about {
            Some(key) => entry.is_about(key),
            None => !entry.is_part(),
        };
        let mut entries =
            earlier.iter().enumerate().rev().filter(|(_, it)| of_event(it)).peekable();
        let mut found = AuditPage::default();
        while found.entries.len() < page.limit {
            let Some((place, entry)) = entries.next() else { break };
            found.next = entries.peek().and_then(|_| i64::try_from(place).ok()).map(Cursor);
            found.entries.push(entry.clone());
        }
        Ok(found)
    }
}
