//! Housekeeping beside the calls: it makes the next days' partitions and adds up the tallies.
//!
//! Every node does it, and finds at once if another node has done it already. Nothing depends on
//! it: a delivery makes the partition that it needs, and tallies are correct before they are added
//! up.

use std::time::Duration;

use deadpool_postgres::Object;
use tokio::task::JoinHandle;

use crate::{
    calls::archive,
    error::PostgresError,
    server::{
        partitions,
        pools::{ConnectionPool, perform},
    },
};

/// A busy node adds a few hundred rows a second to the tallies, and every count reads all of them.
const INTERVAL: Duration = Duration::from_secs(10);

/// How many rounds pass between two checks of the partitions: an hour.
const ROUNDS_PER_LOOK: u32 = 360;

/// The task; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Upkeep(JoinHandle<()>);

impl Upkeep {
    /// Starts it on the current runtime. `with_days` is false where the caller's clock counts: the
    /// days ahead are then unknown.
    pub(crate) fn start(pool: ConnectionPool, with_days: bool) -> Self {
        Self(tokio::spawn(async move {
            for round in 0_u32.. {
                tokio::time::sleep(INTERVAL).await;
                let with_days = with_days && round % ROUNDS_PER_LOOK == 0;
                let kept = perform!(&pool, connection => keep_up(connection, with_days));
                if let Err(problem) = kept {
                    // The database is unreachable or busy; the store's own calls report that.
                    tracing::debug!(%problem, "the store's housekeeping was put off");
                }
            }
        }))
    }
}

async fn keep_up(connection: &mut Object, with_days: bool) -> Result<(), PostgresError> {
    if with_days {
        partitions::prepare_days(connection).await?;
    }
    archive::add_up(&*connection).await
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.0.abort();
    }
}
