//! The ports, implemented by calls to the writers and the pools.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use async_trait::async_trait;
use cognigy_core::{
    Administration, Attempt, AuditEntry, AuditLog, AuditPage, Backlog, ClaimBatch, ClaimRequest,
    ClaimToken, Counts, Discarded, Erasure, EventArchive, EventFilter, EventKey, EventOrder,
    EventPage, EventStore, IncomingEvent, PageRequest, Person, PurgeRequest, PurgeStep, Purged,
    Quarantine, QuarantineEntry, QuarantineLimits, QuarantinePage, QuarantinedItem, Recorded,
    ReplayClaim, Requeued, ScanPage, ScanRequest, Settled, Settlement, SharedValues, SourceName,
    StoreError, StoreSize, StoredEvent, Timestamp, search, search_index::IndexRequest,
};

use crate::{
    PostgresOptions, TimeSource,
    calls::{
        archive, audit,
        claim::{self, LeaseWindow},
        contact_queue::{self, OrderHint},
        discard, erase, probe, purge, quarantine,
        record::Delivery,
        replay, scan, search_index, settle, shared_values,
    },
    error::PostgresError,
    schema,
    server::{
        batch_writer::Writers,
        maintenance::Upkeep,
        pools::{Connections, Tries, perform},
    },
};

/// The pause between two transactions of a purge that remove bytes row by row.
const PURGE_PAUSE: Duration = Duration::from_millis(20);

/// A segment of the index is begun anew later if transactions that were under way then have not ended after
/// so many looks, with a pause between any two: three seconds.
const INDEX_WAITS: u32 = 150;
const INDEX_WAIT: Duration = Duration::from_millis(20);

/// An event store in a PostgreSQL database.
///
/// Cheap to clone; all clones are one store. It lives on the tokio runtime it was opened on.
///
/// ```no_run
/// use cognigy_core::{EventArchive, Pipeline, Source};
/// use cognigy_store_postgres::PostgresStore;
///
/// # async fn run(source: Source) -> Result<(), Box<dyn std::error::Error>> {
/// // Every process of the service does the same: they share the events and the work.
/// let store = PostgresStore::open("postgres://events:password@db.example.com/events").await?;
/// let pipeline = Pipeline::builder(source).store(store.clone()).build()?;
/// println!("{:?}", store.counts().await?.by_state);
/// # let _ = pipeline;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct PostgresStore {
    inner: Arc<Inner>,
}

struct Inner {
    connections: Connections,
    writers: Writers,
    options: PostgresOptions,
    /// Whether the order of each contact's events is kept.
    order: Arc<OrderHint>,
    /// Sources and fences of claims whose answer was lost and that may have taken effect.
    doubtful: Mutex<Vec<(SourceName, i64)>>,
    _upkeep: Upkeep,
}

impl PostgresStore {
    /// Connects to the database at `url` with the default options, and makes the schema or brings an
    /// older one up to date.
    ///
    /// The URL is libpq's: `postgres://user:password@host:port/database?sslmode=…`. Without
    /// `sslmode`, a server on another machine has to prove its name by a certificate that the
    /// system trusts (`verify-full`), and the connection to one on this machine is not encrypted.
    /// Several hosts may be named; the one that takes writes is used. Without a host
    /// (`postgresql:///database`) it is the socket in `/var/run/postgresql` or `/tmp`, and else
    /// `localhost`.
    ///
    /// # Errors
    ///
    /// `Corrupt` if the schema is a later one that this program cannot work with. `Unavailable` if
    /// the URL is wrong, the server cannot be reached, is read-only, or stands behind a pooler that
    /// drops the settings of a session.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        Self::open_with(url, PostgresOptions::default()).await
    }

    /// As [`open`](Self::open), with options.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub async fn open_with(url: &str, options: PostgresOptions) -> Result<Self, StoreError> {
        let connections = Connections::new(url, &options)?;
        let mut connection = connections.working.lend().await?;
        if options.create {
            schema::migrate(&mut connection).await?;
        } else {
            schema::must_be_current(&connection).await?;
        }
        drop(connection);
        let order = Arc::new(OrderHint::new(agree(&connections, options.order).await?));
        let writers = Writers::start(&connections.writing, &options, &order);
        let with_days = options.time == TimeSource::Database;
        let upkeep = Upkeep::start(connections.reading.clone(), with_days);
        let doubtful = Mutex::new(Vec::new());
        let inner = Inner { connections, writers, options, order, doubtful, _upkeep: upkeep };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// `now`, if the caller's clock counts.
    fn now(&self, now: Timestamp) -> Option<Timestamp> {
        self.caller_clock().then_some(now)
    }

    pub(crate) fn order(&self) -> &OrderHint {
        &self.inner.order
    }

    pub(crate) fn caller_clock(&self) -> bool {
        self.inner.options.time == TimeSource::Caller
    }

    pub(crate) fn connections(&self) -> &Connections {
        &self.inner.connections
    }

    pub(crate) fn options(&self) -> &PostgresOptions {
        &self.inner.options
    }

    fn term(&self, now: Timestamp, lease: Duration) -> LeaseWindow {
        LeaseWindow::new(self.inner.options.time, now, lease)
    }

    fn doubtful(&self) -> std::sync::MutexGuard<'_, Vec<(SourceName, i64)>> {
        self.inner.doubtful.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Releases what an unanswered claim may have taken, so that it need not wait for its lease to
    /// run out.
    async fn clear_doubts(&self, now: Option<Timestamp>) -> Result<(), StoreError> {
        let claims = std::mem::take(&mut *self.doubtful());
        if claims.is_empty() {
            return Ok(());
        }
        let working = &self.inner.connections.working;
        let result = perform!(working, connection => claim::give_back(connection, &claims, now));
        if result.is_err() {
            self.doubtful().extend(claims);
        }
        Ok(result?)
    }

    async fn claim(
        &self,
        request: &ClaimRequest,
        term: LeaseWindow,
    ) -> Result<ClaimBatch, PostgresError> {
        let working = &self.inner.connections.working;
        let claimed = perform!(working, connection => claim::claim_due(connection, request, term))?;
        let doubtful = claimed.doubtful.map(|fence| (request.source.clone(), fence));
        self.doubtful().extend(doubtful);
        match claimed.problem {
            // Dead letters that were claimed before the error are still returned.
            Some(problem) if claimed.batch.is_empty() => Err(problem),
            _ => Ok(claimed.batch),
        }
    }
}

/// Without the deadline of other calls, because it may pass over a whole backlog.
async fn agree(
    connections: &Connections,
    wanted: Option<EventOrder>,
) -> Result<EventOrder, PostgresError> {
    let mut tries = Tries::new(false);
    loop {
        let mut connection = connections.working.lend().await?;
        let agreed = contact_queue::agree(&mut connection, wanted).await;
        if let Some(agreed) = tries.end(Some(connection), agreed).await {
            return agreed;
        }
    }
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore")
            .field("options", &self.inner.options)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl EventStore for PostgresStore {
    async fn record(&self, event: IncomingEvent, now: Timestamp) -> Result<Recorded, StoreError> {
        let delivery = Delivery { event, now: self.now(now) };
        self.inner.writers.record(vec![delivery]).await.map(|mut answers| answers.swap_remove(0))
    }

    async fn record_all(
        &self,
        events: Vec<IncomingEvent>,
        now: Timestamp,
    ) -> Result<Vec<Recorded>, StoreError> {
        if events.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.now(now);
        let delivery = |event| Delivery { event, now };
        self.inner.writers.record(events.into_iter().map(delivery).collect()).await
    }

    async fn claim_due(&self, request: ClaimRequest) -> Result<ClaimBatch, StoreError> {
        let term = self.term(request.now, request.lease);
        self.clear_doubts(term.now).await?;
        Ok(self.claim(&request, term).await?)
    }

    async fn renew(
        &self,
        tokens: &[ClaimToken],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Settled>, StoreError> {
        let (working, term) = (&self.inner.connections.working, self.term(now, lease));
        Ok(perform!(working, connection => settle::renew(connection, tokens, term))?)
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Settled>, StoreError> {
        let (working, ours) = (&self.inner.connections.working, self.caller_clock());
        let order = &*self.inner.order;
        Ok(perform!(working, connection => settle::settle(connection, settlements, ours, order))?)
    }

    async fn replay(
        &self,
        key: &EventKey,
        lease: Duration,
        now: Timestamp,
    ) -> Result<ReplayClaim, StoreError> {
        let (working, term) = (&self.inner.connections.working, self.term(now, lease));
        Ok(perform!(working, connection => replay::replay(connection, key, term))?)
    }

    async fn requeue(
        &self,
        keys: &[EventKey],
        now: Timestamp,
    ) -> Result<Vec<Requeued>, StoreError> {
        let (working, now) = (&self.inner.connections.working, self.now(now));
        Ok(perform!(working, connection => replay::requeue(connection, keys, now))?)
    }
}

#[async_trait]
impl EventArchive for PostgresStore {
    async fn find(&self, key: &EventKey) -> Result<Option<StoredEvent>, StoreError> {
        let reading = &self.inner.connections.reading;
        Ok(perform!(again reading, connection => archive::find(connection, key))?)
    }

    async fn list(&self, filter: &EventFilter, page: PageRequest) -> Result<EventPage, StoreError> {
        if filter.is_search() {
            return search(self, filter, page).await;
        }
        let reading = &self.inner.connections.reading;
        Ok(perform!(again reading, connection => archive::list(connection, filter, page))?)
    }

    async fn attempts(&self, key: &EventKey) -> Result<Vec<Attempt>, StoreError> {
        let reading = &self.inner.connections.reading;
        Ok(perform!(again reading, connection => archive::attempts(connection, key))?)
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        let reading = &self.inner.connections.reading;
        Ok(perform!(again reading, connection => archive::counts(connection))?)
    }

    async fn backlog(&self) -> Result<BTreeMap<SourceName, Backlog>, StoreError> {
        let reading = &self.inner.connections.reading;
        Ok(perform!(again reading, connection => archive::backlog(connection))?)
    }

    async fn size(&self) -> Result<StoreSize, StoreError> {
        let reading = &self.inner.connections.reading;
        Ok(perform!(again reading, connection => archive::size(connection))?)
    }

    async fn purge(&self, request: PurgeRequest) -> Result<PurgeStep, StoreError> {
        let working = &self.inner.connections.working;
        let step = perform!(working, connection => purge::remove(connection, request))?;
        if step.next.is_none() {
            // No event is left to remove one by one.
            while perform!(working, connection => purge::remove_bytes(connection, request))? > 0 {
                tokio::time::sleep(PURGE_PAUSE).await;
            }
        }
        Ok(step)
    }

    async fn purgeable(&self, request: PurgeRequest) -> Result<Purged, StoreError> {
        let reading = &self.inner.connections.reading;
        Ok(perform!(again reading, connection => purge::count(connection, request))?)
    }

    async fn forget_sensitive(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        let working = &self.inner.connections.working;
        Ok(perform!(working, connection => purge::forget_sensitive(connection, before, limit))?)
    }

    async fn ready(&self) -> Result<(), StoreError> {
        let (writing, order) = (&self.inner.connections.writing, &*self.inner.order);
        Ok(perform!(again writing, connection => probe::ready(connection, order))?)
    }
}

#[async_trait]
impl Quarantine for PostgresStore {
    async fn quarantine(
        &self,
        entry: QuarantineEntry,
        limits: QuarantineLimits,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let (working, now) = (&self.inner.connections.working, self.now(now));
        let entry = &entry;
        Ok(perform!(again working, connection => quarantine::keep(connection, entry, limits, now))?)
    }

    async fn quarantined(&self, page: PageRequest) -> Result<QuarantinePage, StoreError> {
        let reading = &self.inner.connections.reading;
        Ok(perform!(again reading, connection => quarantine::page(connection, page))?)
    }

    async fn quarantined_item(&self, id: i64) -> Result<Option<QuarantinedItem>, StoreError> {
        let reading = &self.inner.connections.reading;
        Ok(perform!(again reading, connection => quarantine::find(connection, id))?)
    }

    async fn discharge(&self, id: i64) -> Result<bool, StoreError> {
        let working = &self.inner.connections.working;
        Ok(perform!(working, connection => quarantine::discharge(connection, id))?)
    }
}

#[async_trait]
impl SharedValues for PostgresStore {
    async fn shared_value(&self, name: &str) -> Result<Option<String>, StoreError> {
        let reading = &self.inner.connections.working;
        Ok(perform!(again reading, connection => shared_values::find(connection, name))?)
    }

    async fn replace_shared_value(
        &self,
        name: &str,
        expected: Option<&str>,
        new: Option<&str>,
    ) -> Result<bool, StoreError> {
        let working = &self.inner.connections.working;
        Ok(
            perform!(working, connection => shared_values::replace(connection, name, expected, new))?,
        )
    }
}

#[async_trait]
impl AuditLog for PostgresStore {
    async fn append_audit(&self, entry: AuditEntry) -> Result<(), StoreError> {
        let (working, now) = (&self.inner.connections.working, self.now(entry.at));
        let entry = &entry;
        Ok(perform!(working, connection => audit::append(connection, entry, now))?)
    }

    async fn audited(
        &self,
        about: Option<&EventKey>,
        page: PageRequest,
    ) -> Result<AuditPage, StoreError> {
        let reading = &self.inner.connections.reading;
        Ok(perform!(again reading, connection => audit::page(connection, about, page))?)
    }
}

#[async_trait]
impl Administration for PostgresStore {
    async fn discard(
        &self,
        keys: &[EventKey],
        now: Timestamp,
    ) -> Result<Vec<Discarded>, StoreError> {
        let (working, now) = (&self.inner.connections.working, self.now(now));
        Ok(perform!(working, connection => discard::discard(connection, keys, now))?)
    }

    async fn erase(
        &self,
        person: &Person,
        by: &str,
        now: Timestamp,
    ) -> Result<Erasure, StoreError> {
        let (working, now) = (&self.inner.connections.working, self.now(now));
        let receipt = perform!(working, connection => erase::begin(connection, by, now))?;
        let mut erasure = Erasure { id: receipt, ..Erasure::default() };
        let (mut keys, mut after) = (Vec::new(), i64::MIN);
        loop {
            let erased = perform!(working, connection => {
                erase::erase(connection, receipt, person, after, now)
            })?;
            erasure.dead_letters += erased.dead_letters;
            erasure.sent.extend(erased.sent);
            keys.extend(erased.keys);
            let Some(next) = erased.next else { break };
            after = next;
        }
        erasure.events = keys.len() as u64;
        perform!(working, connection => erase::clear_filters(connection, person))?;
        let mut after = i64::MIN;
        loop {
            let (count, last) = perform!(working, connection => {
                erase::discharge(connection, receipt, person, &keys, after)
            })?;
            erasure.quarantined += count;
            let Some(last) = last else { return Ok(erasure) };
            after = last;
        }
    }

    async fn scan(&self, request: &ScanRequest) -> Result<ScanPage, StoreError> {
        let reading = &self.inner.connections.reading;
        Ok(perform!(again reading, connection => scan::scan(connection, request))?)
    }

    async fn index(&self, request: &IndexRequest) -> Result<bool, StoreError> {
        let Connections { reading, working, .. } = &self.inner.connections;
        let Some(range) = perform!(again reading, connection => {
            search_index::plan(connection, request)
        })?
        else {
            return Ok(false);
        };
        // From here on the database notes what changes in the range.
        let begun = perform!(working, connection => {
            search_index::begin(connection, range, request)
        })?;
        let Some(token) = begun else { return Ok(true) };
        let horizon = perform!(again reading, connection => search_index::horizon(connection))?;
        let mut waits = 0;
        while !perform!(again reading, connection => search_index::has_passed(connection, horizon))?
        {
            waits += 1;
            if waits == INDEX_WAITS {
                // A long transaction is under way. What was begun is begun anew later.
                return Ok(false);
            }
            tokio::time::sleep(INDEX_WAIT).await;
        }
        let described = perform!(again reading, connection => {
            search_index::describe(connection, range, token)
        })?;
        let Some((parts, undescribed)) = described else { return Ok(true) };
        for parts in parts.chunks(search_index::PARTS) {
            let is_wanted = perform!(working, connection => {
                search_index::write(connection, range.first, token, parts)
            })?;
            if !is_wanted {
                return Ok(true);
            }
        }
        perform!(working, connection => {
            search_index::finish(connection, range.first, token, &undescribed)
        })?;
        Ok(true)
    }
}
