//! CloudEvents in all three modes.

use cognigy_core::{EventType, FormatOptions, MAX_EVENTS, testing::sample::start};

use crate::{Headers, id, one, read, source, source_with, told, verified, wrong};

const STRUCTURED: Headers<'_> = &[("Content-Type", b"Application/CloudEvents+JSON; charset=utf-8")];
const BATCH: Headers<'_> = &[("content-type", b"application/cloudevents-batch+json")];
const EVENT: &str = r#"{"specversion":"1.0","id":"01H","source":"/live-agent","type":"typing_on","subject":"conversation.4",
    "time":"2026-01-05T10:00:00Z","datacontenttype":"application/json","data":{"cognigy_session_id":"s-3","n":1}}"#;

const BINARY: [(&str, &[u8]); 6] = [
    ("CE-SpecVersion", b"1.0"),
    ("ce-id", b"01H"),
    ("ce-source", b"/live-agent"),
    ("ce-type", b"typing_on"),
    ("ce-subject", b"\"conversation \\\"4\\\"\""),
    ("content-type", b"application/json"),
];

#[test]
fn a_structured_event_is_read_whatever_its_media_type_says() {
    let source = source("cloudevents");
    let types: [Headers<'_>; 5] = [
        STRUCTURED,
        &[],
        &[("content-type", b"application/json")],
        &[("content-type", b"text/plain")],
        &[("content-type", b"application/cloudevents")],
    ];
    for headers in types {
        let event = one(&source, headers, EVENT);
        assert_eq!(
            (id(&event), told(&event)),
            ("/live-agent|01H", ("typing_on", None, Some("s-3")))
        );
        assert_eq!(event.parts.time.as_json(), "\"2026-01-05T10:00:00Z\"");
    }
    let plain = EVENT
        .replace("cognigy_session_id", "other")
        .replace(r#""time":"2026-01-05T10:00:00Z","#, "");
    let event = one(
        &source,
        STRUCTURED,
        plain.replacen('{', r#"{"externalid":"C-1","userid":7,"data_base64":null,"#, 1),
    );
    assert_eq!(told(&event), ("typing_on", Some("C-1"), Some("conversation.4")));
    assert_eq!((event.parts.user_id.as_deref(), event.parts.time.instant()), (Some("7"), start()));
}

#[test]
fn an_event_needs_its_attributes() {
    let source = source("cloudevents");
    assert_eq!(wrong(&source, STRUCTURED, "{}"), ["specversion", "source", "id", "type"]);
    for (from, to, field) in [
        ("\"1.0\"", "\"0.3\"", "specversion"),
        ("\"1.0\"", "1.0", "specversion"),
        ("\"01H\"", "\"\"", "id"),
        ("\"01H\"", "7", "id"),
        ("\"01H\"", "\"a\\u0007\"", "id"),
        ("\"/live-agent\"", "null", "source"),
        ("\"typing_on\"", "[]", "type"),
        ("\"2026-01-05T10:00:00Z\"", "\"soon\"", "time"),
        ("\"conversation.4\"", "4", "subject"),
    ] {
        assert_eq!(wrong(&source, STRUCTURED, EVENT.replace(from, to)), [field], "{to}");
    }
    let both = EVENT.replacen('{', r#"{"data_base64":"AA==","#, 1);
    assert_eq!(wrong(&source, STRUCTURED, both), ["data_base64"]);
    let base64 = EVENT.replace("\"data\"", "\"data_base64\"");
    assert_eq!(wrong(&source, STRUCTURED, base64), ["data_base64"]);
}

#[test]
fn the_same_id_of_two_sources_is_two_events() {
    let source = source("cloudevents");
    let of = |from: &str, id: &str| {
        let event =
            serde_json::json!({"specversion": "1.0", "type": "t", "source": from, "id": id});
        one(&source, STRUCTURED, event.to_string()).key.id
    };
    assert_ne!(of("/a", "1"), of("/b", "1"));
    assert_ne!(of("/a", "|1"), of("/a|", "1"));
    let long = "s".repeat(2000);
    assert_ne!(of(&long, "1"), of(&long, "2"));
    assert_eq!(of(&long, "1"), of(&long, "1"));
}

#[test]
fn an_unknown_event_format_is_unsupported() {
    let source = source("cloudevents");
    for media_type in [
        "application/cloudevents+avro",
        "application/CloudEvents-Batch+avro; x=y",
        "application/cloudeventsjson",
    ] {
        let headers = [("content-type", media_type.as_bytes())];
        let invalid = read(&source, &headers, EVENT).unwrap_err();
        assert!(invalid.unsupported, "{media_type}");
    }
    let twice: Headers<'_> = &[("content-type", b"a/b"), ("content-type", b"a/b")];
    assert_eq!(wrong(&source, twice, EVENT), ["content-type"]);
}

#[test]
fn the_attributes_of_a_binary_event_are_in_its_headers() {
    let source = source("cloudevents");
    let event = one(&source, &BINARY, r#"{"n":1}"#);
    assert_eq!(
        (id(&event), told(&event)),
        ("/live-agent|01H", ("typing_on", None, Some("conversation \"4\"")))
    );
    assert_eq!(event.context.iter().count(), 6);
    assert_eq!(told(&one(&source, &BINARY, r#"{"cognigy_session_id":"s"}"#)).2, Some("s"));
    one(&source, &BINARY, "[1]");
    one(&source, &BINARY[..5], "{}");
    let with = |name: &'static str, value: &'static [u8]| {
        let mut headers = BINARY.to_vec();
        headers.retain(|(known, _)| *known != name);
        headers.push((name, value));
        headers
    };
    let quoted = one(&source, &with("ce-id", b"\"%2541 \\\\\""), "{}");
    assert_eq!(
        id(&quoted),
        "/live-agent|%41 \\",
        "percent-encoding is undone once, after the quotes"
    );
    assert_eq!(id(&one(&source, &with("ce-id", "é%C3%A9".as_bytes()), "{}")), "/live-agent|éé");
    for value in [&b"%C0%A0"[..], b"\xff", b"%", b"%4x", b"\"open", b"%00", b"", b"a%0A"] {
        assert_eq!(wrong(&source, &with("ce-id", value), "{}"), ["ce-id"], "{value:?}");
    }
    assert_eq!(wrong(&source, &with("ce-any", b"%C0%A0"), "{}"), ["ce-any"]);
    let mut twice = BINARY.to_vec();
    twice.push(("Ce-Type", b"typing_on"));
    assert_eq!(wrong(&source, &twice, "{}"), ["ce-type"]);
    assert_eq!(wrong(&source, &BINARY[2..], "{}"), ["ce-specversion", "ce-id"]);
    for data in ["", "text", "<xml/>"] {
        assert_eq!(wrong(&source, &BINARY, data), ["body"], "{data}");
    }
}

#[test]
fn a_media_type_of_cloud_events_comes_before_attributes_in_headers() {
    let source = source("cloudevents");
    let mut headers = BINARY.to_vec();
    headers[5] = STRUCTURED[0];
    let event = one(&source, &headers, EVENT.replace("01H", "02H"));
    assert_eq!(id(&event), "/live-agent|02H");
}

#[test]
fn each_event_of_a_batch_has_its_own_part_of_the_body() {
    let source = source("cloudevents");
    let second = EVENT.replace("01H", "02H").replace("s-3", "s-4");
    let body = format!("\n[ {EVENT} ,\n{second}]\n");
    let batched: [Headers<'_>; 3] = [BATCH, &[], &[("content-type", b"application/json")]];
    for headers in batched {
        let events = read(&source, headers, &body).unwrap();
        let bodies: Vec<_> = events.iter().map(|event| &event.body[..]).collect();
        assert_eq!(bodies, [EVENT.as_bytes(), second.as_bytes()]);
        assert_eq!((id(&events[1]), told(&events[1]).2), ("/live-agent|02H", Some("s-4")));
    }
    for empty in ["[]", " [ ] "] {
        assert_eq!(read(&source, BATCH, empty).unwrap().len(), 0);
        assert_eq!(wrong(&source, &[], empty), ["body"], "without a media type it may be anything");
    }
    assert_eq!(wrong(&source, STRUCTURED, &body), ["body"], "one event is no array");
    // An event of a batch that comes back by itself.
    assert_eq!(id(&one(&source, BATCH, EVENT)), "/live-agent|01H");
}

#[test]
fn one_bad_event_refuses_the_batch_and_is_named_by_its_index() {
    let source = source("cloudevents");
    let bad = EVENT.replace("\"typing_on\"", "7");
    let invalid = read(&source, BATCH, format!("[{EVENT},{EVENT},{bad}]")).unwrap_err();
    assert_eq!((invalid.errors[0].field.as_str(), invalid.event_id), ("body[2].type", None));
    assert_eq!(wrong(&source, BATCH, format!("[{EVENT},7]")), ["body[1]"]);
    assert_eq!(wrong(&source, BATCH, format!("[{EVENT},[]]")), ["body[1]"]);
    let twice = EVENT.replacen('{', r#"{"id":"01H","#, 1);
    assert_eq!(wrong(&source, BATCH, format!("[{twice}]")), ["body[0].id"]);
    assert_eq!(wrong(&source, BATCH, format!("[{EVENT}")), ["body"]);
    let many = format!("[{}7]", "7,".repeat(MAX_EVENTS));
    assert_eq!(wrong(&source, BATCH, many), ["body"]);
}

#[test]
fn pointers_find_the_same_in_each_mode() {
    let pointer = |text: &str| Some(text.parse().unwrap());
    let options = FormatOptions {
        id_pointer: pointer("/data/n"),
        contact_pointer: pointer("/subject"),
        conversation_pointer: pointer("/data/list/1"),
        event_type: Some(EventType::from_name("mine")),
        ..FormatOptions::default()
    };
    let source = source_with("cloudevents", options);
    let structured = EVENT.replace("\"n\":1", "\"n\":1,\"list\":[0,\"l\"]");
    let event = one(&source, STRUCTURED, &structured);
    assert_eq!((id(&event), told(&event)), ("1", ("mine", Some("conversation.4"), Some("l"))));
    let data = r#"{"n":1,"list":[0,"l"]}"#;
    let event = one(&source, &BINARY, data);
    assert_eq!((id(&event), told(&event)), ("1", ("mine", Some("conversation \"4\""), Some("l"))));
    assert_eq!(wrong(&source, &BINARY, r#"{"n":[]}"#), ["/data/n"]);
    let batch = format!("[{structured},{}]", structured.replace("\"n\":1", "\"n\":{}"));
    assert_eq!(wrong(&source, BATCH, batch), ["body[1]/data/n"]);
    // Without the prefix, a pointer finds a member of the body.
    let id_pointer = pointer("/customer/id");
    let source =
        source_with("cloudevents", FormatOptions { id_pointer, ..FormatOptions::default() });
    assert_eq!(id(&one(&source, &BINARY, r#"{"customer":{"id":"c"}}"#)), "c");
    assert_eq!(wrong(&source, &BINARY, "{}"), ["/customer/id"]);
}

#[test]
fn attributes_are_kept_for_later_readings() {
    let source = source("cloudevents");
    let delivery = verified(&source, &BINARY, b"{}");
    let again = source.read(&delivery).unwrap();
    assert_eq!(again[0].parts, source.read(&delivery).unwrap()[0].parts);
    assert_eq!(delivery.context().get("ce-id"), Some("01H"));
}
