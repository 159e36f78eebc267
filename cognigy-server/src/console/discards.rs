//! Discarding the dead letters that a filter selects: first what would go, then the deed.

use actix_web::HttpRequest;
use maud::html;

use super::{
    filters::{self, in_words, selection},
    page::{Place, Shown, change, page},
    replays::{filter_of, only_operators, sample},
    session::{Act, Viewer},
    text::count,
};
use crate::http::Shared;

pub(super) async fn preview(request: HttpRequest, viewer: Viewer, service: Shared) -> Shown {
    only_operators(&request, &viewer, &service).await?;
    let pairs = filter_of(&request)?;
    let asked = selection(&pairs, &[("dry_run", true.into())]);
    let chosen = service.app.api.discard(&viewer.operator, &asked).await?;
    let content = html! {
        p { "Dead letters that match:" }
        (in_words(&pairs))
        @if chosen.count == 0 {
            div.empty {
                p { strong { "No dead letter matches." } }
                p {
                    "Only events that were given up can be discarded. "
                    a href="/console/dead-letters" { "Dead letters" }
                }
            }
        } @else {
            p.lead {
                strong { (count(chosen.count, "dead letter", "dead letters")) }
                " would be discarded. The events stay in the history."
            }
            (sample(&chosen.sample, chosen.count))
            (change(&viewer, &filters::address("/console/discards", &pairs), html! {
                div.actions {
                    button.danger {
                        "Discard " (count(chosen.count, "dead letter", "dead letters"))
                    }
                    a.button href="/console/dead-letters" { "Back" }
                }
            }))
        }
    };
    Ok(page(&viewer, Place::DeadLetters, "Discard these dead letters?", content))
}

pub(super) async fn discard(request: HttpRequest, act: Act, service: Shared) -> Shown {
    let pairs = filter_of(&request)?;
    let asked = selection(&pairs, &[]);
    let outcome = service.app.api.discard(&act.viewer.operator, &asked).await?;
    let content = html! {
        div.note.good role="status" {
            p { (count(outcome.count, "dead letter was", "dead letters were")) " discarded." }
        }
        (sample(&outcome.sample, outcome.count))
        p { a href="/console/dead-letters" { "Dead letters" } }
    };
    Ok(page(&act.viewer, Place::DeadLetters, "Discarded", content))
}
