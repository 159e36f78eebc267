//! Drops dead letters, for the operator API and for the command.

use cognigy_core::{
    Discarded, EventFilter, EventKey, EventSummary, PageRequest, State, Store, StoreError,
    Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::audit::audit_each;

/// How many events one store call discards.
const BATCH: usize = 256;

/// How many events the outcome names.
const SAMPLE: usize = 10;

/// What was discarded, or would be.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Outcome {
    /// Events whose dead letters were dropped.
    pub(crate) count: u64,
    /// The first of them.
    pub(crate) sample: Vec<String>,
    /// Events that were named by their ids and are not dead-lettered.
    pub(crate) not_dead_lettered: u64,
    /// Ids that are not stored.
    pub(crate) not_found: u64,
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

/// Discards these events, for the operator `by`. A dry run only looks at them.
pub(crate) async fn of_keys(
    store: &dyn Store,
    keys: &[EventKey],
    dry_run: bool,
    by: &str,
    now: Timestamp,
) -> Result<Outcome, StoreError> {
    let mut outcome = Outcome::default();
    for keys in keys.chunks(BATCH) {
        let answers = match dry_run {
            true => look_at(store, keys).await?,
            false => discard(store, keys, by, now).await?,
        };
        keys.iter().zip(answers).for_each(|(key, answer)| outcome.add(key, answer));
    }
    Ok(outcome)
}

/// Discards these events, and says so in the history of each.
async fn discard(
    store: &dyn Store,
    keys: &[EventKey],
    by: &str,
    now: Timestamp,
) -> Result<Vec<Discarded>, StoreError> {
    let answers = store.discard(keys, now).await?;
    let done = keys.iter().zip(&answers).filter(|(_, answer)| **answer == Discarded::Done);
    let done: Vec<_> = done.map(|(key, _)| (key.clone(), "discarded")).collect();
    audit_each(store, by, "discard", &done).await;
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

/// Discards all dead-lettered events that match, for the operator `by`. A dry run only counts them.
pub(crate) async fn matching(
    store: &dyn Store,
    filter: &EventFilter,
    dry_run: bool,
    by: &str,
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
            let found = store.list(&filter, page).await?;
            let keys: Vec<_> = found.events.iter().map(EventSummary::key).collect();
            let answers = match dry_run {
                true => vec![Discarded::Done; keys.len()],
                false => discard(store, &keys, by, now).await?,
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
