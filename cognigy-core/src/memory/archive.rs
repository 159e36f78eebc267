//! What is stored: looking at it, counting it, forgetting it; and the quarantine.

use std::collections::BTreeMap;

use async_trait::async_trait;

use super::{MemoryStore, QUARANTINE_CAPACITY, Row};
use crate::{
    Attempt, Backlog, Counts, Cursor, EventArchive, EventFilter, EventKey, EventPage, EventSummary,
    PageRequest, Quarantine, QuarantineEntry, QuarantinePage, QuarantinedItem, SourceName, State,
    StoreError, StoredEvent, Timestamp,
};

impl Row {
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
