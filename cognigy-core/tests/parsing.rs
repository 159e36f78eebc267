//! The parser answers for any bytes; an event that it accepts can be parsed again.

#![allow(clippy::unwrap_used)]

use cognigy_core::{CognigyFormat, same_content, testing::sample};
use proptest::prelude::*;

proptest! {
    #[test]
    fn no_bytes_make_the_parser_panic(body: Vec<u8>) {
        let _ = CognigyFormat.read_body(&body);
        prop_assert!(same_content(&body, &body));
    }

    #[test]
    fn no_change_of_a_valid_body_makes_the_parser_panic(
        position: prop::sample::Index,
        replacement in prop::collection::vec(any::<u8>(), 0..4),
        removed in 0..4_usize,
    ) {
        let mut body = sample::body("e1").to_vec();
        let start = position.index(body.len());
        let end = (start + removed).min(body.len());
        body.splice(start..end, replacement);
        if let Ok(parts) = CognigyFormat.read_body(&body) {
            let again = CognigyFormat.read_body(&body).unwrap();
            prop_assert_eq!(parts, again);
            prop_assert!(serde_json::from_slice::<&serde_json::value::RawValue>(&body).is_ok());
        }
        let _ = same_content(&body, &sample::body("e1"));
    }

    #[test]
    fn json_like_text_never_panics(body in r#"[\[\]{}":,\\u0-9eE+\-. a-f]{0,200}"#) {
        let _ = CognigyFormat.read_body(body.as_bytes());
        let _ = same_content(body.as_bytes(), b"{}");
    }
}
