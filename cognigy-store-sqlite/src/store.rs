//! The ports, implemented by calls to the writer and the readers.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use cognigy_core::{
    Administration, Attempt, AuditEntry, AuditLog, AuditPage, Backlog, ClaimBatch, ClaimRequest,
    ClaimToken, Counts, Discarded, Erasure, EventArchive, EventFilter, EventKey, EventPage,
    EventStore, IncomingEvent, PageRequest, Person, PurgeRequest, PurgeStep, Purged, Quarantine,
    QuarantineEntry, QuarantineLimits, QuarantinePage, QuarantinedItem, Recorded, ReplayClaim,
    Requeued, ScanPage, ScanRequest, Settled, Settlement, SharedValues, SourceName, StoreError,
    StoreSize, StoredEvent, Timestamp, search,
    search_index::{IndexRequest, SegmentBuilder},
};
use rusqlite::Connection;

use crate::{
    SqliteAccess, SqliteOptions,
    calls::{
        archive, audit, backup,
        claim::{self, LeaseWindow},
        discard, erase, probe, purge, quarantine, record, replay, scan, search_index, settle,
        shared_values,
    },
    error::SqliteError,
    file::{
        admission::Admission, database::Database, reader::Readers, write_batch::WriteBatch,
        writer::Writer,
    },
};

/// An event store in an SQLite file.
///
/// Cheap to clone; all clones are one store. Dropping the last one waits until all its calls are
/// committed, at most as long as one lock wait and a few transactions take, and leaves a single
/// file without a WAL if no other process has it open.
///
/// ```
/// use cognigy_core::{EventArchive, Pipeline, State, TokioClock, Clock, testing::sample};
/// use cognigy_store_sqlite::SqliteStore;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("webhooks.db");
/// let store = SqliteStore::open(&path).await?;
/// let pipeline = Pipeline::builder(sample::verifier()).store(store.clone()).build()?;
/// let now = TokioClock::new().now();
/// let reply = pipeline.ingest(sample::delivery(sample::body("e1")), now).await;
/// assert_eq!(reply.status(), 200); // the event is on the disk
///
/// // The next start finds it.
/// drop((pipeline, store));
/// let store = SqliteStore::open(&path).await?;
/// assert_eq!(store.find(&sample::key("e1")).await?.unwrap().state, State::Pending);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct SqliteStore {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    // Dropped first: the last connection to close writes the WAL back, which a reader cannot.
    readers: Readers,
    /// None if the file is only read.
    writer: Option<Writer>,
    intake: Admission,
    /// Whether the log may hold data that was purged.
    log_to_empty: Arc<AtomicBool>,
}

impl Inner {
    fn writer(&self) -> Result<&Writer, StoreError> {
        Ok(self.writer.as_ref().ok_or(SqliteError::OpenedForReading)?)
    }

    /// Empties the log if what was forgotten may still be readable in it.
    async fn empty_log(&self) -> Result<(), StoreError> {
        if !self.log_to_empty.load(Ordering::Relaxed) {
            return Ok(());
        }
        let log = Arc::clone(&self.log_to_empty);
        self.writer()?
            .perform(move |group| {
                group.log_to_empty = Some(Arc::clone(&log));
                Ok(())
            })
            .await
    }
}

impl SqliteStore {
    /// Opens the database at `path` with the default options; makes it if it is not there, readable
    /// for its owner only, and brings an older schema up to date. `path` may be a symbolic link.
    ///
    /// # Errors
    ///
    /// `Corrupt` if the file is not a database, another application's, or has a later schema; it is
    /// left as it was. `Unavailable` if it cannot be opened, written to, or put into WAL mode, as
    /// on a network file system; and if it is missing while its write-ahead log is there.
    pub async fn open(path: impl AsRef<Path>) -> Result<Self, StoreError> {
        Self::open_with(path, SqliteOptions::default()).await
    }

    /// As [`open`](Self::open), with options.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub async fn open_with(
        path: impl AsRef<Path>,
        options: SqliteOptions,
    ) -> Result<Self, StoreError> {
        let database = Database::new(path.as_ref(), options)?;
        let writer = match database.options.access {
            SqliteAccess::Read => None,
            SqliteAccess::Create | SqliteAccess::Write => {
                Some(Writer::start(database.clone()).await?)
            }
        };
        let readers = Readers::start(&database)?;
        if writer.is_none() {
            // Reads once, so that an unreadable file shows now and not at the first query.
            readers.query(|_| Ok(())).await?;
        }
        let lock = Arc::clone(&database.lock_wait);
        let intake = Admission::up_to(database.options.queue_limit, lock);
        Ok(Self {
            inner: Arc::new(Inner { readers, writer, intake, log_to_empty: Arc::default() }),
        })
    }

    /// Copies the database into `file`, which is there and empty, and syncs the copy. The copy has one state
    /// of the database: every event that was recorded before the call began is in it. Other processes
    /// go on reading and writing.
    ///
    /// # Errors
    ///
    /// If the database cannot be read or the file cannot be written. What is in the file then is of no
    /// use.
    ///
    /// ```
    /// use cognigy_core::{EventArchive, EventStore, testing::sample};
    /// use cognigy_store_sqlite::SqliteStore;
    ///
    /// # #[tokio::main]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let folder = tempfile::tempdir()?;
    /// let store = SqliteStore::open(folder.path().join("webhooks.db")).await?;
    /// store.record(sample::incoming(sample::body("e1")), sample::start()).await?;
    ///
    /// let copy = folder.path().join("copy.db");
    /// std::fs::File::create_new(&copy)?;
    /// store.back_up(&copy).await?;
    /// let copy = SqliteStore::open(&copy).await?;
    /// assert!(copy.find(&sample::key("e1")).await?.is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub async fn back_up(&self, file: impl AsRef<Path>) -> Result<(), StoreError> {
        let file = file.as_ref().to_owned();
        self.inner.readers.query(move |connection| backup::copy(connection, &file)).await
    }
}

#[async_trait]
impl EventStore for SqliteStore {
    async fn record(&self, event: IncomingEvent, now: Timestamp) -> Result<Recorded, StoreError> {
        let _place = self.inner.intake.enter()?;
        self.inner.writer()?.perform_soon(move |group| record::record(group, &event, now)).await
    }

    async fn record_all(
        &self,
        events: Vec<IncomingEvent>,
        now: Timestamp,
    ) -> Result<Vec<Recorded>, StoreError> {
        let _place = self.inner.intake.enter()?;
        let record_all = move |group: &mut WriteBatch<'_>| {
            events.iter().map(|event| record::record(group, event, now)).collect()
        };
        self.inner.writer()?.perform_soon(record_all).await
    }

    async fn claim_due(&self, request: ClaimRequest) -> Result<ClaimBatch, StoreError> {
        self.inner.writer()?.perform(move |group| claim::claim_due(group, &request)).await
    }

    async fn renew(
        &self,
        tokens: &[ClaimToken],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Settled>, StoreError> {
        let (tokens, window) = (tokens.to_vec(), LeaseWindow::new(now, lease));
        self.inner.writer()?.perform(move |group| settle::renew(group, &tokens, &window)).await
    }

    async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Settled>, StoreError> {
        let settlements = settlements.to_vec();
        self.inner.writer()?.perform(move |group| settle::settle(group, &settlements)).await
    }

    async fn replay(
        &self,
        key: &EventKey,
        lease: Duration,
        now: Timestamp,
    ) -> Result<ReplayClaim, StoreError> {
        let (key, window) = (key.clone(), LeaseWindow::new(now, lease));
        self.inner.writer()?.perform(move |group| replay::replay(group, &key, &window)).await
    }

    async fn requeue(
        &self,
        keys: &[EventKey],
        now: Timestamp,
    ) -> Result<Vec<Requeued>, StoreError> {
        let keys = keys.to_vec();
        self.inner.writer()?.perform(move |group| replay::requeue(group, &keys, now)).await
    }
}

#[async_trait]
impl EventArchive for SqliteStore {
    async fn find(&self, key: &EventKey) -> Result<Option<StoredEvent>, StoreError> {
        let key = key.clone();
        self.inner.readers.query(move |connection| archive::find(connection, &key)).await
    }

    async fn list(&self, filter: &EventFilter, page: PageRequest) -> Result<EventPage, StoreError> {
        if filter.is_search() {
            return search(self, filter, page).await;
        }
        let filter = filter.clone();
        self.inner.readers.query(move |connection| archive::list(connection, &filter, page)).await
    }

    async fn attempts(&self, key: &EventKey) -> Result<Vec<Attempt>, StoreError> {
        let key = key.clone();
        self.inner.readers.query(move |connection| archive::attempts(connection, &key)).await
    }

    async fn counts(&self) -> Result<Counts, StoreError> {
        self.inner.readers.query(archive::counts).await
    }

    async fn backlog(&self) -> Result<BTreeMap<SourceName, Backlog>, StoreError> {
        self.inner.readers.query(archive::backlog).await
    }

    async fn size(&self) -> Result<StoreSize, StoreError> {
        self.inner.readers.query(archive::size).await
    }

    async fn purge(&self, request: PurgeRequest) -> Result<PurgeStep, StoreError> {
        let Inner { readers, log_to_empty, .. } = &*self.inner;
        let writer = self.inner.writer()?;
        let events = readers.query(move |file| purge::find(file, &request)).await?;
        let last = events.last().copied().filter(|_| events.len() == request.limit);
        let purged = writer.perform(move |group| purge::remove(group, &events, &request)).await?;
        if !purged.is_empty() {
            log_to_empty.store(true, Ordering::Relaxed);
        }
        let step = PurgeStep::up_to(last, purged, request.limit);
        if step.next.is_none() {
            self.inner.empty_log().await?;
        }
        Ok(step)
    }

    async fn forget_sensitive(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError> {
        let writer = self.inner.writer()?;
        let forget =
            move |group: &mut WriteBatch<'_>| purge::forget_sensitive(group, before, limit);
        let count = writer.perform(forget).await?;
        if count > 0 {
            self.inner.log_to_empty.store(true, Ordering::Relaxed);
        }
        if count < limit as u64 {
            self.inner.empty_log().await?;
        }
        Ok(count)
    }

    async fn purgeable(&self, request: PurgeRequest) -> Result<Purged, StoreError> {
        self.inner.readers.query(move |connection| purge::count(connection, &request)).await
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.inner.writer()?.perform(probe::ready).await
    }
}

#[async_trait]
impl Quarantine for SqliteStore {
    async fn quarantine(
        &self,
        entry: QuarantineEntry,
        limits: QuarantineLimits,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        let _place = self.inner.intake.enter()?;
        let writer = self.inner.writer()?;
        let evicted =
            writer.perform_soon(move |group| quarantine::keep(group, &entry, limits, now)).await?;
        if evicted > 0 {
            self.inner.log_to_empty.store(true, Ordering::Relaxed);
        }
        Ok(evicted)
    }

    async fn quarantined(&self, page: PageRequest) -> Result<QuarantinePage, StoreError> {
        self.inner.readers.query(move |connection| quarantine::page(connection, page)).await
    }

    async fn quarantined_item(&self, id: i64) -> Result<Option<QuarantinedItem>, StoreError> {
        self.inner.readers.query(move |connection| quarantine::find(connection, id)).await
    }

    async fn discharge(&self, id: i64) -> Result<bool, StoreError> {
        self.inner.log_to_empty.store(true, Ordering::Relaxed);
        self.inner.writer()?.perform(move |group| quarantine::discharge(group, id)).await
    }
}

#[async_trait]
impl SharedValues for SqliteStore {
    async fn shared_value(&self, name: &str) -> Result<Option<String>, StoreError> {
        let name = name.to_owned();
        self.inner.readers.query(move |connection| shared_values::read(connection, &name)).await
    }

    async fn replace_shared_value(
        &self,
        name: &str,
        expected: Option<&str>,
        new: Option<&str>,
    ) -> Result<bool, StoreError> {
        let owned = |text: Option<&str>| text.map(ToOwned::to_owned);
        let (name, expected, new) = (name.to_owned(), owned(expected), owned(new));
        // What was replaced may be a token.
        self.inner.log_to_empty.store(true, Ordering::Relaxed);
        let replace = move |group: &mut WriteBatch<'_>| {
            shared_values::replace(group, &name, expected.as_deref(), new.as_deref())
        };
        self.inner.writer()?.perform(replace).await
    }
}

#[async_trait]
impl AuditLog for SqliteStore {
    async fn append_audit(&self, entry: AuditEntry) -> Result<(), StoreError> {
        self.inner.writer()?.perform(move |group| audit::append(group, &entry)).await
    }

    async fn audited(
        &self,
        about: Option<&EventKey>,
        page: PageRequest,
    ) -> Result<AuditPage, StoreError> {
        let about = about.cloned();
        self.inner.readers.query(move |file| audit::page(file, about.as_ref(), page)).await
    }
}

#[async_trait]
impl Administration for SqliteStore {
    async fn discard(
        &self,
        keys: &[EventKey],
        now: Timestamp,
    ) -> Result<Vec<Discarded>, StoreError> {
        let keys = keys.to_vec();
        self.inner.writer()?.perform(move |group| discard::discard(group, &keys, now)).await
    }

    async fn erase(
        &self,
        person: &Person,
        by: &str,
        now: Timestamp,
    ) -> Result<Erasure, StoreError> {
        let Inner { readers, log_to_empty, .. } = &*self.inner;
        let (writer, person, by) = (self.inner.writer()?, Arc::new(person.clone()), by.to_owned());
        let receipt = writer.perform(move |group| erase::begin(group, &by, now)).await?;
        let mut erasure = Erasure { id: receipt, ..Erasure::default() };
        let (mut keys, mut after) = (Vec::new(), i64::MIN);
        loop {
            let of = Arc::clone(&person);
            let (found, next) = readers.query(move |file| erase::find(file, &of, after)).await?;
            if !found.is_empty() {
                let of = Arc::clone(&person);
                let erase = move |group: &mut WriteBatch<'_>| {
                    erase::erase(group, receipt, &of, &found, now)
                };
                let erased = writer.perform(erase).await?;
                log_to_empty.store(true, Ordering::Relaxed);
                erasure.dead_letters += erased.dead_letters;
                erasure.sent.extend(erased.sent);
                keys.extend(erased.keys);
            }
            let Some(next) = next else { break };
            after = next;
        }
        erasure.events = keys.len() as u64;
        let of = Arc::clone(&person);
        let filters = readers.query(move |file| erase::find_filters(file, &of)).await?;
        writer.perform(move |group| erase::clear_filters(group, &filters)).await?;
        let find = move |file: &Connection| erase::find_quarantined(file, &person, &keys);
        let bodies = readers.query(find).await?;
        let discharge = move |group: &mut WriteBatch<'_>| erase::discharge(group, receipt, &bodies);
        erasure.quarantined = writer.perform(discharge).await?;
        log_to_empty.store(true, Ordering::Relaxed);
        self.inner.empty_log().await?;
        Ok(erasure)
    }

    async fn scan(&self, request: &ScanRequest) -> Result<ScanPage, StoreError> {
        let request = request.clone();
        self.inner.readers.query(move |connection| scan::scan(connection, &request)).await
    }

    async fn index(&self, request: &IndexRequest) -> Result<bool, StoreError> {
        let Inner { readers, .. } = &*self.inner;
        let (writer, request) = (self.inner.writer()?, *request);
        let plan = move |file: &Connection| search_index::plan(file, &request);
        let Some(range) = readers.query(plan).await? else { return Ok(false) };
        let first = range.first;
        // From here on the database notes what changes in the range.
        let begin = move |group: &mut WriteBatch<'_>| search_index::begin(group, range, &request);
        let Some(token) = writer.perform(begin).await? else { return Ok(true) };
        let segment = Arc::new(Mutex::new(SegmentBuilder::new(first)));
        let mut next = Some(range.last);
        while let Some(highest) = next {
            let segment = Arc::clone(&segment);
            let describe = move |file: &Connection| {
                let mut segment = segment.lock().unwrap_or_else(PoisonError::into_inner);
                search_index::describe(file, range, highest, token, &mut segment)
            };
            next = readers.query(describe).await?;
        }
        let segment = std::mem::replace(
            &mut *segment.lock().unwrap_or_else(PoisonError::into_inner),
            SegmentBuilder::new(first),
        );
        let (parts, undescribed) = segment.finish();
        let mut parts = parts.into_iter().peekable();
        while parts.peek().is_some() {
            let some: Vec<_> = parts.by_ref().take(search_index::PARTS).collect();
            let write =
                move |group: &mut WriteBatch<'_>| search_index::write(group, first, token, &some);
            if !writer.perform(write).await? {
                return Ok(true);
            }
        }
        let finish = move |group: &mut WriteBatch<'_>| {
            search_index::finish(group, first, token, &undescribed)
        };
        writer.perform(finish).await?;
        Ok(true)
    }
}
