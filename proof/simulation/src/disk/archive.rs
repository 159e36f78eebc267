//! Reads and purges events, and keeps the quarantine.

use std::collections::BTreeMap;

use async_trait::async_trait;
use cognigy_core::{
    Attempt, AuditEntry, AuditLog, AuditPage, Backlog, Correlation, Counts, Cursor,
    DeliveryContext, EventArchive, EventFilter, EventKey, EventPage, EventSummary, Forgotten,
    PAGE_BYTES, PageRequest, PurgeRequest, PurgeStep, Purged, Quarantine, QuarantineEntry,
    QuarantineLimits, QuarantinePage, QuarantineReason, QuarantinedItem, SharedValues, SourceName,
    State, StoreError, StoreSize, StoredEvent, Timestamp, UnsentDeadLetter, search,
};

use super::{Disk, EventRow, Phase, Tables, digest};
use crate::planted::Bug;

impl EventRow {
    fn correlation(&self) -> Correlation {
        match (self.correlation, &self.contact) {
            (Some(correlation), _) => correlation,
            (None, Some(_)) => Correlation::Matched,
            (None, None) => Correlation::NotAsked,
        }
    }

    pub(super) fn summary(&self) -> EventSummary {
        EventSummary {
            source: self.key.source.clone(),
            id: self.key.id.clone(),
            kind: self.parts.kind.clone(),
            state: self.phase.state(),
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
        filter.state.is_none_or(|state| state == self.phase.state())
            && filter.kind.as_ref().is_none_or(|kind| *kind == self.parts.kind)
            && filter.source.as_ref().is_none_or(|source| *source == self.key.source)
            && (filter.user_id.is_none() || filter.user_id == self.parts.user_id)
            && (filter.external_id.is_none() || filter.external_id == self.parts.external_id)
            && (filter.conversation.is_none() || filter.conversation == self.parts.conversation)
            && filter.correlation.is_none_or(|it| it == self.correlation.unwrap_or_default())
            && filter.from.is_none_or(|from| from <= self.received_at)
            && filter.to.is_none_or(|to| self.received_at < to)
    }
}

impl Tables {
    /// The dead letter of an event's latest run that left one, while it waits for the sink.
    fn unsent(&self, event: i64) -> Option<UnsentDeadLetter> {
        let unsent = self.outbox.values().filter(|row| row.event == event);
        unsent.max_by_key(|row| row.dead_letter.run).map(|row| UnsentDeadLetter {
            run: row.dead_letter.run,
            reason: row.dead_letter.error_message.clone(),
            tries: row.tries,
            due: row.due,
        })
    }

    fn summed_up(&self, events: &[i64], items: &[i64]) -> Purged {
        let mut purged = Purged::default();
        for row in events.iter().filter_map(|id| self.events.get(id)) {
            *purged.events.entry(row.phase.state()).or_default() += 1;
        }
        for item in items.iter().filter_map(|id| self.quarantine.get(id)) {
            *purged.quarantined.entry(item.reason).or_default() += 1;
        }
        purged
    }
}

impl Disk {
    /// The events and the quarantined bodies that a purge may take, oldest first.
    fn old(&self, tables: &Tables, request: PurgeRequest) -> (Vec<i64>, Vec<i64>) {
        let finished = |id: i64, row: &EventRow| {
            let waits = tables.outbox.values().any(|row| row.event == id);
            row.phase.state().is_final() && !waits && !row.stops
                || self.has(Bug::PurgesUnfinished)
                    && !matches!(row.phase, super::Phase::Held { .. })
        };
        let is_old = |received_at: Timestamp, unresolved| {
            request.before_for(unresolved).is_some_and(|before| received_at < before)
        };
        let events = tables.events.iter().filter(|(id, row)| {
            is_old(row.received_at, row.phase.state() == State::DeadLettered) && finished(**id, row)
        });
        let items = tables
            .quarantine
            .values()
            .filter(|item| is_old(item.received_at, item.reason == QuarantineReason::Conflict));
        (events.map(|(id, _)| *id).collect(), items.map(|item| item.id).collect())
    }
}

#[async_trait]
impl EventArchive for Disk {
    async fn find(&self, key: &EventKey) -> Result<Option<StoredEvent>, StoreError> {
        let mut tables = self.tables();
        let found = tables.row(key).map(|(id, row)| {
            let found = StoredEvent {
                event: row.restored(),
                state: row.phase.state(),
                due: match row.phase {
                    Phase::Waiting { due } => Some(due),
                    _ => None,
                },
                processed_at: row.processed_at,
                contact: row.contact.clone(),
                correlation: row.correlation(),
                forgotten: row.forgotten,
                unsent: None,
            };
            (id, found)
        });
        Ok(found.map(|(id, found)| StoredEvent { unsent: tables.unsent(id), ..found }))
    }

    async fn list(&self, filter: &EventFilter, page: PageRequest) -> Result<EventPage, StoreError> {
        if filter.is_search() {
            return search(self, filter, page).await;
        }
        let tables = self.tables();
        let end = page.after.map_or(i64::MAX, |cursor| cursor.0);
        let mut rows =
            tables.events.range(..end).rev().filter(|(_, row)| row.matches(filter)).peekable();
        let (mut found, mut last, mut bytes) = (EventPage::default(), None, 0);
        while found.events.len() < page.limit && bytes <= PAGE_BYTES {
            let Some((id, row)) = rows.next() else { break };
            let summary = row.summary();
            bytes += summary.page_bytes();
            found.events.push(summary);
            last = Some(Cursor(*id));
        }
        found.next = last.filter(|_| rows.peek().is_some());
        Ok(found)
    }

    async fn attempts(&self, key: &EventKey) -> Result<Vec<Attempt>, StoreError> {
        Ok(self.tables().row(key).map(|(_, row)| row.attempts.clone()).unwrap_or_default())
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        let tables = self.tables();
        let mut counts = Counts {
            held_back: self.held_back(&tables).len() as u64,
            stopped_contacts: tables.events.values().filter(|row| row.stops).count() as u64,
            unsent_dead_letters: tables.outbox.len() as u64,
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
        }
        let unsent = |id: &i64| tables.outbox.values().any(|row| row.event == *id);
        let open =
            tables.events.iter().filter(|(id, row)| !row.phase.state().is_final() || unsent(id));
        counts.oldest_pending = open.map(|(_, row)| row.received_at).min();
        Ok(counts)
    }

    async fn size(&self) -> Result<StoreSize, StoreError> {
        Ok(StoreSize::default())
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
        for row in tables.outbox.values() {
            backlog.entry(row.dead_letter.key.source.clone()).or_default().dead_letters += 1;
        }
        Ok(backlog)
    }

    async fn purge(&self, request: PurgeRequest) -> Result<PurgeStep, StoreError> {
        let mut tables = self.tables();
        let (mut events, mut items) = self.old(&tables, request);
        events.retain(|id| request.after.is_none_or(|after| *id > after.0));
        events.truncate(request.limit);
        items.truncate(request.limit);
        let purged = tables.summed_up(&events, &items);
        tables.events.retain(|id, _| !events.contains(id));
        tables.quarantine.retain(|id, _| !items.contains(id));
        let last = events.last().copied().filter(|_| events.len() == request.limit);
        Ok(PurgeStep::up_to(last, purged, request.limit))
    }

    async fn purgeable(&self, request: PurgeRequest) -> Result<Purged, StoreError> {
        let tables = self.tables();
        let (events, items) = self.old(&tables, request);
        Ok(tables.summed_up(&events, &items))
    }

    async fn forget_sensitive(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        let mut tables = self.tables();
        let over = |row: &&mut EventRow| {
            let ended = row.processed_at.is_some_and(|at| at < before);
            row.parts.sensitive && row.forgotten.is_none() && row.phase == Phase::Processed && ended
        };
        let rows = tables.events.values_mut().filter(over).take(limit);
        let forgotten = rows.map(|row| {
            (row.body, row.forgotten) = (digest(&row.body), Some(Forgotten::Sensitive));
            row.context = DeliveryContext::default();
        });
        Ok(forgotten.count() as u64)
    }

    async fn ready(&self) -> Result<(), StoreError> {
        Ok(())
    }
}

#[async_trait]
impl Quarantine for Disk {
    async fn quarantine(
        &self,
        entry: QuarantineEntry,
        limits: QuarantineLimits,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let QuarantineEntry { source, reason, event_id, detail, body, context } = entry;
        if self.has(Bug::ConflictNotKept) && reason == QuarantineReason::Conflict {
            return Ok(0);
        }
        let mut tables = self.tables();
        let known = |item: &QuarantinedItem| {
            (&item.body, &item.context, &item.source, item.reason)
                == (&body, &context, &source, reason)
        };
        if tables.quarantine.values().any(known) {
            return Ok(0);
        }
        let id = tables.next_id();
        let received_at = now;
        let item =
            QuarantinedItem { id, source, reason, event_id, detail, body, context, received_at };
        let source = item.source.clone();
        tables.quarantine.insert(id, item);
        let of_source = tables.quarantine.values().rev().filter(|item| item.source == source);
        let invalid = of_source.filter(|item| item.reason == QuarantineReason::Invalid);
        let surplus = limits.surplus(invalid.map(|item| (item.id, &item.body)));
        for id in &surplus {
            tables.quarantine.remove(id);
        }
        Ok(surplus.len() as u64)
    }

    async fn quarantined(&self, page: PageRequest) -> Result<QuarantinePage, StoreError> {
        let tables = self.tables();
        let end = page.after.map_or(i64::MAX, |cursor| cursor.0);
        let mut items: Vec<_> = tables.quarantine.range(..end).rev().collect();
        let has_more = items.len() > page.limit;
        items.truncate(page.limit);
        let next = items.last().filter(|_| has_more).map(|(id, _)| Cursor(**id));
        Ok(QuarantinePage { items: items.iter().map(|(_, item)| item.summary()).collect(), next })
    }

    async fn quarantined_item(&self, id: i64) -> Result<Option<QuarantinedItem>, StoreError> {
        Ok(self.tables().quarantine.get(&id).cloned())
    }

    async fn discharge(&self, id: i64) -> Result<bool, StoreError> {
        Ok(self.tables().quarantine.remove(&id).is_some())
    }
}

#[async_trait]
impl SharedValues for Disk {
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
impl AuditLog for Disk {
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
