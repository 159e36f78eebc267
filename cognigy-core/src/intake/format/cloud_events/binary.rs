//! Attributes in headers (the HTTP protocol binding, section 3.1.3).

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::{
    event::{DeliveryContext, InvalidEvent},
    intake::format::object,
};

/// What the names of the headers begin with.
const PREFIX: &str = "ce-";

/// An event whose attributes are in headers and whose data is the body.
pub(super) struct BinaryEvent<'a> {
    /// The attributes as a JSON object.
    pub(super) attributes: &'a str,
    /// The JSON text of the data.
    pub(super) data: &'a str,
}

/// The attributes of a binary event, decoded.
pub(super) struct Attributes<'a>(Vec<(&'a str, String)>);

impl<'a> Attributes<'a> {
    /// Decodes all of them.
    ///
    /// # Errors
    ///
    /// One comes twice, or its value cannot be decoded.
    pub(super) fn of(context: &'a DeliveryContext) -> Result<Self, InvalidEvent> {
        let (mut attributes, mut invalid) = (Vec::<(&str, String)>::new(), InvalidEvent::default());
        for (header, value) in context.iter() {
            let Some(name) = header.strip_prefix(PREFIX) else { continue };
            if attributes.iter().any(|(known, _)| *known == name) {
                invalid.errors.extend(object::repeated(header).errors);
                continue;
            }
            let value = decode(value).unwrap_or_else(|message| {
                invalid.add(header, message);
                String::new()
            });
            attributes.push((name, value));
        }
        if invalid.errors.is_empty() { Ok(Self(attributes)) } else { Err(invalid) }
    }

    /// The attributes as the JSON event format writes them: an object of strings.
    pub(super) fn to_json(&self) -> String {
        let members: serde_json::Map<_, _> = self
            .0
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.as_str().into()))
            .collect();
        serde_json::Value::Object(members).to_string()
    }

    /// The same errors, with the names of the headers in place of those of the attributes.
    pub(super) fn by_their_headers(mut invalid: InvalidEvent) -> InvalidEvent {
        for error in &mut invalid.errors {
            if error.field != "body" && !error.field.starts_with('/') {
                error.field.insert_str(0, PREFIX);
            }
        }
        invalid
    }
}

/// What a header's value stands for: double-quoted strings are undone first, with the backslashes in
/// them, and then one round of percent-encoding.
fn decode(value: &str) -> Result<String, &'static str> {
    const NOT_UTF8: &str = "must be valid UTF-8";
    // What was not UTF-8 in the header was replaced.
    if value.contains('\u{fffd}') {
        return Err(NOT_UTF8);
    }
    let unquoted = unquote(value)?;
    let escapes = unquoted.split('%').skip(1);
    let is_escape = |rest: &str| {
        rest.as_bytes().get(..2).is_some_and(|digits| digits.iter().all(u8::is_ascii_hexdigit))
    };
    if !escapes.into_iter().all(is_escape) {
        return Err("has a `%` that is not followed by two hexadecimal digits");
    }
    percent_decode_str(&unquoted).decode_utf8().map(Cow::into_owned).map_err(|_| NOT_UTF8)
}

/// Undoes double-quoted strings (RFC 9110, section 5.6.4).
fn unquote(value: &str) -> Result<Cow<'_, str>, &'static str> {
    if !value.contains('"') {
        return Ok(Cow::Borrowed(value));
    }
    const OPEN: &str = "has a double-quoted string without an end";
    let (mut unquoted, mut is_quoted) = (String::with_capacity(value.len()), false);
    let mut characters = value.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => is_quoted = !is_quoted,
            '\\' if is_quoted => unquoted.push(characters.next().ok_or(OPEN)?),
            other => unquoted.push(other),
        }
    }
    if is_quoted { Err(OPEN) } else { Ok(Cow::Owned(unquoted)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_undone_before_one_round_of_percent_decoding() {
        for (value, expected) in [
            ("plain", "plain"),
            ("Euro%20%E2%82%AC%20%F0%9F%98%80", "Euro € 😀"),
            ("Euro%20%e2%82%ac", "Euro €"),
            ("\"Euro € 😀\"", "Euro € 😀"),
            (r#""a \"b\" \\c""#, r#"a "b" \c"#),
            (r#"a "b c" d"#, "a b c d"),
            (r"back\slash", r"back\slash"),
            ("%2541", "%41"),
            (r#""%22x%22""#, "\"x\""),
            (r#""%\2541""#, "%41"),
            ("%41%62", "Ab"),
            ("", ""),
            ("\"\"", ""),
            ("%EF%BF%BD", "\u{fffd}"),
        ] {
            assert_eq!(decode(value).as_deref(), Ok(expected), "{value}");
        }
    }

    #[test]
    fn what_cannot_be_decoded_is_refused() {
        for value in [
            "%C0%A0",
            "%E2%82",
            "%FF",
            "a\u{fffd}b",
            "%",
            "%4",
            "%zz",
            "a%4g",
            "\"open",
            "\"a\\",
            "\"a\\\"",
        ] {
            assert!(decode(value).is_err(), "{value}");
        }
    }
}
