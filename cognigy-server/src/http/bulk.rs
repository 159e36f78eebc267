//! Bulk replays: the requests that begin, list and cancel them. [`bulk_replays`] carries them out.

use actix_web::{HttpResponse, web};
use cognigy_core::{Clock, EventFilter, EventKey, PageRequest, StoreError};
use cognigy_operator::{
    Operator, number,
    selection::{Asked, MAX_SELECTION, Selection, asked},
};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Answer, ProblemResponse, Shared,
    access::{Change, Reader},
    request::WholeBody,
};
use crate::{
    app::App,
    audit::{Target, audit},
    bulk_replays::{self, BulkReplay, Line, MAX_EVENTS, Work},
    find, recorrelation,
};

/// How many events one page of a selection holds.
const BATCH: usize = 256;

/// Begins a bulk replay of `{"ids": […]}` or of a filter such as `{"status": "dead_lettered"}`, perhaps with
/// a `rate`.
pub(super) async fn begin(Change(operator): Change, service: Shared, body: WholeBody) -> Answer {
    let body = body.within(MAX_SELECTION).await?;
    Ok(begun(replay_selected(&service.app, &operator, &body).await?))
}

pub(super) fn begun(begun: Begun) -> HttpResponse {
    match begun {
        Begun::NotYet(chosen) => HttpResponse::Ok().json(chosen),
        Begun::Replay(replay) => {
            let answer = json!({ "id": replay.id.to_string(), "total": replay.total });
            HttpResponse::Accepted().json(answer)
        }
    }
}

/// What a request for a bulk replay came to.
pub(crate) enum Begun {
    /// A dry run: what would be run.
    NotYet(Selected),
    Replay(BulkReplay),
}

/// Begins the bulk replay that an operator's request describes, or only looks at its events.
pub(crate) async fn replay_selected(
    app: &App,
    operator: &Operator,
    body: &[u8],
) -> Result<Begun, ProblemResponse> {
    let asked = asked(body, app.clock.now(), app.types)
        .map_err(|error| ProblemResponse::bad_request(&error))?;
    let filter = serde_json::from_slice(body).ok();
    begin_as_asked(asked, app, operator, Work::Replay, filter).await
}

/// Begins the work, or only looks at its events. The record of what operators did keeps `filter`.
pub(super) async fn begin_as_asked(
    asked: Asked,
    app: &App,
    operator: &Operator,
    work: Work,
    filter: Option<Value>,
) -> Result<Begun, ProblemResponse> {
    let Asked { selection, rate, dry_run } = asked;
    let filters = match selection {
        Selection::Ids(keys) if dry_run => {
            return Ok(Begun::NotYet(selected_of(app, keys).await?));
        }
        Selection::Ids(keys) => {
            return begin_with(app, operator, work, keys, rate, filter).await;
        }
        Selection::Filter(filter) if work == Work::Replay => vec![filter],
        Selection::Filter(filter) => recorrelation::filters(&filter).collect(),
    };
    if dry_run {
        return Ok(Begun::NotYet(selected(app, &filters).await?));
    }
    let keys = keys_of(app, &filters).await?.ok_or_else(|| {
        let detail = format!("More than {MAX_EVENTS} events match: narrow the filter");
        ProblemResponse::bad_request(&detail)
    })?;
    begin_with(app, operator, work, keys, rate, filter).await
}

async fn begin_with(
    app: &App,
    operator: &Operator,
    work: Work,
    keys: Vec<EventKey>,
    rate: Option<f64>,
    filter: Option<Value>,
) -> Result<Begun, ProblemResponse> {
    let now = app.clock.now();
    let replay = bulk_replays::begin(&*app.store, work, &keys, rate, operator.name(), now).await?;
    let count = Some(replay.total);
    audit(app, operator, work.action(), Target::Selected, filter.as_ref(), count, "begun").await;
    Ok(Begun::Replay(replay))
}

/// The bulk replays that are remembered.
pub(super) async fn list(_: Reader, service: Shared) -> Answer {
    let replays = bulk_replays::list(&*service.app.store).await?;
    let lines: Vec<_> = replays.into_iter().map(Line::from).collect();
    Ok(HttpResponse::Ok().json(json!({ "replays": lines })))
}

/// The progress of one bulk replay.
pub(super) async fn progress(_: Reader, service: Shared, id: web::Path<String>) -> Answer {
    Ok(HttpResponse::Ok().json(Line::from(bulk_replay(&service.app, &id).await?)))
}

/// Ends a bulk replay before all its events were run.
pub(super) async fn cancel(
    Change(operator): Change,
    service: Shared,
    id: web::Path<String>,
) -> Answer {
    Ok(HttpResponse::Ok().json(Line::from(cancel_replay(&service.app, &operator, &id).await?)))
}

fn no_replay() -> ProblemResponse {
    ProblemResponse::new(404, "Not Found", "There is no such replay")
}

/// The bulk replay with that id.
pub(crate) async fn bulk_replay(app: &App, id: &str) -> Result<BulkReplay, ProblemResponse> {
    let id = number(id).ok_or_else(no_replay)?;
    bulk_replays::get(&*app.store, id).await?.ok_or_else(no_replay)
}

/// Ends a bulk replay for an operator.
pub(crate) async fn cancel_replay(
    app: &App,
    operator: &Operator,
    id: &str,
) -> Result<BulkReplay, ProblemResponse> {
    let number = number(id).ok_or_else(no_replay)?;
    let cancelled = bulk_replays::cancel(&*app.store, number).await?;
    let (replay, ran) = cancelled.ok_or_else(no_replay)?;
    let (target, count) = (Target::Named(id), Some(replay.done));
    let told = if ran { "cancelled" } else { "unchanged" };
    audit(app, operator, "cancel_replay", target, None, count, told).await;
    Ok(replay)
}

/// The events that match one of the filters, the earliest first. None if they are too many.
async fn keys_of(app: &App, filters: &[EventFilter]) -> Result<Option<Vec<EventKey>>, StoreError> {
    let mut keys = Vec::new();
    for filter in filters {
        let room = MAX_EVENTS - keys.len();
        let (found, _) = find::newest(&*app.store, filter, room + 1).await?;
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
pub(crate) struct Selected {
    pub(crate) count: u64,
    /// The newest ones, or the first that were named.
    pub(crate) sample: Vec<String>,
    /// Of those that were named, how many are not stored, or without a body.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) not_found: Option<u64>,
}

/// How many events a dry run names.
const SAMPLE: usize = 10;

impl Selected {
    pub(super) fn add(&mut self, id: &str) {
        self.count += 1;
        if self.sample.len() < SAMPLE {
            self.sample.push(id.to_owned());
        }
    }
}

/// The named events that would be run. Changes nothing.
async fn selected_of(app: &App, keys: Vec<EventKey>) -> Result<Selected, StoreError> {
    let mut selected = Selected { not_found: Some(0), ..Selected::default() };
    for key in keys {
        let stored = app.store.find(&key).await?;
        match stored.is_some_and(|stored| stored.forgotten.is_none()) {
            true => selected.add(key.id.as_str()),
            false => selected.not_found = selected.not_found.map(|count| count + 1),
        }
    }
    Ok(selected)
}

/// The matching events that would be run. Changes nothing.
async fn selected(app: &App, filters: &[EventFilter]) -> Result<Selected, StoreError> {
    let mut selected = Selected::default();
    for filter in filters {
        let mut page = PageRequest { limit: BATCH, after: None };
        loop {
            let found = app.store.list(filter, page).await?;
            found.events.iter().for_each(|event| selected.add(event.id.as_str()));
            match found.next {
                Some(next) => page.after = Some(next),
                None => break,
            }
        }
    }
    Ok(selected)
}
