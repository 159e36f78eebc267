//! What the body of a 2xx answer means.

use cognigy_core::Contact;
use cognigy_http::{beginning, one_line, shorten};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::StatusCode;
use serde_json::Value;

use crate::{
    NotFoundRule,
    error::{LookUpError, status},
};

/// The blanks that JSON allows around its values (RFC 8259, section 2).
const BLANKS: [char; 4] = [' ', '\t', '\n', '\r'];

/// How much of an answer is searched for its first words, in bytes. It is more than a message
/// shows, so that a whole secret is found before the text is cut.
const LOOKED_AT_BYTES: usize = 4096;

/// The longest quotation of an answer in a message, in bytes: it ends up in the attempts table.
const QUOTED_BYTES: usize = 200;

/// Secrets shorter than this are not masked, because they would be found everywhere.
const SHORTEST_SECRET: usize = 4;

/// The members that an error object has. An object with any other may well be a contact.
const ERROR_MEMBERS: [&str; 27] = [
    "error",
    "errors",
    "errorcode",
    "errormessage",
    "errordescription",
    "errortype",
    "code",
    "message",
    "msg",
    "detail",
    "details",
    "reason",
    "title",
    "type",
    "status",
    "statuscode",
    "success",
    "ok",
    "path",
    "instance",
    "timestamp",
    "traceid",
    "requestid",
    "correlationid",
    "helpurl",
    "moreinfo",
    "documentationurl",
];

/// A body that came with a 2xx, and what is needed to describe it.
pub(crate) struct Answer<'a> {
    pub(crate) status: StatusCode,
    pub(crate) media_type: &'a str,
    pub(crate) body: &'a [u8],
    /// What no message may repeat: the token and the contact's key.
    pub(crate) secrets: &'a [&'a str],
}

impl Answer<'_> {
    /// The contact, or `None` where `rule` says that such a body is no contact. The contact is the
    /// whole body: which part of it describes the person differs from CRM to CRM, and the handler
    /// has to know it. Only an object that holds nothing but an error is not a contact.
    pub(crate) fn contact(&self, rule: NotFoundRule) -> Result<Option<Contact>, LookUpError> {
        let text = std::str::from_utf8(self.body).map_err(|_| LookUpError::NotUtf8)?;
        // Some servers put a byte order mark first; RFC 8259, section 8.1, lets a reader skip it.
        let text = text.strip_prefix('\u{feff}').unwrap_or(text).trim_matches(BLANKS);
        if rule.empty && is_empty(text) {
            return Ok(None);
        }
        let contact = Contact::from_json(text)
            .map_err(|cause| LookUpError::NotJson { told: self.told(self.page(text)), cause })?;
        match error_object(text) {
            Some(error) => Err(LookUpError::ErrorObject(self.told(Some(&error)))),
            None => Ok(Some(contact)),
        }
    }

    /// The text of a page: it is meant for people, and so is not a contact. A body that is not JSON
    /// for another reason, such as a truncated contact, must not be quoted.
    fn page<'t>(&self, text: &'t str) -> Option<&'t str> {
        let is_page =
            text.starts_with('<') || self.media_type.to_ascii_lowercase().contains("html");
        is_page.then_some(text)
    }

    /// `(200 OK, text/html): <html> Sign in`
    fn told(&self, quoted: Option<&str>) -> String {
        let about = format!("({}, {})", status(self.status), self.masked(self.media_type));
        let Some(text) = quoted else { return about };
        let text = beginning(text, LOOKED_AT_BYTES);
        let words = one_line(&self.masked(text));
        let words: Vec<_> = words.split_whitespace().collect();
        format!("{about}: {}", shorten(&words.join(" "), QUOTED_BYTES))
    }

    fn masked(&self, text: &str) -> String {
        let secrets = self.secrets.iter().filter(|secret| secret.len() >= SHORTEST_SECRET);
        let forms = secrets.flat_map(|secret| {
            let json = serde_json::Value::from(*secret).to_string();
            let encoded = utf8_percent_encode(secret, NON_ALPHANUMERIC).to_string();
            [(*secret).to_owned(), json[1..json.len() - 1].to_owned(), encoded]
        });
        forms.fold(text.to_owned(), |text, form| text.replace(&form, "[redacted]"))
    }
}

/// The text of an object that holds nothing but an error, as some CRMs send with a 200. It is
/// decoded and written again, so that a secret in it has a single form.
fn error_object(text: &str) -> Option<String> {
    // A cheap check first, so that most contacts are not parsed twice.
    if !text.starts_with('{') || !text.contains("rror") {
        return None;
    }
    let object: serde_json::Map<String, Value> = serde_json::from_str(text).ok()?;
    let says_something = |value: &Value| match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        _ => true,
    };
    let named =
        ["error", "errors"].iter().any(|name| object.get(*name).is_some_and(says_something));
    let known = |name: &String| {
        let name = name.to_ascii_lowercase().replace(['_', '-'], "");
        ERROR_MEMBERS.contains(&name.as_str())
    };
    (named && object.keys().all(known)).then(|| Value::from(object).to_string())
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
        told(body, "text/plain", rule)
    }

    fn told(body: &[u8], media_type: &str, rule: &str) -> Result<Option<String>, String> {
        let secrets = ["token-1", "key/ü 2", "a"];
        Answer { status: StatusCode::OK, media_type, body, secrets: &secrets }
            .contact(rule.parse().unwrap())
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
            "{\"id\":1,\"error\":\"none\"}",
            "{\"error\":null}",
            "{\"errors\":[]}",
            "{\"message\":\"hello\"}",
        ] {
            assert_eq!(read(body.as_bytes(), "404,empty"), Ok(Some(body.to_owned())));
        }
        let deep = "[".repeat(100_000) + &"]".repeat(100_000);
        assert_eq!(read(deep.as_bytes(), "empty"), Ok(Some(deep)));
    }

    #[test]
    fn what_is_not_json_is_refused_without_being_repeated() {
        for body in [
            &b"{marker"[..],
            b"marker, not JSON",
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

    #[test]
    fn a_page_or_an_error_is_told_by_its_first_words_without_secrets() {
        let words = |body: &str, kind: &str| told(body.as_bytes(), kind, "404,empty").unwrap_err();
        assert_eq!(
            words("<html>\r\n  <b>Sign in,\u{1b}[31m token-1</b>", "text/html; charset=utf-8"),
            "CRM answered with something that is not JSON (200 OK, text/html; charset=utf-8): \
             <html> <b>Sign in, [31m [redacted]</b>"
        );
        assert!(words("Sign in, please", "text/HTML").ends_with("): Sign in, please"));
        for (body, told) in [
            (r#"{"error":"No rights"}"#, r#"{"error":"No rights"}"#),
            (
                r#"{"errors":["key/\u00fc 2"], "success":false,"trace_id":"a"}"#,
                r#"{"errors":["[redacted]"],"success":false,"trace_id":"a"}"#,
            ),
            (
                r#"{"error":{"message":"key%2F%C3%BC%202"}}"#,
                r#"{"error":{"message":"[redacted]"}}"#,
            ),
        ] {
            let words = words(body, "application/json");
            assert_eq!(
                words,
                format!("CRM answered with an error (200 OK, application/json): {told}")
            );
        }
        let long = words(&format!("<{}token-1", "é".repeat(9000)), "text/html");
        assert!(long.len() < 320 && long.ends_with("é…"), "{long}");
        for before in 150..210 {
            let cut = words(&format!("<{}token-1", "x".repeat(before)), "text/html");
            assert!(!cut.contains("tok"), "{cut}");
        }
    }
}
