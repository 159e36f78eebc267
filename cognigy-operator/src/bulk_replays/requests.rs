//! The requests that begin, list and cancel bulk replays.

use cognigy_core::{EventFilter, EventKey, PageRequest, Reply, Store, StoreError};
use serde::Serialize;
use serde_json::{Value, json};

use super::{BulkReplay, MAX_EVENTS, Work, begin, cancel, get, list};
use crate::{
    Operator, OperatorApi,
    api::json as answer,
    audit::{Deed, Target},
    find,
    problem::Problem,
    recorrelation,
    request::number,
    selection::{self, Asked, Selection},
};

/// How many events one page of a selection holds.
const BATCH: usize = 256;

/// What a request for a bulk replay came to.
#[derive(Debug)]
pub enum Begun {
    /// A dry run: what would be run.
    NotYet(Selected),
    /// It was begun.
    Replay(BulkReplay),
}

impl Begun {
    pub(crate) fn into_reply(self) -> Result<Reply, Problem> {
        match self {
            Self::NotYet(chosen) => answer(&chosen),
            Self::Replay(replay) => {
                let told = json!({ "id": replay.id.to_string(), "total": replay.total });
                Ok(Reply::json(202, told.to_string()))
            }
        }
    }
}

impl OperatorApi {
    /// Begins the bulk replay that a request describes, or only looks at its events: `body` is JSON, with `ids` or a
    /// filter such as `{"status": "dead_lettered"}`, and perhaps a `rate` or `dry_run`.
    ///
    /// # Errors
    ///
    /// The operator only reads, the selection is malformed or empty, too many events match, or the store does
    /// not answer.
    pub async fn begin_replay(&self, operator: &Operator, body: &[u8]) -> Result<Begun, Problem> {
        operator.may_change()?;
        let asked = selection::asked(body, self.clock().now(), self.types())
            .map_err(|error| Problem::bad_request(&error))?;
        let filter = serde_json::from_slice(body).ok();
        self.begin(asked, operator, Work::Replay, filter).await
    }

    /// Begins asking the CRM for those of the selected events whose contact is not known. It is carried out as
    /// a bulk replay is, and listed among them. `body` is JSON as for a bulk replay, perhaps with `run`.
    ///
    /// # Errors
    ///
    /// As for a bulk replay, though without a condition all events are selected.
    pub async fn begin_recorrelation(
        &self,
        operator: &Operator,
        body: &[u8],
    ) -> Result<Begun, Problem> {
        operator.may_change()?;
        let bad = |error: String| Problem::bad_request(&error);
        let mut members = selection::members(body).map_err(bad)?;
        let work = match members.remove("run") {
            None | Some(Value::Bool(false)) => Work::Recorrelate,
            Some(Value::Bool(true)) => Work::RecorrelateAndRun,
            Some(_) => return Err(Problem::bad_request("run: expected true or false")),
        };
        let asked = selection::asked_by(members, self.clock().now(), self.types()).map_err(bad)?;
        let filter = serde_json::from_slice(body).ok();
        self.begin(asked, operator, work, filter).await
    }

    /// Begins the work, or only looks at its events. The record of what operators did keeps `filter`.
    async fn begin(
        &self,
        asked: Asked,
        operator: &Operator,
        work: Work,
        filter: Option<Value>,
    ) -> Result<Begun, Problem> {
        let Asked { selection, rate, dry_run } = asked;
        let filters = match selection {
            Selection::Ids(keys) if dry_run => {
                return Ok(Begun::NotYet(selected_of(self.store(), keys).await?));
            }
            Selection::Ids(keys) => {
                return self.begin_with(operator, work, keys, rate, filter).await;
            }
            Selection::Filter(filter) if work == Work::Replay => vec![filter],
            Selection::Filter(filter) => recorrelation::filters(&filter).collect(),
        };
        if dry_run {
            return Ok(Begun::NotYet(selected(self.store(), &filters).await?));
        }
        let keys = keys_of(self.store(), &filters).await?.ok_or_else(|| {
            let detail = format!("More than {MAX_EVENTS} events match: narrow the filter");
            Problem::bad_request(&detail)
        })?;
        self.begin_with(operator, work, keys, rate, filter).await
    }

    async fn begin_with(
        &self,
        operator: &Operator,
        work: Work,
        keys: Vec<EventKey>,
        rate: Option<f64>,
        filter: Option<Value>,
    ) -> Result<Begun, Problem> {
        let (api, operator) = (self.clone(), operator.clone());
        self.to_its_end(async move {
            let (now, by) = (api.clock().now(), operator.name());
            let replay = begin(api.store(), work, &keys, rate, by, now).await?;
            let (filter, count) = (filter.as_ref(), Some(replay.total));
            let (action, target) = (work.action(), Target::Selected);
            let deed = Deed { action, target, filter, count, outcome: "begun" };
            api.recorder(&operator).record(deed).await;
            Ok(Begun::Replay(replay))
        })
        .await
    }

    /// The bulk replays that are remembered, the newest first.
    ///
    /// # Errors
    ///
    /// The store does not answer.
    pub async fn bulk_replays(&self, _: &Operator) -> Result<Vec<BulkReplay>, Problem> {
        Ok(list(self.store()).await?)
    }

    /// The bulk replay with that id.
    ///
    /// # Errors
    ///
    /// There is no such replay, or the store does not answer.
    pub async fn bulk_replay(&self, _: &Operator, id: &str) -> Result<BulkReplay, Problem> {
        let id = number(id).ok_or_else(no_replay)?;
        get(self.store(), id).await?.ok_or_else(no_replay)
    }

    /// Ends a bulk replay before all its events were run.
    ///
    /// # Errors
    ///
    /// The operator only reads, there is no such replay, or the store does not answer.
    pub async fn cancel_replay(
        &self,
        operator: &Operator,
        id: &str,
    ) -> Result<BulkReplay, Problem> {
        operator.may_change()?;
        let number = number(id).ok_or_else(no_replay)?;
        let (api, operator, id) = (self.clone(), operator.clone(), id.to_owned());
        self.to_its_end(async move {
            let (replay, ran) = cancel(api.store(), number).await?.ok_or_else(no_replay)?;
            let (target, count) = (Target::Named(&id), Some(replay.done));
            let outcome = if ran { "cancelled" } else { "unchanged" };
            let deed = Deed { action: "cancel_replay", target, filter: None, count, outcome };
            api.recorder(&operator).record(deed).await;
            Ok(replay)
        })
        .await
    }
}

fn no_replay() -> Problem {
    Problem::not_found("There is no such replay")
}

/// The events that match one of the filters, the earliest first. None if they are too many.
async fn keys_of(
    store: &dyn Store,
    filters: &[EventFilter],
) -> Result<Option<Vec<EventKey>>, StoreError> {
    let mut keys = Vec::new();
    for filter in filters {
        let room = MAX_EVENTS - keys.len();
        let (found, _) = find::newest(store, filter, room + 1).await?;
        keys.extend(found);
        if keys.len() > MAX_EVENTS {
            return Ok(None);
        }
    }
    // Where the order of a contact's events is kept, the earliest has to come first.
    keys.reverse();
    Ok(Some(keys))
}

/// How many events were chosen, and some of them.
#[derive(Debug, Default, Serialize)]
#[non_exhaustive]
pub struct Selected {
    /// How many.
    pub count: u64,
    /// The newest ones, or the first that were named.
    pub sample: Vec<String>,
    /// Of those that were named, how many are not stored, or without a body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_found: Option<u64>,
}

/// How many events a dry run names.
const SAMPLE: usize = 10;

impl Selected {
    fn add(&mut self, id: &str) {
        self.count += 1;
        if self.sample.len() < SAMPLE {
            self.sample.push(id.to_owned());
        }
    }
}

/// The named events that would be run. Changes nothing.
async fn selected_of(store: &dyn Store, keys: Vec<EventKey>) -> Result<Selected, StoreError> {
    let mut selected = Selected { not_found: Some(0), ..Selected::default() };
    for key in keys {
        let stored = store.find(&key).await?;
        match stored.is_some_and(|stored| stored.forgotten.is_none()) {
            true => selected.add(key.id.as_str()),
            false => selected.not_found = selected.not_found.map(|count| count + 1),
        }
    }
    Ok(selected)
}

/// The matching events that would be run. Changes nothing.
async fn selected(store: &dyn Store, filters: &[EventFilter]) -> Result<Selected, StoreError> {
    let mut selected = Selected::default();
    for filter in filters {
        let mut page = PageRequest { limit: BATCH, after: None };
        loop {
            let found = store.list(filter, page).await?;
            found.events.iter().for_each(|event| selected.add(event.id.as_str()));
            match found.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
    }
    Ok(selected)
}
