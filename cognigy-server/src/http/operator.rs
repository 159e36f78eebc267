//! The operator API: events, quarantine, statistics.

use std::{collections::BTreeMap, sync::Arc};

use actix_web::{HttpRequest, HttpResponse, web};
use cognigy_core::{
    Clock, Contact, EventFilter, EventId, EventKey, EventPage, PageRequest, QuarantineRetry,
    QuarantinedItem, ReplayOutcome, Reply, SourceName,
};
use serde_json::json;

use super::{
    Answer, ProblemResponse, Shared,
    access::{Change, Operator, Reader},
    request::number,
};
use crate::{
    app::App,
    audit::{Target, audit},
    breakers, filter, find, pausing,
    telemetry::Deliveries,
    view::{EventDetail, EventLine, EventsPage, QuarantineLine, QuarantinePage, Rates, Stats},
};

/// How many entries a page has by default, and at most.
const PAGE: usize = 50;
const MAX_PAGE: usize = 500;

/// The key of the event that a path names. `?source=` names its source. Without that the plain
/// path's source is searched first, then all others.
async fn key(
    app: &App,
    event_id: &str,
    request: &HttpRequest,
) -> Result<EventKey, ProblemResponse> {
    let source = parameters(request)?.remove("source");
    let id: EventId = event_id.parse().map_err(|_| not_found())?;
    if let Some(source) = source {
        let source = source
            .parse()
            .map_err(|error| ProblemResponse::bad_request(&format!("source: {error}")))?;
        return Ok(EventKey { source, id });
    }
    let plain = EventKey { source: SourceName::default(), id };
    if app.store.find(&plain).await?.is_some() {
        return Ok(plain);
    }
    let names = app.pipelines.iter().map(|source| source.pipeline.source().name());
    let others: Vec<_> = names.filter(|name| !name.is_default()).cloned().collect();
    let found = find::among(&*app.store, &plain.id, &others).await?;
    match found.as_slice() {
        [] => Err(not_found()),
        [source] => Ok(EventKey { source: source.clone(), ..plain }),
        several => {
            let named = find::listed(several);
            let detail = format!("Several sources have such an event: {named}. Add ?source=");
            Err(ProblemResponse::new(409, "Conflict", &detail))
        }
    }
}

/// The source is not configured here, so that its CRM is not known.
fn not_configured(source: &SourceName) -> ProblemResponse {
    let detail = format!("The source {source} is not configured, so its events cannot be run");
    ProblemResponse::new(409, "Conflict", &detail)
}

pub(crate) fn not_found() -> ProblemResponse {
    ProblemResponse::new(404, "Not Found", "Event not found in local store")
}

/// Runs the event now, once.
pub(super) async fn replay(
    Change(operator): Change,
    request: HttpRequest,
    service: Shared,
    event_id: web::Path<String>,
) -> Answer {
    let key = key(&service.app, &event_id, &request).await?;
    let contact = replay_event(&service.app, &operator, key).await?;
    Ok(HttpResponse::Ok().json(json!({ "status": "replayed", "crm_context": contact })))
}

/// Runs an event for an operator. Yields what the CRM knew.
pub(crate) async fn replay_event(
    app: &App,
    operator: &Operator,
    key: EventKey,
) -> Result<Option<Contact>, ProblemResponse> {
    let source = app.pipelines.get(&key.source).ok_or_else(|| not_configured(&key.source))?;
    let (pipeline, app, operator) = (source.pipeline.clone(), app.clone(), operator.clone());
    let telemetry = Arc::clone(&source.telemetry);
    // The run is a task of its own: if the operator hangs up, it goes on to its end.
    let run = tokio::spawn(async move {
        let outcome = pipeline.replay(&key, &app.clock).await;
        let told = match &outcome {
            Ok(ReplayOutcome::Replayed(_)) => "replayed",
            Ok(ReplayOutcome::Failed(_)) => "failed",
            Ok(ReplayOutcome::NotFound) => "not_found",
            Ok(ReplayOutcome::Forgotten) => "forgotten",
            Ok(ReplayOutcome::Busy) => {
                telemetry.replay_was_busy();
                "busy"
            }
            Ok(ReplayOutcome::Stopped) => "busy",
            Err(_) => "unknown: the store did not answer",
        };
        audit(&app, &operator, "replay", Target::Event(&key), None, Some(1), told).await;
        outcome
    });
    let failed = |detail: &str| ProblemResponse::new(500, "Internal Server Error", detail);
    match run.await.map_err(|_| failed("Replay failed: the run broke off"))? {
        Ok(ReplayOutcome::Replayed(contact)) => Ok(contact),
        Ok(ReplayOutcome::Failed(reason)) => Err(failed(&format!("Replay failed: {reason}"))),
        Ok(ReplayOutcome::NotFound) => Err(not_found()),
        Ok(ReplayOutcome::Forgotten) => Err(ProblemResponse::new(
            410,
            "Gone",
            "The body of this event was forgotten; it cannot be run again",
        )),
        Ok(ReplayOutcome::Busy | ReplayOutcome::Stopped) => Err(ProblemResponse::new(
            409,
            "Conflict",
            "Another run of this event is under way, or an unfinished event of its contact comes first",
        )),
        Err(error) => {
            tracing::error!(error = cognigy_core::report(&error), "replay");
            let detail = "The outcome could not be stored; a worker will run the event again";
            let problem = Reply::problem(503, "Service Unavailable", detail);
            Err(ProblemResponse(problem.with_retry_after(1)))
        }
    }
}

/// The query's parameters, each at most once.
pub(crate) fn parameters(
    request: &HttpRequest,
) -> Result<BTreeMap<String, String>, ProblemResponse> {
    let pairs = web::Query::<Vec<(String, String)>>::from_query(request.query_string())
        .map_err(|_| ProblemResponse::bad_request("The query cannot be read"))?
        .into_inner();
    let mut parameters = BTreeMap::new();
    for (name, value) in pairs {
        if parameters.insert(name.clone(), value).is_some() {
            return Err(ProblemResponse::bad_request(&format!("{name:?} appears more than once")));
        }
    }
    Ok(parameters)
}

/// Refuses a parameter that is not among `known`.
pub(super) fn no_other(
    parameters: &BTreeMap<String, String>,
    known: &[&str],
) -> Result<(), ProblemResponse> {
    match parameters.keys().find(|name| !known.contains(&name.as_str())) {
        Some(name) => {
            Err(ProblemResponse::bad_request(&format!("{name:?} is not a parameter here")))
        }
        None => Ok(()),
    }
}

/// Takes `limit` and `cursor` out of the parameters.
pub(crate) fn page(
    parameters: &mut BTreeMap<String, String>,
) -> Result<PageRequest, ProblemResponse> {
    let limit = match parameters.remove("limit") {
        None => PAGE,
        Some(text) => {
            number(&text).filter(|limit| (1..=MAX_PAGE).contains(limit)).ok_or_else(|| {
                ProblemResponse::bad_request("limit: expected a number from 1 to 500")
            })?
        }
    };
    let after = match parameters.remove("cursor").filter(|cursor| !cursor.is_empty()) {
        None => None,
        Some(text) => Some(text.parse().map_err(|_| {
            ProblemResponse::bad_request("cursor: is not a next_cursor of this server")
        })?),
    };
    Ok(PageRequest { limit, after })
}

pub(super) async fn list(
    Reader(operator): Reader,
    request: HttpRequest,
    service: Shared,
) -> Answer {
    let found = events(&service.app, &operator, parameters(&request)?).await?;
    let events: Vec<EventLine> = found.events.into_iter().map(EventLine::from).collect();
    let next = found.next.map(|cursor| cursor.to_string());
    Ok(HttpResponse::Ok().json(EventsPage { events, next_cursor: next }))
}

/// The page of events that an operator asks for with these parameters.
pub(crate) async fn events(
    app: &App,
    operator: &Operator,
    mut parameters: BTreeMap<String, String>,
) -> Result<EventPage, ProblemResponse> {
    let page = page(&mut parameters)?;
    // A search field that is left blank is no condition.
    if parameters.get("q").is_some_and(|words| words.trim().is_empty()) {
        parameters.remove("q");
    }
    if parameters.contains_key("q") && !operator.role.sees_bodies() {
        // Whether a word is found tells what the body says.
        let detail = "q looks into bodies, which this operator's role does not show";
        return Err(ProblemResponse::new(403, "Forbidden", detail));
    }
    let filter: EventFilter = filter::from_pairs(&parameters, app.clock.now(), app.types)
        .map_err(|error| ProblemResponse::bad_request(&error))?;
    Ok(app.store.list(&filter, page).await?)
}

pub(super) async fn show(
    Reader(operator): Reader,
    request: HttpRequest,
    service: Shared,
    event_id: web::Path<String>,
) -> Answer {
    let key = key(&service.app, &event_id, &request).await?;
    Ok(HttpResponse::Ok().json(event(&service.app, &operator, &key).await?))
}

/// What an operator sees of an event.
pub(crate) async fn event(
    app: &App,
    operator: &Operator,
    key: &EventKey,
) -> Result<EventDetail, ProblemResponse> {
    let stored = app.store.find(key).await?.ok_or_else(not_found)?;
    let attempts = app.store.attempts(key).await?;
    let audit = PageRequest { limit: MAX_PAGE, after: None };
    let audit = app.store.audited(Some(key), audit).await?.entries;
    Ok(EventDetail::new(stored, attempts, audit).seen_by(operator.role))
}

pub(super) async fn quarantine(
    Reader(operator): Reader,
    request: HttpRequest,
    service: Shared,
) -> Answer {
    let found = quarantine_page(&service.app, parameters(&request)?).await?;
    let seen = |item| QuarantineLine::from(item).seen_by(operator.role);
    let items: Vec<_> = found.items.into_iter().map(seen).collect();
    let next = found.next.map(|cursor| cursor.to_string());
    Ok(HttpResponse::Ok().json(QuarantinePage { items, next_cursor: next }))
}

/// The page of the quarantine that these parameters ask for.
pub(crate) async fn quarantine_page(
    app: &App,
    mut parameters: BTreeMap<String, String>,
) -> Result<cognigy_core::QuarantinePage, ProblemResponse> {
    let page = page(&mut parameters)?;
    no_other(&parameters, &[])?;
    Ok(app.store.quarantined(page).await?)
}

/// One body in full.
pub(super) async fn quarantined(
    Reader(operator): Reader,
    service: Shared,
    id: web::Path<String>,
) -> Answer {
    let item = quarantined_item(&service.app, &id).await?;
    Ok(HttpResponse::Ok().json(QuarantineLine::from(item).seen_by(operator.role)))
}

fn not_quarantined() -> ProblemResponse {
    ProblemResponse::new(404, "Not Found", "There is no such item in quarantine")
}

/// The item in quarantine with that id.
pub(crate) async fn quarantined_item(
    app: &App,
    id: &str,
) -> Result<QuarantinedItem, ProblemResponse> {
    let id = number(id).ok_or_else(not_quarantined)?;
    app.store.quarantined_item(id).await?.ok_or_else(not_quarantined)
}

/// Removes a body that no event is to be made of.
pub(super) async fn discard_quarantined(
    Change(operator): Change,
    service: Shared,
    id: web::Path<String>,
) -> Answer {
    discard_item(&service.app, &operator, &id).await?;
    Ok(HttpResponse::Ok().json(json!({ "id": *id, "status": "discarded" })))
}

/// Removes a body from the quarantine, for an operator.
pub(crate) async fn discard_item(
    app: &App,
    operator: &Operator,
    id: &str,
) -> Result<(), ProblemResponse> {
    let number = number(id).ok_or_else(not_quarantined)?;
    let found = app.store.discharge(number).await?;
    let told = if found { "discarded" } else { "not_found" };
    let target = Target::Named(id);
    audit(app, operator, "quarantine_discard", target, None, Some(1), told).await;
    if found { Ok(()) } else { Err(not_quarantined()) }
}

pub(super) async fn retry_quarantined(
    Change(operator): Change,
    service: Shared,
    id: web::Path<String>,
) -> Answer {
    let (key, is_duplicate) = retry_body(&service.app, &operator, &id).await?;
    let mut answer = json!({ "status": "accepted", "event_id": key.id.as_str() });
    if is_duplicate {
        answer["duplicate"] = true.into();
    }
    Ok(HttpResponse::Ok().json(answer))
}

/// Takes a body in quarantine in once more. Yields its event, and whether that was known already.
pub(crate) async fn retry_body(
    app: &App,
    operator: &Operator,
    id: &str,
) -> Result<(EventKey, bool), ProblemResponse> {
    let conflict = |detail: &str| Err(ProblemResponse::new(409, "Conflict", detail));
    let item = quarantined_item(app, id).await?;
    let id = item.id;
    let source = app.pipelines.get(&item.source).ok_or_else(|| not_configured(&item.source))?;
    let outcome = source.pipeline.retry_quarantined(id, app.clock.now()).await?;
    let told = match &outcome {
        QuarantineRetry::Accepted(_) => "accepted",
        QuarantineRetry::Duplicate(_) => "duplicate",
        QuarantineRetry::Invalid(_) => "invalid",
        QuarantineRetry::Conflict(_) => "conflict",
        QuarantineRetry::NotFound => "not_found",
    };
    let target = id.to_string();
    audit(app, operator, "quarantine_retry", Target::Named(&target), None, Some(1), told).await;
    match outcome {
        QuarantineRetry::Accepted(key) => Ok((key, false)),
        QuarantineRetry::Duplicate(key) => Ok((key, true)),
        QuarantineRetry::Invalid(invalid) => conflict(&format!("Still in quarantine. {invalid}")),
        QuarantineRetry::Conflict(_) => {
            conflict("Still in quarantine: its event id is known with other content")
        }
        QuarantineRetry::NotFound => Err(not_quarantined()),
    }
}

pub(super) async fn stats(_: Reader, service: Shared) -> Answer {
    Ok(HttpResponse::Ok().json(statistics(&service.app).await?))
}

/// The statistics of this moment.
pub(crate) async fn statistics(app: &App) -> Result<Stats, ProblemResponse> {
    let counts = app.store.counts().await?;
    let telemetry = || app.pipelines.iter().map(|source| &source.telemetry);
    let rates = Rates {
        received_per_second: telemetry().map(|it| it.received.per_second()).sum(),
        processed_per_second: telemetry().map(|it| it.processed.per_second()).sum(),
    };
    let deliveries = telemetry().fold(Deliveries::default(), |sum, it| sum + it.deliveries());
    let paused = pausing::paused(&*app.store).await?;
    let breakers = breakers::seen_by(app).await?;
    let stats = Stats::new(counts, Some((deliveries, rates)), paused, app.clock.now());
    Ok(Stats { breakers, ..stats })
}
