//! Drops dead letters, erases persons and scans events.

use std::collections::BTreeSet;

use async_trait::async_trait;

use super::{MemoryStore, Row, Tables, digest};
use crate::{
    event::{DeliveryContext, EventKey, Move, State, Timestamp},
    ports::StoreError,
    store::{
        Administration, Cursor, Discarded, Erasure, Forgotten, LastFailure, Person, SCAN_BYTES,
        ScanPage, ScanRequest, Scanned, before,
    },
};

impl Row {
    /// How the last attempt of the present run failed.
    fn failure(&self) -> Option<LastFailure> {
        let last = self.attempts.last().filter(|attempt| attempt.run == self.run)?;
        Some(LastFailure { error: last.error.clone()?, at: last.started_at })
    }

    fn is_failing(&self) -> bool {
        !matches!(self.state, State::Processed | State::Discarded) && self.failure().is_some()
    }

    fn is_of(&self, person: &Person) -> bool {
        let parts = &self.parts;
        match person {
            Person::ExternalId(id) => parts.external_id.as_ref() == Some(id),
            Person::UserId(id) => parts.user_id.as_ref() == Some(id),
        }
    }
}

impl Tables {
    /// Takes an event out of its contact's queue, and makes the next one due.
    fn leave_queue(&mut self, handle: i64, at: Timestamp) {
        let row = self.events.get(&handle);
        let contact = row.and_then(|row| self.queues.contact(&row.key.source, &row.parts));
        let next = contact.and_then(|contact| self.queues.leave(&contact, handle));
        self.make_due(next, at);
    }

    fn discard(&mut self, key: &EventKey, now: Timestamp) -> Discarded {
        let Some(handle) = self.ids.get(key).copied() else { return Discarded::NotFound };
        let Some(row) = self.events.get_mut(&handle) else { return Discarded::NotFound };
        if !row.apply(Move::Discard) {
            return Discarded::NotDeadLettered;
        }
        self.outbox.retain(|_, entry| entry.event != handle);
        self.leave_queue(handle, now);
        Discarded::Done
    }

    fn erase(&mut self, handle: i64, now: Timestamp) -> Option<EventKey> {
        self.leave_queue(handle, now);
        let row = self.events.get_mut(&handle)?;
        row.apply(Move::Erase);
        row.due = None;
        row.fence += 1;
        if row.forgotten.is_none() {
            row.body = digest(&row.body);
        }
        row.forgotten = Some(Forgotten::Erased);
        row.context = DeliveryContext::default();
        row.contact = None;
        row.parts.external_id = None;
        row.parts.user_id = None;
        row.parts.conversation = None;
        row.attempts.iter_mut().for_each(|attempt| attempt.error = None);
        Some(row.key.clone())
    }
}

#[async_trait]
impl Administration for MemoryStore {
    async fn discard(
        &self,
        keys: &[EventKey],
        now: Timestamp,
    ) -> Result<Vec<Discarded>, StoreError> {
        let mut tables = self.tables();
        Ok(keys.iter().map(|key| tables.discard(key, now)).collect())
    }

    async fn erase(
        &self,
        person: &Person,
        _by: &str,
        now: Timestamp,
    ) -> Result<Erasure, StoreError> {
        let mut tables = self.tables();
        let id = tables.next_handle();
        let events = tables.events.iter().filter(|(_, row)| row.is_of(person));
        let events: BTreeSet<i64> = events.map(|(handle, _)| *handle).collect();
        let mut erasure = Erasure { id, events: events.len() as u64, ..Erasure::default() };
        let unsent = tables.outbox.values().filter(|entry| events.contains(&entry.event)).count();
        erasure.dead_letters = unsent as u64;
        for row in events.iter().filter_map(|handle| tables.events.get(handle)) {
            if row.letters_sent > 0 {
                erasure.dead_letters += row.letters_sent;
                erasure.sent.push(row.key.clone());
            }
        }
        tables.outbox.retain(|_, entry| !events.contains(&entry.event));
        let mut keys = Vec::new();
        for handle in events {
            keys.extend(tables.erase(handle, now));
        }
        let quarantined = tables.quarantine.len();
        tables.quarantine.retain(|_, item| {
            let names_event = keys.iter().any(|key| {
                key.source == item.source && item.event_id.as_deref() == Some(key.id.as_str())
            });
            !names_event && !person.is_named_in(&item.body)
        });
        for entry in &mut tables.audit {
            entry.filter.take_if(|filter| person.is_named_in_filter(filter));
        }
        erasure.quarantined = (quarantined - tables.quarantine.len()) as u64;
        Ok(erasure)
    }

    async fn scan(&self, request: &ScanRequest) -> Result<ScanPage, StoreError> {
        let tables = self.tables();
        let rows = tables.events.range(..before(request.after)).rev();
        let rows = rows.filter(|(_, row)| row.matches(&request.filter));
        let rows = rows.filter(|(_, row)| !request.only_failing || row.is_failing());
        let (mut page, mut bytes) = (ScanPage::default(), 0);
        for (handle, row) in rows {
            if page.events.len() == request.limit || bytes > SCAN_BYTES {
                page.next = page.events.last().map(|last| last.cursor);
                break;
            }
            let is_hidden = row.parts.sensitive || row.forgotten.is_some();
            let body = (request.with_contents && !is_hidden).then(|| row.body.clone());
            bytes += body.as_ref().map_or(0, bytes::Bytes::len);
            page.events.push(Scanned {
                cursor: Cursor(*handle),
                event: row.summary(),
                body,
                contact: row.contact.clone().filter(|_| request.with_contents),
                failure: row.failure(),
            });
        }
        Ok(page)
    }
}
