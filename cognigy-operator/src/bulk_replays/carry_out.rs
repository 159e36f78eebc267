//! The task that carries bulk replays on.

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use cognigy_core::{EventKey, ReplayOutcome, Stop, StoreError};
use futures_util::future::{Either, join_all, select};
use tokio::{
    sync::Semaphore,
    task::{Id, JoinSet},
};

use super::{
    ALL, BulkReplay, LEASE, PAGE, State, StoredKey, Work, get, ids_in, name_of_page, update,
};
use crate::{OperatorApi, audit::Recorder, host::Happening, recorrelation, selection::LEAST_RATE};

/// The outcome of an event whose store did not answer.
const UNKNOWN: &str = "unknown";
/// How many events are run at once, and between two writes of the progress.
const AT_ONCE: usize = 8;
/// How many events of all replays are run at once.
const ALL_AT_ONCE: usize = 32;
/// How often new replays are looked for.
const INTERVAL: Duration = Duration::from_millis(300);
/// How long a wait for an event's turn goes on before it looks whether the replay was cancelled.
const WAIT_SLICE: Duration = Duration::from_secs(1);
/// How often an event is tried again that another run holds. It is tried until the lease of a process that
/// was killed has ended, and this much longer.
const BUSY_PAUSE: Duration = Duration::from_millis(100);
const BUSY_MARGIN: Duration = Duration::from_secs(2);

/// How many calls carry replays out, or did, in this process.
static CALLS: AtomicU64 = AtomicU64::new(0);

impl OperatorApi {
    /// Carries bulk replays out until `stop`, as one of the processes on the store that do. For a program that
    /// [built](crate::OperatorApiBuilder::build) the API without starting it.
    pub async fn carry_out_replays(&self, stop: Stop) {
        // Tells this process from others and from itself before a restart, and this call from others.
        let begun = self.clock().now().timestamp_micros();
        let call = CALLS.fetch_add(1, Ordering::Relaxed);
        let name = format!("{}-{begun}-{call}", std::process::id());
        let mut tasks = Tasks::default();
        let mut failed = false;
        while !stop.is_stopped() {
            let looked = look(self, &name, &stop, &mut tasks).await;
            if let (Err(error), false) = (&looked, failed) {
                self.host().happened(&Happening::ReplaysUnknown { error });
            }
            failed = looked.is_err();
            stopped_within(INTERVAL, &stop).await;
            while let Some(ended) = tasks.set.try_join_next_with_id() {
                tasks.ended(ended, self, &name).await;
            }
        }
        while let Some(ended) = tasks.set.join_next_with_id().await {
            tasks.ended(ended, self, &name).await;
        }
    }
}

/// Waits so long, unless the process is to stop meanwhile. Yields whether it is.
async fn stopped_within(time: Duration, stop: &Stop) -> bool {
    let (stopped, over) = (pin!(stop.stopped()), pin!(tokio::time::sleep(time)));
    matches!(select(stopped, over).await, Either::Left(_))
}

/// The replays that this process carries out, each in a task of its own.
struct Tasks {
    /// One for each event that is run.
    places: Arc<Semaphore>,
    set: JoinSet<Result<(), StoreError>>,
    replays: HashMap<Id, u64>,
    /// Replays that have ended, wherever: they are read once only.
    over: HashSet<u64>,
}

impl Default for Tasks {
    fn default() -> Self {
        Self {
            places: Arc::new(Semaphore::new(ALL_AT_ONCE)),
            set: JoinSet::new(),
            replays: HashMap::new(),
            over: HashSet::new(),
        }
    }
}

type Ended = Result<(Id, Result<(), StoreError>), tokio::task::JoinError>;

impl Tasks {
    async fn ended(&mut self, ended: Ended, api: &OperatorApi, name: &str) {
        let task = ended.as_ref().map_or_else(tokio::task::JoinError::id, |(task, _)| *task);
        let Some(id) = self.replays.remove(&task) else { return };
        let error = match ended {
            Ok((_, Ok(()))) => return,
            // It is taken up again.
            Ok((_, Err(error))) => cognigy_core::report(&error),
            // It would panic again and again.
            Err(_) => match self::ended(api, id, name, State::Failed).await {
                Ok(_) => "its task panicked; it is ended as failed".to_owned(),
                Err(error) => cognigy_core::report(&error),
            },
        };
        let error = &*error;
        api.host().happened(&Happening::ReplayBrokeOff { id, error });
    }
}

/// Takes up the replays that no process works on.
async fn look(
    api: &OperatorApi,
    name: &str,
    stop: &Stop,
    tasks: &mut Tasks,
) -> Result<(), StoreError> {
    let Some(ids) = api.store().shared_value(ALL).await? else { return Ok(()) };
    let ids = ids_in(Some(&ids));
    tasks.over.retain(|id| ids.contains(id));
    for id in ids {
        if stop.is_stopped() {
            return Ok(());
        }
        if tasks.over.contains(&id) || tasks.replays.values().any(|carried| *carried == id) {
            continue;
        }
        let now = api.clock().now();
        let taken = update(api.store(), id, |replay| {
            let is_free = replay.state == State::Running
                && (replay.owner == name || replay.owned_until < now.timestamp_micros());
            if is_free {
                replay.own(name, now);
            }
            is_free
        });
        let Some(replay) = taken.await? else { continue };
        if replay.state != State::Running {
            tasks.over.insert(id);
        } else if replay.is_carried_by(name) {
            let (api, name, stop) = (api.clone(), name.to_owned(), stop.clone());
            let places = Arc::clone(&tasks.places);
            let task = async move { carry_on(&api, replay, &name, &stop, &places).await };
            tasks.replays.insert(tasks.set.spawn(task).id(), id);
        }
    }
    Ok(())
}

/// Runs the events of a replay that are left.
async fn carry_on(
    api: &OperatorApi,
    mut replay: BulkReplay,
    name: &str,
    stop: &Stop,
    places: &Semaphore,
) -> Result<(), StoreError> {
    let id = replay.id;
    // When the next events are due.
    let mut turn = Some(Instant::now());
    let mut page = (usize::MAX, Vec::new());
    while replay.is_carried_by(name) && !stop.is_stopped() {
        let at = usize::try_from(replay.done).unwrap_or(usize::MAX);
        if page.0 != at / PAGE {
            let text = api.store().shared_value(&name_of_page(id, at / PAGE)).await?;
            let keys: Vec<StoredKey> =
                text.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
            page = (at / PAGE, keys);
        }
        let batch: Vec<_> = page.1.iter().skip(at % PAGE).take(replay.batch()).collect();
        if batch.is_empty() {
            // The page is lost: nothing can be said of its events.
            ended(api, id, name, State::Failed).await?;
            break;
        }
        if let Some(rate) = replay.rate {
            match wait(api, id, name, turn, stop).await? {
                // It was cancelled meanwhile, for example.
                Some(now) if !now.is_carried_by(name) => return Ok(()),
                Some(_) => {}
                None => break,
            }
            // From now, not from when they were due: what was late is not caught up with.
            turn = turn_after(batch.len(), rate);
        }
        let work = replay.work;
        let runs = join_all(batch.iter().map(async |key| {
            let _place = places.acquire().await;
            run(api, work, key.key(), stop).await
        }));
        let Some(runs) = meanwhile_owned(api, id, name, runs).await?.into_iter().collect() else {
            // The next process runs the batch again.
            break;
        };
        let runs: Vec<Ran> = runs;
        let changed = batch.iter().zip(&runs).filter(|(_, ran)| ran.changed);
        let changed = changed.filter_map(|(key, ran)| Some((key.key()?, ran.outcome)));
        let changed: Vec<_> = changed.collect();
        let (store, clock, host) = (api.store(), api.clock(), api.host());
        let recorder = Recorder { store, clock, host, by: &replay.by };
        recorder.record_each(work.action(), &changed).await;
        let succeeded = runs.iter().filter(|ran| ran.succeeded).count() as u64;
        let count = runs.len() as u64;
        let now = api.clock().now();
        let counted = update(api.store(), id, |replay| {
            replay.done += count;
            replay.succeeded += succeeded;
            replay.failed += count - succeeded;
            for ran in &runs {
                *replay.outcomes.entry(ran.outcome.to_owned()).or_default() += 1;
            }
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
        update(api.store(), id, |replay| {
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

/// When the events after these are due at this rate. A time too far away for a clock is one that does not
/// come.
fn turn_after(count: usize, rate: f64) -> Option<Instant> {
    let after = Duration::try_from_secs_f64(count as f64 / rate.max(LEAST_RATE)).ok()?;
    Instant::now().checked_add(after)
}

/// Waits until `turn`. Meanwhile no other process takes the replay over, and a cancellation ends the wait.
/// Yields the replay as it is then; None if the process is to stop, or the replay was forgotten.
async fn wait(
    api: &OperatorApi,
    id: u64,
    name: &str,
    turn: Option<Instant>,
    stop: &Stop,
) -> Result<Option<BulkReplay>, StoreError> {
    loop {
        let left = turn.map_or(LEASE, |turn| turn.saturating_duration_since(Instant::now()));
        if stopped_within(left.min(WAIT_SLICE), stop).await {
            return Ok(None);
        }
        let is_due = turn.is_some_and(|turn| turn <= Instant::now());
        if is_due && left < WAIT_SLICE {
            // Most waits are short, and the progress is read and written after each batch.
            return get(api.store(), id).await;
        }
        match keep(api, id, name).await? {
            Some(replay) if replay.is_carried_by(name) && !is_due => {}
            other => return Ok(other),
        }
    }
}

/// Keeps the replay for this process, if it is this process's.
async fn keep(api: &OperatorApi, id: u64, name: &str) -> Result<Option<BulkReplay>, StoreError> {
    let now = api.clock().now();
    update(api.store(), id, |replay| {
        let is_ours = replay.owner == name;
        if is_ours {
            replay.own(name, now);
        }
        is_ours
    })
    .await
}

async fn ended(
    api: &OperatorApi,
    id: u64,
    name: &str,
    state: State,
) -> Result<Option<BulkReplay>, StoreError> {
    update(api.store(), id, |replay| {
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
    api: &OperatorApi,
    id: u64,
    name: &str,
    work: impl Future<Output = T>,
) -> Result<T, StoreError> {
    let mut work = pin!(work);
    loop {
        let while_after = pin!(tokio::time::sleep(LEASE / 4));
        if let Either::Left((outcome, _)) = select(work.as_mut(), while_after).await {
            return Ok(outcome);
        }
        keep(api, id, name).await?;
    }
}

/// What the work on one event came to.
struct Ran {
    succeeded: bool,
    /// Whether the event has another history now.
    changed: bool,
    /// A name for people and scripts.
    outcome: &'static str,
}

impl Ran {
    fn failed(outcome: &'static str) -> Option<Self> {
        Some(Self { succeeded: false, changed: false, outcome })
    }
}

/// Does the work on one event. None if the process stops before it could be done.
async fn run(api: &OperatorApi, work: Work, key: Option<EventKey>, stop: &Stop) -> Option<Ran> {
    let Some(key) = key else { return Ran::failed("not_found") };
    if work != Work::Replay {
        return recorrelate(api, work, &key).await;
    }
    let Ok(pipeline) = api.pipeline(&key.source) else { return Ran::failed("not_configured") };
    let until = Instant::now() + pipeline.lease() + BUSY_MARGIN;
    while Instant::now() < until {
        match pipeline.replay(&key, api.clock()).await {
            Ok(ReplayOutcome::Busy) => {
                if stopped_within(BUSY_PAUSE, stop).await {
                    return None;
                }
            }
            Ok(outcome) => {
                let succeeded = matches!(outcome, ReplayOutcome::Replayed(_));
                let changed = succeeded || matches!(outcome, ReplayOutcome::Failed(_));
                return Some(Ran { succeeded, changed, outcome: outcome.as_str() });
            }
            Err(error) => {
                api.host().happened(&Happening::RunUnknown { key: &key, error: &error });
                return Ran::failed(UNKNOWN);
            }
        }
    }
    api.host().happened(&Happening::ReplayWasBusy { source: &key.source });
    Ran::failed("busy")
}

/// Asks the CRM again. It went well if the contact is known now, or if the event was handed to the workers.
async fn recorrelate(api: &OperatorApi, work: Work, key: &EventKey) -> Option<Ran> {
    match recorrelation::ask(api, key, work == Work::RecorrelateAndRun).await {
        Ok(answer) => {
            if answer.outcome == recorrelation::FAILED {
                let error = answer.detail.as_deref().unwrap_or_default();
                api.host().happened(&Happening::NotCorrelated { key, error });
            }
            let succeeded = answer.went_well();
            Some(Ran { succeeded, changed: succeeded, outcome: answer.outcome })
        }
        Err(error) => {
            api.host().happened(&Happening::RunUnknown { key, error: &error });
            Ran::failed(UNKNOWN)
        }
    }
}
