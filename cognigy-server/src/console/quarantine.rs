//! Bodies with a right signature that could not be taken: why, what they say, and another try.

use actix_web::HttpRequest;
use cognigy_core::{EventKey, QuarantinedItem};
use maud::{Markup, html};

use super::{
    body,
    event::named,
    events::{further, of_event, status},
    filters::pairs_of,
    page::{Place, Shown, Sorry, change, may_change, page, see},
    session::{Act, Fields, Viewer},
    text::{link, number, user, when},
};
use crate::{app::App, http::Shared, view::QuarantineLine};

fn of_item(id: i64) -> String {
    link("/console/quarantined", &[("id", &id.to_string())])
}

pub(super) async fn list(request: HttpRequest, viewer: Viewer, service: Shared) -> Shown {
    let pairs = pairs_of(&request)?;
    let found = service.app.api.quarantine(&viewer.operator, pairs.clone()).await?;
    let role = viewer.operator.role();
    let items = found.items.into_iter().map(|item| QuarantineLine::from(item).seen_by(role));
    let items: Vec<_> = items.collect();
    let content = html! {
        @if items.is_empty() {
            div.empty {
                p { strong { "Nothing is in quarantine." } }
                p { "A delivery with a right signature is kept here if its body cannot be read, or if its event id "
                    "is known with other content." }
            }
        } @else {
            table.cards {
                caption.spoken { "Bodies in quarantine, newest first" }
                thead { tr {
                    th scope="col" { "Body" } th scope="col" { "Reason" }
                    th scope="col" { "Received" } th scope="col" { "What is wrong" }
                    th scope="col" { "Event" } th.number scope="col" { "Bytes" }
                } }
                tbody { @for item in &items {
                    tr {
                        th scope="row" { a href=(of_item(item.id)) { "Body " (item.id) } }
                        td data-label="Reason" { (status(item.reason)) }
                        td data-label="Received" { (when(&item.received_at)) }
                        td.error data-label="What is wrong" { (user(&item.detail)) }
                        td.id data-label="Event" {
                            @match &item.event_id {
                                Some(id) => { (named(item.source.as_deref(), id)) }
                                None => { (super::text::none()) }
                            }
                        }
                        td.number data-label="Bytes" { (number(item.body_bytes)) }
                    }
                } }
            }
        }
        (further("/console/quarantine", &pairs, found.next.map(|next| next.to_string())))
    };
    Ok(page(&viewer, Place::Quarantine, "Quarantine", content))
}

pub(super) fn id_of(request: &HttpRequest) -> String {
    let query = Fields::read(request.query_string().as_bytes());
    query.map(|query| query.get("id").to_owned()).unwrap_or_default()
}

pub(super) async fn show(request: HttpRequest, viewer: Viewer, service: Shared) -> Shown {
    let item = service.app.api.quarantined(&viewer.operator, &id_of(&request)).await?;
    let known = known_body(&service.app, &item).await?;
    let line = QuarantineLine::from(item).seen_by(viewer.operator.role());
    let content = html! {
        p.lead { (status(line.reason)) " " (user(&line.detail)) }
        dl.facts {
            div { dt { "Received" } dd { (when(&line.received_at)) } }
            div { dt { "Source" } dd { (line.source.as_deref().unwrap_or("cognigy")) } }
            div {
                dt { "Event" }
                dd {
                    @match &line.event_id {
                        Some(id) => { (named(line.source.as_deref(), id)) }
                        None => { (super::text::none()) }
                    }
                }
            }
            div { dt { "Length" } dd { (number(line.body_bytes)) " bytes" } }
        }
        @if may_change(&viewer) {
            @let id = line.id.to_string();
            @let at = |path| link(path, &[("id", &id)]);
            div.actions {
                (change(&viewer, &at("/console/quarantine/retry"), html! {
                    button.main { "Try again" }
                }))
                (change(&viewer, &at("/console/quarantine/discard"), html! {
                    button.danger { "Discard" }
                }))
            }
            p.help {
                "“Try again” reads the body once more, with the settings of today: if it is right now, it "
                "becomes an event. “Discard” removes it for good."
            }
        }
        (bodies(&line, known.as_deref()))
        p { a href="/console/quarantine" { "All of the quarantine" } }
    };
    Ok(page(&viewer, Place::Quarantine, &format!("Quarantined body {}", line.id), content))
}

fn bodies(line: &QuarantineLine, known: Option<&str>) -> Markup {
    let Some(text) = &line.body else {
        return html! { p.help { "Your role does not show what people wrote." } };
    };
    html! {
        @if let Some(known) = known {
            section aria-labelledby="difference" {
                h2 #difference { "Against the event that is stored" }
                p.legend { del { "− stored" } " " ins { "+ quarantined" } }
                (body::difference(known, text))
            }
        }
        section aria-labelledby="body" { h2 #body { "Body" } (body::body(text, &link("/console/quarantined/body", &[("id", &line.id.to_string())]))) }
    }
}

/// The body of the stored event whose id this one has too, if it may be shown.
async fn known_body(
    app: &App,
    item: &QuarantinedItem,
) -> Result<Option<String>, cognigy_core::StoreError> {
    let Some(Ok(id)) = item.event_id.as_ref().map(|id| id.parse()) else { return Ok(None) };
    let key = EventKey { source: item.source.clone(), id };
    let stored = app.store.find(&key).await?;
    let stored = stored.filter(|it| it.forgotten.is_none() && !it.event.is_sensitive());
    Ok(stored.map(|it| String::from_utf8_lossy(it.event.body()).into_owned()))
}

pub(super) async fn retry(request: HttpRequest, act: Act, service: Shared) -> Shown {
    let id = id_of(&request);
    let tried = service.app.api.retry_quarantined(&act.viewer.operator, &id).await;
    let back = || link("/console/quarantined", &[("id", &id)]);
    let (key, _) = tried.map_err(|problem| Sorry::from(problem).back_to(back()))?;
    Ok(see(&of_event(key.source.as_str(), key.id.as_str())))
}

pub(super) async fn discard(request: HttpRequest, act: Act, service: Shared) -> Shown {
    service.app.api.discard_quarantined(&act.viewer.operator, &id_of(&request)).await?;
    Ok(see("/console/quarantine"))
}
