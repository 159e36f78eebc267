//! Which failures are of one kind: their errors say the same but for numbers, ids and quoted texts.

use sha2::{Digest, Sha256};

/// How much of an error is looked at, in bytes. What differs later is of the same class.
const LOOKED_AT: usize = 1024;

/// How long the message of a class is at most, in characters.
const MESSAGE: usize = 200;

/// How many characters of the message its name begins with.
const NAMED_BY: usize = 40;

/// A number after one of these words is not variable: it is a status, and the cause differs with it.
const BEFORE_STATUS: [&str; 4] = ["answered", "status", "code", "http"];

/// The class of an error.
///
/// ```
/// use cognigy_core::ErrorClass;
///
/// let one = ErrorClass::of("the order 4711 is closed since 2026-01-03");
/// let other = ErrorClass::of("the order 4712 is closed since 2026-02-11");
/// assert_eq!(one, other);
/// assert_eq!(one.message, "the order … is closed since …");
/// ```
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorClass {
    /// Names it: lower-case words of the message, and eight digits of its SHA-256 digest. The same for
    /// the same message on every node and in every version that writes the message so.
    pub name: String,
    /// What the errors have in common, with `…` in the place of what differs.
    pub message: String,
}

impl ErrorClass {
    /// The class of the error that reads `error`.
    #[must_use]
    pub fn of(error: &str) -> Self {
        let mut end = error.len().min(LOOKED_AT);
        while !error.is_char_boundary(end) {
            end -= 1;
        }
        let message = common_part(&error[..end]);
        let digest = Sha256::digest(&message);
        let mut name = String::new();
        for character in message.chars().take(NAMED_BY) {
            if character.is_ascii_alphanumeric() {
                name.push(character.to_ascii_lowercase());
            } else if !name.is_empty() && !name.ends_with('-') {
                name.push('-');
            }
        }
        let name = name.trim_end_matches('-');
        let start = if name.is_empty() { "error" } else { name };
        let mark = u32::from_be_bytes([digest[0], digest[1], digest[2], digest[3]]);
        Self { name: format!("{start}-{mark:08x}"), message }
    }
}

/// The text with `…` for quoted texts and for words that hold a digit.
fn common_part(error: &str) -> String {
    let mut common = Vec::<String>::new();
    for word in without_quoted(error).split_whitespace() {
        let inner = word.trim_matches(|c: char| !c.is_alphanumeric() && c != '…');
        let follows_status = common.last().is_some_and(|before| {
            let before = before.trim_end_matches([':', '=']).to_ascii_lowercase();
            BEFORE_STATUS.contains(&before.as_str())
        });
        let is_status = inner.len() == 3 && inner.bytes().all(|byte| byte.is_ascii_digit());
        let varies = inner.contains(|c: char| c.is_ascii_digit());
        let word = match varies && !(is_status && follows_status) {
            true => word.replacen(inner, "…", 1),
            false => word.to_owned(),
        };
        // `1.5 s` and `12 ms` are both a duration.
        let is_unit = matches!(inner, "s" | "ms" | "µs" | "us" | "ns" | "min" | "h");
        if is_unit && common.last().is_some_and(|before| before.ends_with('…')) {
            continue;
        }
        common.push(word);
    }
    common.join(" ").chars().take(MESSAGE).collect()
}

/// The text with `…` for what stands in quotation marks. An apostrophe within a word quotes nothing.
fn without_quoted(error: &str) -> String {
    let mut left = String::with_capacity(error.len());
    let mut rest = error;
    while let Some(character) = rest.chars().next() {
        let after = &rest[character.len_utf8()..];
        let closing = match character {
            '"' | '`' => Some(character),
            '\'' if !left.ends_with(char::is_alphanumeric) => Some('\''),
            '“' => Some('”'),
            '‘' => Some('’'),
            _ => None,
        };
        match closing.and_then(|closing| Some((after.find(closing)?, closing))) {
            Some((end, closing)) => {
                left.push('…');
                rest = &after[end + closing.len_utf8()..];
            }
            None => {
                left.push(character);
                rest = after;
            }
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_between_two_failures_of_one_kind_is_left_out() {
        for (one, other, message) in [
            ("no answer within 10 s", "no answer within 1.5 s", "no answer within …"),
            ("took 12ms", "took 950ms", "took …"),
            ("\"ann\" is unknown", "\"bob said: no\" is unknown", "… is unknown"),
            ("order 'a b' of c-17: gone", "order 'x' of c-4711: gone", "order … of …: gone"),
            (
                "id 7f3e0a12-1c77-4d9e-9a41-0d6b2f6f9a10 (at 10.0.0.7:443)",
                "id 00000000-1c77-4d9e-9a41-0d6b2f6f9a10 (at 10.0.0.8:8443)",
                "id … (at …)",
            ),
        ] {
            let (one, other) = (ErrorClass::of(one), ErrorClass::of(other));
            assert_eq!(one, other);
            assert_eq!(one.message, message);
        }
    }

    #[test]
    fn failures_of_different_kinds_stay_apart() {
        let name = |error| ErrorClass::of(error).name;
        assert_ne!(name("CRM answered 400 Bad Request"), name("CRM answered 422 Unprocessable"));
        assert_ne!(name("the worker's lease ran out"), name("the worker's queue ran out"));
        assert_eq!(ErrorClass::of("it's the CRM's").message, "it's the CRM's");
    }

    #[test]
    fn a_class_has_a_name_that_stays_and_fits_into_a_url() {
        assert_eq!(ErrorClass::of("CRM answered 500").name, "crm-answered-500-31040e17");
        for odd in ["", "…", "\"", "'", "ä".repeat(3000).as_str(), "\0\u{1}%&?#"] {
            let class = ErrorClass::of(odd);
            let fits = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
            assert!(class.name.chars().all(fits), "{class:?}");
            assert!(class.message.chars().count() <= MESSAGE);
        }
    }
}
