//! A store that does not always answer: the reference store behind a line (a connection) that hangs
//! or breaks.

use std::{
    collections::{BTreeMap, VecDeque},
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use cognigy_core::{
    Administration, Attempt, AuditEntry, AuditLog, AuditPage, Backlog, ClaimBatch, ClaimRequest,
    ClaimToken, Clock, Counts, Discarded, Erasure, EventArchive, EventFilter, EventKey, EventPage,
    EventStore, IncomingEvent, PageRequest, Person, PurgeRequest, PurgeStep, Purged, Quarantine,
    QuarantineEntry, QuarantineLimits, QuarantinePage, QuarantinedItem, Recorded, ReplayClaim,
    Requeued, ScanPage, ScanRequest, Settled, Settlement, SharedValues, SourceName, StoreError,
    StoreErrorKind, StoreSize, StoredEvent, Timestamp, memory::MemoryStore, testing::ManualClock,
};

/// What happens to a call.
#[derive(Debug, Clone, Copy)]
pub enum Line {
    /// It takes effect, and the answer comes after this long.
    Slow(Duration),
    /// It does not take effect, and no answer comes.
    Hangs,
    /// It does not take effect, and the caller gets an error.
    Breaks,
}

/// Clones are the same store behind the same line.
#[derive(Clone)]
pub struct DistantStore {
    inner: Arc<MemoryStore>,
    clock: ManualClock,
    script: Arc<Mutex<VecDeque<(&'static str, Line)>>>,
    calls: Arc<Mutex<BTreeMap<&'static str, usize>>>,
}

impl DistantStore {
    pub fn new(clock: ManualClock) -> Self {
        Self { inner: Arc::default(), clock, script: Arc::default(), calls: Arc::default() }
    }

    /// The store without the line.
    pub fn near(&self) -> Arc<MemoryStore> {
        Arc::clone(&self.inner)
    }

    /// The next call of `operation` without a scripted line meets `line`.
    pub fn then(&self, operation: &'static str, line: Line) {
        self.script.lock().unwrap().push_back((operation, line));
    }

    /// How often `operation` was called.
    pub fn calls(&self, operation: &'static str) -> usize {
        self.calls.lock().unwrap().get(operation).copied().unwrap_or_default()
    }

    /// How many scripted lines no call has met.
    pub fn left(&self) -> usize {
        self.script.lock().unwrap().len()
    }

    async fn on<T>(
        &self,
        operation: &'static str,
        call: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        *self.calls.lock().unwrap().entry(operation).or_default() += 1;
        let line = {
            let mut script = self.script.lock().unwrap();
            let next = script.iter().position(|(name, _)| *name == operation);
            next.and_then(|next| script.remove(next)).map(|(_, line)| line)
        };
        match line {
            None => call.await,
            Some(Line::Slow(time)) => {
                let answer = call.await;
                self.clock.sleep_until(self.clock.now() + time).await;
                answer
            }
            Some(Line::Hangs) => std::future::pending().await,
            Some(Line::Breaks) => Err(StoreError::new(StoreErrorKind::Unavailable, "no line")),
        }
    }
}

#[async_trait]
impl EventStore for DistantStore {
    async fn record(&self, event: IncomingEvent, now: Timestamp) -> Result<Recorded, StoreError> {
        self.on("record", self.inner.record(event, now)).await
    }
    async fn record_all(
        &self,
        events: Vec<IncomingEvent>,
        now: Timestamp,
    ) -> Result<Vec<Recorded>, StoreError> {
        self.on("record_all", self.inner.record_all(events, now)).await
    }
    async fn claim_due(&self, request: ClaimRequest) -> Result<ClaimBatch, StoreError> {
        self.on("claim", self.inner.claim_due(request)).await
    }
    async fn renew(
        &self,
        tokens: &[ClaimToken],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Settled>, StoreError> {
        self.on("renew", self.inner.renew(tokens, lease, now)).await
    }
    async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Settled>, StoreError> {
        self.on("settle", self.inner.settle(settlements)).await
    }
    async fn replay(
        &self,
        key: &EventKey,
        lease: Duration,
        now: Timestamp,
    ) -> Result<ReplayClaim, StoreError> {
        self.on("replay", self.inner.replay(key, lease, now)).await
    }
    async fn requeue(
        &self,
        keys: &[EventKey],
        now: Timestamp,
    ) -> Result<Vec<Requeued>, StoreError> {
        self.on("requeue", self.inner.requeue(keys, now)).await
    }
}

#[async_trait]
impl EventArchive for DistantStore {
    async fn find(&self, key: &EventKey) -> Result<Option<StoredEvent>, StoreError> {
        self.inner.find(key).await
    }
    async fn list(&self, filter: &EventFilter, page: PageRequest) -> Result<EventPage, StoreError> {
        self.inner.list(filter, page).await
    }
    async fn attempts(&self, key: &EventKey) -> Result<Vec<Attempt>, StoreError> {
        self.inner.attempts(key).await
    }
    async fn counts(&self) -> Result<Counts, StoreError> {
        self.inner.counts().await
    }
    async fn backlog(&self) -> Result<BTreeMap<SourceName, Backlog>, StoreError> {
        self.inner.backlog().await
    }
    async fn size(&self) -> Result<StoreSize, StoreError> {
        self.inner.size().await
    }
    async fn purge(&self, request: PurgeRequest) -> Result<PurgeStep, StoreError> {
        self.inner.purge(request).await
    }
    async fn purgeable(&self, request: PurgeRequest) -> Result<Purged, StoreError> {
        self.inner.purgeable(request).await
    }
    async fn forget_sensitive(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        self.inner.forget_sensitive(before, limit).await
    }
    async fn ready(&self) -> Result<(), StoreError> {
        self.on("ready", self.inner.ready()).await
    }
}

#[async_trait]
impl Quarantine for DistantStore {
    async fn quarantine(
        &self,
        entry: QuarantineEntry,
        limits: QuarantineLimits,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        self.inner.quarantine(entry, limits, now).await
    }
    async fn quarantined(&self, page: PageRequest) -> Result<QuarantinePage, StoreError> {
        self.inner.quarantined(page).await
    }
    async fn quarantined_item(&self, id: i64) -> Result<Option<QuarantinedItem>, StoreError> {
        self.inner.quarantined_item(id).await
    }
    async fn discharge(&self, id: i64) -> Result<bool, StoreError> {
        self.inner.discharge(id).await
    }
}

#[async_trait]
impl SharedValues for DistantStore {
    async fn shared_value(&self, name: &str) -> Result<Option<String>, StoreError> {
        self.inner.shared_value(name).await
    }
    async fn replace_shared_value(
        &self,
        name: &str,
        expected: Option<&str>,
        new: Option<&str>,
    ) -> Result<bool, StoreError> {
        self.inner.replace_shared_value(name, expected, new).await
    }
}

#[async_trait]
impl AuditLog for DistantStore {
    async fn append_audit(&self, entry: AuditEntry) -> Result<(), StoreError> {
        self.inner.append_audit(entry).await
    }
    async fn audited(
        &self,
        about: Option<&EventKey>,
        page: PageRequest,
    ) -> Result<AuditPage, StoreError> {
        self.inner.audited(about, page).await
    }
}

#[async_trait]
impl Administration for DistantStore {
    async fn discard(
        &self,
        keys: &[EventKey],
        now: Timestamp,
    ) -> Result<Vec<Discarded>, StoreError> {
        self.inner.discard(keys, now).await
    }
    async fn erase(
        &self,
        person: &Person,
        by: &str,
        now: Timestamp,
    ) -> Result<Erasure, StoreError> {
        self.inner.erase(person, by, now).await
    }
    async fn scan(&self, request: &ScanRequest) -> Result<ScanPage, StoreError> {
        self.inner.scan(request).await
    }
}
