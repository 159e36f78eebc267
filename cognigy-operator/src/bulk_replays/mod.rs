//! Bulk replays that outlive their process: what is to be run, how far it has come, and the task that
//! carries it on.
//!
//! A replay is kept among the store's shared values: one value with the ids of all replays, one with each
//! replay's progress, and its events' keys in pages. One process at a time works on it, the one that last
//! wrote its name into the progress; the others take over when it has not written for a while. Progress is
//! written after each few events, so that a process that is killed repeats no more than those; one that is
//! stopped writes first. Replays are carried out side by side: a slow one holds up no other.
//!
//! Asking the CRM again for many events ([`Work::Recorrelate`]) is kept and carried out in the same way.

mod carry_out;
mod requests;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use cognigy_core::{EventKey, Store, StoreError, Timestamp};
use serde::{Deserialize, Serialize};

pub use requests::{Begun, Selected};

use crate::view;

/// How many replays are remembered. The oldest ones that have ended are forgotten first.
const REMEMBERED: usize = 100;
/// The most events of one replay: their keys are stored.
pub const MAX_EVENTS: usize = 200_000;
/// How many keys one stored page holds.
const PAGE: usize = 500;
/// After this long without a write, another process takes a replay over.
const LEASE: Duration = Duration::from_secs(10);

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
pub enum State {
    /// It waits for a process, or one carries it out.
    Running,
    /// All of its events were run.
    Done,
    /// An operator ended it.
    Cancelled,
    /// Its list of events was lost.
    Failed,
}

/// What is done with each event.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Work {
    /// It is run again.
    #[default]
    Replay,
    /// The CRM is asked again for its contact.
    Recorrelate,
    /// So it is, and if the contact is known now, the event is handed to the workers.
    RecorrelateAndRun,
}

impl Work {
    /// Its name in the record of what operators did.
    #[must_use]
    pub fn action(self) -> &'static str {
        match self {
            Self::Replay => "replay",
            Self::Recorrelate | Self::RecorrelateAndRun => "recorrelate",
        }
    }
}

/// A replay and how far it has come.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[non_exhaustive]
pub struct BulkReplay {
    /// Its number.
    pub id: u64,
    /// What is done with each event.
    /// Absent in those that an earlier version began.
    #[serde(default)]
    pub work: Work,
    /// Where it is.
    pub state: State,
    /// How many events it runs; once cancelled, how many it ran.
    pub total: u64,
    /// How many events were run; at the end as many as `total`.
    pub done: u64,
    /// How many of these runs succeeded.
    pub succeeded: u64,
    /// How many of these runs failed.
    pub failed: u64,
    /// How many events came to each outcome, such as `replayed` or `matched`.
    #[serde(default)]
    pub outcomes: BTreeMap<String, u64>,
    /// The most events a second.
    pub rate: Option<f64>,
    /// The operator who began it.
    pub by: String,
    /// When it was begun.
    pub begun_at: String,
    /// The process that works on it, and until when it is the only one that may.
    owner: String,
    owned_until: i64,
}

/// What operators see of it.
#[derive(Debug, Serialize)]
pub struct Line {
    id: String,
    work: Work,
    state: State,
    total: u64,
    done: u64,
    succeeded: u64,
    failed: u64,
    outcomes: BTreeMap<String, u64>,
    rate: Option<f64>,
    by: String,
    begun_at: String,
}

impl From<BulkReplay> for Line {
    fn from(replay: BulkReplay) -> Self {
        let BulkReplay { work, state, total, done, succeeded, failed, outcomes, rate, .. } = replay;
        let (id, by, begun_at) = (replay.id.to_string(), replay.by, replay.begun_at);
        Self { id, work, state, total, done, succeeded, failed, outcomes, rate, by, begun_at }
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

/// Keeps a replay of `keys`, in this order, and yields it. The processes that [carry replays out](crate::OperatorApi::carry_out_replays) do so.
///
/// # Errors
///
/// The store does not answer.
pub async fn begin(
    store: &dyn Store,
    work: Work,
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
        work,
        state: if keys.is_empty() { State::Done } else { State::Running },
        total: keys.len() as u64,
        done: 0,
        succeeded: 0,
        failed: 0,
        outcomes: BTreeMap::new(),
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
                // One that is not there yet is being begun, unless that broke off long ago.
                let is_over = match get(store, old).await? {
                    Some(replay) => replay.state != State::Running,
                    None => id - old > 10 * REMEMBERED as u64,
                };
                if is_over {
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
///
/// # Errors
///
/// The store does not answer.
pub async fn get(store: &dyn Store, id: u64) -> Result<Option<BulkReplay>, StoreError> {
    let text = store.shared_value(&name_of(id)).await?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

/// All replays that are remembered, the newest first.
///
/// # Errors
///
/// The store does not answer.
pub async fn list(store: &dyn Store) -> Result<Vec<BulkReplay>, StoreError> {
    let mut replays = Vec::new();
    for id in ids_in(store.shared_value(ALL).await?.as_deref()).into_iter().rev() {
        replays.extend(get(store, id).await?);
    }
    Ok(replays)
}

/// The replays that are not at their end.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Unfinished {
    /// How many a process carries out.
    pub running: u64,
    /// How many wait for a process.
    pub waiting: u64,
    /// How many of their events have not been run.
    pub events: u64,
}

/// Counts the replays that are not at their end. `ended` are those that were seen at theirs, which are not
/// read again; yields them, too, as they are now.
///
/// # Errors
///
/// The store does not answer.
pub async fn unfinished(
    store: &dyn Store,
    now: Timestamp,
    mut ended: BTreeSet<u64>,
) -> Result<(Unfinished, BTreeSet<u64>), StoreError> {
    let mut unfinished = Unfinished::default();
    let ids = ids_in(store.shared_value(ALL).await?.as_deref());
    ended.retain(|id| ids.contains(id));
    for id in ids {
        if ended.contains(&id) {
            continue;
        }
        // The value of one that begins just now is written after its id.
        let Some(replay) = get(store, id).await? else { continue };
        if replay.state != State::Running {
            ended.insert(id);
            continue;
        }
        let is_carried = replay.owned_until >= now.timestamp_micros();
        *if is_carried { &mut unfinished.running } else { &mut unfinished.waiting } += 1;
        unfinished.events += replay.total.saturating_sub(replay.done);
    }
    Ok((unfinished, ended))
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

/// Runs no more events of a replay. Those that are under way come to their end. Yields also whether it was
/// running until now.
///
/// # Errors
///
/// The store does not answer.
pub async fn cancel(store: &dyn Store, id: u64) -> Result<Option<(BulkReplay, bool)>, StoreError> {
    let ran = AtomicBool::new(false);
    let replay = update(store, id, |replay| {
        ran.store(replay.state == State::Running, Ordering::Relaxed);
        if ran.load(Ordering::Relaxed) {
            replay.state = State::Cancelled;
            replay.total = replay.done;
        }
        ran.load(Ordering::Relaxed)
    });
    let replay = replay.await?;
    Ok(replay.map(|replay| (replay, ran.load(Ordering::Relaxed))))
}

impl BulkReplay {
    fn is_carried_by(&self, name: &str) -> bool {
        self.state == State::Running && self.owner == name
    }

    fn own(&mut self, name: &str, now: Timestamp) {
        self.owner = name.to_owned();
        self.owned_until = (now + LEASE).timestamp_micros();
    }
}
