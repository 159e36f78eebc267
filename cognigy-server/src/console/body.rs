//! Bodies: as they were received, indented for people, and two of them compared.

use maud::{Markup, html};

use super::text::Seen;

/// Two bodies with more lines than this, multiplied, are not compared: that takes as much memory.
const COMPARED: usize = 4_000_000;

/// JSON with line breaks and indentation, and not a character else changed: numbers, escapes, repeated
/// names and the order stay. None if the text is no JSON.
pub(super) fn indented(json: &str) -> Option<String> {
    serde_json::from_str::<&serde_json::value::RawValue>(json).ok()?;
    let mut text = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_string, mut is_escaped) = (0_usize, false, false);
    let mut rest = json.trim().chars().peekable();
    let line = |text: &mut String, depth: usize| {
        text.push('\n');
        // Deeper levels would push the text out of the page.
        text.extend(std::iter::repeat_n("  ", depth.min(40)));
    };
    while let Some(c) = rest.next() {
        if in_string {
            text.push(c);
            in_string = is_escaped || c != '"';
            is_escaped = !is_escaped && c == '\\';
            continue;
        }
        match c {
            '"' => {
                in_string = true;
                text.push(c);
            }
            '{' | '[' => {
                text.push(c);
                while rest.next_if(char::is_ascii_whitespace).is_some() {}
                match rest.next_if(|next| matches!(next, '}' | ']')) {
                    Some(end) => text.push(end),
                    None => {
                        depth += 1;
                        line(&mut text, depth);
                    }
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut text, depth);
                text.push(c);
            }
            ',' => {
                text.push(c);
                line(&mut text, depth);
            }
            ':' => text.push_str(": "),
            c if c.is_ascii_whitespace() => {}
            c => text.push(c),
        }
    }
    Some(text)
}

/// A block of text that can be copied and scrolled by keyboard.
pub(super) fn block(label: &str, text: &str) -> Markup {
    html! {
        div.block data-copy {
            pre tabindex="0" role="region" aria-label=(label) dir="ltr" { code { (Seen(text)) } }
        }
    }
}

/// A body: for people, as it was received, and its bytes to save.
pub(super) fn body(text: &str, file: &str) -> Markup {
    let pretty = indented(text);
    html! {
        @if let Some(pretty) = &pretty {
            details open { summary { "Indented" } (block("Body, indented", pretty)) }
        }
        details open[pretty.is_none()] {
            summary { "As received" }
            (block("Body, as received", text))
        }
        p { a href=(file) download { "Save the bytes" } }
    }
}

/// A line of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Line<'a> {
    Both(&'a str),
    First(&'a str),
    Second(&'a str),
}

/// The lines of both texts, with the longest sequence that both have in common. None for texts that are too
/// long to compare.
fn compared<'a>(first: &'a str, second: &'a str) -> Option<Vec<Line<'a>>> {
    let (one, other): (Vec<_>, Vec<_>) = (first.lines().collect(), second.lines().collect());
    let width = other.len() + 1;
    if (one.len() + 1).saturating_mul(width) > COMPARED {
        return None;
    }
    // For each pair of places, how many lines are common from there on.
    let mut common = vec![0_u32; (one.len() + 1) * width];
    for at in (0..one.len()).rev() {
        for beside in (0..other.len()).rev() {
            common[at * width + beside] = match one[at] == other[beside] {
                true => common[(at + 1) * width + beside + 1] + 1,
                false => common[(at + 1) * width + beside].max(common[at * width + beside + 1]),
            };
        }
    }
    let (mut at, mut beside, mut lines) = (0, 0, Vec::new());
    while at < one.len() && beside < other.len() {
        if one[at] == other[beside] {
            lines.push(Line::Both(one[at]));
            (at, beside) = (at + 1, beside + 1);
        } else if common[(at + 1) * width + beside] >= common[at * width + beside + 1] {
            lines.push(Line::First(one[at]));
            at += 1;
        } else {
            lines.push(Line::Second(other[beside]));
            beside += 1;
        }
    }
    lines.extend(one[at..].iter().map(|line| Line::First(line)));
    lines.extend(other[beside..].iter().map(|line| Line::Second(line)));
    Some(lines)
}

/// What the second text has other than the first.
pub(super) fn difference(first: &str, second: &str) -> Markup {
    let indent = |text: &str| indented(text).unwrap_or_else(|| text.to_owned());
    let (first, second) = (indent(first), indent(second));
    let Some(lines) = compared(&first, &second) else {
        return html! { p { "The bodies are too long to be compared here." } };
    };
    if lines.iter().all(|line| matches!(line, Line::Both(_))) {
        return html! { p { "Indented, both bodies read the same: they differ in white space." } };
    }
    html! {
        div.block {
            pre.difference tabindex="0" role="region" aria-label="Difference between the bodies" dir="ltr" {
                @for line in lines {
                    @match line {
                        Line::Both(text) => { span { "  " (Seen(text)) "\n" } }
                        Line::First(text) => { del { "− " (Seen(text)) "\n" } }
                        Line::Second(text) => { ins { "+ " (Seen(text)) "\n" } }
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
    fn indentation_changes_nothing_but_white_space() {
        let body = r#"{"a":1.0e+2,"a":[ ],"b":{"c":"x, {y}: \" \\","d":[1,{}]} , "e":-0}"#;
        let expected = "{\n  \"a\": 1.0e+2,\n  \"a\": [],\n  \"b\": {\n    \"c\": \"x, {y}: \\\" \\\\\",\n    \
                        \"d\": [\n      1,\n      {}\n    ]\n  },\n  \"e\": -0\n}";
        assert_eq!(indented(body).as_deref(), Some(expected));
        assert_eq!(indented("a=1&b=2"), None);
        assert_eq!(indented("[1] x"), None);
    }

    #[test]
    fn a_difference_shows_what_was_taken_out_and_what_was_put_in() {
        let lines = compared("a\nb\nc\n", "a\nx\nc\nd").unwrap();
        let expected = [
            Line::Both("a"),
            Line::First("b"),
            Line::Second("x"),
            Line::Both("c"),
            Line::Second("d"),
        ];
        assert_eq!(lines, expected);
        let long = "x\n".repeat(3000);
        assert!(compared(&long, &long).is_none());
    }
}
