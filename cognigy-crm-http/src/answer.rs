//! What the body of a 2xx says.

use cognigy_core::Contact;

use crate::{NotFoundRule, error::LookUpError};

/// The blanks that JSON allows around its values (RFC 8259, section 2).
const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

/// The contact in `body`, or `None` where `rule` says that such a body means nobody. The contact is
/// the whole body: which part of it is the person, and whether a success holds an error text,
/// differs from CRM to CRM and is the handler's to know.
pub(crate) fn contact(body: &[u8], rule: NotFoundRule) -> Result<Option<Contact>, LookUpError> {
    let text = std::str::from_utf8(body).map_err(|_| LookUpError::NotUtf8)?;
    // Some servers put a byte order mark first; RFC 8259, section 8.1, lets a reader skip it.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim_matches(BLANKS);
    if rule.empty && is_empty(text) {
        return Ok(None);
    }
    Contact::from_json(text).map(Some).map_err(LookUpError::NotJson)
}

fn is_empty(text: &str) -> bool {
    let between = |open, close| text.strip_prefix(open)?.strip_suffix(close);
    match between('[', ']').or_else(|| between('{', '}')) {
        Some(inside) => inside.trim_matches(BLANKS).is_empty(),
        None => matches!(text, "" | "null"),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(body: &[u8], rule: &str) -> Result<Option<String>, String> {
        contact(body, rule.parse().unwrap())
            .map(|contact| contact.map(|contact| contact.as_json().to_owned()))
            .map_err(|error| error.to_string())
    }

    #[test]
    fn an_empty_answer_is_nobody_only_where_the_rule_says_so() {
        for body in ["[]", "{}", "null", " [ \n] ", "{\t}\r\n", " null ", "\u{feff}[]"] {
            assert_eq!(read(body.as_bytes(), "empty"), Ok(None), "{body:?}");
            let json = body.trim_start_matches('\u{feff}').trim();
            assert_eq!(read(body.as_bytes(), "404"), Ok(Some(json.to_owned())), "{body:?}");
        }
        for nothing in ["", " \r\n", "\u{feff}"] {
            assert_eq!(read(nothing.as_bytes(), "empty"), Ok(None));
            assert!(read(nothing.as_bytes(), "404").is_err());
        }
    }

    #[test]
    fn any_other_json_is_a_contact_as_it_was_written() {
        for body in [
            "{\"id\": 1,  \"n\":1e400}",
            "[{}]",
            "[[]]",
            "{\"results\":[]}",
            "0",
            "false",
            "\"\"",
            "{\"error\":\"no such contact\"}",
        ] {
            assert_eq!(read(body.as_bytes(), "404,empty"), Ok(Some(body.to_owned())));
        }
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert_eq!(read(deep.as_bytes(), "empty"), Ok(Some(deep)));
    }

    #[test]
    fn what_is_not_json_is_refused_without_being_repeated() {
        for body in [
            &b"<html>marker</html>"[..],
            b"{marker",
            b"[]marker",
            b"{} {}",
            b"nul",
            b"\xff\xfe[]",
            b"\x1f\x8b\x08",
        ] {
            let error = read(body, "404,empty").unwrap_err();
            assert!(
                error.starts_with("CRM answered with ") && !error.contains("marker"),
                "{error}"
            );
        }
    }
}
