//! Housekeeping beside the calls: the next days' partitions, and the tallies added up.
//!
//! Every node does it; that another has done it already is found at once. Nothing depends on it:
//! a missing partition is made by the delivery that needs it, and tallies count as they are.

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

/// A busy node adds a few hundred rows a second to the tallies, each of them read by every count.
const INTERVAL: Duration = Duration::from_secs(10);

/// How many rounds pass between two looks at the partitions: an hour.
const ROUNDS_PER_LOOK: u32 = 360;

/// The task; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Upkeep(JoinHandle<()>);

impl Upkeep {
    /// Starts it on the current runtime. `with_days` is false where the caller's clock counts: the
    /// days ahead are then unknown.
    pub(crate) fn start(lane: ConnectionPool, with_days: bool) -> Self {
        Self(tokio::spawn(async move {
            for round in 0_u32.. {
                tokio::time::sleep(INTERVAL).await;
                let with_days = with_days && round % ROUNDS_PER_LOOK == 0;
                let kept = perform!(&lane, connection => keep_up(connection, with_days));
                if let Err(problem) = kept {
                    // The database is away or busy; those who call it find out themselves.
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
