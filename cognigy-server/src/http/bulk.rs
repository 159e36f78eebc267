//! Bulk replays: the requests that begin, list and cancel them. [`bulk_replays`] carries them out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use actix_web::{HttpResponse, web};
use cognigy_core::{Clock, EventFilter, EventKey, PageRequest, SourceName, StoreError, Timestamp};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor},
};
use serde_json::{Value, json};

use super::{
    Answer, ProblemResponse, Shared,
    access::{Change, Operator, Reader},
    request::{WholeBody, number},
};
use crate::{
    app::App,
    audit::{Target, audit},
    bulk_replays::{self, BulkReplay, LEAST_RATE, Line, MAX_EVENTS, Work},
    filter::{self, Types},
    find, recorrelation,
};

/// How many events one page of a selection holds.
const BATCH: usize = 256;
/// How many ids one request may name. For more there are filters.
const MAX_IDS: usize = 10_000;
/// How long a selection may be, in bytes: as many ids as may be named, of usual lengths.
pub(super) const MAX_SELECTION: usize = 2 * 1024 * 1024;

/// The members of a JSON object in order. A map would keep only the last of two members with one
/// name.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Read)
    }
}

/// Which events a request names.
pub(super) enum Selection {
    Ids(Vec<EventKey>),
    Filter(EventFilter),
}

/// Begins a bulk replay of `{"ids": […]}` or of a filter such as `{"status": "dead_lettered"}`, perhaps with
/// a `rate`.
pub(super) async fn begin(Change(operator): Change, service: Shared, body: WholeBody) -> Answer {
    let body = body.within(MAX_SELECTION)?;
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
    asked.begin(app, operator, Work::Replay, filter).await
}

impl Asked {
    /// Begins the work, or only looks at its events. The record of what operators did keeps `filter`.
    pub(super) async fn begin(
        self,
        app: &App,
        operator: &Operator,
        work: Work,
        filter: Option<Value>,
    ) -> Result<Begun, ProblemResponse> {
        let Self { selection, rate, dry_run } = self;
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
    let replay = bulk_replays::begin(&*app.store, work, &keys, rate, &operator.name, now).await?;
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

/// What a request asks for.
pub(super) struct Asked {
    selection: Selection,
    /// The most events a second.
    rate: Option<f64>,
    /// Whether nothing is to be done to them yet.
    dry_run: bool,
}

/// Which events `body` names, and whether nothing is to be done to them yet.
pub(super) fn selection(
    body: &[u8],
    now: Timestamp,
    types: Types,
) -> Result<(Selection, bool), String> {
    match asked(body, now, types)? {
        Asked { rate: Some(_), .. } => Err("rate: is not a filter".to_owned()),
        Asked { selection, dry_run, .. } => Ok((selection, dry_run)),
    }
}

fn asked(body: &[u8], now: Timestamp, types: Types) -> Result<Asked, String> {
    match members(body).and_then(|members| asked_by(members, now, types))? {
        Asked { selection: Selection::Filter(filter), .. } if filter == EventFilter::default() => {
            // An empty object would replay all events.
            Err("name at least one condition, or ids".to_owned())
        }
        asked => Ok(asked),
    }
}

/// The members of the object, each once.
pub(super) fn members(body: &[u8]) -> Result<BTreeMap<String, Value>, String> {
    if body.is_empty() {
        return Ok(BTreeMap::new());
    }
    let Ok(Members(members)) = serde_json::from_slice(body) else {
        return Err("expected a JSON object: {\"ids\": […]} or a filter".to_owned());
    };
    let mut object = BTreeMap::new();
    for (name, value) in members {
        if object.contains_key(&name) {
            return Err(format!("{name:?} appears more than once"));
        }
        object.insert(name, value);
    }
    Ok(object)
}

/// What the members of a selection ask for. No condition means all events.
pub(super) fn asked_by(
    mut object: BTreeMap<String, Value>,
    now: Timestamp,
    types: Types,
) -> Result<Asked, String> {
    let rate = match object.remove("rate") {
        None => None,
        Some(rate) => {
            let rate = rate.as_f64().filter(|rate| *rate >= LEAST_RATE && rate.is_finite());
            Some(
                rate.ok_or_else(|| format!("rate: expected {LEAST_RATE} events a second or more"))?,
            )
        }
    };
    let dry_run = match object.remove("dry_run") {
        None => false,
        Some(Value::Bool(dry_run)) => dry_run,
        Some(_) => return Err("dry_run: expected true or false".to_owned()),
    };
    if let Some(ids) = object.get("ids") {
        let expected = || {
            "ids: expected a list of event ids, and beside it nothing but their source".to_owned()
        };
        let source = match object.get("source") {
            None => SourceName::default(),
            Some(name) => name
                .as_str()
                .and_then(|name| name.parse().ok())
                .ok_or("source: expected the name of a source")?,
        };
        let alone = object.keys().all(|name| name == "ids" || name == "source");
        let ids = ids.as_array().filter(|_| alone).ok_or_else(expected)?;
        if ids.len() > MAX_IDS {
            return Err(format!("ids: more than {MAX_IDS}; use a filter"));
        }
        let key =
            |id: &Value| Some(EventKey { source: source.clone(), id: id.as_str()?.parse().ok()? });
        let keys: Option<Vec<EventKey>> = ids.iter().map(key).collect();
        let mut keys = keys.ok_or_else(expected)?;
        // An id that is named twice is one event.
        let mut seen = BTreeSet::new();
        keys.retain(|key| seen.insert(key.id.clone()));
        let selection = Selection::Ids(keys);
        return Ok(Asked { selection, rate, dry_run });
    }
    let mut pairs = BTreeMap::new();
    for (name, value) in object {
        let Value::String(value) = value else { return Err(format!("{name}: expected a string")) };
        pairs.insert(name, value);
    }
    let filter = filter::from_pairs(&pairs, now, types)?;
    Ok(Asked { selection: Selection::Filter(filter), rate, dry_run })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(body: &[u8]) -> Result<Selection, String> {
        super::asked(body, Timestamp::UNIX_EPOCH, Types::OfContract).map(|asked| asked.selection)
    }

    #[test]
    fn a_selection_is_ids_or_a_filter_with_a_condition() {
        assert!(
            matches!(selection(br#"{"ids":["a","b"]}"#), Ok(Selection::Ids(ids)) if ids.len() == 2)
        );
        assert!(matches!(selection(br#"{"status":"dead_lettered"}"#), Ok(Selection::Filter(_))));
        let dry = super::selection(
            br#"{"ids":["a"],"dry_run":true}"#,
            Timestamp::UNIX_EPOCH,
            Types::OfContract,
        );
        assert!(matches!(dry, Ok((Selection::Ids(_), true))));
        assert!(matches!(selection(br#"{"source":"shop"}"#), Ok(Selection::Filter(_))));
        let of_shop = selection(br#"{"ids":["a"],"source":"shop"}"#);
        assert!(matches!(of_shop, Ok(Selection::Ids(ids)) if ids[0].source.as_str() == "shop"));
        for body in [
            "",
            "[]",
            "{}",
            r#"{"status":""}"#,
            r#"{"status":"","from":"2026-01-01"}"#,
            r#"{"source":"","status":"dead_lettered"}"#,
            r#"{"ids":["a"],"source":""}"#,
            r#"{"status":"dead_lettered","status":"pending"}"#,
            r#"{"ids":"a"}"#,
            r#"{"ids":[1]}"#,
            r#"{"ids":[""]}"#,
            r#"{"ids":["a"],"status":"pending"}"#,
            r#"{"ids":["a"],"source":"The Shop"}"#,
            r#"{"state":"pending"}"#,
            r#"{"status":1}"#,
            r#"{"rate":5}"#,
            r#"{"ids":["a"],"rate":0}"#,
            r#"{"ids":["a"],"rate":-1}"#,
            r#"{"ids":["a"],"rate":"5"}"#,
            r#"{"dry_run":true}"#,
            r#"{"status":"pending","dry_run":"yes"}"#,
            r#"{"q":" "}"#,
        ] {
            assert!(selection(body.as_bytes()).is_err(), "{body}");
        }
    }
}
