use cognigy_core::{
    CognigyFormat, EventId, EventTime, EventType, FieldError, same_content, testing::sample,
};
use serde_json::{Value, value::RawValue};

/// The body of a delivery: serde_json reads an accepted body to the same values, and finds a
/// refused body wrong too.
pub fn event(body: &[u8]) {
    let read = CognigyFormat.read_body(body);
    assert_eq!(read, CognigyFormat.read_body(body), "the same bytes give the same answer");
    let value = serde_json::from_slice::<Value>(body);
    match (&read, &value) {
        (Ok(parts), Ok(value)) => {
            assert_eq!(value["eventId"], parts.id.as_str());
            assert_eq!(value["type"], parts.kind.as_str());
            assert_eq!(value["externalId"].as_str(), parts.external_id.as_deref());
            assert_eq!(value["userId"].as_str(), parts.user_id.as_deref());
            assert!(value["payload"].is_object());
            if let Some(key) = parts.kind.required_payload_key() {
                assert!(value["payload"].get(key).is_some());
            }
        }
        // A `Value` holds numbers as doubles and strings as Unicode; the body need not.
        (Ok(_), Err(error)) => {
            let text = error.to_string();
            let known = ["number out of range", "surrogate", "hex escape"];
            assert!(known.iter().any(|known| text.contains(known)), "{text}");
            assert!(serde_json::from_slice::<&RawValue>(body).is_ok());
        }
        (Err(invalid), Ok(value)) => {
            assert!(!invalid.errors.is_empty());
            assert!(invalid.to_string().starts_with("Payload validation failed: "));
            for error in &invalid.errors {
                assert!(is_wrong(value, error), "{error:?}");
            }
        }
        (Err(invalid), Err(_)) => assert!(!invalid.errors.is_empty()),
    }
    compare(body);
}

/// Whether the refused field is wrong in `value`.
fn is_wrong(value: &Value, error: &FieldError) -> bool {
    if error.message == "appears more than once" {
        // A `Value` keeps the last of several.
        return true;
    }
    match error.field.as_str() {
        "body" => !value.is_object(),
        "eventId" => value["eventId"].as_str().is_none_or(|id| id.parse::<EventId>().is_err()),
        "timestamp" => EventTime::from_json(&value["timestamp"].to_string()).is_err(),
        "type" => {
            value["type"].as_str().is_none_or(|kind| EventType::from_contract(kind).is_none())
        }
        "payload" => !value["payload"].is_object(),
        "payload.input" => value["payload"].get("input").is_none(),
        "payload.profile" => value["payload"].get("profile").is_none(),
        field @ ("externalId" | "userId") => !value[field].is_string() && !value[field].is_null(),
        _ => false,
    }
}

/// Comparison is reflexive and symmetric, and ignores white space around JSON.
fn compare(body: &[u8]) {
    assert!(same_content(body, body));
    let other = sample::body("e1");
    assert_eq!(same_content(body, &other), same_content(&other, body));
    let spaced = [b" ", body, b"\n"].concat();
    let is_json = serde_json::from_slice::<&RawValue>(body).is_ok();
    assert_eq!(same_content(body, &spaced), is_json);
}
