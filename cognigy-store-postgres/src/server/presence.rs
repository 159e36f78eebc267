//! Whether a server with workers uses the database, for commands that run beside it.
//!
//! A process with workers holds a shared advisory lock of the database on a connection of its own.
//! The lock ends with the connection, however the process ends. Asking reads the list of locks and
//! takes none.

use std::time::Duration;

use cognigy_core::StoreError;
use deadpool_postgres::Object;
use tokio::task::JoinHandle;

use crate::{
    PostgresOptions,
    error::PostgresError,
    server::{pools::ConnectionPool, url::Target},
};

/// Names our lock among the advisory locks of the database: "cgnW"; beside it, the schema's name.
const LOCK: i32 = i32::from_be_bytes(*b"cgnW");

/// How soon a connection that was lost is noticed and made again.
const INTERVAL: Duration = Duration::from_secs(2);

/// Announces that this process runs workers on the database, until it is dropped.
///
/// ```no_run
/// use cognigy_store_postgres::WorkerPresence;
///
/// # async fn run() -> Result<(), cognigy_core::StoreError> {
/// let url = "postgres://events@db.example.com/events";
/// // A process that runs workers:
/// let presence = WorkerPresence::announce(url)?;
/// # let _ = presence;
///
/// // A tool that hands events to workers, and would wait in vain without one:
/// if !WorkerPresence::is_announced(url).await? {
///     eprintln!("no process works these events off");
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct WorkerPresence(JoinHandle<()>);

impl WorkerPresence {
    /// Announces it from now on, or as soon as the database can be reached. Runs on the current
    /// runtime.
    ///
    /// # Errors
    ///
    /// The URL cannot be used.
    pub fn announce(url: &str) -> Result<Self, StoreError> {
        let pool = pool(url)?;
        Ok(Self(tokio::spawn(async move {
            loop {
                if let Err(problem) = hold(&pool).await {
                    tracing::debug!(%problem, "the lock of those who work is not held");
                }
                tokio::time::sleep(INTERVAL).await;
            }
        })))
    }

    /// Whether any process announces workers on the database at `url` now.
    ///
    /// # Errors
    ///
    /// The database cannot be asked.
    pub async fn is_announced(url: &str) -> Result<bool, StoreError> {
        let pool = pool(url)?;
        let connection = pool.lend().await?;
        let sql = "SELECT EXISTS (
                       SELECT FROM pg_locks
                       WHERE locktype = 'advisory' AND granted AND objsubid = 2
                         AND database = (SELECT oid FROM pg_database
                                         WHERE datname = current_database())
                         AND classid = $1::int8::oid
                         AND objid = (hashtext(current_schema())::int8 & 4294967295)::oid)";
        let ask = async {
            let row = connection.query_one(sql, &[&i64::from(LOCK)]).await?;
            Ok::<bool, PostgresError>(row.try_get(0)?)
        };
        Ok(pool.within_deadline(ask).await?)
    }
}

impl Drop for WorkerPresence {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn pool(url: &str) -> Result<ConnectionPool, PostgresError> {
    let options = PostgresOptions::default();
    let target = Target::parse(url, &options)?;
    ConnectionPool::new(&target, target.config.clone(), &options, 1, Some(options.pool_timeout))
}

/// Holds the lock until the connection fails.
async fn hold(pool: &ConnectionPool) -> Result<(), PostgresError> {
    // Taken out of the pool: when this function ends, the connection is closed and the lock is
    // released.
    let connection = Object::take(pool.lend().await?);
    let lock = "SELECT pg_advisory_lock_shared($1, hashtext(current_schema()))";
    pool.within_deadline(async {
        Ok::<_, PostgresError>(connection.execute(lock, &[&LOCK]).await?)
    })
    .await?;
    loop {
        tokio::time::sleep(INTERVAL).await;
        pool.within_deadline(async { Ok::<_, PostgresError>(connection.simple_query("").await?) })
            .await?;
    }
}
