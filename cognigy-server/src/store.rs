//! Opening the store.

use std::sync::Arc;
#[cfg(feature = "postgres")]
use std::time::{Duration, Instant};

#[cfg(feature = "postgres")]
use cognigy_core::report;
use cognigy_core::{EventOrder, Store};
#[cfg(feature = "postgres")]
use cognigy_store_postgres::{PostgresOptions, PostgresStore, is_not_up_yet};
use cognigy_store_sqlite::{SqliteAccess, SqliteOptions, SqliteStore};

use crate::{deployment::Deployment, error::StartError, settings::Database};

/// How long a server waits for a database that is not up yet: PostgreSQL takes seconds to start, and
/// longer after a crash.
#[cfg(feature = "postgres")]
const DATABASE_PATIENCE: Duration = Duration::from_secs(60);
/// How long a command waits for a free connection.
#[cfg(feature = "postgres")]
const COMMANDS_POOL_TIMEOUT: Duration = Duration::from_secs(30);
/// The pause between two tries to connect, and between two log lines about that.
#[cfg(feature = "postgres")]
const DATABASE_PAUSE: Duration = Duration::from_millis(500);
/// See [`DATABASE_PAUSE`].
#[cfg(feature = "postgres")]
const DATABASE_REMINDER: Duration = Duration::from_secs(10);

/// What a command may do to the database. Only a server creates one.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    /// Creates the database if it does not exist, reads and writes.
    Create,
    /// Reads and writes a database that exists.
    Write,
    /// Reads and changes nothing. It needs no lock and no right to write.
    Read,
}

/// Opens the store of the embedding program, or else the one that is set. The store that is set
/// keeps `order` from now on; with None its order stays as it is.
pub(crate) async fn open(
    deployment: &Deployment,
    access: Access,
    order: Option<EventOrder>,
) -> Result<Arc<dyn Store>, StartError> {
    if let Some(open) = &deployment.adapters.store {
        let opened = open().await;
        return opened.map_err(|error| StartError::failed("cannot open the store", &*error));
    }
    let settings = &deployment.settings;
    match &settings.database {
        Database::Sqlite(path) => {
            let access = match access {
                Access::Create => SqliteAccess::Create,
                Access::Write => SqliteAccess::Write,
                Access::Read => SqliteAccess::Read,
            };
            let is_new = access == SqliteAccess::Create && !path.exists();
            let options = SqliteOptions { access, order, ..SqliteOptions::default() };
            let store = SqliteStore::open_with(path, options).await.map_err(|error| {
                let path = std::path::absolute(path).unwrap_or_else(|_| path.clone());
                let set_by = &settings.database_set_by;
                StartError::failed(&format!("cannot open {} ({set_by})", path.display()), &error)
            })?;
            if is_new {
                // This line shows that a volume is not mounted where it should be.
                tracing::info!(path = %path.display(), "a new, empty database was created");
            }
            Ok(Arc::new(store))
        }
        Database::Postgres(url) => {
            open_postgres(url.as_str(), access, order, &settings.database_set_by).await
        }
    }
}

/// Opens the database. A server waits for a database that is not up yet.
#[cfg(feature = "postgres")]
async fn open_postgres(
    url: &str,
    access: Access,
    order: Option<EventOrder>,
    set_by: &str,
) -> Result<Arc<dyn Store>, StartError> {
    let create = access == Access::Create;
    let mut options = PostgresOptions { create, order, ..PostgresOptions::default() };
    if !create {
        // A bulk of replays waits for a connection rather than fail: no sender waits for the
        // command.
        options.pool_timeout = COMMANDS_POOL_TIMEOUT;
    }
    // A server is often started together with its database, on one machine or by one manifest.
    let patience = if create { DATABASE_PATIENCE } else { Duration::ZERO };
    let started = Instant::now();
    let mut warned = None;
    loop {
        match PostgresStore::open_with(url, options.clone()).await {
            Ok(store) => return Ok(Arc::new(store)),
            Err(error) if is_not_up_yet(&error) && started.elapsed() < patience => {
                if warned.is_none_or(|at: Instant| at.elapsed() >= DATABASE_REMINDER) {
                    let (error, seconds) = (report(&error), patience.as_secs());
                    tracing::warn!(error, "the database is not up yet; waiting up to {seconds} s");
                    warned = Some(Instant::now());
                }
                tokio::time::sleep(DATABASE_PAUSE).await;
            }
            // The URL contains a password, so the message names only the setting.
            Err(error) => {
                let what = format!("COGNIGY_DATABASE_URL: cannot open the database ({set_by})");
                return Err(StartError::failed(&what, &error));
            }
        }
    }
}

#[cfg(not(feature = "postgres"))]
#[allow(clippy::unused_async)]
async fn open_postgres(
    _: &str,
    _: Access,
    _: Option<EventOrder>,
    _: &str,
) -> Result<Arc<dyn Store>, StartError> {
    Err(StartError::Failed("COGNIGY_DATABASE_URL: this build has no PostgreSQL support".to_owned()))
}
