//! Texts of others and numbers, as pages show them.
//!
//! What senders wrote is hostile: it must not run, must not turn the text around it, and must not hide
//! anything. `maud` escapes it, `<bdi>` isolates it, and characters that cannot be seen are spelt out.

use maud::{Markup, Render, html};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What is encoded within an address: all but letters, digits, `-` and `_`.
const ENCODED: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_');

/// Whether a character would be invisible, or would move others.
fn is_unseen(c: char) -> bool {
    matches!(c,
        '\u{061C}' | '\u{200B}' | '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}'
        | '\u{2060}'..='\u{206F}' | '\u{00AD}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}'
        | '\u{180E}' | '\u{E0000}'..='\u{E0FFF}')
        || (c.is_control() && !matches!(c, '\n' | '\t'))
}

/// A text of others in a place where it need not be isolated, such as a block of its own.
pub(super) struct Seen<'a>(pub(super) &'a str);

impl Render for Seen<'_> {
    fn render_to(&self, page: &mut String) {
        let mut rest = self.0;
        while let Some((at, c)) = rest.char_indices().find(|(_, c)| is_unseen(*c)) {
            rest[..at].render_to(page);
            let name = format!("U+{:04X}", u32::from(c));
            html! { span.unseen title="A character that cannot be seen" { (name) } }
                .render_to(page);
            rest = &rest[at + c.len_utf8()..];
        }
        rest.render_to(page);
    }
}

/// A text of others within a sentence or a cell.
pub(super) fn user(text: &str) -> Markup {
    html! { bdi { (Seen(text)) } }
}

/// The same for a text that may be absent.
pub(super) fn maybe(text: Option<&str>) -> Markup {
    match text {
        Some(text) => user(text),
        None => none(),
    }
}

/// What stands in a cell that has nothing to show.
pub(super) fn none() -> Markup {
    html! { span.none { span aria-hidden="true" { "–" } span.spoken { "none" } } }
}

/// `1,234,567`
pub(super) fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 event`, `1,234 events`
pub(super) fn count(count: u64, one: &str, several: &str) -> String {
    format!("{} {}", number(count), if count == 1 { one } else { several })
}

/// `0.02`, `3.5`, `1,234`
pub(super) fn rate(per_second: f64) -> String {
    match per_second {
        zero if zero < 0.005 => "0".to_owned(),
        small if small < 10.0 => {
            let text = format!("{small:.2}");
            text.trim_end_matches('0').trim_end_matches('.').to_owned()
        }
        // A rate is far below 2^53.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        large => number(large.round() as u64),
    }
}

/// A time in RFC 3339. The script writes it in the viewer's zone.
pub(super) fn when(at: &str) -> Markup {
    let readable = match (at.get(..10), at.get(11..19), at.get(19..23)) {
        (Some(day), Some(time), Some(part)) => format!("{day} {time}{part} UTC"),
        _ => at.to_owned(),
    };
    html! { time datetime=(at) { (readable) } }
}

/// `840 ms`, `12 s`, `3 min 4 s`, `2 h 5 min`, `3 days`
pub(super) fn duration(seconds: f64) -> String {
    // No duration here is longer than a process or a database is old.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    let whole = seconds.max(0.0).round() as u64;
    match whole {
        _ if seconds < 0.001 => format!("{:.1} ms", seconds * 1000.0),
        _ if seconds < 1.0 => format!("{:.0} ms", seconds * 1000.0),
        _ if seconds < 10.0 => format!("{seconds:.1} s"),
        0..60 => format!("{whole} s"),
        60..3600 => format!("{} min {} s", whole / 60, whole % 60),
        3600..172_800 => format!("{} h {} min", whole / 3600, whole % 3600 / 60),
        _ => format!("{} days", number(whole / 86_400)),
    }
}

/// A text as a part of an address. Dots are encoded, too: `..` would lead elsewhere.
pub(super) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, ENCODED).to_string()
}

/// The address of a page with parameters. Ids stand in parameters and not in paths, since a browser takes
/// a path such as `/console/..` for another one.
pub(super) fn link(path: &str, parameters: &[(&str, &str)]) -> String {
    let mut text = path.to_owned();
    for (place, (name, value)) in parameters.iter().enumerate() {
        text.push(if place == 0 { '?' } else { '&' });
        text.push_str(name);
        text.push('=');
        text.push_str(&encoded(value));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_inert_and_what_cannot_be_seen_is_spelt_out() {
        let shown = user("<script>\u{202E}a\0\u{61C}\u{7F}\r\n\u{E0041}").into_string();
        assert!(shown.starts_with("<bdi>&lt;script&gt;<span"), "{shown}");
        for name in ["U+202E", "U+0000", "U+061C", "U+007F", "U+000D", "U+E0041"] {
            assert!(shown.contains(name), "{shown}");
        }
        assert!(!shown.chars().any(is_unseen), "{shown:?}");
        assert_eq!(user("Zoë 👩‍🚀 שלום").into_string(), "<bdi>Zoë 👩‍🚀 שלום</bdi>");
    }

    #[test]
    fn numbers_durations_and_rates_read_well() {
        for (given, expected) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")]
        {
            assert_eq!(number(given), expected);
        }
        assert_eq!(
            (count(1, "event", "events"), count(2, "event", "events")),
            ("1 event".into(), "2 events".into())
        );
        for (seconds, expected) in [
            (0.0005, "0.5 ms"),
            (0.84, "840 ms"),
            (2.5, "2.5 s"),
            (59.0, "59 s"),
            (184.0, "3 min 4 s"),
            (7500.0, "2 h 5 min"),
            (260_000.0, "3 days"),
        ] {
            assert_eq!(duration(seconds), expected);
        }
        for (given, expected) in [(0.0, "0"), (0.02, "0.02"), (3.5, "3.5"), (1234.4, "1,234")] {
            assert_eq!(rate(given), expected);
        }
    }

    #[test]
    fn a_link_holds_any_text() {
        assert_eq!(
            link("/console/event", &[("id", "a/../b&c=\u{202E}"), ("source", "x")]),
            "/console/event?id=a%2F%2E%2E%2Fb%26c%3D%E2%80%AE&source=x"
        );
        assert_eq!(link("/console", &[]), "/console");
    }

    #[test]
    fn a_time_says_its_zone() {
        let shown = when("2026-03-01T12:00:00.123456Z").into_string();
        let expected =
            "<time datetime=\"2026-03-01T12:00:00.123456Z\">2026-03-01 12:00:00.123 UTC</time>";
        assert_eq!(shown, expected);
    }
}
