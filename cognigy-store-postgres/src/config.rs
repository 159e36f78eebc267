//! The options, and the reasons for their defaults.

use std::time::Duration;

use cognigy_core::EventOrder;

/// How a [`PostgresStore`](crate::PostgresStore) uses its database.
///
/// ```no_run
/// use std::time::Duration;
///
/// use cognigy_core::{AfterDeadLetter, EventOrder};
/// use cognigy_store_postgres::{PostgresOptions, PostgresStore};
///
/// # async fn run() -> Result<(), cognigy_core::StoreError> {
/// // Few connections, since many processes share the server; a contact's events one at a time.
/// let options = PostgresOptions {
///     writers: 1,
///     workers: 2,
///     readers: 1,
///     order: Some(EventOrder::PerContact(AfterDeadLetter::Continue)),
///     statement_timeout: Duration::from_secs(2),
///     ..PostgresOptions::default()
/// };
/// let store = PostgresStore::open_with("postgres://events@db.example.com/events", options).await?;
/// # let _ = store;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// Connections that record deliveries. Default 2: while one waits for its commit to reach the
    /// disk, the other sends the next batch; more of them only make the batches smaller.
    pub writers: usize,
    /// Connections for claims, settlements and renewals. Default 4: a worker uses one for each
    /// of the three, and an operator's replay finds one free.
    pub workers: usize,
    /// Connections that read. Default 2: reading is for operators, and one long listing should not
    /// hold up the look-up of a single event.
    pub readers: usize,
    /// Deliveries that may wait for a writer; beyond it a call fails as overloaded. Default 4096:
    /// eight full batches, well under a second of waiting.
    pub queue_limit: usize,
    /// Whether to make the schema where there is none, and bring an older one up to date. Default
    /// `true`; otherwise opening such a database fails.
    pub create: bool,
    /// How long to wait for a free connection before a call fails as overloaded. Default 1 s: it is
    /// better to tell a sender to retry than to keep it waiting.
    pub pool_timeout: Duration,
    /// How long connecting may take, name look-up, TLS and log-in together. Default 5 s.
    pub connect_timeout: Duration,
    /// How long one statement may take; the server ends it then. Default 5 s: a batch takes
    /// milliseconds, and a webhook's sender rarely waits longer than ten seconds.
    pub statement_timeout: Duration,
    /// How long a statement may wait for a lock, of an operator's transaction or a schema change.
    /// Default 2 s.
    pub lock_timeout: Duration,
    /// Whether to keep the order of each contact's events. It is a property of the database: all
    /// nodes go by what was asked for last, from their next statement on. Default `None`: as it was,
    /// and none in a new database. Turning it on or off takes one pass over the unfinished events,
    /// during which deliveries and claims wait or are refused.
    pub order: Option<EventOrder>,
    /// Which clock counts. Default [`TimeSource::Database`].
    pub time: TimeSource,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            writers: 2,
            workers: 4,
            readers: 2,
            queue_limit: 4096,
            create: true,
            pool_timeout: Duration::from_secs(1),
            connect_timeout: Duration::from_secs(5),
            statement_timeout: Duration::from_secs(5),
            lock_timeout: Duration::from_secs(2),
            order: None,
            time: TimeSource::Database,
        }
    }
}

/// Which clock decides what is due and which lease has run out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeSource {
    /// The database server's, so that nodes need not agree on the time. Times that a caller hands in
    /// are taken as distances from its own `now`.
    Database,
    /// The `now` of each call, for tests that set the time by hand. With several nodes their clocks
    /// would have to agree.
    Caller,
}

/// The most deliveries in one batch: from a few hundred on, the fsync is a small part of the cost,
/// and the first caller only waits longer.
pub(crate) const MAX_BATCH: usize = 512;

/// The most bytes of bodies in one batch. Both sides hold a batch in memory as a whole.
pub(crate) const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;

/// How much longer than the server's own limit a call may take: after it the server or the network
/// is gone, not merely busy, and the connection is closed.
pub(crate) const GRACE: Duration = Duration::from_secs(2);

/// How often a call that lost a deadlock or a race (SQLSTATE 40P01, 40001) is tried again.
pub(crate) const MAX_RACES_LOST: u32 = 3;

/// An idle connection is probed after this long, so that a firewall that dropped it in silence is
/// noticed before a delivery is sent over it.
pub(crate) const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);

/// The interval between unanswered probes, and how many of them end the connection.
pub(crate) const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// See [`KEEPALIVE_INTERVAL`].
pub(crate) const KEEPALIVE_RETRIES: u32 = 3;

/// The server ends a transaction that its client does not continue, because it holds locks.
pub(crate) const IDLE_IN_TRANSACTION: Duration = Duration::from_secs(10);
