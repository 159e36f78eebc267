//! What is going on: what needs attention, rates, an hour and a day, and each source.

use cognigy_core::Clock;
use maud::{Markup, html};

use super::{
    chart::{Chart, steps},
    page::{Place, Shown, page},
    session::Viewer,
    text::{count, duration, link, number, rate, user, when},
};
use crate::{
    app::App,
    http::Shared,
    telemetry::{Durations, MINUTES, Minute},
    view::Stats,
};

/// An event that has waited longer than this needs attention.
const LONG_WAIT: f64 = 60.0;

pub(super) async fn show(viewer: Viewer, service: Shared) -> Shown {
    let app = &service.app;
    let stats = app.api.stats(&viewer.operator).await?;
    let day = last_day(app);
    let content = html! {
        div.live-bar {
            p.help {
                "This server since " (when(&started(app)))
                ". Stored numbers are of the whole database."
            }
            p.live data-live-state="/console/live" hidden {}
        }
        div data-live="overview" {
            (attention(&stats))
            (tiles(&stats, &day))
            (charts(app, &day))
            (sources(app, &stats))
            (latencies(app))
        }
    };
    Ok(page(&viewer, Place::Overview, "Overview", content))
}

fn started(app: &App) -> String {
    // Whole seconds since 1970.
    #[allow(clippy::cast_possible_truncation)]
    let at = chrono::DateTime::from_timestamp(app.telemetry.started() as i64, 0);
    crate::view::time(at.unwrap_or_default())
}

/// The minutes of the last day, of all sources together.
fn last_day(app: &App) -> Vec<Minute> {
    let mut sum = vec![Minute::default(); MINUTES];
    for source in app.pipelines.iter() {
        let day = source.telemetry.history.last_day();
        sum.iter_mut().zip(day).for_each(|(sum, minute)| *sum += minute);
    }
    sum
}

/// What an operator should look at, each with the page that helps.
fn attention(stats: &Stats) -> Markup {
    let mut items: Vec<(&str, Markup)> = Vec::new();
    for (name, open) in &stats.breakers {
        items.push((
            "bad",
            html! {
                "The CRM of " (user(name)) " is out of reach since " (when(&open.since)) ": "
                (user(&open.error)) ". Its events wait until it answers; no attempt is used up. "
                a href="/console/sources" { "Sources" }
            },
        ));
    }
    for (name, paused) in &stats.paused {
        items.push((
            "warn",
            html! {
                "The source " (user(name)) " is paused by " (user(&paused.by)) " since "
                (when(&paused.at)) ". "
                a href="/console/sources" { "Resume it" }
            },
        ));
    }
    if stats.events.dead_lettered > 0 {
        items.push((
            "bad",
            html! {
                (count(stats.events.dead_lettered, "event was", "events were")) " given up. "
                a href="/console/errors" { "See why" } " or "
                a href="/console/dead-letters" { "see which" }
            },
        ));
    }
    if stats.unsent_dead_letters > 0 {
        items.push(("warn", html! {
            (count(stats.unsent_dead_letters, "dead letter waits", "dead letters wait"))
            " for the queue. "
            a href=(link("/console/dead-letters", &[("status", "dead_lettering")])) { "See which" }
        }));
    }
    if stats.oldest_pending_seconds > LONG_WAIT {
        items.push(("warn", html! {
            "The oldest unfinished event has waited " (duration(stats.oldest_pending_seconds)) ". "
            a href=(link("/console/events", &[("status", "pending")])) { "See what waits" }
        }));
    }
    if stats.stopped_contacts > 0 {
        items.push((
            "warn",
            html! {
                (count(stats.stopped_contacts, "contact is", "contacts are"))
                " stopped behind a dead-lettered event: replay or discard that event. "
                a href="/console/dead-letters" { "Dead letters" }
            },
        ));
    }
    if stats.quarantined > 0 {
        items.push((
            "warn",
            html! {
                (count(stats.quarantined, "body is", "bodies are")) " in quarantine. "
                a href="/console/quarantine" { "Look at them" }
            },
        ));
    }
    html! {
        section aria-labelledby="attention" {
            h2.spoken #attention { "What needs attention" }
            @if items.is_empty() {
                p.note.good { "Nothing needs attention." }
            } @else {
                ul.attention { @for (kind, item) in items { li class=(kind) { (item) } } }
            }
        }
    }
}

fn tile(name: &str, value: &str, more: &str, kind: &str) -> Markup {
    html! {
        div class=(format!("tile {kind}")) {
            dt { (name) }
            dd { strong { (value) } span.more { (more) } }
        }
    }
}

fn tiles(stats: &Stats, day: &[Minute]) -> Markup {
    let (received, processed) = stats
        .rates
        .as_ref()
        .map_or((0.0, 0.0), |rates| (rates.received_per_second, rates.processed_per_second));
    let hour = steps(&day[MINUTES - 60..], 60);
    let failed = hour.first().map_or(0, |hour| u64::from(hour.failed));
    let tried = failed + hour.first().map_or(0, |hour| u64::from(hour.processed));
    let share = match tried {
        0 => "none in the last hour".to_owned(),
        // Attempts of an hour are far below 2^53.
        #[allow(clippy::cast_precision_loss)]
        tried => {
            format!("{:.1} % in the last hour", failed as f64 * 100.0 / tried as f64)
        }
    };
    let waiting = stats.events.waiting;
    let oldest = match waiting {
        0 => "nothing waits".to_owned(),
        _ => format!("the oldest for {}", duration(stats.oldest_pending_seconds)),
    };
    let refused = stats.deliveries.as_ref().map_or(0, |deliveries| deliveries.refused);
    let bad = |is_bad: bool| if is_bad { "bad" } else { "" };
    html! {
        section aria-labelledby="numbers" {
            h2.spoken #numbers { "Numbers" }
            dl.tiles {
                (tile("Received", &rate(received), "deliveries a second", ""))
                (tile("Processed", &rate(processed), "events a second", ""))
                (tile("Waiting", &number(waiting), &oldest, ""))
                (tile("Failed attempts", &number(failed), &share, bad(failed > 0)))
                (tile("Dead-lettered", &number(stats.events.dead_lettered), &format!("of {}", count(stats.events.total, "stored event", "stored events")), bad(stats.events.dead_lettered > 0)))
                (tile("Refused", &number(refused), "deliveries since the start", ""))
            }
        }
    }
}

fn charts(app: &App, day: &[Minute]) -> Markup {
    // Minutes that ended before the process began are not known.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let lived =
        (app.clock.now().timestamp() / 60 - app.telemetry.started() as i64 / 60 + 1) as usize;
    let unknown = |minutes: usize, each: usize| minutes.saturating_sub(lived) / each;
    let (hour, steps_of_day) = (steps(&day[MINUTES - 60..], 1), steps(day, 15));
    let of_hour = Chart {
        id: "hour",
        title: "The last hour, by minute",
        steps: &hour,
        minutes: 1,
        unknown: unknown(60, 1),
        labels: ["60 min ago", "30 min"],
    };
    let of_day = Chart {
        id: "day",
        title: "The last day, by quarter of an hour",
        steps: &steps_of_day,
        minutes: 15,
        unknown: unknown(MINUTES, 15),
        labels: ["24 h ago", "12 h"],
    };
    html! {
        section aria-labelledby="over-time" {
            h2 #over-time { "Over time" }
            div.charts { (of_hour.draw()) (of_day.draw()) }
            @if lived < MINUTES {
                p.help {
                    "Hatched: before this server started. The charts are of this server alone."
                }
            }
        }
    }
}

fn sources(app: &App, stats: &Stats) -> Markup {
    html! {
        section aria-labelledby="sources" {
            h2 #sources { "Sources" }
            table.cards {
                caption.spoken { "Sources, their states and their rates over the last minute" }
                thead { tr {
                    th scope="col" { "Source" } th scope="col" { "State" }
                    th.number scope="col" { "Received a second" }
                    th.number scope="col" { "Processed a second" }
                } }
                tbody {
                    @for source in app.pipelines.iter() {
                        @let name = source.telemetry.label();
                        tr {
                            th scope="row" {
                                a href=(link("/console/events", &[("source", name)])) {
                                    (user(name))
                                }
                            }
                            td data-label="State" { (super::sources::state(source, &stats.paused)) }
                            td.number data-label="Received a second" {
                                (rate(source.telemetry.received.per_second()))
                            }
                            td.number data-label="Processed a second" {
                                (rate(source.telemetry.processed.per_second()))
                            }
                        }
                    }
                }
            }
        }
    }
}

/// A percentile, which a histogram knows as the bound of a bucket.
fn percentile(durations: &Durations, share: f64) -> Markup {
    match durations.percentile(share) {
        None => super::text::none(),
        Some(bound) if bound.is_infinite() => html! { "> " (duration(durations.longest())) },
        Some(bound) => html! { "≤ " (duration(bound)) },
    }
}

fn latencies(app: &App) -> Markup {
    let mut of_intake = Durations::default();
    let mut of_attempts = Durations::default();
    for source in app.pipelines.iter() {
        of_intake.add(&source.telemetry.intake_durations());
        of_attempts.add(&source.telemetry.attempt_durations());
    }
    let rows = [
        ("Delivery, from its head to the answer", of_intake),
        ("Attempt, CRM and handler together", of_attempts),
    ];
    html! {
        section aria-labelledby="durations" {
            h2 #durations { "Durations since the start" }
            table.cards {
                caption.spoken { "Percentiles of durations since the start of this server" }
                thead { tr {
                    th scope="col" { "What" }
                    @for name in ["Half", "95 %", "99 %", "Count"] {
                        th.number scope="col" { (name) }
                    }
                } }
                tbody {
                    @for (name, durations) in &rows {
                        tr {
                            th scope="row" { (name) }
                            td.number data-label="Half" { (percentile(durations, 0.5)) }
                            td.number data-label="95 %" { (percentile(durations, 0.95)) }
                            td.number data-label="99 %" { (percentile(durations, 0.99)) }
                            td.number data-label="Count" { (number(durations.count)) }
                        }
                    }
                }
            }
        }
    }
}
