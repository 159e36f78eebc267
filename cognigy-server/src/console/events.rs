//! The list of events, with all filters of the operator API.

use actix_web::{HttpRequest, http::StatusCode};
use cognigy_core::EventSummary;
use maud::{Markup, html};

use super::{
    filters::{self, Pairs, pairs_of},
    page::{Place, Shown, may_change, page},
    session::Viewer,
    text::{Seen, link, maybe, user, when},
};
use crate::{
    app::App,
    http::{ProblemResponse, Shared},
    view::time,
};

pub(super) async fn show(request: HttpRequest, viewer: Viewer, service: Shared) -> Shown {
    let app = &service.app;
    let pairs = pairs_of(&request)?;
    let found = match app
        .api
        .events(&viewer.operator, pairs.clone())
        .await
        .map_err(ProblemResponse::from)
    {
        Ok(found) => found,
        Err(problem) if problem.told().0 == 400 => {
            let (_, _, detail) = problem.told();
            let content = html! {
                (filters::form(app, &viewer, "/console/events", &pairs))
                div.note.bad role="alert" { p { (Seen(&detail)) "." } }
            };
            let mut response = page(&viewer, Place::Events, "Events", content);
            *response.status_mut() = StatusCode::BAD_REQUEST;
            return Ok(response);
        }
        Err(problem) => return Err(problem.into()),
    };
    let is_first = !pairs.contains_key("cursor");
    let mut conditions = pairs.clone();
    conditions.remove("cursor");
    conditions.remove("limit");
    let content = html! {
        (filters::form(app, &viewer, "/console/events", &conditions))
        @if is_first { div.live-bar { p.live data-live-state="/console/live" hidden {} } }
        div data-live=[is_first.then_some("events")] {
            @if found.events.is_empty() {
                (empty(&conditions))
            } @else {
                (table(app, &found.events))
            }
        }
        (further("/console/events", &pairs, found.next.map(|next| next.to_string())))
        @if may_change(&viewer) && !conditions.is_empty() && !found.events.is_empty() {
            p.bulk {
                "All that match: "
                a.button href=(filters::address("/console/replays/new", &conditions)) { "Replay …" }
                " "
                a.button href=(filters::address("/console/discards/new", &conditions)) {
                    "Discard the dead letters …"
                }
            }
        }
    };
    Ok(page(&viewer, Place::Events, "Events", content))
}

fn empty(conditions: &Pairs) -> Markup {
    html! {
        div.empty {
            @if conditions.is_empty() {
                p { strong { "No event is stored yet." } }
                p { "Send one with " code { "cognigy-server send" } ", or enter this server's address at the sender. "
                    "A delivery that is refused shows under "
                    a href="/console/sources" { "Sources" } "." }
            } @else {
                p { strong { "No event matches." } }
                p {
                    "Take a condition out, or " a href="/console/events" { "look at all events" }
                    "."
                }
            }
        }
    }
}

/// The address of an event's page.
pub(super) fn of_event(source: &str, id: &str) -> String {
    link("/console/event", &[("source", source), ("id", id)])
}

/// The address of the page of a contact.
pub(super) fn of_contact(key: &str) -> String {
    link("/console/contact", &[("key", key)])
}

/// A state, as a word and a colour.
pub(super) fn status(state: &str) -> Markup {
    let kind = match state {
        "processed" | "succeeded" | "recorrelated" | "done" | "replayed" | "accepted"
        | "discarded" => "good",
        "dead_lettered" | "dead_lettering" | "failed_permanent" | "failed" | "invalid" => "bad",
        "failed_transient" | "lease_expired" | "conflict" | "cancelled" | "busy" => "warn",
        "processing" | "running" => "busy",
        _ => "calm",
    };
    html! { span class=(format!("status {kind}")) { (state.replace('_', " ")) } }
}

/// A table of events.
pub(super) fn table(app: &App, events: &[EventSummary]) -> Markup {
    let has_sources = app.pipelines.iter().count() > 1;
    html! {
        div.wide { table.cards.events {
            caption.spoken { "Events, newest first" }
            thead { tr {
                th scope="col" { "Event" } th scope="col" { "Received" } th scope="col" { "Type" }
                th scope="col" { "Status" } th scope="col" { "Contact" }
                th scope="col" { "Correlation" }
                @if has_sources { th scope="col" { "Source" } }
            } }
            tbody {
                @for event in events {
                    tr {
                        (id_cell(event))
                        td data-label="Received" { (when(&time(event.received_at))) }
                        td.kind data-label="Type" { (user(event.kind.as_str())) }
                        td data-label="Status" { (status(event.state.as_str())) }
                        (contact_cell(event))
                        td data-label="Correlation" { (event.correlation.as_str().replace('_', " ")) }
                        @if has_sources { td data-label="Source" { (event.source.as_str()) } }
                    }
                }
            }
        } }
    }
}

/// The links to other pages of a list.
pub(super) fn further(path: &str, pairs: &Pairs, next: Option<String>) -> Markup {
    let is_first = !pairs.contains_key("cursor");
    if is_first && next.is_none() {
        return html! {};
    }
    let mut first = pairs.clone();
    first.remove("cursor");
    let older = next.map(|next| {
        let mut older = first.clone();
        older.insert("cursor".to_owned(), next);
        filters::address(path, &older)
    });
    html! {
        nav.further aria-label="Pages" {
            @if !is_first { a.button href=(filters::address(path, &first)) { "Newest" } }
            @if let Some(older) = older { a.button href=(older) rel="next" { "Older" } }
            @else { span.help { "These are the oldest." } }
        }
    }
}

/// The event's id, which leads to its page.
pub(super) fn id_cell(event: &EventSummary) -> Markup {
    let (source, id) = (event.source.as_str(), event.id.as_str());
    html! { th.id scope="row" { a href=(of_event(source, id)) { (user(id)) } } }
}

/// The event's contact, which leads to the contact's page.
pub(super) fn contact_cell(event: &EventSummary) -> Markup {
    let contact = event.external_id.as_deref().or(event.user_id.as_deref());
    html! {
        td.id data-label="Contact" {
            @match contact {
                Some(contact) => { a href=(of_contact(contact)) { (user(contact)) } }
                None => { (maybe(None)) }
            }
        }
    }
}
