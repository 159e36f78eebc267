//! Bulk replays: events are handed to the workers in the background, a page at a time.
//!
//! The outcome of each run is in its event. The list of replays is kept in the memory of this process
//! only. The runs go on if this process ends.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use actix_web::{HttpResponse, web};
use cognigy_core::{
    Clock, EventFilter, EventKey, PageRequest, Requeued, SourceName, StoreError, Timestamp,
};
use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, Visitor},
};
use serde_json::{Value, json};

use super::{Answer, ProblemResponse, Shared, operator::Operator};
use crate::{app::App, filter};

/// How many events one store call hands over: large enough for one fsync to matter little.
const BATCH: usize = 256;
/// How many ids one request may name. For more there are filters.
const MAX_IDS: usize = 10_000;
/// How many replays are remembered. The oldest finished ones are forgotten first.
const REMEMBERED: usize = 100;

/// The bulk replays of this process, by id.
#[derive(Clone, Default)]
pub(super) struct BulkReplays(Arc<Mutex<HashMap<u64, Progress>>>);

/// The progress of a bulk replay.
#[derive(Debug, Clone, Copy, Default, Serialize)]
pub(crate) struct Progress {
    done: bool,
    failed: bool,
    /// New runs that are due.
    scheduled: u64,
    /// Runs that were waiting and are now due at once.
    waiting: u64,
    /// Events that were left out because a run holds them.
    busy: u64,
    /// Events whose bodies were forgotten. There is nothing to run.
    forgotten: u64,
    /// Ids that are not stored.
    not_found: u64,
    /// Events of sources that are not configured. They are left as they are.
    not_configured: u64,
}

impl BulkReplays {
    fn begin(&self) -> u64 {
        let mut replays = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let id = replays.keys().max().map_or(1, |last| last + 1);
        if replays.len() >= REMEMBERED
            && let Some(oldest) = replays.iter().filter(|(_, p)| p.done).map(|(id, _)| *id).min()
        {
            replays.remove(&oldest);
        }
        replays.insert(id, Progress::default());
        id
    }

    fn update(&self, id: u64, change: impl FnOnce(&mut Progress)) {
        let mut replays = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(progress) = replays.get_mut(&id) {
            change(progress);
        }
    }

    fn get(&self, id: u64) -> Option<Progress> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&id).copied()
    }
}

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

/// Begins a bulk replay of `{"ids": […]}` or of a filter such as `{"status": "dead_lettered"}`.
pub(super) async fn begin(_: Operator, service: Shared, body: web::Bytes) -> Answer {
    let (selection, dry_run) = selection(&body, service.app.clock.now())
        .map_err(|error| ProblemResponse::bad_request(&error))?;
    if dry_run {
        let chosen = selected(&service.app, selection).await?;
        return Ok(HttpResponse::Ok().json(chosen));
    }
    let (app, replays) = (service.app.clone(), service.replays.clone());
    let id = replays.begin();
    tokio::spawn(async move {
        let outcome = requeue(&app, &replays, id, selection).await;
        if let Err(error) = &outcome {
            tracing::error!(
                replay = id,
                error = cognigy_core::report(error),
                "bulk replay broke off"
            );
        }
        replays.update(id, |progress| {
            progress.done = true;
            progress.failed = outcome.is_err();
        });
    });
    Ok(HttpResponse::Accepted().json(json!({ "id": id.to_string() })))
}

/// The progress of one bulk replay.
pub(super) async fn progress(_: Operator, service: Shared, id: web::Path<String>) -> Answer {
    let missing = || ProblemResponse::new(404, "Not Found", "There is no such replay");
    let progress = id.parse().ok().and_then(|id| service.replays.get(id)).ok_or_else(missing)?;
    Ok(HttpResponse::Ok().json(progress))
}

/// How many events were chosen, and some of them.
#[derive(Debug, Default, Serialize)]
pub(super) struct Selected {
    count: u64,
    /// The newest ones, or the first that were named.
    sample: Vec<String>,
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

/// The events that a replay would run. Changes nothing.
async fn selected(app: &App, selection: Selection) -> Result<Selected, StoreError> {
    let mut selected = Selected::default();
    match selection {
        Selection::Ids(keys) => {
            for key in keys {
                let stored = app.store.find(&key).await?;
                if stored.is_some_and(|stored| stored.forgotten.is_none()) {
                    selected.add(key.id.as_str());
                }
            }
        }
        Selection::Filter(filter) => {
            let mut page = PageRequest { limit: BATCH, after: None };
            loop {
                let found = app.store.list(&filter, page).await?;
                found.events.iter().for_each(|event| selected.add(event.id.as_str()));
                match found.next {
                    Some(next) => page.after = Some(next),
                    None => break,
                }
            }
        }
    }
    Ok(selected)
}

/// Which events `body` names, and whether nothing is to be done to them yet.
pub(super) fn selection(body: &[u8], now: Timestamp) -> Result<(Selection, bool), String> {
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
        return Ok((keys.map(Selection::Ids).ok_or_else(expected)?, dry_run));
    }
    let mut pairs = BTreeMap::new();
    for (name, value) in object {
        let Value::String(value) = value else { return Err(format!("{name}: expected a string")) };
        pairs.insert(name, value);
    }
    let filter = filter::from_pairs(&pairs, now)?;
    if filter == EventFilter::default() {
        // An empty object would replay all events.
        return Err("name at least one condition, or ids".to_owned());
    }
    Ok((Selection::Filter(filter), dry_run))
}

async fn requeue(
    app: &App,
    replays: &BulkReplays,
    id: u64,
    selection: Selection,
) -> Result<(), StoreError> {
    match selection {
        Selection::Ids(keys) => {
            for keys in keys.chunks(BATCH) {
                requeue_batch(app, replays, id, keys).await?;
            }
        }
        Selection::Filter(filter) => {
            // Pages go from the newest event to the oldest, so that no event is replayed that arrives
            // meanwhile.
            let mut page = PageRequest { limit: BATCH, after: None };
            loop {
                let found = app.store.list(&filter, page).await?;
                let keys: Vec<_> = found
                    .events
                    .into_iter()
                    .map(|event| EventKey { source: event.source, id: event.id })
                    .collect();
                requeue_batch(app, replays, id, &keys).await?;
                match found.next {
                    Some(next) => page.after = Some(next),
                    None => break,
                }
            }
        }
    }
    Ok(())
}

async fn requeue_batch(
    app: &App,
    replays: &BulkReplays,
    id: u64,
    keys: &[EventKey],
) -> Result<(), StoreError> {
    let mut by_source: BTreeMap<&SourceName, Vec<EventKey>> = BTreeMap::new();
    for key in keys {
        by_source.entry(&key.source).or_default().push(key.clone());
    }
    for (source, keys) in by_source {
        let Some(source) = app.pipelines.get(source) else {
            // No worker would run them.
            replays.update(id, |progress| progress.not_configured += keys.len() as u64);
            continue;
        };
        let answers = source.pipeline.requeue(&keys, app.clock.now()).await?;
        replays.update(id, |progress| {
            for answer in answers {
                *match answer {
                    Requeued::Scheduled => &mut progress.scheduled,
                    Requeued::Waiting => &mut progress.waiting,
                    Requeued::Busy => &mut progress.busy,
                    Requeued::Forgotten => &mut progress.forgotten,
                    Requeued::NotFound => &mut progress.not_found,
                } += 1;
            }
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(body: &[u8]) -> Result<Selection, String> {
        super::selection(body, Timestamp::UNIX_EPOCH).map(|(selection, _)| selection)
    }

    #[test]
    fn a_selection_is_ids_or_a_filter_with_a_condition() {
        assert!(
            matches!(selection(br#"{"ids":["a","b"]}"#), Ok(Selection::Ids(ids)) if ids.len() == 2)
        );
        assert!(matches!(selection(br#"{"status":"dead_lettered"}"#), Ok(Selection::Filter(_))));
        let dry = super::selection(br#"{"ids":["a"],"dry_run":true}"#, Timestamp::UNIX_EPOCH);
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
            r#"{"dry_run":true}"#,
            r#"{"status":"pending","dry_run":"yes"}"#,
            r#"{"q":" "}"#,
        ] {
            assert!(selection(body.as_bytes()).is_err(), "{body}");
        }
    }
}
