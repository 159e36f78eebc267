//! One event: what is known of it, what happened to it, and what can be done.

use actix_web::{HttpRequest, http::header};
use cognigy_core::EventKey;
use maud::{Markup, html};
use serde_json::json;

use super::{
    body,
    events::{of_contact, of_event, status},
    page::{Place, Shown, Sorry, change, may_change, page, see},
    session::{Act, Fields, Viewer},
    sign_in::is_behind_tls,
    text::{Seen, duration, encoded, link, maybe, number, user, when},
};
use crate::{
    http::{self, ProblemResponse, Shared},
    view::{AttemptLine, AuditLine, EventDetail, time},
};

/// The event that a page's parameters name.
pub(super) fn key_of(request: &HttpRequest) -> Result<EventKey, Sorry> {
    let query = Fields::read(request.query_string().as_bytes());
    let query = query.ok_or_else(|| ProblemResponse::bad_request("The address cannot be read"))?;
    let (source, id) = (query.get("source").parse(), query.get("id").parse());
    match (source, id) {
        (Ok(source), Ok(id)) => Ok(EventKey { source, id }),
        _ => Err(http::not_found().into()),
    }
}

pub(super) async fn show(request: HttpRequest, viewer: Viewer, service: Shared) -> Shown {
    let key = key_of(&request)?;
    let event = service.app.api.event(&viewer.operator, &key).await?;
    let source = key.source.as_str();
    let did = Fields::read(request.query_string().as_bytes());
    let did = did.as_ref().map_or("", |query| query.get("did"));
    let content = html! {
        p.lead { span.mono { (user(&event.event_id)) } " " (status(event.status)) }
        (told(did))
        @if may_change(&viewer) { (buttons(&viewer, &event, source)) }
        (facts(&event, source))
        (timeline(&event))
        (bodies(&viewer, &event, source))
        (by_hand(&request, &event, source))
    };
    Ok(page(&viewer, Place::Events, "Event", content))
}

/// What was just done.
fn told(did: &str) -> Markup {
    let text = match did {
        "replayed" => "The event was run again, and it was processed.",
        "discarded" => "The dead letter was discarded. The event stays in the history.",
        _ => return html! {},
    };
    html! { div.note.good role="status" { p { (text) } } }
}

fn buttons(viewer: &Viewer, event: &EventDetail, source: &str) -> Markup {
    let at = |path| link(path, &[("source", source), ("id", &event.event_id)]);
    let is_dead = matches!(event.status, "dead_lettered" | "dead_lettering");
    html! {
        div.actions {
            @if event.forgotten.is_none() {
                (change(viewer, &at("/console/event/replay"), html! { button.main { "Replay now" } }))
                (change(viewer, &at("/console/event/rehearse"), html! { button { "Rehearse" } }))
            }
            @if is_dead {
                (change(viewer, &at("/console/event/discard"), html! { button.danger { "Discard" } }))
            }
        }
    }
}

fn fact(name: &str, value: Markup) -> Markup {
    html! { div { dt { (name) } dd { (value) } } }
}

fn person(id: Option<&str>) -> Markup {
    match id {
        Some(id) => html! { a href=(of_contact(id)) { (user(id)) } },
        None => maybe(None),
    }
}

fn facts(event: &EventDetail, source: &str) -> Markup {
    html! {
        section aria-labelledby="facts" {
            h2.spoken #facts { "Facts" }
            dl.facts {
                (fact("Type", user(event.kind.as_str())))
                (fact("Source", user(source)))
                (fact("Received", when(&event.received_at)))
                (fact("Happened, the sender says", when(&time(event.timestamp.instant()))))
                (fact("External id", person(event.external_id.as_deref())))
                (fact("User id", person(event.user_id.as_deref())))
                (fact("Conversation", match &event.conversation {
                    Some(name) => html! { a href=(link("/console/events", &[("conversation", name)])) { (user(name)) } },
                    None => maybe(None),
                }))
                (fact("Correlation", html! { (event.correlation.replace('_', " ")) }))
                @if let Some(at) = &event.processed_at { (fact("Processed", when(at))) }
                @if let Some(at) = &event.next_attempt_at { (fact("Next attempt", when(at))) }
                @if let Some(why) = event.forgotten { (fact("Body forgotten", html! { (why) })) }
                @if event.sensitive { (fact("Sensitive", html! { "its sender asks that its content be shown nowhere" })) }
                @if let Some(dead) = &event.dead_letter {
                    (fact("Dead letter", html! { (dead.status) ": " (user(&dead.reason)) }))
                    (fact("Tries to send it", html! { (number(dead.tries.into())) ", next " (when(&dead.next_try_at)) }))
                }
            }
        }
    }
}

/// What happened, in order of time.
fn timeline(event: &EventDetail) -> Markup {
    let mut steps: Vec<(&str, Markup)> =
        vec![(event.received_at.as_str(), html! { strong { "Received" } })];
    steps.extend(event.attempts.iter().map(|it| (it.started_at.as_str(), attempt(it))));
    steps.extend(event.audit.iter().map(|it| (it.at.as_str(), by_operator(it))));
    if let Some(at) = &event.next_attempt_at {
        steps.push((at, html! { strong { "Next attempt is due" } }));
    }
    if let Some(dead) = &event.dead_letter {
        steps.push((&dead.next_try_at, html! { strong { "The dead letter is sent again" } }));
    }
    // All times have one form and one zone, so that their texts sort as they do.
    steps.sort_by(|one, other| one.0.cmp(other.0));
    html! {
        section aria-labelledby="timeline" {
            h2 #timeline { "Timeline" }
            ol.timeline {
                @for (at, what) in steps { li { (when(at)) div { (what) } } }
            }
        }
    }
}

fn attempt(attempt: &AttemptLine) -> Markup {
    if attempt.outcome == "recorrelated" {
        return html! {
            strong { "Asked the CRM again for the contact" } " " (status(attempt.outcome)) " "
            span.took { "took " (duration(attempt.duration_ms / 1000.0)) }
            p.help { "The handler was not run. It is kept as run " (attempt.run) "." }
        };
    }
    if attempt.outcome == "imported" {
        return html! {
            strong { "Done by another system" } " " (status(attempt.outcome))
            p.help { "Nothing ran here. It is kept as run " (attempt.run) "." }
            @if let Some(error) = &attempt.error { p.error { (user(error)) } }
        };
    }
    html! {
        strong { "Attempt " (attempt.number) }
        @if attempt.run > 1 { " of run " (attempt.run) ", a replay" }
        " " (status(attempt.outcome)) " "
        span.took { "took " (duration(attempt.duration_ms / 1000.0)) }
        @if let Some(error) = &attempt.error { p.error { (user(error)) } }
    }
}

fn by_operator(entry: &AuditLine) -> Markup {
    html! {
        strong { (user(&entry.by)) } ": " (entry.action.replace('_', " ")) " "
        (status(&entry.outcome))
        @if entry.count.is_none() { " one of many events" }
    }
}

fn bodies(viewer: &Viewer, event: &EventDetail, source: &str) -> Markup {
    let hidden = match (&event.body, viewer.operator.role().sees_bodies()) {
        (Some(_), _) => None,
        (None, false) => Some("Your role does not show what people wrote."),
        (None, true) if event.sensitive => {
            Some("The sender asks that the content be shown nowhere.")
        }
        (None, true) => Some("The body is not stored any more."),
    };
    let headers: Vec<_> = event.headers.iter().collect();
    html! {
        section aria-labelledby="body" {
            h2 #body { "Body" }
            @if let Some(why) = hidden { p.help { (why) } }
            @if let Some(text) = &event.body {
                p.help { (number(text.len() as u64)) " bytes, as the sender signed them." }
                (body::body(text, &link("/console/event/body", &[("source", source), ("id", &event.event_id)])))
            }
        }
        @if let Some(contact) = &event.crm_context {
            section aria-labelledby="contact" {
                h2 #contact { "Contact, as the CRM knew it" }
                @let text = contact.to_string();
                (body::block("Contact", body::indented(&text).as_deref().unwrap_or(&text)))
            }
        }
        @if !headers.is_empty() {
            section aria-labelledby="headers" {
                h2 #headers { "Kept headers" }
                dl.facts { @for (name, value) in headers { (fact(name, user(value))) } }
            }
        }
    }
}

/// How to do the same with the operator API.
fn by_hand(request: &HttpRequest, event: &EventDetail, source: &str) -> Markup {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok());
    // It stands in a command line that is copied.
    let plain =
        |host: &&str| host.bytes().all(|b| b.is_ascii_alphanumeric() || b".:[]-".contains(&b));
    let host = host.filter(plain).unwrap_or("localhost:8080");
    let scheme = if is_behind_tls(request) { "https" } else { "http" };
    let path = encoded(&event.event_id);
    let command = format!(
        "curl --request POST --header \"Authorization: Bearer $COGNIGY_ADMIN_TOKEN\" \\\n  \
         '{scheme}://{host}/webhooks/replay/{path}?source={source}'"
    );
    html! {
        section aria-labelledby="by-hand" {
            h2 #by-hand { "Replay from a shell" }
            (body::block("Command", &command))
        }
    }
}

pub(super) async fn replay(request: HttpRequest, act: Act, service: Shared) -> Shown {
    let key = key_of(&request)?;
    let page = of_event(key.source.as_str(), key.id.as_str());
    let run = service.app.api.replay(&act.viewer.operator, key).await;
    run.map_err(|problem| Sorry::from(problem).back_to(page.clone()))?;
    Ok(see(&format!("{page}&did=replayed")))
}

pub(super) async fn discard(request: HttpRequest, act: Act, service: Shared) -> Shown {
    let key = key_of(&request)?;
    let (source, id) = (key.source.as_str(), key.id.as_str());
    let body = json!({ "ids": [id], "source": source }).to_string();
    let outcome = service.app.api.discard(&act.viewer.operator, body.as_bytes()).await?;
    if outcome.count == 0 {
        let detail = "The event is not dead-lettered any more, so it was not discarded";
        let problem = Sorry::from(ProblemResponse::new(409, "Conflict", detail));
        return Err(problem.back_to(of_event(source, id)));
    }
    Ok(see(&format!("{}&did=discarded", of_event(source, id))))
}

/// For places that name an event whose source may not be known.
pub(super) fn named(source: Option<&str>, id: &str) -> Markup {
    html! { a href=(of_event(source.unwrap_or("cognigy"), id)) { bdi { (Seen(id)) } } }
}
