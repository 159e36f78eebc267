//! Bulk replays: what would be run, how far each has come, and its end before time.

use actix_web::HttpRequest;
use maud::{Markup, html};

use super::{
    events::status,
    filters::{self, Pairs, in_words, pairs_of, selection},
    page::{Place, Shown, Sorry, change, may_change, page, see},
    session::{Act, Fields, Viewer},
    text::{Seen, count, link, number, rate, user, when},
};
use crate::{
    bulk_replays::{self, Begun, BulkReplay, State, Work},
    http::Shared,
};

fn of_replay(id: u64) -> String {
    link("/console/replay", &[("id", &id.to_string())])
}

/// What is done with each event.
fn work(replay: &BulkReplay) -> &'static str {
    match replay.work {
        Work::Replay => "Replay",
        Work::Recorrelate => "Recorrelation",
        Work::RecorrelateAndRun => "Recorrelation with runs",
    }
}

fn state(replay: &BulkReplay) -> &'static str {
    match replay.state {
        State::Running => "running",
        State::Done => "done",
        State::Cancelled => "cancelled",
        State::Failed => "failed",
    }
}

pub(super) async fn list(viewer: Viewer, service: Shared) -> Shown {
    let replays = bulk_replays::list(&*service.app.store).await?;
    let content = html! {
        @if replays.is_empty() {
            div.empty {
                p { strong { "There was no bulk replay yet." } }
                p { "Begin one from " a href="/console/errors" { "a group of errors" } ", from the "
                    a href="/console/dead-letters" { "dead letters" } " or from any filter of the "
                    a href="/console/events" { "events" } "." }
            }
        } @else {
            table.cards {
                caption.spoken { "Bulk replays, newest first" }
                thead { tr {
                    th scope="col" { "Replay" } th scope="col" { "State" }
                    th scope="col" { "Begun" } th scope="col" { "By" }
                    th.number scope="col" { "Done" } th.number scope="col" { "Succeeded" }
                    th.number scope="col" { "Failed" }
                } }
                tbody { @for replay in &replays {
                    tr {
                        th scope="row" { a href=(of_replay(replay.id)) { (work(replay)) " " (replay.id) } }
                        td data-label="State" { (status(state(replay))) }
                        td data-label="Begun" { (when(&replay.begun_at)) }
                        td data-label="By" { (user(&replay.by)) }
                        td.number data-label="Done" {
                            (number(replay.done)) " of " (number(replay.total))
                        }
                        td.number data-label="Succeeded" { (number(replay.succeeded)) }
                        td.number data-label="Failed" { (number(replay.failed)) }
                    }
                } }
            }
        }
    };
    Ok(page(&viewer, Place::Replays, "Replays", content))
}

pub(super) async fn show(request: HttpRequest, viewer: Viewer, service: Shared) -> Shown {
    let query = Fields::read(request.query_string().as_bytes());
    let id = query.as_ref().map_or("", |query| query.get("id"));
    let replay = service.app.api.bulk_replay(&viewer.operator, id).await?;
    let runs = replay.state == State::Running;
    let content = html! {
        div data-live="replay" data-poll=[runs.then_some("1")] {
            p.lead {
                (status(state(&replay))) " begun " (when(&replay.begun_at)) " by "
                (user(&replay.by))
            }
            label for="progress" {
                (number(replay.done)) " of " (count(replay.total, "event", "events"))
            }
            progress #progress max=(replay.total.max(1)) value=(if replay.total == 0 { 1 } else { replay.done }) {
                (number(replay.done))
            }
            dl.facts {
                div { dt { "Succeeded" } dd { (number(replay.succeeded)) } }
                div { dt { "Failed" } dd { (number(replay.failed)) } }
                div {
                    dt { "Rate" }
                    dd {
                        @match replay.rate {
                            Some(most) => { "at most " (rate(most)) " a second" }
                            None => "as fast as it goes"
                        }
                    }
                }
            }
            @if runs && may_change(&viewer) {
                div.actions {
                    (change(&viewer, &link("/console/replay/cancel", &[("id", &replay.id.to_string())]), html! { button.danger { "Cancel" } }))
                }
                p.help { "Events that are being run come to their end." }
            }
            @if replay.failed > 0 {
                p {
                    "Why events failed stands under "
                    a href=(link("/console/errors", &[("from", "1d")])) { "Errors" } "."
                }
            }
        }
        p { a href="/console/replays" { "All replays" } }
    };
    Ok(page(&viewer, Place::Replays, &format!("{} {}", work(&replay), replay.id), content))
}

/// Only who may change something may ask what a change would do, as in the operator API.
pub(super) async fn only_operators(
    request: &HttpRequest,
    viewer: &Viewer,
    service: &Shared,
) -> Result<(), Sorry> {
    match service.tokens.may_change(&viewer.operator, request, &service.app) {
        Ok(()) => Ok(()),
        Err(refused) => Err(refused.answer().await.into()),
    }
}

/// The filter that a page's address holds, without what names a page of a list.
pub(super) fn filter_of(request: &HttpRequest) -> Result<Pairs, Sorry> {
    let mut pairs = pairs_of(request)?;
    pairs.remove("cursor");
    pairs.remove("limit");
    Ok(pairs)
}

/// Shows what would be run.
pub(super) async fn preview(request: HttpRequest, viewer: Viewer, service: Shared) -> Shown {
    only_operators(&request, &viewer, &service).await?;
    let pairs = filter_of(&request)?;
    let asked = selection(&pairs, &[("dry_run", true.into())]);
    let Begun::NotYet(chosen) = service.app.api.begin_replay(&viewer.operator, &asked).await?
    else {
        return Ok(see("/console/replays"));
    };
    let content = html! {
        p { "Events that match:" }
        (in_words(&pairs))
        @if chosen.count == 0 {
            div.empty {
                p { strong { "No event matches." } }
                p { a href=(filters::address("/console/events", &pairs)) { "Look at the filter" } }
            }
        } @else {
            p.lead {
                strong { (count(chosen.count, "event", "events")) }
                " would be run again, the earliest first."
            }
            (sample(&chosen.sample, chosen.count))
            (change(&viewer, &filters::address("/console/replays", &pairs), html! {
                div.field {
                    label for="rate" { "At most so many a second" }
                    input #rate name="rate" inputmode="decimal" autocomplete="off" aria-describedby="rate-help";
                    span.help #rate-help { "Leave it empty for as fast as it goes." }
                }
                div.actions {
                    button.main { "Replay " (count(chosen.count, "event", "events")) }
                    a.button href=(filters::address("/console/events", &pairs)) { "Back" }
                }
            }))
        }
    };
    Ok(page(&viewer, Place::Replays, "Replay these events?", content))
}

/// Some of the events that were chosen.
pub(super) fn sample(ids: &[String], of: u64) -> Markup {
    html! {
        ul.sample { @for id in ids { li.mono { bdi { (Seen(id)) } } } }
        @if of > ids.len() as u64 { p.help { "and " (number(of - ids.len() as u64)) " more" } }
    }
}

pub(super) async fn begin(request: HttpRequest, act: Act, service: Shared) -> Shown {
    let pairs = filter_of(&request)?;
    let mut more = Vec::new();
    let most = act.fields.get("rate").trim();
    if !most.is_empty() {
        // Whether it is a rate, the operator API decides.
        more.push(("rate", most.parse::<f64>().ok().into()));
    }
    let asked = selection(&pairs, &more);
    let begun = service.app.api.begin_replay(&act.viewer.operator, &asked).await;
    let back = || filters::address("/console/replays/new", &pairs);
    match begun.map_err(|problem| Sorry::from(problem).back_to(back()))? {
        Begun::Replay(replay) => Ok(see(&of_replay(replay.id))),
        Begun::NotYet(_) => Ok(see("/console/replays")),
    }
}

pub(super) async fn cancel(request: HttpRequest, act: Act, service: Shared) -> Shown {
    let query = Fields::read(request.query_string().as_bytes());
    let id = query.as_ref().map_or("", |query| query.get("id"));
    let replay = service.app.api.cancel_replay(&act.viewer.operator, id).await?;
    Ok(see(&of_replay(replay.id)))
}
