//! Recording events, and running finished ones again.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use cognigy_core::{
    ClaimBatch, ClaimRequest, ClaimToken, EventKey, EventStore, IncomingEvent, Recorded,
    ReplayClaim, Requeued, Settled, Settlement, StoreError, Timestamp,
};

use super::{Disk, EventRow, Phase, Tables};
use crate::planted::Bug;

#[async_trait]
impl EventStore for Disk {
    async fn record(&self, event: IncomingEvent, now: Timestamp) -> Result<Recorded, StoreError> {
        Ok(self.record_in(&mut self.tables(), event, now))
    }

    async fn record_all(
        &self,
        events: Vec<IncomingEvent>,
        now: Timestamp,
    ) -> Result<Vec<Recorded>, StoreError> {
        let mut tables = self.tables();
        Ok(events.into_iter().map(|event| self.record_in(&mut tables, event, now)).collect())
    }

    async fn claim_due(&self, request: ClaimRequest) -> Result<ClaimBatch, StoreError> {
        Ok(self.claim(request))
    }

    async fn renew(
        &self,
        tokens: &[ClaimToken],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Settled>, StoreError> {
        Ok(tokens.iter().map(|token| self.prolong(token, lease, now)).collect())
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Settled>, StoreError> {
        Ok(settlements.iter().map(|settlement| self.end(settlement)).collect())
    }

    async fn replay(
        &self,
        key: &EventKey,
        lease: Duration,
        now: Timestamp,
    ) -> Result<ReplayClaim, StoreError> {
        let mut tables = self.tables();
        let Some((id, _)) = tables.row(key) else { return Ok(ReplayClaim::NotFound) };
        if self.goes_before(&tables, id).is_some() {
            return Ok(ReplayClaim::Busy);
        }
        let Some(row) = tables.events.get_mut(&id) else { return Ok(ReplayClaim::NotFound) };
        if row.forgotten.is_some() {
            return Ok(ReplayClaim::Forgotten);
        }
        if let Phase::Held { until, .. } = row.phase
            && until > now
            && !self.has(Bug::ReplayIgnoresHolder)
        {
            return Ok(ReplayClaim::Busy);
        }
        let took_over = matches!(row.phase, Phase::Held { .. });
        row.note_vanished_worker();
        row.begin_run(now, !self.has(Bug::ReplayReusesRun));
        let claim = row.grant(id, lease, now, took_over);
        if self.has(Bug::ReplayDropsLetter) {
            tables.outbox.retain(|_, row| row.event != id);
        }
        Ok(ReplayClaim::Claimed(Box::new(claim)))
    }

    async fn requeue(
        &self,
        keys: &[EventKey],
        now: Timestamp,
    ) -> Result<Vec<Requeued>, StoreError> {
        let mut tables = self.tables();
        Ok(keys.iter().map(|key| requeue(&mut tables, key, now)).collect())
    }
}

fn requeue(tables: &mut Tables, key: &EventKey, now: Timestamp) -> Requeued {
    let Some((_, row)) = tables.row(key) else { return Requeued::NotFound };
    match row.phase {
        _ if row.forgotten.is_some() => Requeued::Forgotten,
        Phase::Held { .. } => Requeued::Busy,
        Phase::Waiting { due } => {
            row.phase = Phase::Waiting { due: due.min(now) };
            Requeued::Waiting
        }
        Phase::Processed | Phase::DeadLettering | Phase::DeadLettered | Phase::Discarded => {
            row.begin_run(now, true);
            Requeued::Scheduled
        }
    }
}

impl EventRow {
    fn begin_run(&mut self, now: Timestamp, as_a_new_one: bool) {
        self.run += u32::from(as_a_new_one);
        self.attempt = 0;
        // An event that stopped its contact stays the head.
        self.begun = std::mem::take(&mut self.stops);
        self.phase = Phase::Waiting { due: now };
    }
}

impl Disk {
    fn record_in(&self, tables: &mut Tables, event: IncomingEvent, now: Timestamp) -> Recorded {
        if let Some((_, row)) = tables.row(&event.key) {
            let is_same = row.says(&event.body);
            let stored = if row.forgotten.is_some() { Bytes::new() } else { row.body.clone() };
            if self.has(Bug::UpsertOverwrites) {
                row.body = event.body.clone();
            }
            return match is_same {
                true if self.has(Bug::DuplicateSaidNew) => Recorded::New,
                true => Recorded::Identical,
                false => Recorded::Differs { stored },
            };
        }
        let body = match self.has(Bug::BodyRewritten) {
            true => Bytes::from(String::from_utf8_lossy(&event.body).replace(" ", "")),
            false => event.body,
        };
        let id = tables.next_id();
        let row = EventRow {
            key: event.key,
            parts: event.parts,
            body,
            context: event.context,
            received_at: now,
            phase: Phase::Waiting { due: now },
            fence: 0,
            run: 1,
            attempt: 0,
            attempts: Vec::new(),
            processed_at: None,
            contact: None,
            correlation: None,
            forgotten: None,
            unreadable: false,
            letters_sent: 0,
            begun: false,
            stops: false,
        };
        tables.events.insert(id, row);
        Recorded::New
    }
}
