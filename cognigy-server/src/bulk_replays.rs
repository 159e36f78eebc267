//! Bulk replays that outlive their process: what is to be run, how far it has come, and the task that
//! carries it on.
//!
//! A replay is kept among the store's shared values: one value with the ids of all replays, one with each
//! replay's progress, and its events' keys in pages. One process at a time works on it, the one that last
//! wrote its name into the progress; the others take over when it has not written for a while. Progress is
//! written after each few events, so that a process that is killed repeats no more than those; one that is
//! stopped writes first.

use std::time::{Duration, Instant};

use cognigy_core::{Clock, EventKey, ReplayOutcome, Stop, Store, StoreError, Timestamp};
use futures_util::future::join_all;
use serde::{Deserialize, Serialize};

use crate::{app::App, view};

/// How many replays are remembered. The oldest ones that have ended are forgotten first.
const REMEMBERED: usize = 100;
/// The most events of one replay: their keys are stored.
pub(crate) const MAX_EVENTS: usize = 200_000;
/// How many keys one stored page holds.
const PAGE: usize = 500;
/// How many events are run at once, and between two writes of the progress.
const AT_ONCE: usize = 8;
/// After this long without a write, another process takes a replay over.
const LEASE: Duration = Duration::from_secs(10);
/// How often new replays are looked for.
const INTERVAL: Duration = Duration::from_millis(300);
/// How often an event is tried again that another run holds. It is tried until the lease of a process that
/// was killed has ended, and this much longer.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
const BUSY_MARGIN: Duration = Duration::from_secs(2);

/// The name of the value with all ids, and of one replay's values.
const ALL: &str = "replays";

fn name_of(id: u64) -> String {
    format!("replay/{id}")
}

fn name_of_page(id: u64, page: usize) -> String {
    format!("replay/{id}/{page}")
}

/// Where a replay is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum State {
    Running,
    Done,
    Cancelled,
    Failed,
}

/// A replay and how far it has come.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct BulkReplay {
    pub(crate) id: u64,
    pub(crate) state: State,
    pub(crate) total: u64,
    pub(crate) done: u64,
    pub(crate) succeeded: u64,
    pub(crate) failed: u64,
    /// The most events a second.
    pub(crate) rate: Option<f64>,
    /// The operator who began it.
    pub(crate) by: String,
    pub(crate) begun_at: String,
    /// The process that works on it, and until when it is the only one that may.
    owner: String,
    owned_until: i64,
}

/// What operators see of it.
#[derive(Serialize)]
pub(crate) struct Line {
    id: String,
    state: State,
    total: u64,
    done: u64,
    succeeded: u64,
    failed: u64,
    rate: Option<f64>,
    by: String,
    begun_at: String,
}

impl From<BulkReplay> for Line {
    fn from(replay: BulkReplay) -> Self {
        let BulkReplay { id, state, total, done, succeeded, failed, rate, by, begun_at, .. } =
            replay;
        Self { id: id.to_string(), state, total, done, succeeded, failed, rate, by, begun_at }
    }
}

/// A key as it is stored.
#[derive(Serialize, Deserialize)]
struct StoredKey(String, String);

impl StoredKey {
    fn of(key: &EventKey) -> Self {
        Self(key.source.to_string(), key.id.to_string())
    }

    fn key(&self) -> Option<EventKey> {
        Some(EventKey { source: self.0.parse().ok()?, id: self.1.parse().ok()? })
    }
}

/// Keeps a replay of `keys`, in this order, and yields it. The servers with workers carry it out.
pub(crate) async fn begin(
    store: &dyn Store,
    keys: &[EventKey],
    rate: Option<f64>,
    by: &str,
    now: Timestamp,
) -> Result<BulkReplay, StoreError> {
    let id = new_id(store).await?;
    for (page, keys) in keys.chunks(PAGE).enumerate() {
        let stored: Vec<_> = keys.iter().map(StoredKey::of).collect();
        let text = serde_json::to_string(&stored).unwrap_or_default();
        store.replace_shared_value(&name_of_page(id, page), None, Some(&text)).await?;
    }
    let replay = BulkReplay {
        id,
        state: if keys.is_empty() { State::Done } else { State::Running },
        total: keys.len() as u64,
        done: 0,
        succeeded: 0,
        failed: 0,
        rate,
        by: by.to_owned(),
        begun_at: view::time(now),
        owner: String::new(),
        owned_until: 0,
    };
    let text = serde_json::to_string(&replay).unwrap_or_default();
    store.replace_shared_value(&name_of(id), None, Some(&text)).await?;
    Ok(replay)
}

/// An id that no other replay has; and forgets the oldest ones.
async fn new_id(store: &dyn Store) -> Result<u64, StoreError> {
    loop {
        let before = store.shared_value(ALL).await?;
        let mut ids = ids_in(before.as_deref());
        let id = ids.last().map_or(1, |last| last + 1);
        let mut forgotten = Vec::new();
        if ids.len() >= REMEMBERED {
            for old in ids.clone() {
                let is_running =
                    get(store, old).await?.is_some_and(|it| it.state == State::Running);
                if !is_running {
                    ids.retain(|id| *id != old);
                    forgotten.push(old);
                    break;
                }
            }
        }
        ids.push(id);
        let after = serde_json::to_string(&ids).unwrap_or_default();
        if store.replace_shared_value(ALL, before.as_deref(), Some(&after)).await? {
            for old in forgotten {
                forget(store, old).await?;
            }
            return Ok(id);
        }
    }
}

fn ids_in(text: Option<&str>) -> Vec<u64> {
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

async fn forget(store: &dyn Store, id: u64) -> Result<(), StoreError> {
    let total = get(store, id).await?.map_or(0, |replay| replay.total);
    let pages = usize::try_from(total).unwrap_or_default().div_ceil(PAGE);
    for name in (0..pages).map(|page| name_of_page(id, page)).chain([name_of(id)]) {
        let value = store.shared_value(&name).await?;
        store.replace_shared_value(&name, value.as_deref(), None).await?;
    }
    Ok(())
}

/// One replay.
pub(crate) async fn get(store: &dyn Store, id: u64) -> Result<Option<BulkReplay>, StoreError> {
    let text = store.shared_value(&name_of(id)).await?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

/// All replays that are remembered, the newest first.
pub(crate) async fn list(store: &dyn Store) -> Result<Vec<BulkReplay>, StoreError> {
    let mut replays = Vec::new();
    for id in ids_in(store.shared_value(ALL).await?.as_deref()).into_iter().rev() {
        replays.extend(get(store, id).await?);
    }
    Ok(replays)
}

/// Changes a replay, whatever other processes write meanwhile. None if there is no such replay.
async fn update(
    store: &dyn Store,
    id: u64,
    change: impl Fn(&mut BulkReplay) -> bool,
) -> Result<Option<BulkReplay>, StoreError> {
    loop {
        let Some(before) = store.shared_value(&name_of(id)).await? else { return Ok(None) };
        let Ok(mut replay) = serde_json::from_str::<BulkReplay>(&before) else { return Ok(None) };
        if !change(&mut replay) {
            return Ok(Some(replay));
        }
        let after = serde_json::to_string(&replay).unwrap_or_default();
        if store.replace_shared_value(&name_of(id), Some(&before), Some(&after)).await? {
            return Ok(Some(replay));
        }
    }
}

/// Runs no more events of a replay. Those that are under way come to their end.
pub(crate) async fn cancel(store: &dyn Store, id: u64) -> Result<Option<BulkReplay>, StoreError> {
    update(store, id, |replay| {
        let runs = replay.state == State::Running;
        if runs {
            replay.state = State::Cancelled;
            replay.total = replay.done;
        }
        runs
    })
    .await
}

/// Carries replays on until `stop`, as one of the processes that may.
pub(crate) async fn carry_out(app: App, stop: Stop) {
    // Tells this process from others, and from itself before a restart.
    let name = format!("{}-{}", std::process::id(), chrono::Utc::now().timestamp_micros());
    while !stop.is_stopped() {
        if let Err(error) = look(&app, &name, &stop).await {
            let error = cognigy_core::report(&error);
            tracing::warn!(error, "the bulk replays could not be looked at");
        }
        tokio::select! {
            () = tokio::time::sleep(INTERVAL) => {}
            () = stop.stopped() => {}
        }
    }
}

/// Takes up the replays that no process works on.
async fn look(app: &App, name: &str, stop: &Stop) -> Result<(), StoreError> {
    let Some(ids) = app.store.shared_value(ALL).await? else { return Ok(()) };
    for id in ids_in(Some(&ids)) {
        if stop.is_stopped() {
            return Ok(());
        }
        let now = app.clock.now();
        let taken = update(&*app.store, id, |replay| {
            let is_free = replay.state == State::Running
                && (replay.owner == name || replay.owned_until < now.timestamp_micros());
            if is_free {
                replay.own(name, now);
            }
            is_free
        });
        if let Some(replay) = taken.await?
            && replay.state == State::Running
            && replay.owner == name
        {
            carry_on(app, replay, name, stop).await?;
        }
    }
    Ok(())
}

impl BulkReplay {
    fn own(&mut self, name: &str, now: Timestamp) {
        self.owner = name.to_owned();
        self.owned_until = (now + LEASE).timestamp_micros();
    }
}

/// Runs the events of a replay that are left.
async fn carry_on(
    app: &App,
    mut replay: BulkReplay,
    name: &str,
    stop: &Stop,
) -> Result<(), StoreError> {
    let (id, begun, first) = (replay.id, Instant::now(), replay.done);
    let mut page = (usize::MAX, Vec::new());
    while replay.state == State::Running && replay.owner == name && !stop.is_stopped() {
        let at = usize::try_from(replay.done).unwrap_or(usize::MAX);
        if page.0 != at / PAGE {
            let text = app.store.shared_value(&name_of_page(id, at / PAGE)).await?;
            let keys: Vec<StoredKey> =
                text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
            page = (at / PAGE, keys);
        }
        let batch: Vec<_> = page.1.iter().skip(at % PAGE).take(replay.batch()).collect();
        if batch.is_empty() {
            // The page is lost: nothing can be said of its events.
            ended(app, id, name, State::Failed).await?;
            break;
        }
        if let Some(rate) = replay.rate {
            let due = begun + Duration::from_secs_f64((replay.done - first) as f64 / rate);
            tokio::select! {
                () = tokio::time::sleep_until(due.into()) => {}
                () = stop.stopped() => break,
            }
        }
        let runs = join_all(batch.iter().map(|key| run(app, key.key(), stop)));
        let Some(runs) = meanwhile_owned(app, id, name, runs).await?.into_iter().collect() else {
            // The next process runs the batch again.
            break;
        };
        let runs: Vec<bool> = runs;
        let succeeded = runs.iter().filter(|succeeded| **succeeded).count() as u64;
        let count = runs.len() as u64;
        let now = app.clock.now();
        let counted = update(&*app.store, id, |replay| {
            replay.done += count;
            replay.succeeded += succeeded;
            replay.failed += count - succeeded;
            match replay.state {
                State::Cancelled => replay.total = replay.done,
                State::Running if replay.done >= replay.total => replay.state = State::Done,
                _ => {}
            }
            if replay.owner == name {
                replay.own(name, now);
            }
            true
        });
        match counted.await? {
            Some(counted) => replay = counted,
            None => return Ok(()),
        }
    }
    if stop.is_stopped() {
        // Another process need not wait for the lease.
        update(&*app.store, id, |replay| {
            let is_ours = replay.owner == name;
            if is_ours {
                replay.owned_until = 0;
            }
            is_ours
        })
        .await?;
    }
    Ok(())
}

async fn ended(
    app: &App,
    id: u64,
    name: &str,
    state: State,
) -> Result<Option<BulkReplay>, StoreError> {
    update(&*app.store, id, |replay| {
        let is_ours = replay.owner == name && replay.state == State::Running;
        if is_ours {
            replay.state = state;
            replay.total = replay.done;
        }
        is_ours
    })
    .await
}

impl BulkReplay {
    /// How many events run at once: fewer where the rate is low, so that they come evenly.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    fn batch(&self) -> usize {
        self.rate.map_or(AT_ONCE, |rate| ((rate / 5.0) as usize).clamp(1, AT_ONCE))
    }
}

/// Waits for `work`. Meanwhile no other process takes the replay over, however long the work takes.
async fn meanwhile_owned<T>(
    app: &App,
    id: u64,
    name: &str,
    work: impl Future<Output = T>,
) -> Result<T, StoreError> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            outcome = &mut work => return Ok(outcome),
            () = tokio::time::sleep(LEASE / 4) => {}
        }
        let now = app.clock.now();
        update(&*app.store, id, |replay| {
            let is_ours = replay.owner == name;
            if is_ours {
                replay.own(name, now);
            }
            is_ours
        })
        .await?;
    }
}

/// Runs one event. Whether it went well; None if the process stops before the event could be run.
async fn run(app: &App, key: Option<EventKey>, stop: &Stop) -> Option<bool> {
    let Some(key) = key else { return Some(false) };
    let Some(source) = app.pipelines.get(&key.source) else { return Some(false) };
    let until = Instant::now() + source.lease + BUSY_MARGIN;
    while Instant::now() < until {
        let pipeline = source.pipeline.clone();
        match pipeline.replay(&key, &app.clock).await {
            Ok(ReplayOutcome::Replayed(_)) => return Some(true),
            Ok(ReplayOutcome::Busy) => tokio::select! {
                () = tokio::time::sleep(BUSY_PAUSE) => {}
                () = stop.stopped() => return None,
            },
            Ok(_) => return Some(false),
            Err(error) => {
                let (source, error) = (key.source.as_str(), cognigy_core::report(&error));
                tracing::error!(source, event_id = key.id.as_str(), error, "bulk replay");
                return Some(false);
            }
        }
    }
    Some(false)
}
