//! The terminal that a command prints to: tables that fit its width, colours, and times as people say them.
//! Where the output is no terminal there is none of this, so that scripts see the same lines always.

use std::io::{IsTerminal, stdout};

use chrono::{DateTime, Utc};
use clap::ArgMatches;
use serde_json::Value;
use unicode_width::{UnicodeWidthChar, UnicodeWidthStr};

use super::events::text;
use crate::{error::StartError, output::say};

/// The width that is taken if the terminal does not tell its own.
const USUAL: usize = 80;
/// A table is not wider: a longer line is hard to follow.
const WIDEST: usize = 160;
/// From these widths on, the type is shown, and the contact.
const WIDE: usize = 72;
const WIDER: usize = 110;

/// A terminal.
#[derive(Debug, Clone, Copy)]
pub(super) struct Screen {
    width: usize,
    has_colours: bool,
    in_utc: bool,
}

/// A colour, by what it says.
#[derive(Debug, Clone, Copy)]
enum Colour {
    Good,
    Waiting,
    Bad,
    Dim,
}

impl Screen {
    /// The terminal that standard output goes to. None if it goes elsewhere.
    pub(super) fn of(arguments: &ArgMatches) -> Option<Self> {
        let out = stdout();
        if !out.is_terminal() || arguments.get_flag("json") {
            return None;
        }
        let size = rustix::termios::tcgetwinsize(&out).ok();
        let width = size.map(|size| usize::from(size.ws_col)).filter(|width| *width > 0);
        // https://no-color.org: any value but an empty one.
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term == "dumb");
        Some(Self {
            width: width.unwrap_or(USUAL).min(WIDEST),
            has_colours: !refused && !is_dumb,
            in_utc: arguments.get_flag("utc"),
        })
    }

    /// The line above a table of events.
    pub(super) fn head(self) -> Result<(), StartError> {
        let received = if self.in_utc { "RECEIVED (UTC)" } else { "RECEIVED" };
        self.row([received, "STATUS", "TYPE", "CONTACT", "EVENT"], Some(Colour::Dim))
    }

    /// An event as a row.
    pub(super) fn event(self, event: &Value) -> Result<(), StartError> {
        let status = text(&event["status"]);
        let contact = match &event["external_id"] {
            Value::String(id) if !id.is_empty() => text(&event["external_id"]),
            _ => text(&event["user_id"]),
        };
        let id = match event["source"].as_str() {
            Some(_) => format!("{} of {}", text(&event["event_id"]), text(&event["source"])),
            None => text(&event["event_id"]),
        };
        let colour = match status.as_str() {
            "processed" => Colour::Good,
            "dead_lettered" | "dead_lettering" => Colour::Bad,
            "discarded" => Colour::Dim,
            _ => Colour::Waiting,
        };
        let received = self.time(&event["received_at"], Utc::now());
        self.row([&received, &status, &text(&event["type"]), &contact, &id], Some(colour))
    }

    /// A row; its second cell is coloured, or, of a head, all of it.
    fn row(self, cells: [&str; 5], colour: Option<Colour>) -> Result<(), StartError> {
        let [received, status, kind, contact, id] = cells;
        let first = if self.in_utc { 19 } else { 8 };
        let mut left = self.width.saturating_sub(first + 2 + 14 + 2);
        let mut line = format!("{}  ", fit(received, first));
        let padded = fit(status, 14);
        line.push_str(&match colour {
            Some(colour) if self.has_colours => format!("{}{padded}\x1b[0m", colour.code()),
            _ => padded,
        });
        line.push_str("  ");
        let optional = [(WIDE, kind, 19), (WIDER, contact, self.width / 6)];
        for (_, text, columns) in optional.into_iter().filter(|(from, ..)| self.width >= *from) {
            line.push_str(&format!("{}  ", fit(text, columns)));
            left = left.saturating_sub(columns + 2);
        }
        line.push_str(shortened(id, left).trim_end());
        say!("{}", line.trim_end())
    }

    fn time(self, at: &Value, now: DateTime<Utc>) -> String {
        let Some(time) = at.as_str().and_then(|at| DateTime::parse_from_rfc3339(at).ok()) else {
            return text(at);
        };
        if self.in_utc {
            return time.with_timezone(&Utc).format("%Y-%m-%d %H:%M:%S").to_string();
        }
        ago((now - time.with_timezone(&Utc)).num_seconds())
    }
}

impl Colour {
    fn code(self) -> &'static str {
        match self {
            Self::Good => "\x1b[32m",
            Self::Waiting => "\x1b[33m",
            Self::Bad => "\x1b[31m",
            Self::Dim => "\x1b[2m",
        }
    }
}

/// How long ago, in the largest unit: `5s`, `12m`, `3h`, `4d`.
fn ago(seconds: i64) -> String {
    match seconds {
        ..=0 => "now".to_owned(),
        1..=59 => format!("{seconds}s ago"),
        60..=3599 => format!("{}m ago", seconds / 60),
        3600..=86_399 => format!("{}h ago", seconds / 3600),
        _ => format!("{}d ago", seconds / 86_400),
    }
}

/// The text in just so many columns.
fn fit(text: &str, columns: usize) -> String {
    let text = shortened(text, columns);
    let blanks = columns.saturating_sub(text.width());
    text + &" ".repeat(blanks)
}

/// The text in at most so many columns. What is left out is shown as `…`.
fn shortened(text: &str, columns: usize) -> String {
    if text.width() <= columns {
        return text.to_owned();
    }
    let (mut short, mut taken) = (String::new(), 0);
    for c in text.chars() {
        taken += c.width().unwrap_or_default();
        if taken >= columns {
            break;
        }
        short.push(c);
    }
    if columns > 0 { short + "…" } else { short }
}

/// A bar that shows how much is done: `[########------------]`.
pub(super) fn bar(done: u64, total: u64) -> String {
    const LENGTH: u64 = 20;
    let full = (done.min(total) * LENGTH).checked_div(total).unwrap_or(LENGTH);
    let part = |count: u64, sign: &str| sign.repeat(usize::try_from(count).unwrap_or_default());
    format!("[{}{}]", part(full, "#"), part(LENGTH - full, "-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_the_largest_unit() {
        let told = [-3, 0, 1, 59, 60, 3599, 3600, 86_399, 86_400, 864_000].map(ago);
        let expected = [
            "now", "now", "1s ago", "59s ago", "1m ago", "59m ago", "1h ago", "23h ago", "1d ago",
            "10d ago",
        ];
        assert_eq!(told, expected);
    }

    #[test]
    fn a_cell_has_just_its_columns_whatever_the_letters() {
        for text in [
            "",
            "e1",
            "exactly-ten",
            "a-long-event-id-of-a-sender",
            "名前名前名前名前",
            "👩\u{200d}💻x",
        ] {
            for columns in 0..30 {
                assert!(shortened(text, columns).width() <= columns, "{text} in {columns}");
                assert_eq!(fit(text, columns).width(), columns, "{text} in {columns}");
            }
        }
        assert_eq!(shortened("a-long-event-id", 7), "a-long…");
    }

    #[test]
    fn a_bar_is_full_at_the_end() {
        assert_eq!(bar(0, 7), format!("[{}]", "-".repeat(20)));
        assert_eq!(bar(1, 2), format!("[{}{}]", "#".repeat(10), "-".repeat(10)));
        for (done, total) in [(7, 7), (8, 7), (0, 0)] {
            assert_eq!(bar(done, total), format!("[{}]", "#".repeat(20)));
        }
    }
}
