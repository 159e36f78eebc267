//! What a scrape asks the store.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use cognigy_core::{Backlog, Clock, Counts, SourceName, StoreError, StoreSize};

use crate::{
    app::App,
    bulk_replays::{self, Unfinished},
};

/// A store that needs more time than this is taken for one that does not answer: Prometheus gives a whole
/// scrape up after ten seconds.
const PATIENCE: Duration = Duration::from_secs(3);

/// What a scrape has seen of the store. What is none could not be asked, or was not.
#[derive(Default)]
pub(crate) struct Seen {
    pub(super) counts: Option<Counts>,
    pub(super) size: StoreSize,
    pub(super) bulk_replays: Option<Unfinished>,
    pub(super) backlog: Option<BTreeMap<SourceName, Backlog>>,
}

impl Seen {
    /// Asks the store of `app`.
    pub(crate) async fn of(app: &App) -> Self {
        let store = &*app.store;
        let counts = in_time(store.counts()).await;
        if counts.is_none() {
            return Self::default();
        }
        let ended = app.telemetry.ended_replays().clone();
        let (size, replays, backlog) = tokio::join!(
            in_time(store.size()),
            in_time(bulk_replays::unfinished(store, app.clock.now(), ended)),
            backlog(app),
        );
        let (bulk_replays, ended) = replays.unzip();
        if let Some(ended) = ended {
            *app.telemetry.ended_replays() = ended;
        }
        Self { counts, size: size.unwrap_or_default(), bulk_replays, backlog }
    }
}

/// The sources' backlogs, if it is time to count them.
async fn backlog(app: &App) -> Option<BTreeMap<SourceName, Backlog>> {
    let began = Instant::now();
    if !app.telemetry.may_count_backlog(began) {
        return None;
    }
    let backlog = in_time(app.store.backlog()).await;
    app.telemetry.counted_backlog(Instant::now(), began.elapsed());
    backlog
}

async fn in_time<T>(answer: impl Future<Output = Result<T, StoreError>>) -> Option<T> {
    tokio::time::timeout(PATIENCE, answer).await.ok()?.ok()
}
