//! Reading, forgetting, and the quarantine.

use std::collections::BTreeMap;

use async_trait::async_trait;
use cognigy_core::{
    Attempt, Backlog, Counts, Cursor, EventArchive, EventFilter, EventKey, EventPage, EventSummary,
    PageRequest, Quarantine, QuarantineEntry, QuarantinePage, QuarantineReason, QuarantinedItem,
    SourceName, State, StoreError, StoredEvent, Timestamp,
};

use super::{Disk, EventRow};
use crate::planted::Bug;

impl EventRow {
    fn summary(&self) -> EventSummary {
        EventSummary {
            source: self.key.source.clone(),
            id: self.key.id.clone(),
            kind: self.parts.kind.clone(),
            state: self.phase.state(),
            time: self.parts.time.clone(),
            external_id: self.parts.external_id.clone(),
            user_id: self.parts.user_id.clone(),
            received_at: self.received_at,
            processed_at: self.processed_at,
        }
    }

    fn matches(&self, filter: &EventFilter) -> bool {
        filter.state.is_none_or(|state| state == self.phase.state())
            && filter.kind.as_ref().is_none_or(|kind| *kind == self.parts.kind)
            && filter.source.as_ref().is_none_or(|source| *source == self.key.source)
            && (filter.user_id.is_none() || filter.user_id == self.parts.user_id)
            && (filter.external_id.is_none() || filter.external_id == self.parts.external_id)
            && filter.from.is_none_or(|from| from <= self.received_at)
            && filter.to.is_none_or(|to| self.received_at < to)
    }
}

#[async_trait]
impl EventArchive for Disk {
    async fn find(&self, key: &EventKey) -> Result<Option<StoredEvent>, StoreError> {
        Ok(self.tables().row(key).map(|(_, row)| StoredEvent {
            event: row.restored(),
            state: row.phase.state(),
            processed_at: row.processed_at,
            contact: row.contact.clone(),
        }))
    }

    async fn list(&self, filter: &EventFilter, page: PageRequest) -> Result<EventPage, StoreError> {
        let tables = self.tables();
        let end = page.after.map_or(i64::MAX, |cursor| cursor.0);
        let mut rows: Vec<_> =
            tables.events.range(..end).rev().filter(|(_, row)| row.matches(filter)).collect();
        let has_more = rows.len() > page.limit;
        rows.truncate(page.limit);
        let next = rows.last().filter(|_| has_more).map(|(id, _)| Cursor(**id));
        Ok(EventPage { events: rows.iter().map(|(_, row)| row.summary()).collect(), next })
    }

    async fn attempts(&self, key: &EventKey) -> Result<Vec<Attempt>, StoreError> {
        Ok(self.tables().row(key).map(|(_, row)| row.attempts.clone()).unwrap_or_default())
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        let tables = self.tables();
        let mut counts = Counts {
            held_back: self.held_back(&tables).len() as u64,
            stopped_contacts: tables.events.values().filter(|row| row.stops).count() as u64,
            unsent_dead_letters: tables.letters.len() as u64,
            quarantined: tables.quarantine.len() as u64,
            ..Counts::default()
        };
        for row in tables.events.values() {
            let state = row.phase.state();
            if self.has(Bug::CountsDrift) && row.run > 1 {
                continue;
            }
            *counts.by_state.entry(state).or_default() += 1;
            *counts.by_type.entry(row.parts.kind.as_str().to_owned()).or_default() += 1;
            if matches!(state, State::Pending | State::Processing) {
                let oldest = counts.oldest_pending.unwrap_or(row.received_at);
                counts.oldest_pending = Some(oldest.min(row.received_at));
            }
        }
        Ok(counts)
    }

    async fn backlog(&self) -> Result<BTreeMap<SourceName, Backlog>, StoreError> {
        let tables = self.tables();
        let mut backlog: BTreeMap<SourceName, Backlog> = BTreeMap::new();
        let open = |row: &&EventRow| {
            !matches!(row.phase.state(), State::DeadLettering) && !row.phase.state().is_final()
        };
        for row in tables.events.values().filter(open) {
            backlog.entry(row.key.source.clone()).or_default().events += 1;
        }
        for row in tables.letters.values() {
            backlog.entry(row.letter.key.source.clone()).or_default().dead_letters += 1;
        }
        Ok(backlog)
    }

    async fn purge(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        let tables = &mut *tables;
        let finished = |id: &i64, row: &EventRow| {
            let waits = tables.letters.values().any(|letter| letter.event == *id);
            row.phase.state().is_final() && !waits && !row.stops
                || self.has(Bug::PurgesUnfinished)
                    && !matches!(row.phase, super::Phase::Held { .. })
        };
        let old: Vec<i64> = tables
            .events
            .iter()
            .filter(|(id, row)| row.received_at < before && finished(id, row))
            .map(|(id, _)| *id)
            .take(limit)
            .collect();
        tables.events.retain(|id, _| !old.contains(id));
        let stale = tables.quarantine.values().filter(|item| item.received_at < before);
        let stale: Vec<i64> = stale.map(|item| item.id).take(limit).collect();
        tables.quarantine.retain(|id, _| !stale.contains(id));
        Ok(old.len() as u64)
    }

    async fn ready(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

/// As many bodies as the reference store keeps.
const CAPACITY: usize = 1000;

#[async_trait]
impl Quarantine for Disk {
    async fn quarantine(&self, entry: QuarantineEntry, now: Timestamp) -> Result<(), StoreError> {
        let QuarantineEntry { source, reason, event_id, detail, body } = entry;
        if self.has(Bug::ConflictNotKept) && reason == QuarantineReason::Conflict {
            return Ok(());
        }
        let mut tables = self.tables();
        let known = |item: &QuarantinedItem| {
            (&item.body, &item.source, item.reason) == (&body, &source, reason)
        };
        if tables.quarantine.values().any(known) {
            return Ok(());
        }
        if tables.quarantine.len() == CAPACITY {
            tables.quarantine.pop_first();
        }
        let id = tables.next_id();
        let item = QuarantinedItem { id, source, reason, event_id, detail, body, received_at: now };
        tables.quarantine.insert(id, item);
        Ok(())
    }

    async fn quarantined(&self, page: PageRequest) -> Result<QuarantinePage, StoreError> {
        let tables = self.tables();
        let end = page.after.map_or(i64::MAX, |cursor| cursor.0);
        let mut items: Vec<_> = tables.quarantine.range(..end).rev().collect();
        let has_more = items.len() > page.limit;
        items.truncate(page.limit);
        let next = items.last().filter(|_| has_more).map(|(id, _)| Cursor(**id));
        Ok(QuarantinePage { items: items.iter().map(|(_, item)| (*item).clone()).collect(), next })
    }

    async fn quarantined_item(&self, id: i64) -> Result<Option<QuarantinedItem>, StoreError> {
        Ok(self.tables().quarantine.get(&id).cloned())
    }

    async fn discharge(&self, id: i64) -> Result<bool, StoreError> {
        Ok(self.tables().quarantine.remove(&id).is_some())
    }
}
