//! What the commands write to stdout and stderr.

use std::{
    fmt::{Arguments, Display},
    io::{ErrorKind, Write, stderr, stdout},
};

use crate::error::StartError;

/// `println!` for a pipe whose reader may end (`list | head`): it yields an error, where `println!`
/// panics.
macro_rules! say {
    ($($text:tt)*) => {
        $crate::output::line(format_args!($($text)*))
    };
}
pub(crate) use say;

/// Writes one line.
pub(crate) fn line(text: Arguments<'_>) -> Result<(), StartError> {
    let mut out = stdout().lock();
    writeln!(out, "{text}").map_err(|error| match error.kind() {
        ErrorKind::BrokenPipe => StartError::Unread,
        _ => StartError::failed("stdout", &error),
    })
}

/// Writes one line to stderr, after the program's name. The text may contain input of others, so it
/// is escaped. If stderr cannot be written, the line is lost; `eprintln!` would panic.
pub(crate) fn complain(text: impl Display) {
    let _ = writeln!(stderr().lock(), "cognigy-server: {}", printable(&text.to_string()));
}

/// Text for a terminal: characters that would change how the terminal shows the line are escaped.
pub(crate) fn printable(text: &str) -> String {
    let mut printable = String::with_capacity(text.len());
    for c in text.chars() {
        match c.is_control() || rearranges(c) {
            true => printable.extend(c.escape_default()),
            false => printable.push(c),
        }
    }
    printable
}

/// The text as a word that can be pasted into a shell. None if it cannot be shown as it is.
pub(crate) fn shell_word(text: &str) -> Option<String> {
    if text.is_empty() || printable(text) != text {
        return None;
    }
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "_-.:@/+,=".contains(c);
    let word = match text.chars().all(is_plain) {
        true => text.to_owned(),
        false => format!("'{}'", text.replace('\'', r"'\''")),
    };
    // Otherwise it would be taken for a flag.
    Some(if text.starts_with('-') { format!("-- {word}") } else { word })
}

/// Characters that are invisible and that move, reverse, hide or end the text around them. The
/// joiners U+200C and U+200D are not among them: words and emoji contain them.
fn rearranges(c: char) -> bool {
    matches!(c,
        // Bidirectional marks, embeddings, overrides and isolates (Unicode Annex 9, section 2).
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
        // Characters that are not seen at all: soft hyphen, fillers, zero width, invisible operators.
        | '\u{ad}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180e}' | '\u{200b}'
        | '\u{2060}'..='\u{2064}' | '\u{2800}' | '\u{3164}' | '\u{ffa0}'
        // Line and paragraph separators.
        | '\u{2028}' | '\u{2029}'
        // Deprecated format characters, a byte order mark, interlinear annotations, tags.
        | '\u{206a}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::{printable, shell_word};

    #[test]
    fn a_word_for_a_shell_is_quoted_where_it_has_to_be() {
        for (text, word) in [
            ("evt-42", Some("evt-42")),
            ("$(touch x)", Some("'$(touch x)'")),
            ("it's", Some(r"'it'\''s'")),
            ("-rf", Some("-- -rf")),
            ("a\u{202e}b", None),
            ("", None),
        ] {
            assert_eq!(shell_word(text).as_deref(), word);
        }
    }

    #[test]
    fn nothing_that_moves_or_hides_text_reaches_a_terminal() {
        for (text, shown) in [
            ("plain – ä 名前 👩\u{200d}💻", "plain – ä 名前 👩\u{200d}💻"),
            ("\u{1b}[2J\u{7}\n\r\t\0", "\\u{1b}[2J\\u{7}\\n\\r\\t\\u{0}"),
            ("\u{9b}31m\u{85}\u{7f}", "\\u{9b}31m\\u{85}\\u{7f}"),
            ("a\u{202e}b\u{2066}c\u{200f}", "a\\u{202e}b\\u{2066}c\\u{200f}"),
            ("\u{2028}\u{2029}\u{feff}", "\\u{2028}\\u{2029}\\u{feff}"),
            ("\u{e0041}\u{fffa}", "\\u{e0041}\\u{fffa}"),
            ("a\u{200b}b\u{ad}\u{3164}", "a\\u{200b}b\\u{ad}\\u{3164}"),
        ] {
            assert_eq!(printable(text), shown);
        }
    }
}
