//! How conversations are named.
//!
//! A name is one text, made so that two conversations never get the same one, and so that every store
//! can keep it and look it up by an index.

use std::fmt::Write;

use sha2::{Digest, Sha256};

/// The longest name, in bytes. An index of PostgreSQL takes up to 2,704 bytes for one entry.
const MAX_BYTES: usize = 1024;

/// The conversation that `name` names by itself. Control characters are percent-encoded.
pub(super) fn named(name: &str) -> String {
    shortened(encoded(name, &[]))
}

/// The conversation that takes two names: `first`, the separator, `second`. In both, the separator and
/// `%` are percent-encoded, so that `a/b` and `c` is not `a` and `b/c`.
pub(super) fn pair(first: &str, separator: char, second: &str) -> String {
    let special = ['%', separator];
    shortened(format!("{}{separator}{}", encoded(first, &special), encoded(second, &special)))
}

/// The conversation of a session of Cognigy: `userId/sessionId`. Session ids alone are not unique.
pub(super) fn session(user_id: Option<&str>, session_id: &str) -> String {
    pair(user_id.unwrap_or_default(), '/', session_id)
}

fn encoded(text: &str, special: &[char]) -> String {
    let mut encoded = String::with_capacity(text.len());
    for character in text.chars() {
        if special.contains(&character) || character.is_control() {
            for byte in character.encode_utf8(&mut [0; 4]).bytes() {
                // Writing to a string cannot fail.
                let _ = write!(encoded, "%{byte:02X}");
            }
        } else {
            encoded.push(character);
        }
    }
    encoded
}

fn shortened(name: String) -> String {
    match name.len() > MAX_BYTES {
        true => format!("sha256:{}", base16ct::lower::encode_string(&Sha256::digest(&name))),
        false => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_pairs_get_the_same_name() {
        assert_eq!(session(Some("u-42"), "s-7"), "u-42/s-7");
        assert_eq!(session(None, "s-7"), "/s-7");
        assert_eq!(session(Some("a/b"), "c%2F"), "a%2Fb/c%252F");
        assert_ne!(session(Some("a/b"), "c"), session(Some("a"), "b/c"));
        assert_ne!(session(Some("a%2Fb"), "c"), session(Some("a/b"), "c"));
        assert_eq!(pair("1", ':', "17"), "1:17");
    }

    #[test]
    fn every_name_can_be_kept() {
        assert_eq!(named("50%/\0\u{85}é"), "50%/%00%C2%85é");
        let long = "x".repeat(MAX_BYTES);
        assert_eq!(named(&long), long);
        let (one, other) = (named(&format!("{long}a")), named(&format!("{long}b")));
        assert!(one != other && one.len() < 80 && one.starts_with("sha256:"), "{one}");
    }
}
