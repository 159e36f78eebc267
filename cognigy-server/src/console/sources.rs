//! The sources: their states, what was refused and why, and pausing.

use actix_web::HttpRequest;
use maud::{Markup, html};

use super::{
    events::status,
    page::{Place, Shown, change, may_change, page, see},
    session::{Act, Fields, Viewer},
    text::{count, link, number, rate, user, when},
};
use crate::{
    http::Shared,
    pausing::{self, Paused},
    pipelines::SourcePipeline,
};

/// The state of a source's workers and of its CRM.
pub(super) fn state(source: &SourcePipeline, paused: &Paused) -> Markup {
    let by = paused.get(source.telemetry.label());
    html! {
        @if by.is_some() { span.status.warn { "paused" } " " }
        @if source.pipeline.breaker_is_open() { span.status.bad { "CRM out of reach" } }
        @else if by.is_none() { (status("running")) }
    }
}

/// What each outcome of a delivery means.
fn meaning(outcome: &str) -> &str {
    match outcome {
        "accepted" => "new events",
        "duplicate" => "repetitions of known events",
        "conflict" => "known event ids with other content, in quarantine",
        "unsigned" => "not authenticated",
        "invalid" => "bodies that are no event, in quarantine",
        "too_large" => "bodies that are too large",
        "encoded" => "bodies that are compressed",
        "unsupported" => "of a kind that this source does not take",
        "headers_too_large" => "headers that are too large to keep",
        "closed" => "for a source that takes nothing",
        "timed_out" => "bodies that did not arrive in time",
        "malformed" => "requests that broke off",
        "unavailable" => "refused because the store could not take them",
        other => other,
    }
}

pub(super) async fn show(viewer: Viewer, service: Shared) -> Shown {
    let app = &service.app;
    let paused = pausing::paused(&*app.store).await?;
    let backlog = app.store.backlog().await?;
    let content = html! {
        p.help { "Counts of deliveries are of this server since its start." }
        @for source in app.pipelines.iter() {
            @let waiting = backlog.get(source.pipeline.source().name()).map_or(0, |it| it.events);
            (one(&viewer, source, &paused, waiting))
        }
        @let gone: Vec<_> = backlog.iter().filter(|(name, _)| app.pipelines.get(name).is_none()).collect();
        @if !gone.is_empty() {
            section aria-labelledby="gone" {
                h2 #gone { "Not configured any more" }
                p {
                    "These sources have unfinished work that nobody takes. Configure them again, or replay their events at another server."
                }
                ul {
                    @for (name, work) in gone {
                        li {
                            (user(name.as_str())) ": " (count(work.events, "event", "events")) ", "
                            (count(work.dead_letters, "dead letter", "dead letters"))
                        }
                    }
                }
            }
        }
    };
    Ok(page(&viewer, Place::Sources, "Sources", content))
}

fn one(viewer: &Viewer, source: &SourcePipeline, paused: &Paused, waiting: u64) -> Markup {
    let name = source.telemetry.label();
    let heading = format!("source-{name}");
    let by = paused.get(name);
    let outcomes = source.telemetry.outcomes();
    let credentials = source.telemetry.wrong_credentials();
    html! {
        section.source aria-labelledby=(heading) {
            h2 id=(heading) { (user(name)) " " (state(source, paused)) }
            @if let Some(by) = by {
                p {
                    "Paused by " (user(&by.by)) " since " (when(&by.at))
                    ". Deliveries are taken in, and no event is run."
                }
            }
            dl.facts {
                div {
                    dt { "Path" }
                    dd {
                        @match &source.path {
                            Some(path) => { span.mono { (user(path)) } }
                            None => "takes no deliveries"
                        }
                    }
                }
                div {
                    dt { "Received" }
                    dd { (rate(source.telemetry.received.per_second())) " a second" }
                }
                div {
                    dt { "Processed" }
                    dd { (rate(source.telemetry.processed.per_second())) " a second" }
                }
                div {
                    dt { "Unfinished" }
                    dd {
                        a href=(link("/console/events", &[("source", name)])) {
                            (count(waiting, "event", "events"))
                        }
                    }
                }
                div { dt { "Runs at once" } dd { (number(source.concurrency as u64)) } }
            }
            @if outcomes.is_empty() {
                p.help { "No delivery since the start." }
            } @else {
                table.cards {
                    caption { "Deliveries of " (user(name)) }
                    thead {
                        tr {
                            th scope="col" { "Outcome" } th scope="col" { "Meaning" }
                            th.number scope="col" { "Count" }
                        }
                    }
                    tbody { @for (outcome, times) in &outcomes {
                        tr {
                            th scope="row" { (outcome.replace('_', " ")) }
                            td data-label="Meaning" { (meaning(outcome))
                                @if outcome == "unsigned" && !credentials.is_empty() {
                                    ": " @for (place, (reason, times)) in credentials.iter().enumerate() {
                                        @if place > 0 { ", " }
                                        (reason.replace('_', " ")) " (" (number(*times)) ")"
                                    }
                                }
                            }
                            td.number data-label="Count" { (number(*times)) }
                        }
                    } }
                }
            }
            @if may_change(viewer) {
                div.actions {
                    @if by.is_some() {
                        (change(viewer, &link("/console/sources/resume", &[("source", name)]), html! { button.main { "Resume" span.spoken { " " (name) } } }))
                    } @else {
                        (change(viewer, &link("/console/sources/pause", &[("source", name)]), html! { button { "Pause" span.spoken { " " (name) } } }))
                    }
                }
            }
        }
    }
}

async fn set(request: &HttpRequest, act: &Act, service: &Shared, paused: bool) -> Shown {
    let query = Fields::read(request.query_string().as_bytes());
    let source = query.as_ref().map_or("", |query| query.get("source"));
    service.app.api.set_paused(&act.viewer.operator, source, paused).await?;
    Ok(see("/console/sources"))
}

pub(super) async fn pause(request: HttpRequest, act: Act, service: Shared) -> Shown {
    set(&request, &act, &service, true).await
}

pub(super) async fn resume(request: HttpRequest, act: Act, service: Shared) -> Shown {
    set(&request, &act, &service, false).await
}
