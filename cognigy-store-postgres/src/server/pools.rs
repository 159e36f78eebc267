//! Connections: how many there are, how they are set up, and how long work on them may take.
//!
//! Three pools, so that neither a listing nor a worker can keep a delivery waiting. A connection
//! that failed or fell silent is closed and never lent again.

use std::{fmt, future::Future, time::Duration};

use deadpool_postgres::{
    Hook, HookError, Manager, ManagerConfig, Object, Pool, RecyclingMethod, Runtime,
};
use tokio_postgres::Config;

use crate::{
    PostgresOptions,
    config::{GRACE, MAX_RACES_LOST},
    error::PostgresError,
    server::url::{SESSION_MARK, Target},
};

/// The three pools, and the server they connect to.
pub(crate) struct Connections {
    pub(crate) target: Target,
    pub(crate) writing: ConnectionPool,
    pub(crate) working: ConnectionPool,
    pub(crate) reading: ConnectionPool,
}

/// One pool and its deadline.
#[derive(Clone)]
pub(crate) struct ConnectionPool {
    pool: Pool,
    deadline: Duration,
}

impl Connections {
    /// Does not connect yet.
    pub(crate) fn new(url: &str, options: &PostgresOptions) -> Result<Self, PostgresError> {
        let target = Target::parse(url, options)?;
        let pool = |size| {
            ConnectionPool::new(
                &target,
                target.config.clone(),
                options,
                size,
                Some(options.pool_timeout),
            )
        };
        let (writing, working, reading) =
            (pool(options.writers)?, pool(options.workers)?, pool(options.readers)?);
        Ok(Self { target, writing, working, reading })
    }
}

impl ConnectionPool {
    /// A call waits for a free connection for at most `wait`, or without limit if it is None.
    pub(crate) fn new(
        target: &Target,
        config: Config,
        options: &PostgresOptions,
        size: usize,
        wait: Option<Duration>,
    ) -> Result<Self, PostgresError> {
        let fast = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(config, target.trust.connector()?, fast);
        let pool = Pool::builder(manager)
            .max_size(size.max(1))
            .runtime(Runtime::Tokio1)
            .wait_timeout(wait)
            // If there are several hosts, connecting tries each in turn.
            .create_timeout(Some(options.connect_timeout + GRACE))
            .recycle_timeout(Some(options.pool_timeout))
            .post_create(Hook::async_fn(|client, _| Box::pin(set_up(client))))
            .build()
            .map_err(|error| PostgresError::Session(error.to_string()))?;
        Ok(Self { pool, deadline: options.statement_timeout + GRACE })
    }

    /// Waits for `work` on `connection` until the pool's deadline.
    pub(crate) async fn within_deadline<T, E: From<PostgresError>>(
        &self,
        work: impl Future<Output = Result<T, E>>,
    ) -> Result<T, E> {
        tokio::time::timeout(self.deadline, work)
            .await
            .unwrap_or_else(|_| Err(PostgresError::Timeout.into()))
    }

    /// A connection from the pool, or a new one.
    pub(crate) async fn lend(&self) -> Result<Object, PostgresError> {
        Ok(self.pool.get().await?)
    }
}

/// Decides what happens after a try.
pub(crate) struct Tries {
    races_lost: u32,
    connection_lost: bool,
    /// Repeating the call changes nothing, so it is done once more where the connection was lost.
    harmless: bool,
}

impl Tries {
    pub(crate) fn new(harmless: bool) -> Self {
        Self { races_lost: 0, connection_lost: false, harmless }
    }

    /// Returns the connection to the pool if it is still usable. Returns the result if it is final.
    pub(crate) async fn end<T>(
        &mut self,
        connection: Option<Object>,
        result: Result<T, PostgresError>,
    ) -> Option<Result<T, PostgresError>> {
        let Err(problem) = result else { return Some(result) };
        if problem.ends_connection() {
            // Taken out of the pool, which closes it.
            drop(connection.map(Object::take));
            // A server that did not answer will not answer a second try.
            let is_silent = matches!(problem, PostgresError::Timeout);
            if self.harmless && !is_silent && !std::mem::replace(&mut self.connection_lost, true) {
                return None;
            }
        } else if problem.lost_a_race() && self.races_lost < MAX_RACES_LOST {
            self.races_lost += 1;
            drop(connection);
            // The transaction that won needs only a moment; its commit ends the conflict.
            tokio::time::sleep(Duration::from_millis(5) * (1 << self.races_lost)).await;
            return None;
        }
        Some(Err(problem))
    }
}

/// Does work on a connection of a pool: `perform!(pool, connection => work(connection))`, where the
/// work is a future and is made anew for each try. The work is repeated if it lost a race against
/// another transaction and so changed nothing. With `again` it is also repeated if the connection
/// was lost; that is for work whose repetition changes nothing.
///
/// A macro because a function that takes an async closure with borrowed captures cannot promise a
/// `Send` future yet.
macro_rules! perform {
    (again $pool:expr, $connection:ident => $work:expr) => {
        perform!(@ true, $pool, $connection => $work)
    };
    ($pool:expr, $connection:ident => $work:expr) => {
        perform!(@ false, $pool, $connection => $work)
    };
    (@ $harmless:literal, $pool:expr, $connection:ident => $work:expr) => {{
        let pool: &$crate::server::pools::ConnectionPool = $pool;
        let mut tries = $crate::server::pools::Tries::new($harmless);
        loop {
            let ended = match pool.lend().await {
                Ok(mut lent) => {
                    let $connection = &mut lent;
                    let result = pool.within_deadline($work).await;
                    tries.end(Some(lent), result).await
                }
                Err(problem) => tries.end(None, Err(problem)).await,
            };
            if let Some(result) = ended {
                break result;
            }
        }
    }};
}
pub(crate) use perform;

impl fmt::Debug for Connections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A pool's own Debug hides the password of the configuration, but shows host and user.
        f.debug_struct("Connections").finish_non_exhaustive()
    }
}

/// Checks the new session. A commit must be durable before it is answered: a session that commits
/// without waiting for the disk is set to wait.
async fn set_up(client: &mut deadpool_postgres::ClientWrapper) -> Result<(), HookError> {
    let sql = format!(
        "SELECT coalesce(current_setting('{SESSION_MARK}', true), ''),
                current_setting('synchronous_commit'), current_setting('server_encoding')"
    );
    let refuse = |why: &'static str| Err(HookError::Message(why.into()));
    let rows = client.simple_query(&sql).await.map_err(HookError::Backend)?;
    let row = rows.iter().find_map(|message| match message {
        tokio_postgres::SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    let value = |column| row.and_then(|row| row.get(column)).unwrap_or_default();
    if value(0) != "on" {
        return refuse(
            "the session lost its settings: there is a connection pooler in between, which this \
             store cannot use; name the PostgreSQL server itself",
        );
    }
    if value(2) != "UTF8" {
        return refuse("the database's encoding is not UTF8");
    }
    if value(1) == "off" {
        client.batch_execute("SET synchronous_commit = on").await.map_err(HookError::Backend)?;
    }
    Ok(())
}
