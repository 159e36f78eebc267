//! How a replay of an event would end now, beside how its last run ended.

use actix_web::HttpRequest;
use maud::{Markup, html};

use super::{
    body,
    event::key_of,
    events::{of_event, status},
    page::{Place, Shown, Sorry, change, page},
    session::{Act, Viewer},
    text::{link, user},
};
use crate::{
    http::Shared,
    rehearsing::{Line, Outcome},
};

/// Asks the CRM, and runs nothing. It is posted, since the CRM is asked once for each click.
pub(super) async fn rehearse(request: HttpRequest, act: Act, service: Shared) -> Shown {
    let key = key_of(&request)?;
    let back = of_event(key.source.as_str(), key.id.as_str());
    let rehearsed = service.app.api.rehearse_keys(vec![key.clone()], false).await;
    let answer =
        rehearsed.map_err(|error| Sorry::from(crate::http::ProblemResponse::from(error)))?;
    let content = html! {
        p.lead { "Event " a href=(back) { bdi { (user(key.id.as_str())) } } }
        @for line in &answer.rehearsals { (shown(&act.viewer, line, key.source.as_str())) }
    };
    Ok(page(&act.viewer, Place::Events, "Rehearsal", content))
}

fn shown(viewer: &Viewer, line: &Line, source: &str) -> Markup {
    let (Some(recorded), Some(now)) = (&line.recorded, &line.now) else {
        let why = match line.not_rehearsed.as_deref() {
            Some("forgotten") => "Its body was forgotten, so it cannot be run again.",
            Some("not_configured") => "Its source is not configured here, so its CRM is not known.",
            _ => "The event is not stored any more.",
        };
        return html! { div.note.bad role="status" { p { (why) } } };
    };
    let told = match line.differs.is_empty() {
        true => "A replay would end as the last run did.",
        false => "A replay would end differently.",
    };
    html! {
        div.note.good role="status" {
            p { (told) " The CRM was asked; nothing was run, handed on or stored." }
        }
        (outcome("recorded", "As it is stored", recorded))
        (outcome("now", "As a replay would end now, if its handler succeeds", now))
        (change(
            viewer,
            &link("/console/event/replay", &[("source", source), ("id", &line.event_id)]),
            html! { button.main { "Replay now" } },
        ))
    }
}

fn outcome(id: &str, title: &str, outcome: &Outcome) -> Markup {
    html! {
        section aria-labelledby=(id) {
            h2 id=(id) { (title) }
            p {
                (status(&outcome.status)) " Correlation: "
                (outcome.correlation.replace('_', " "))
            }
            @if let Some(error) = &outcome.error { p { (user(error)) } }
            @if let Some(contact) = &outcome.crm_context { (body::block("Contact", contact.get())) }
        }
    }
}
