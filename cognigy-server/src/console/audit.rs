//! Who did what, when, to what, and what it came to.

use actix_web::HttpRequest;
use maud::{Markup, html};

use super::{
    event::named,
    events::{further, status},
    filters::pairs_of,
    page::{Place, Shown, page},
    session::Viewer,
    text::{link, maybe, number, user, when},
};
use crate::{http::Shared, view::AuditLine};

pub(super) async fn show(request: HttpRequest, viewer: Viewer, service: Shared) -> Shown {
    let pairs = pairs_of(&request)?;
    let found = service.app.api.audit(&viewer.operator, pairs.clone()).await?;
    let of_events = found.entries.iter().map(|entry| entry.source.is_some());
    let of_events: Vec<bool> = of_events.collect();
    let seen = |entry| AuditLine::from(entry).seen_by(viewer.operator.role());
    let entries: Vec<_> = found.entries.into_iter().map(seen).collect();
    let content = html! {
        @if entries.is_empty() {
            div.empty {
                p { strong { "Nothing was changed yet." } }
                p {
                    "Each change that an operator makes is recorded here, whether it is made in the console, by the API or at the command line."
                }
            }
        } @else {
            table.cards {
                caption.spoken { "What operators did, newest first" }
                thead { tr {
                    th scope="col" { "When" } th scope="col" { "Who" } th scope="col" { "What" }
                    th scope="col" { "To what" }
                    th.number scope="col" { "Count" } th scope="col" { "Outcome" }
                } }
                tbody { @for (entry, is_of_event) in entries.iter().zip(of_events) {
                    tr {
                        td data-label="When" { (when(&entry.at)) }
                        td data-label="Who" { (user(&entry.by)) }
                        td data-label="What" { (entry.action.replace('_', " ")) }
                        td.id data-label="To what" { (target(entry, is_of_event)) }
                        td.number data-label="Count" {
                            @match entry.count {
                                Some(count) => { (number(count)) } None => { (maybe(None)) }
                            }
                        }
                        td data-label="Outcome" { (status(&entry.outcome)) }
                    }
                } }
            }
        }
        (further("/console/audit", &pairs, found.next.map(|next| next.to_string())))
    };
    Ok(page(&viewer, Place::Audit, "Audit", content))
}

fn target(entry: &AuditLine, is_of_event: bool) -> Markup {
    html! {
        @match (&entry.target, &entry.filter) {
            (Some(id), _) if is_of_event => { (named(entry.source.as_deref(), id)) }
            (Some(id), _)
            if entry.action == "cancel_replay" => {
                a href=(link("/console/replay", &[("id", id)])) { "replay " (user(id)) }
            }
            (Some(id), _)
            if entry.action == "quarantine_retry" => {
                a href=(link("/console/quarantined", &[("id", id)])) { "body " (user(id)) }
            }
            (Some(id), _) if entry.action == "erase" => { "receipt " (user(id)) }
            (Some(target), _) => { (user(target)) }
            (None, Some(filter)) => { code { (user(&filter.to_string())) } }
            (None, None) => { (maybe(None)) }
        }
    }
}
