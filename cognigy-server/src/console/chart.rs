//! A chart of what happened over time, as SVG that the server draws: what was received as an area, what
//! was processed as a line, failed attempts as columns from the bottom.

use maud::{Markup, html};

use super::text::number;
use crate::telemetry::Minute;

const WIDTH: usize = 600;
const HEIGHT: usize = 140;

/// What a chart shows.
pub(super) struct Chart<'a> {
    /// Names it in the page.
    pub(super) id: &'a str,
    pub(super) title: &'a str,
    /// The last one ends now.
    pub(super) steps: &'a [Minute],
    /// How many minutes a step has.
    pub(super) minutes: usize,
    /// Of the first steps, those before the process began.
    pub(super) unknown: usize,
    /// What stands below: at its beginning, in its middle.
    pub(super) labels: [&'a str; 2],
}

/// Adds up each `minutes` minutes.
pub(super) fn steps(minutes: &[Minute], each: usize) -> Vec<Minute> {
    let sum = |some: &[Minute]| {
        some.iter().fold(Minute::default(), |mut sum, minute| {
            sum += *minute;
            sum
        })
    };
    minutes.chunks(each).map(sum).collect()
}

/// The next number of the kind 1, 2, 5, 10, 20, …
fn rounded_up(most: u32) -> u64 {
    let most = u64::from(most.max(4));
    let mut power = 1;
    loop {
        for step in [1, 2, 5] {
            if step * power >= most {
                return step * power;
            }
        }
        power *= 10;
    }
}

impl Chart<'_> {
    /// How far from the top a value is.
    fn y(value: u32, top: u64) -> String {
        // A chart is precise to a tenth of a unit.
        #[allow(clippy::cast_precision_loss)]
        let share = f64::from(value) / top as f64;
        #[allow(clippy::cast_precision_loss)]
        let y = HEIGHT as f64 * (1.0 - share.min(1.0));
        format!("{y:.1}")
    }

    fn x(&self, step: usize) -> String {
        #[allow(clippy::cast_precision_loss)]
        let x = WIDTH as f64 * step as f64 / self.steps.len().max(1) as f64;
        format!("{x:.1}")
    }

    /// A line with steps through these values.
    fn line(&self, values: impl Iterator<Item = u32>, top: u64) -> String {
        let mut path = String::new();
        for (step, value) in values.enumerate().skip(self.unknown) {
            let (x, end, y) = (self.x(step), self.x(step + 1), Self::y(value, top));
            let command = if path.is_empty() { 'M' } else { 'L' };
            path.push_str(&format!("{command}{x} {y}H{end}"));
        }
        path
    }

    fn failures(&self, top: u64) -> String {
        let mut path = String::new();
        for (step, minute) in self.steps.iter().enumerate().filter(|(_, it)| it.failed > 0) {
            let (x, end, y) = (self.x(step), self.x(step + 1), Self::y(minute.failed, top));
            path.push_str(&format!("M{x} {HEIGHT}V{y}H{end}V{HEIGHT}Z"));
        }
        path
    }

    pub(super) fn draw(&self) -> Markup {
        let most = self.steps.iter().map(|it| it.received.max(it.processed).max(it.failed)).max();
        let top = rounded_up(most.unwrap_or_default());
        let received = self.line(self.steps.iter().map(|it| it.received), top);
        let area = match received.is_empty() {
            true => String::new(),
            false => format!("{received}V{HEIGHT}H{}Z", self.x(self.unknown)),
        };
        let sum = |of: fn(&Minute) -> u32| {
            number(self.steps.iter().map(|minute| u64::from(of(minute))).sum())
        };
        let (came, went) = (sum(|it| it.received), sum(|it| it.processed));
        let failed = sum(|it| it.failed);
        let (title, hatch) = (format!("{}-title", self.id), format!("{}-hatch", self.id));
        let told =
            format!("{}: {came} received, {went} processed, {failed} failed attempts", self.title);
        html! {
            figure.chart {
                figcaption {
                    span.title id=(title) { (self.title) }
                    ul.legend {
                        li.in { strong { (came) } " received" }
                        li.out { strong { (went) } " processed" }
                        li.bad { strong { (failed) } " failed attempts" }
                    }
                }
                div.plot {
                    span.top aria-hidden="true" { (number(top)) }
                    svg viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none"
                        role="img" aria-label=(told) {
                        @if self.unknown > 0 {
                            defs { pattern id=(hatch) width="7" height="7" patternUnits="userSpaceOnUse" {
                                path.hatch d="M0 7L7 0" {}
                            } }
                            rect fill=(format!("url(#{hatch})")) x="0" y="0" width=(self.x(self.unknown)) height=(HEIGHT) {

                            }
                        }
                        @for quarter in 0..4 {
                            @let y = HEIGHT * quarter / 4;
                            line.grid x1="0" x2=(WIDTH) y1=(y) y2=(y) {}
                        }
                        path.in d=(area) {}
                        path.edge d=(received) {}
                        path.bad d=(self.failures(top)) {}
                        path.out d=(self.line(self.steps.iter().map(|it| it.processed), top)) {}
                        line.base x1="0" x2=(WIDTH) y1=(HEIGHT) y2=(HEIGHT) {}
                    }
                    div.axis aria-hidden="true" {
                        span { (self.labels[0]) } span { (self.labels[1]) } span { "now" }
                    }
                }
                (self.table())
            }
        }
    }

    /// The same in numbers, for a reader who cannot see the chart.
    fn table(&self) -> Markup {
        let ago = |step: usize| (self.steps.len() - step) * self.minutes;
        let told = self.steps.iter().enumerate().rev().filter(|(_, it)| **it != Minute::default());
        let told: Vec<_> = told.collect();
        html! {
            details {
                summary { "In numbers" span.spoken { ": " (self.title) } }
                @if told.is_empty() {
                    p.help { "Nothing happened in this time." }
                } @else {
                    div.scroll tabindex="0" role="region" aria-label=(format!("{} in numbers", self.title)) {
                        table.plain {
                            caption { "Each " (self.minutes) " min without a line had nothing." }
                            thead { tr {
                                th scope="col" { "Minutes ago" }
                                th.number scope="col" { "Received" }
                                th.number scope="col" { "Processed" }
                                th.number scope="col" { "Failed" }
                            } }
                            tbody {
                                @for (step, minute) in told {
                                    tr {
                                        th scope="row" { (ago(step)) " to " (ago(step + 1)) }
                                        td.number { (number(minute.received.into())) }
                                        td.number { (number(minute.processed.into())) }
                                        td.number { (number(minute.failed.into())) }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chart_is_as_high_as_a_round_number_above_its_values() {
        for (most, top) in [(0, 5), (5, 5), (6, 10), (11, 20), (21, 50), (1001, 2000)] {
            assert_eq!(rounded_up(most), top, "{most}");
        }
    }

    #[test]
    fn a_chart_tells_in_words_what_it_shows() {
        let one = Minute { received: 1200, processed: 2, failed: 1 };
        let minutes = [Minute::default(), one, one, one];
        let steps = steps(&minutes, 2);
        let chart = Chart {
            id: "c",
            title: "Last day",
            steps: &steps,
            minutes: 2,
            unknown: 1,
            labels: ["a", "b"],
        };
        let drawn = chart.draw().into_string();
        assert!(
            drawn.contains("Last day: 3,600 received, 6 processed, 3 failed attempts"),
            "{drawn}"
        );
        assert!(drawn.contains("url(#c-hatch)") && !drawn.contains("style="), "{drawn}");
        assert!(drawn.contains("2 to 0"), "{drawn}");
    }
}
