//! Drops dead letters, for the operator API and for the command.

use cognigy_core::{
    Discarded, EventFilter, EventKey, EventSummary, PageRequest, State, Store, StoreError,
    Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::audit::Recorder;

/// How many events one store call discards.
const BATCH: usize = 256;

/// How many events the outcome names.
const SAMPLE: usize = 10;

/// What was discarded, or would be.
#[derive(Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Outcome {
    /// Events whose dead letters were dropped.
    pub count: u64,
    /// The first of them.
    pub sample: Vec<String>,
    /// Events that were named by their ids and are not dead-lettered.
    pub not_dead_lettered: u64,
    /// Ids that are not stored.
    pub not_found: u64,
}

impl Outcome {
    fn add(&mut self, key: &EventKey, answer: Discarded) {
        match answer {
            Discarded::Done => {
                self.count += 1;
                if self.sample.len() < SAMPLE {
                    self.sample.push(key.id.as_str().to_owned());
                }
            }
            Discarded::NotDeadLettered => self.not_dead_lettered += 1,
            Discarded::NotFound => self.not_found += 1,
        }
    }
}

/// Discards these events, for the operator of `recorder`. A dry run only looks at them.
///
/// # Errors
///
/// The store does not answer.
pub async fn of_keys(
    recorder: &Recorder<'_>,
    keys: &[EventKey],
    dry_run: bool,
    now: Timestamp,
) -> Result<Outcome, StoreError> {
    let mut outcome = Outcome::default();
    for keys in keys.chunks(BATCH) {
        let answers = match dry_run {
            true => look_at(recorder.store, keys).await?,
            false => discard(recorder, keys, now).await?,
        };
        keys.iter().zip(answers).for_each(|(key, answer)| outcome.add(key, answer));
    }
    Ok(outcome)
}

/// Discards these events, and says so in the history of each.
async fn discard(
    recorder: &Recorder<'_>,
    keys: &[EventKey],
    now: Timestamp,
) -> Result<Vec<Discarded>, StoreError> {
    let answers = recorder.store.discard(keys, now).await?;
    let done = keys.iter().zip(&answers).filter(|(_, answer)| **answer == Discarded::Done);
    let done: Vec<_> = done.map(|(key, _)| (key.clone(), "discarded")).collect();
    recorder.record_each("discard", &done).await;
    Ok(answers)
}

async fn look_at(store: &dyn Store, keys: &[EventKey]) -> Result<Vec<Discarded>, StoreError> {
    let mut answers = Vec::with_capacity(keys.len());
    for key in keys {
        answers.push(match store.find(key).await?.map(|stored| stored.state) {
            None => Discarded::NotFound,
            Some(State::DeadLettering | State::DeadLettered) => Discarded::Done,
            Some(_) => Discarded::NotDeadLettered,
        });
    }
    Ok(answers)
}

/// Discards all dead-lettered events that match, for the operator of `recorder`. A dry run only counts them.
///
/// # Errors
///
/// The store does not answer.
pub async fn matching(
    recorder: &Recorder<'_>,
    filter: &EventFilter,
    dry_run: bool,
    now: Timestamp,
) -> Result<Outcome, StoreError> {
    let mut outcome = Outcome::default();
    // A dead letter that is sent meanwhile is met by the second state.
    for state in [State::DeadLettering, State::DeadLettered] {
        if filter.state.is_some_and(|wanted| wanted != state) {
            continue;
        }
        let filter = EventFilter { state: Some(state), ..filter.clone() };
        let mut page = PageRequest { limit: BATCH, after: None };
        loop {
            let found = recorder.store.list(&filter, page).await?;
            let keys: Vec<_> = found.events.iter().map(EventSummary::key).collect();
            let answers = match dry_run {
                true => vec![Discarded::Done; keys.len()],
                false => discard(recorder, &keys, now).await?,
            };
            // One that an operator has run again meanwhile is none of these.
            let done = keys.iter().zip(answers).filter(|(_, answer)| *answer == Discarded::Done);
            done.for_each(|(key, answer)| outcome.add(key, answer));
            match found.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
    }
    Ok(outcome)
}
