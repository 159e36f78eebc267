//! Each format answers for any input, and what it takes it reads the same way again.

use cognigy_core::{
    FormatOptions, FormatPreset, JsonPointer, RawDelivery, Source, testing::sample::start,
};
use proptest::prelude::*;

use crate::{source_with, verified};

const BODIES: [&str; 7] = [
    r#"{"eventId":"e1","timestamp":"2026-01-05T10:00:00Z","type":"USER_INPUT_RECEIVED","payload":{"input":"hi","externalId":"c"},"userId":"u"}"#,
    r#"{"userId":"u","sessionId":"s","AIOutput":{"text":"t","data":{"_cognigy":{"event":{"type":"x"}}},"disableSensitiveLogging":true}}"#,
    r#"{"call_sid":"c","call_status":"ringing","direction":"inbound","from":"sip:+49300@h","customer_data":{"externalId":"C"}}"#,
    r#"{"event":"CALL_COMPLETED","payload":{"call_sid":"c","digits":"1"},"msgid":"m"}"#,
    r#"[{"specversion":"1.0","id":"1","source":"/s","type":"t","data":{"cognigy_session_id":"s"}}]"#,
    r#"{"type":"t","timestamp":1767600000,"data":{"userId":"u","sessionId":"s"}}"#,
    r#"{"event":"message_created","id":5,"updated_at":1,"created_at":1,"message_type":"incoming","sender":{"id":1,"email":"e"},"conversation":{"id":2,"meta":{"sender":{}}},"account":{"id":3}}"#,
];

fn sources() -> Vec<Source> {
    let pointer = |text: &str| Some(text.parse::<JsonPointer>().unwrap());
    let pointed = || FormatOptions {
        type_pointer: pointer("/data/x"),
        time_pointer: pointer("/timestamp"),
        contact_pointer: pointer("/0/id"),
        conversation_pointer: pointer(""),
        ..FormatOptions::default()
    };
    let both = |preset: &&str| {
        [source_with(preset, FormatOptions::default()), source_with(preset, pointed())]
    };
    FormatPreset::NAMES.iter().flat_map(both).collect()
}

fn check(headers: &[(&str, &[u8])], body: &[u8]) -> Result<(), TestCaseError> {
    for source in sources() {
        let delivery = verified(&source, headers, body);
        match (source.read(&delivery), source.read(&delivery)) {
            (Ok(events), Ok(again)) => {
                for (event, again) in events.iter().zip(&again) {
                    let derived = event.key.id.as_str().starts_with("derived-");
                    prop_assert!(derived || event.key == again.key);
                    prop_assert_eq!(&event.parts.kind, &again.parts.kind);
                    prop_assert_eq!(&event.parts.conversation, &again.parts.conversation);
                    prop_assert!(
                        serde_json::from_slice::<serde_json::Value>(&event.body).is_ok()
                            || serde_json::from_slice::<&serde_json::value::RawValue>(&event.body)
                                .is_ok()
                    );
                    let conversation = event.parts.conversation.as_deref().unwrap_or_default();
                    prop_assert!(!conversation.contains('\0') && conversation.len() <= 1024);
                    // A part comes back by itself.
                    let raw = RawDelivery::new(crate::Given(headers), event.body.clone());
                    let part = source.verify(raw, start()).unwrap();
                    let part = source.read(&part);
                    prop_assert!(part.is_ok_and(|events| events.len() == 1), "{:?}", event.body);
                }
            }
            (Err(invalid), Err(again)) => {
                prop_assert!(!invalid.errors.is_empty());
                prop_assert_eq!(invalid, again);
            }
            (first, second) => prop_assert!(false, "{first:?} {second:?}"),
        }
    }
    Ok(())
}

fn header_value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"1.0".to_vec()),
        Just(b"application/cloudevents-batch+json".to_vec()),
        Just(b"application/cloudevents+json".to_vec()),
        r#"[ -~]{0,12}"#.prop_map(String::into_bytes),
        prop::collection::vec(any::<u8>(), 0..8),
    ]
}

fn headers() -> impl Strategy<Value = Vec<(&'static str, Vec<u8>)>> {
    const NAMES: [&str; 8] = [
        "content-type",
        "ce-id",
        "ce-source",
        "ce-type",
        "ce-specversion",
        "ce-time",
        "webhook-id",
        "x-chatwoot-delivery",
    ];
    prop::collection::vec((prop::sample::select(&NAMES[..]), header_value()), 0..8)
}

fn borrowed<'a>(headers: &'a [(&'static str, Vec<u8>)]) -> Vec<(&'a str, &'a [u8])> {
    headers.iter().map(|(name, value)| (*name, &value[..])).collect()
}

proptest! {
    #[test]
    fn no_bytes_make_a_format_panic(headers in headers(), body: Vec<u8>) {
        check(&borrowed(&headers), &body)?;
    }

    #[test]
    fn no_text_that_looks_like_json_makes_a_format_panic(
        headers in headers(),
        body in r#"[\[\]{}":,\\u0-9eE+\-. a-f]{0,120}"#,
    ) {
        check(&borrowed(&headers), body.as_bytes())?;
    }

    #[test]
    fn no_change_of_a_sample_makes_a_format_panic(
        headers in headers(),
        sample in prop::sample::select(&BODIES[..]),
        position: prop::sample::Index,
        replacement in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..4),
            prop::sample::select(vec!["null", "7", "{}", "[]", "\"\"", "\"\\ud800\":1,", "\"id\":1,", "\\u0000"])
                .prop_map(|text| text.as_bytes().to_vec()),
        ],
        removed in 0..8_usize,
    ) {
        let mut body = sample.as_bytes().to_vec();
        let start = position.index(body.len());
        let end = (start + removed).min(body.len());
        body.splice(start..end, replacement);
        check(&borrowed(&headers), &body)?;
    }

    #[test]
    fn no_text_makes_a_pointer_panic_and_pointers_read_back(text in "[/~01a-c#é]{0,20}") {
        if let Ok(pointer) = text.parse::<JsonPointer>() {
            prop_assert_eq!(pointer.to_string(), text);
        }
    }
}
