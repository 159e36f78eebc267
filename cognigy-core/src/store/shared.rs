//! A store behind an `Arc`, of a kind that is chosen when the program runs, is a store.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;

use super::{
    Administration, AuditEntry, AuditLog, AuditPage, Backlog, ClaimBatch, ClaimRequest, Counts,
    Discarded, Erasure, EventArchive, EventFilter, EventPage, EventStore, PageRequest, Person,
    PurgeRequest, PurgeStep, Purged, Quarantine, QuarantineEntry, QuarantineLimits, QuarantinePage,
    QuarantinedItem, Recorded, ReplayClaim, Requeued, ScanPage, ScanRequest, Settled, SharedValues,
    StoreSize, StoredEvent, search_index::IndexRequest,
};
use crate::{
    event::{EventKey, IncomingEvent, SourceName, Timestamp},
    ports::StoreError,
    store::{Attempt, ClaimToken, Settlement},
};

#[async_trait]
impl<S: EventStore + ?Sized> EventStore for Arc<S> {
    async fn record(&self, event: IncomingEvent, now: Timestamp) -> Result<Recorded, StoreError> {
        (**self).record(event, now).await
    }

    async fn record_all(
        &self,
        events: Vec<IncomingEvent>,
        now: Timestamp,
    ) -> Result<Vec<Recorded>, StoreError> {
        (**self).record_all(events, now).await
    }

    async fn claim_due(&self, request: ClaimRequest) -> Result<ClaimBatch, StoreError> {
        (**self).claim_due(request).await
    }

    async fn renew(
        &self,
        tokens: &[ClaimToken],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Settled>, StoreError> {
        (**self).renew(tokens, lease, now).await
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Settled>, StoreError> {
        (**self).settle(settlements).await
    }

    async fn replay(
        &self,
        key: &EventKey,
        lease: Duration,
        now: Timestamp,
    ) -> Result<ReplayClaim, StoreError> {
        (**self).replay(key, lease, now).await
    }

    async fn requeue(
        &self,
        keys: &[EventKey],
        now: Timestamp,
    ) -> Result<Vec<Requeued>, StoreError> {
        (**self).requeue(keys, now).await
    }
}

#[async_trait]
impl<S: EventArchive + ?Sized> EventArchive for Arc<S> {
    async fn find(&self, key: &EventKey) -> Result<Option<StoredEvent>, StoreError> {
        (**self).find(key).await
    }

    async fn list(&self, filter: &EventFilter, page: PageRequest) -> Result<EventPage, StoreError> {
        (**self).list(filter, page).await
    }

    async fn attempts(&self, key: &EventKey) -> Result<Vec<Attempt>, StoreError> {
        (**self).attempts(key).await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        (**self).counts().await
    }

    async fn backlog(&self) -> Result<BTreeMap<SourceName, Backlog>, StoreError> {
        (**self).backlog().await
    }

    async fn size(&self) -> Result<StoreSize, StoreError> {
        (**self).size().await
    }

    async fn purge(&self, request: PurgeRequest) -> Result<PurgeStep, StoreError> {
        (**self).purge(request).await
    }

    async fn purgeable(&self, request: PurgeRequest) -> Result<Purged, StoreError> {
        (**self).purgeable(request).await
    }

    async fn forget_sensitive(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        (**self).forget_sensitive(before, limit).await
    }

    async fn ready(&self) -> Result<(), StoreError> {
        (**self).ready().await
    }
}

#[async_trait]
impl<S: Quarantine + ?Sized> Quarantine for Arc<S> {
    async fn quarantine(
        &self,
        entry: QuarantineEntry,
        limits: QuarantineLimits,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        (**self).quarantine(entry, limits, now).await
    }

    async fn quarantined(&self, page: PageRequest) -> Result<QuarantinePage, StoreError> {
        (**self).quarantined(page).await
    }

    async fn quarantined_item(&self, id: i64) -> Result<Option<QuarantinedItem>, StoreError> {
        (**self).quarantined_item(id).await
    }

    async fn discharge(&self, id: i64) -> Result<bool, StoreError> {
        (**self).discharge(id).await
    }
}

#[async_trait]
impl<S: SharedValues + ?Sized> SharedValues for Arc<S> {
    async fn shared_value(&self, name: &str) -> Result<Option<String>, StoreError> {
        (**self).shared_value(name).await
    }

    async fn replace_shared_value(
        &self,
        name: &str,
        expected: Option<&str>,
        new: Option<&str>,
    ) -> Result<bool, StoreError> {
        (**self).replace_shared_value(name, expected, new).await
    }
}

#[async_trait]
impl<S: AuditLog + ?Sized> AuditLog for Arc<S> {
    async fn append_audit(&self, entry: AuditEntry) -> Result<(), StoreError> {
        (**self).append_audit(entry).await
    }

    async fn audited(
        &self,
        about: Option<&EventKey>,
        page: PageRequest,
    ) -> Result<AuditPage, StoreError> {
        (**self).audited(about, page).await
    }
}

#[async_trait]
impl<S: Administration + ?Sized> Administration for Arc<S> {
    async fn discard(
        &self,
        keys: &[EventKey],
        now: Timestamp,
    ) -> Result<Vec<Discarded>, StoreError> {
        (**self).discard(keys, now).await
    }

    async fn erase(
        &self,
        person: &Person,
        by: &str,
        now: Timestamp,
    ) -> Result<Erasure, StoreError> {
        (**self).erase(person, by, now).await
    }

    async fn scan(&self, request: &ScanRequest) -> Result<ScanPage, StoreError> {
        (**self).scan(request).await
    }

    async fn index(&self, request: &IndexRequest) -> Result<bool, StoreError> {
        (**self).index(request).await
    }
}
