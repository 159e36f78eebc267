//! What fails, and how often: failures grouped by what they have in common.

use actix_web::HttpRequest;
use cognigy_core::ErrorGroup;
use maud::{Markup, html};

use super::{
    events::of_event,
    filters::{Pairs, pairs_of},
    page::{Place, Shown, may_change, page},
    session::Viewer,
    text::{Seen, link, number, user, when},
};
use crate::{http::Shared, view::time};

/// How far back the page looks. The store groups failures by reading them.
const BACK: [(&str, &str); 4] =
    [("1h", "Last hour"), ("1d", "Last day"), ("7d", "Last week"), ("", "All")];

/// How many events of a group are named.
const SAMPLE: usize = 3;

pub(super) async fn show(request: HttpRequest, viewer: Viewer, service: Shared) -> Shown {
    let pairs = pairs_of(&request)?;
    let groups = service.app.api.errors(&viewer.operator, &pairs).await?;
    let content = html! {
        (periods(&pairs))
        @if groups.is_empty() {
            div.empty {
                p { strong { "Nothing failed." } }
                @if pairs.contains_key("from") {
                    p { "Look further back, or " a href="/console/events" { "at the events" } "." }
                }
                @else {
                    p { "Attempts that fail are grouped here by what their errors have in common." }
                }
            }
        } @else {
            ol.groups { @for group in &groups { (one(&viewer, group, &pairs)) } }
        }
    };
    Ok(page(&viewer, Place::Errors, "Errors", content))
}

fn periods(pairs: &Pairs) -> Markup {
    let chosen = pairs.get("from").map_or("", String::as_str);
    html! {
        nav.tabs aria-label="Period" {
            ul {
                @for (from, name) in BACK {
                    @let address = if from.is_empty() { "/console/errors".to_owned() }
                    else { link("/console/errors", &[("from", from)]) } ;
                    li {
                        a href=(address) aria-current=[(from == chosen).then_some("true")] {
                            (name)
                        }
                    }
                }
            }
        }
    }
}

fn one(viewer: &Viewer, group: &ErrorGroup, pairs: &Pairs) -> Markup {
    let name = group.class.name.as_str();
    let mut filter = vec![("error", name)];
    let source = pairs.get("source").map(String::as_str);
    filter.extend(source.map(|source| ("source", source)));
    html! {
        li.group {
            h2 { (Seen(&group.class.message)) }
            p.facts-line {
                strong { (number(group.count)) }
                @if group.count == 1 { " failure" } @else { " failures" }
                " · first " (when(&time(group.first))) " · last " (when(&time(group.last)))
                " · class " span.mono { (user(name)) }
            }
            p.sample {
                "For example "
                @for (place, key) in group.sample.iter().take(SAMPLE).enumerate() {
                    @if place > 0 { ", " }
                    a href=(of_event(key.source.as_str(), key.id.as_str())) {
                        (user(key.id.as_str()))
                    }
                }
            }
            div.actions {
                a.button href=(link("/console/events", &filter)) {
                    "Unresolved events" span.spoken { " of " (user(name)) }
                }
                @if may_change(viewer) {
                    a.button href=(link("/console/replays/new", &filter)) {
                        "Replay …" span.spoken { " " (user(name)) }
                    }
                    a.button href=(link("/console/discards/new", &filter)) {
                        "Discard …" span.spoken { " " (user(name)) }
                    }
                }
            }
        }
    }
}
