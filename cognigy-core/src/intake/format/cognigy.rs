//! The contract's event: from verified bytes to an event's fields.
//!
//! One pass over the top level; values are looked at only where a rule asks for it, and nothing is
//! rewritten. Every broken rule is reported, not just the first.

use std::{borrow::Cow, collections::HashSet, fmt};

use serde::de::{Deserialize, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use crate::{
    event::{EventId, EventParts, EventTime, EventType, InvalidEvent, json::Key},
    intake::{
        EventFormat, ReadEvent, VerifiedDelivery,
        format::object::{self, string},
    },
};

/// The contract's format: a JSON object with `eventId`, `timestamp`, `type`, `payload` and, if
/// known, `externalId` and `userId`. Anything else is allowed and preserved.
///
/// ```
/// use cognigy_core::{CognigyFormat, EventType};
///
/// let body = br#"{"eventId":"e1","timestamp":0,"type":"PROFILE_UPDATED","payload":{}}"#;
/// let invalid = CognigyFormat.read_body(body).unwrap_err();
/// assert_eq!(invalid.errors[0].field, "payload.profile");
///
/// let body = br#"{"eventId":"e1","timestamp":0,"type":"DIALOG_ENDED","payload":{}}"#;
/// assert_eq!(CognigyFormat.read_body(body).unwrap().kind, EventType::DialogEnded);
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct CognigyFormat;

impl EventFormat for CognigyFormat {
    fn read(&self, delivery: &VerifiedDelivery) -> Result<Vec<ReadEvent>, InvalidEvent> {
        let parts = self.read_body(delivery.body())?;
        Ok(vec![ReadEvent::new(parts, delivery.body().clone())])
    }
}

impl CognigyFormat {
    /// Reads the fields of the event in `body`.
    ///
    /// # Errors
    ///
    /// The body is not a valid event.
    pub fn read_body(self, body: &[u8]) -> Result<EventParts, InvalidEvent> {
        let text = object::text_of(body)?;
        let envelope: Envelope<'_> =
            serde_json::from_str(text).map_err(|error| object::not_an_object(text, &error))?;
        envelope.validate()
    }
}

/// The top level of the body: known fields unread, of the others only whether one came twice.
#[derive(Default)]
struct Envelope<'a> {
    event_id: Option<&'a RawValue>,
    timestamp: Option<&'a RawValue>,
    kind: Option<&'a RawValue>,
    payload: Option<&'a RawValue>,
    external_id: Option<&'a RawValue>,
    user_id: Option<&'a RawValue>,
    repeated: Option<Cow<'a, str>>,
}

impl<'de> Deserialize<'de> for Envelope<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TopLevel;
        impl<'de> Visitor<'de> for TopLevel {
            type Value = Envelope<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut envelope = Envelope::default();
                let mut others = HashSet::new();
                while let Some(Key(key)) = map.next_key()? {
                    let slot = match &*key {
                        "eventId" => &mut envelope.event_id,
                        "timestamp" => &mut envelope.timestamp,
                        "type" => &mut envelope.kind,
                        "payload" => &mut envelope.payload,
                        "externalId" => &mut envelope.external_id,
                        "userId" => &mut envelope.user_id,
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            if !others.insert(key.clone()) {
                                envelope.repeated.get_or_insert(key);
                            }
                            continue;
                        }
                    };
                    if slot.replace(map.next_value()?).is_some() {
                        envelope.repeated.get_or_insert(key);
                    }
                }
                Ok(envelope)
            }
        }
        deserializer.deserialize_map(TopLevel)
    }
}

impl Envelope<'_> {
    fn validate(self) -> Result<EventParts, InvalidEvent> {
        let mut invalid = self.repeated.as_deref().map(object::repeated).unwrap_or_default();
        let id = required(&mut invalid, "eventId", self.event_id, |json| {
            string(json)?.parse::<EventId>().map_err(|error| error.to_string())
        });
        let time = required(&mut invalid, "timestamp", self.timestamp, |json| {
            EventTime::from_json(json).map_err(|error| error.to_string())
        });
        let kind = required(&mut invalid, "type", self.kind, |json| {
            EventType::from_contract(&string(json)?).ok_or_else(|| {
                "must be DIALOG_STARTED, USER_INPUT_RECEIVED, PROFILE_UPDATED or DIALOG_ENDED"
                    .to_owned()
            })
        });
        let payload = required(&mut invalid, "payload", self.payload, |json| {
            if json.starts_with('{') { Ok(json) } else { Err("must be an object".to_owned()) }
        });
        if let (Some(payload), Some(key)) =
            (payload, kind.as_ref().and_then(EventType::required_payload_key))
            && !has_key(payload, key)
        {
            invalid.add(format!("payload.{key}"), "is required for this type of event");
        }
        let external_id = optional_string(&mut invalid, "externalId", self.external_id);
        let user_id = optional_string(&mut invalid, "userId", self.user_id);
        match (id, time, kind) {
            (Some(id), Some(time), Some(kind)) if invalid.errors.is_empty() => {
                let (conversation, sensitive) = (None, false);
                Ok(EventParts { id, kind, time, external_id, user_id, conversation, sensitive })
            }
            (id, ..) => {
                invalid.event_id = id.map(|id| id.as_str().to_owned());
                Err(invalid)
            }
        }
    }
}

fn required<'a, T>(
    invalid: &mut InvalidEvent,
    field: &str,
    value: Option<&'a RawValue>,
    read: impl FnOnce(&'a str) -> Result<T, String>,
) -> Option<T> {
    let outcome = value.ok_or_else(|| "is required".to_owned()).and_then(|value| read(value.get()));
    outcome.map_err(|message| invalid.add(field, message)).ok()
}

fn optional_string(
    invalid: &mut InvalidEvent,
    field: &str,
    value: Option<&RawValue>,
) -> Option<String> {
    let value = value.filter(|value| value.get() != "null")?;
    match string(value.get()) {
        Ok(text) => Some(text.into_owned()),
        Err(message) => {
            invalid.add(field, message);
            None
        }
    }
}

/// Whether the JSON object `object` has the key `wanted`, whatever its value.
fn has_key(object: &str, wanted: &str) -> bool {
    struct Search<'w>(&'w str);
    impl<'de> Visitor<'de> for Search<'_> {
        type Value = bool;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<bool, A::Error> {
            let mut found = false;
            while let Some(Key(key)) = map.next_key()? {
                found |= key == self.0;
                map.next_value::<IgnoredAny>()?;
            }
            Ok(found)
        }
    }
    serde_json::Deserializer::from_str(object).deserialize_map(Search(wanted)).unwrap_or(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(body: &str) -> Result<EventParts, InvalidEvent> {
        CognigyFormat.read_body(body.as_bytes())
    }

    fn fields(body: &str) -> Vec<String> {
        let invalid = read(body).expect_err(body);
        invalid.errors.into_iter().map(|error| error.field).collect()
    }

    const VALID: &str = r#"{"eventId":"e1","timestamp":"2026-03-01T12:00:00Z","type":"DIALOG_STARTED","payload":{}}"#;

    #[test]
    fn the_smallest_valid_event_is_read() {
        let parts = read(VALID).unwrap();
        assert_eq!(parts.id.as_str(), "e1");
        assert_eq!(parts.kind, EventType::DialogStarted);
        assert_eq!((parts.external_id, parts.user_id), (None, None));
    }

    #[test]
    fn extra_fields_escapes_nulls_and_white_space_are_allowed() {
        let parts = read(
            "\n {\"eventI\\u0064\":\"e\\u00e9\", \"timestamp\":1772366400, \"type\":\"PROFILE_UPDATED\",
             \"payload\":{\"profile\":null}, \"externalId\":null, \"userId\":\"u\", \"more\":[1e400]} ",
        )
        .unwrap();
        assert_eq!(parts.id.as_str(), "eé");
        assert_eq!(parts.user_id.as_deref(), Some("u"));
    }

    #[test]
    fn each_broken_rule_names_its_field() {
        assert_eq!(fields("{}"), ["eventId", "timestamp", "type", "payload"]);
        assert_eq!(fields(&VALID.replace("\"e1\"", "7")), ["eventId"]);
        assert_eq!(fields(&VALID.replace("\"e1\"", "\"\"")), ["eventId"]);
        assert_eq!(fields(&VALID.replace("e1", "a\\u0000b")), ["eventId"]);
        assert_eq!(fields(&VALID.replace("e1", "\\ud800")), ["eventId"]);
        assert_eq!(fields(&VALID.replace("e1", &"é".repeat(257))), ["eventId"]);
        assert!(read(&VALID.replace("e1", &"é".repeat(256))).is_ok());
        assert_eq!(fields(&VALID.replace("DIALOG_STARTED", "dialog_started")), ["type"]);
        assert_eq!(fields(&VALID.replace("{}", "[]")), ["payload"]);
        assert_eq!(
            fields(&VALID.replace("DIALOG_STARTED", "USER_INPUT_RECEIVED")),
            ["payload.input"]
        );
        assert_eq!(
            fields(&VALID.replace("DIALOG_STARTED", "PROFILE_UPDATED")),
            ["payload.profile"]
        );
        assert_eq!(
            fields(&VALID.replace("{}", "{},\"externalId\":1,\"userId\":[]")),
            ["externalId", "userId"]
        );
    }

    #[test]
    fn repeated_keys_trailing_bytes_and_depth_are_refused() {
        assert_eq!(fields(&VALID.replace("{}", "{},\"eventId\":\"e1\"")), ["eventId"]);
        assert_eq!(fields(&VALID.replace("{}", "{},\"x\":1,\"x\":1")), ["x"]);
        assert_eq!(fields(&format!("{VALID}x")), ["body"]);
        assert_eq!(fields(&format!("{VALID}{VALID}")), ["body"]);
        let deep = format!("{{\"a\":{}1{}}}", "[".repeat(200), "]".repeat(200));
        assert_eq!(fields(&VALID.replace("{}", &deep)), ["body"]);
        // Nested keys may repeat: only the top level decides what the event is.
        assert!(read(&VALID.replace("{}", r#"{"a":1,"a":2}"#)).is_ok());
    }

    #[test]
    fn what_is_no_object_is_refused() {
        for body in ["", " ", "null", "[]", "\"x\"", "1", "{", "{\"a\"", "\u{feff}{}"] {
            assert_eq!(fields(body), ["body"], "{body:?}");
        }
        assert_eq!(
            CognigyFormat.read_body(b"{\"a\":\"\xff\"}").unwrap_err().errors[0].field,
            "body"
        );
    }

    #[test]
    fn the_id_is_told_even_when_the_rest_is_wrong() {
        let invalid = read(r#"{"eventId":"e9"}"#).unwrap_err();
        assert_eq!(invalid.event_id.as_deref(), Some("e9"));
    }
}
