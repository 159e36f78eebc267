//! The content of an error answer, short and safe enough for a log line.

use cognigy_http::{one_line, shorten};
use serde_json::Value;

use crate::secret::Redactor;

/// How much of an answer is read: enough for any problem description, and enough to find a whole
/// secret before the text is cut.
pub(crate) const ANSWER_BYTES: usize = 64 * 1024;

/// The longest excerpt, in bytes.
const EXCERPT_BYTES: usize = 512;

/// The longest part of a problem's text that leaves room for its trace id.
const TEXT_BYTES: usize = 400;

/// The longest trace id.
const TRACE_BYTES: usize = 80;

/// The gist of `body` with the request's secrets masked, in at most 512 bytes and one line.
pub(crate) fn excerpt(body: &[u8], redactor: &Redactor) -> String {
    let text = match serde_json::from_slice::<Value>(body) {
        Ok(json) => {
            let json = redactor.json(json);
            problem(&json).unwrap_or_else(|| json.to_string())
        }
        Err(_) => redactor.text(&String::from_utf8_lossy(body)),
    };
    shorten(&one_line(&text), EXCERPT_BYTES)
}

/// The text and the trace id of an error in one of the forms that Cognigy's API documents or OAuth
/// has: RFC 9457 (once 7807) with `traceId`, RFC 6749, section 5.2, or a bare `message`.
fn problem(json: &Value) -> Option<String> {
    let field = |name: &str| json.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
    let text = ["detail", "error_description", "message", "title", "error"]
        .into_iter()
        .find_map(field)
        .map(|text| shorten(text, TEXT_BYTES))?;
    Some(match field("traceId") {
        Some(trace) => format!("{text} (traceId {})", shorten(trace, TRACE_BYTES)),
        None => text,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::secret::SecretText;

    fn told(body: impl AsRef<[u8]>) -> String {
        excerpt(body.as_ref(), &Redactor::new(&[SecretText::new("s3cret")]))
    }

    #[test]
    fn the_gist_of_a_problem_is_its_text_and_trace_id() {
        for (body, expected) in [
            (r#"{"title":"Bad","detail":"No url","traceId":"t-1"}"#, "No url (traceId t-1)"),
            (r#"{"title":"Bad Request","detail":"","status":400}"#, "Bad Request"),
            (r#"{"error":"invalid_client","error_description":"Unknown"}"#, "Unknown"),
            (r#"{"error":"invalid_client"}"#, "invalid_client"),
            (r#"{"errors":[{"field":"url"}]}"#, r#"{"errors":[{"field":"url"}]}"#),
            ("[1, 2]", "[1,2]"),
            ("<h1>Oh</h1>\r\n", "<h1>Oh</h1>"),
            ("", ""),
        ] {
            assert_eq!(told(body), expected);
        }
    }

    #[test]
    fn an_excerpt_is_one_short_line_without_secrets() {
        assert_eq!(told("a\r\nb\x1b[31m\u{202e}c"), "a  b [31m c");
        assert_eq!(told(b"\xff s3cret"), "\u{fffd} [redacted]");
        assert_eq!(told(r#"{"detail":"\u00733cret"}"#), "[redacted]");
        let long = told("é".repeat(1000));
        assert!(long.len() <= EXCERPT_BYTES && long.ends_with("é…"), "{long}");
        let json = format!(r#"{{"detail":"{}","traceId":"{}"}}"#, "é".repeat(999), "t".repeat(999));
        let long = told(json);
        assert!(long.len() <= EXCERPT_BYTES && long.contains("… (traceId ttt"), "{long}");
    }

    #[test]
    fn a_secret_at_the_cut_leaves_no_part_behind() {
        for before in 490..520 {
            let text = "x".repeat(before) + "s3cret";
            assert!(!told(&text).contains("s3"), "{before}");
            assert!(!told(format!(r#"{{"detail":"{text}"}}"#)).contains("s3"), "{before}");
        }
    }
}
