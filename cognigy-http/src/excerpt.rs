//! Makes foreign text fit for a log line.

/// `text` in one line: control characters, line breaks and what turns the direction of text become
/// spaces, and spaces at its ends are removed.
#[must_use]
pub fn one_line(text: &str) -> String {
    let line: String = text.chars().map(|c| if unsafe_to_print(c) { ' ' } else { c }).collect();
    line.trim().to_owned()
}

/// `text` itself, or as much of it as fits into `bytes` bytes with the `…` that marks the cut.
#[must_use]
pub fn shorten(text: &str, bytes: usize) -> String {
    if text.len() <= bytes {
        return text.to_owned();
    }
    format!("{}…", beginning(text, bytes.saturating_sub('…'.len_utf8())))
}

/// As much of the beginning of `text` as fits into `bytes` bytes, in whole characters.
#[must_use]
pub fn beginning(text: &str, bytes: usize) -> &str {
    let mut end = text.len().min(bytes);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Line breaks, escape sequences, and characters that change the direction of text: a log line must
/// show what was written.
fn unsafe_to_print(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_others_wrote_becomes_one_bounded_line() {
        assert_eq!(one_line(" a\r\nb\u{1b}[31m\u{202e}c\u{85}\n"), "a  b [31m c");
        assert_eq!(shorten("abc", 3), "abc");
        assert_eq!(shorten("abcd", 3), "…");
        let long = shorten(&"é".repeat(100), 20);
        assert!(long.len() <= 20 && long.ends_with("é…"), "{long}");
    }
}
