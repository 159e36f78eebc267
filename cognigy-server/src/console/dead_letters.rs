//! Events that were given up, with the reasons.

use actix_web::HttpRequest;
use cognigy_core::EventSummary;
use maud::{Markup, html};

use super::{
    events::{contact_cell, further, id_cell, status},
    filters::{self, Pairs, pairs_of},
    page::{Place, Shown, may_change, page},
    session::Viewer,
    text::{link, maybe, user, when},
};
use crate::{
    app::App,
    http::{ProblemResponse, Shared},
    view::time,
};

/// The states that are shown, one at a time.
const STATES: [(&str, &str); 3] = [
    ("dead_lettered", "Given up"),
    ("dead_lettering", "Waiting for the queue"),
    ("discarded", "Discarded"),
];

/// How many are on a page: the reason of each is a store call.
const PAGE: &str = "25";

pub(super) async fn show(request: HttpRequest, viewer: Viewer, service: Shared) -> Shown {
    let app = &service.app;
    let mut pairs = pairs_of(&request)?;
    let state = pairs.entry("status".to_owned()).or_insert_with(|| STATES[0].0.to_owned()).clone();
    if STATES.iter().all(|(known, _)| *known != state) {
        let detail = "status: expected dead_lettered, dead_lettering or discarded";
        return Err(ProblemResponse::bad_request(detail).into());
    }
    let mut asked = pairs.clone();
    asked.insert("limit".to_owned(), PAGE.to_owned());
    let found = app.api.events(&viewer.operator, asked).await?;
    let mut rows = Vec::new();
    for event in &found.events {
        rows.push((event, reason(app, event).await?));
    }
    let mut conditions = pairs.clone();
    conditions.remove("cursor");
    let content = html! {
        nav.tabs aria-label="State" {
            ul { @for (of, name) in STATES {
                li {
                    a href=(link("/console/dead-letters", &[("status", of)])) aria-current=[(of == state).then_some("true")] {
                        (name)
                    }
                }
            } }
        }
        @if rows.is_empty() { (empty(&state)) } @else {
            @if may_change(&viewer) {
                p.bulk {
                    "All of these: "
                    a.button href=(filters::address("/console/replays/new", &conditions)) {
                        "Replay …"
                    }
                    @if state != "discarded" {
                        " "
                        a.button href=(filters::address("/console/discards/new", &conditions)) {
                            "Discard …"
                        }
                    }
                }
            }
            (table(&rows))
        }
        (further("/console/dead-letters", &pairs as &Pairs, found.next.map(|next| next.to_string())))
    };
    Ok(page(&viewer, Place::DeadLetters, "Dead letters", content))
}

/// The error of its last attempt.
async fn reason(
    app: &App,
    event: &EventSummary,
) -> Result<Option<String>, cognigy_core::StoreError> {
    let key = event.key();
    Ok(app.store.attempts(&key).await?.pop().and_then(|last| last.error))
}

fn empty(state: &str) -> Markup {
    html! {
        div.empty {
            @match state {
                "dead_lettered" => {
                    p { strong { "No event was given up." } }
                    p {
                        "An event that keeps failing ends here. From here it can be replayed or discarded."
                    }
                }
                "dead_lettering" => {
                    p { strong { "No dead letter waits." } }
                    p { "A dead letter waits here while the queue does not take it." }
                }
                _ => {
                    p { strong { "No event was discarded." } }
                    p { "A dead letter that an operator discards stays here, in the history." }
                }
            }
        }
    }
}

fn table(rows: &[(&EventSummary, Option<String>)]) -> Markup {
    html! {
        div.wide { table.cards.events {
            caption.spoken { "Dead letters, newest first" }
            thead { tr {
                th scope="col" { "Event" } th scope="col" { "Received" } th scope="col" { "Type" }
                th scope="col" { "Contact" } th scope="col" { "Last error" }
                th scope="col" { "Status" }
            } }
            tbody { @for (event, reason) in rows {
                tr {
                    (id_cell(event))
                    td data-label="Received" { (when(&time(event.received_at))) }
                    td.kind data-label="Type" { (user(event.kind.as_str())) }
                    (contact_cell(event))
                    td.error data-label="Last error" { (maybe(reason.as_deref())) }
                    td data-label="Status" { (status(event.state.as_str())) }
                }
            } }
        } }
    }
}
