//! Drops dead letters, erases persons and scans events.

use async_trait::async_trait;
use cognigy_core::{
    Administration, Cursor, DeliveryContext, Discarded, Erasure, EventKey, Forgotten, LastFailure,
    Person, SCAN_BYTES, ScanPage, ScanRequest, Scanned, State, StoreError, Timestamp,
};

use super::{Disk, EventRow, Phase, Tables, digest};

impl EventRow {
    fn failure(&self) -> Option<LastFailure> {
        let last = self.attempts.last()?;
        let error = last.error.clone().filter(|_| last.run == self.run)?;
        Some(LastFailure { error, at: last.started_at })
    }

    fn names(&self, person: &Person) -> bool {
        let id = match person {
            Person::ExternalId(_) => &self.parts.external_id,
            Person::UserId(_) => &self.parts.user_id,
        };
        id.as_deref() == Some(person.id())
    }

    fn end_unprocessed(&mut self) {
        self.phase = Phase::Discarded;
        (self.stops, self.begun) = (false, false);
    }

    fn forget(&mut self) {
        if self.forgotten.is_none() {
            self.body = digest(&self.body);
        }
        self.forgotten = Some(Forgotten::Erased);
        self.context = DeliveryContext::default();
        (self.contact, self.parts.external_id) = (None, None);
        (self.parts.user_id, self.parts.conversation) = (None, None);
        for attempt in &mut self.attempts {
            attempt.error = None;
        }
    }
}

impl Disk {
    /// Changes events, and makes those due that need not wait for them any more.
    fn change<T>(
        &self,
        tables: &mut Tables,
        now: Timestamp,
        change: impl FnOnce(&mut Tables) -> T,
    ) -> T {
        let before = self.held_back(tables);
        let answer = change(tables);
        for id in before.difference(&self.held_back(tables)) {
            tables.events.entry(*id).and_modify(|row| row.is_next(now));
        }
        answer
    }
}

fn discard(tables: &mut Tables, key: &EventKey) -> Discarded {
    let Some((id, row)) = tables.row(key) else { return Discarded::NotFound };
    if !matches!(row.phase, Phase::DeadLettering | Phase::DeadLettered) {
        return Discarded::NotDeadLettered;
    }
    row.end_unprocessed();
    tables.outbox.retain(|_, letter| letter.event != id);
    Discarded::Done
}

fn erase(tables: &mut Tables, person: &Person) -> Erasure {
    let mut erasure = Erasure { id: tables.next_id(), ..Erasure::default() };
    let (mut ids, mut keys) = (Vec::new(), Vec::new());
    for (id, row) in tables.events.iter_mut().filter(|(_, row)| row.names(person)) {
        ids.push(*id);
        keys.push(row.key.clone());
        if row.letters_sent > 0 {
            erasure.dead_letters += row.letters_sent;
            erasure.sent.push(row.key.clone());
        }
        if row.phase != Phase::Processed {
            row.end_unprocessed();
        }
        row.forget();
    }
    erasure.events = ids.len() as u64;
    let unsent = tables.outbox.len();
    tables.outbox.retain(|_, letter| !ids.contains(&letter.event));
    erasure.dead_letters += (unsent - tables.outbox.len()) as u64;
    let bodies = tables.quarantine.len();
    tables.quarantine.retain(|_, item| {
        let is_of = |key: &EventKey| {
            key.source == item.source && item.event_id.as_deref() == Some(key.id.as_str())
        };
        !keys.iter().any(is_of) && !person.is_named_in(&item.body)
    });
    erasure.quarantined = (bodies - tables.quarantine.len()) as u64;
    for entry in &mut tables.audit {
        entry.filter.take_if(|filter| person.is_named_in_filter(filter));
    }
    erasure
}

#[async_trait]
impl Administration for Disk {
    async fn discard(
        &self,
        keys: &[EventKey],
        now: Timestamp,
    ) -> Result<Vec<Discarded>, StoreError> {
        let mut tables = self.tables();
        Ok(self.change(&mut tables, now, |tables| {
            keys.iter().map(|key| discard(tables, key)).collect()
        }))
    }

    async fn erase(
        &self,
        person: &Person,
        _by: &str,
        now: Timestamp,
    ) -> Result<Erasure, StoreError> {
        let mut tables = self.tables();
        Ok(self.change(&mut tables, now, |tables| erase(tables, person)))
    }

    async fn scan(&self, request: &ScanRequest) -> Result<ScanPage, StoreError> {
        let tables = self.tables();
        let end = request.after.map_or(i64::MAX, |cursor| cursor.0);
        let mut page = ScanPage::default();
        let mut bytes = 0;
        for (id, row) in tables.events.range(..end).rev() {
            let failure = row.failure();
            let is_failing = failure.is_some()
                && !matches!(row.phase.state(), State::Processed | State::Discarded);
            if !row.matches(&request.filter) || request.only_failing && !is_failing {
                continue;
            }
            if page.events.len() == request.limit || bytes > SCAN_BYTES {
                page.next = page.events.last().map(|last| last.cursor);
                break;
            }
            let shows_body = !row.parts.sensitive && row.forgotten.is_none();
            let body = (request.with_contents && shows_body).then(|| row.body.clone());
            bytes += body.as_ref().map_or(0, |body| body.len());
            page.events.push(Scanned {
                cursor: Cursor(*id),
                event: row.summary(),
                body,
                contact: if request.with_contents { row.contact.clone() } else { None },
                failure,
            });
        }
        Ok(page)
    }
}
