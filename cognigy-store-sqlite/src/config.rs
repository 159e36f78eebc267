//! The options, and the reasons for their defaults.

use std::time::Duration;

use cognigy_core::EventOrder;

/// What a [`SqliteStore`](crate::SqliteStore) may do to its file.
///
/// ```
/// use cognigy_core::{EventArchive, EventStore, testing::sample};
/// use cognigy_store_sqlite::{SqliteAccess, SqliteOptions, SqliteStore};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("webhooks.db");
/// let server = SqliteStore::open(&path).await?;
/// server.record(sample::incoming(sample::body("e1")), sample::start()).await?;
/// # server.ready().await?;
/// # drop(server);
///
/// // A tool that looks into the database, beside a server or without one.
/// let options = SqliteOptions { access: SqliteAccess::Read, ..SqliteOptions::default() };
/// let tool = SqliteStore::open_with(&path, options).await?;
/// assert!(tool.find(&sample::key("e1")).await?.is_some());
/// assert!(tool.record(sample::incoming(sample::body("e2")), sample::start()).await.is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum SqliteAccess {
    /// Create the database if it is not there, read and write. The default. A database is never
    /// created beside the log (`-wal`, `-shm`, `-journal`) that another one left.
    #[default]
    Create,
    /// Read and write; without a database, opening fails.
    Write,
    /// Read only, beside processes that write or without any. Nothing in the folder is created or
    /// changed, and no lock is taken that writers wait for. A read-only file system is enough.
    /// Methods that change something fail as unavailable. One process should not open a file both
    /// this way and for writing: SQLite shares its state of a file within a process.
    Read,
}

/// How a [`SqliteStore`](crate::SqliteStore) uses its file.
///
/// ```
/// use std::time::Duration;
///
/// use cognigy_core::{AfterDeadLetter, EventOrder, Pipeline, testing::sample};
/// use cognigy_store_sqlite::{SqliteOptions, SqliteStore};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// # let path = folder.path().join("webhooks.db");
/// // A contact's events one at a time, and senders that must have an answer soon.
/// let options = SqliteOptions {
///     order: Some(EventOrder::PerContact(AfterDeadLetter::Continue)),
///     max_wait: Duration::from_millis(200),
///     ..SqliteOptions::default()
/// };
/// let store = SqliteStore::open_with(&path, options).await?;
/// let pipeline = Pipeline::builder(sample::verifier()).store(store).build()?;
/// let delivery = sample::delivery(sample::body("e1"));
/// assert_eq!(pipeline.ingest(delivery, sample::start()).await.status(), 200);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// What may be done to the file. Default [`SqliteAccess::Create`].
    pub access: SqliteAccess,
    /// Threads that read, each with a connection of its own. Default 2: reading is for operators,
    /// and one long listing should not hold up the look-up of a single event.
    pub readers: usize,
    /// Deliveries that may be waiting for the writer, and queries that may wait for a reader;
    /// beyond it a call fails as overloaded. Default 4096: as many as the bundled server holds
    /// connections. Receiving costs more than storing, so a receiver that is short of processors
    /// should store what it has received rather than refuse it. The waiting time is bounded by
    /// [`max_wait`](Self::max_wait). A worker's claims and settlements are not counted: there are
    /// few at a time, and they must not starve.
    pub queue_limit: usize,
    /// A delivery that has waited for longer than this when its turn comes fails as overloaded, or as
    /// unavailable where another program holds the lock of the file.
    /// Default 1 s: the sender should learn that the disk cannot keep up before its own time limit.
    pub max_wait: Duration,
    /// How long to wait for another process that holds the write lock before a call fails as
    /// unavailable. Default 5 s: longer than a backup or a shell's transaction should take, shorter
    /// than a webhook sender waits.
    pub busy_timeout: Duration,
    /// Whether to keep the order of each contact's events. It is a property of the file: every
    /// program that has it open follows the latest choice, from its next transaction on. Default
    /// `None`: unchanged, and no order in a new file. Turning it on or off takes one pass over the
    /// unfinished events.
    pub order: Option<EventOrder>,
    /// Pages in the WAL, of 4 KiB each, at which writing them back into the database begins.
    /// Default 4000, four times SQLite's own: pages that change with every transaction are written
    /// back once for all of them, and 16 MiB of WAL take only a moment to recover after a crash.
    pub checkpoint_pages: u32,
    /// Memory for the writer's pages, in KiB. Default 8 MiB: the upper levels of every index of ten
    /// million events; the operating system caches the rest.
    pub writer_cache_kib: u32,
    /// Memory for each reader's pages, in KiB. Default 2 MiB, SQLite's own.
    pub reader_cache_kib: u32,
}

impl Default for SqliteOptions {
    fn default() -> Self {
        Self {
            access: SqliteAccess::Create,
            readers: 2,
            queue_limit: 4096,
            max_wait: Duration::from_secs(1),
            busy_timeout: Duration::from_secs(5),
            order: None,
            checkpoint_pages: 4000,
            writer_cache_kib: 8 * 1024,
            reader_cache_kib: 2 * 1024,
        }
    }
}

/// The oldest SQLite that is safe: before 3.51.3, two connections that write or checkpoint at once
/// can corrupt a WAL database (sqlite.org/wal.html, "the WAL-reset bug").
pub(crate) const OLDEST_SQLITE: i32 = 3_051_003;

/// The most calls in one transaction. The longer a transaction, the longer its first call waits;
/// measured, an fsync is a small part of the cost from a few hundred on.
pub(crate) const MAX_GROUP: usize = 1024;

/// How many calls other than deliveries may wait for the writer: one of each kind for each worker
/// and for each operator's request.
pub(crate) const OTHER_CALLS: usize = 1024;

/// At this multiple of the pages at which write-back begins, the writer thread writes the WAL back
/// itself: the WAL must not grow without bound because the checkpoint thread died. Beyond this it
/// grows only while a long query holds it, or while three passes of a write-back are under way on a
/// slow disk: 245 MB were seen with ten million events, random ids and a purge.
pub(crate) const OVERDUE: u32 = 4;

/// How many pages may be left to the writer once most of the WAL is written back: a millisecond or
/// two of work.
pub(crate) const REMAINDER_PAGES: u32 = 300;

/// A WAL that grew beyond this while a long query held it is cut back, in bytes.
pub(crate) const WAL_LIMIT: u32 = 64 * 1024 * 1024;

/// Bodies that one claim takes, in bytes, beyond its first event: enough for a thousand usual
/// events, or sixteen of the largest, so that a backlog of large events does not fill the memory.
pub(crate) const CLAIM_BYTES: usize = 16 * 1024 * 1024;

/// Prepared statements kept per connection: more than the crate uses, so that none is parsed twice.
pub(crate) const STATEMENT_CACHE: usize = 96;
