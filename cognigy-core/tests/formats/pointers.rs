//! Pointers and constants that replace parts of a preset, and the format that has nothing else.

use cognigy_core::{EventType, FormatOptions, FormatPreset, JsonPointer, testing::sample::start};

use crate::{Headers, MINUTE, id, one, read, source, source_with, told, wrong};

fn pointer(text: &str) -> Option<JsonPointer> {
    Some(text.parse().unwrap())
}

/// The options of a source whose orders say everything.
fn order() -> FormatOptions {
    FormatOptions {
        id_pointer: pointer("/order/id"),
        type_pointer: pointer("/kind"),
        time_pointer: pointer("/order/at"),
        contact_pointer: pointer("/order/customers/0"),
        conversation_pointer: pointer("/session"),
        ..FormatOptions::default()
    }
}

const ORDER: &str = r#"{"kind":"order.placed","order":{"id":12345678901234567890,"at":1767600000,"customers":["c-1"]},"session":4.50}"#;

#[test]
fn any_json_is_an_event() {
    let source = source("json");
    for body in ["{}", "[1,2]", "\"x\"", "7", "null", r#" {"eventId":7} "#] {
        let event = one(&source, &[], body);
        assert_eq!((told(&event), event.parts.time.instant()), (("json", None, None), start()));
        assert!(id(&event).starts_with("derived-"));
    }
    let event_type = Some(EventType::from_name("llm.log"));
    let options =
        FormatOptions { event_type, derived_id_window: MINUTE, ..FormatOptions::default() };
    let source = source_with("json", options);
    let event = one(&source, &[], "{}");
    assert_eq!(event.key, one(&source, &[], "{}").key);
    assert_ne!(event.key, one(&source, &[], "{} ").key);
    assert_eq!(told(&event).0, "llm.log");
}

#[test]
fn fields_are_where_pointers_say() {
    let event = one(&source_with("json", order()), &[], ORDER);
    assert_eq!(id(&event), "12345678901234567890", "a number is taken as it is written");
    assert_eq!(told(&event), ("order.placed", Some("c-1"), Some("4.50")));
    assert_eq!(event.parts.time.as_json(), "1767600000");
    let id_pointer = pointer("");
    let whole = source_with("json", FormatOptions { id_pointer, ..FormatOptions::default() });
    assert_eq!(id(&one(&whole, &[], " \"e-1\" ")), "e-1");
    assert_eq!(wrong(&whole, &[], "{}"), ["body"]);
}

#[test]
fn a_pointer_that_finds_something_else_is_named() {
    let source = source_with("json", order());
    let long = format!("\"{}\"", "x".repeat(257));
    for (from, to, field) in [
        ("12345678901234567890", "{}", "/order/id"),
        ("12345678901234567890", "\"\"", "/order/id"),
        ("12345678901234567890", "true", "/order/id"),
        ("12345678901234567890", "null", "/order/id"),
        ("12345678901234567890", "\"a\\u0000\"", "/order/id"),
        ("12345678901234567890", "\"\\ud800\"", "/order/id"),
        ("12345678901234567890", &long, "/order/id"),
        ("12345678901234567890", "1,\"id\":1", "/order/id"),
        ("\"id\"", "\"no\"", "/order/id"),
        ("\"order.placed\"", "7", "/kind"),
        ("\"order.placed\"", "\"\"", "/kind"),
        ("\"order.placed\"", &long, "/kind"),
        ("1767600000", "\"soon\"", "/order/at"),
        ("1767600000", "[]", "/order/at"),
        ("\"c-1\"", "{}", "/order/customers/0"),
        ("4.50", "[]", "/session"),
        ("4.50", "false", "/session"),
    ] {
        assert_eq!(wrong(&source, &[], ORDER.replace(from, to)), [field], "{to}");
    }
    let message = read(&source, &[], ORDER.replace("\"id\"", "\"no\"")).unwrap_err().to_string();
    assert_eq!(message, "Payload validation failed: /order/id finds no value");
}

#[test]
fn where_a_pointer_finds_nothing_the_preset_has_the_word() {
    let source = source_with("json", order());
    for (from, to) in [("\"c-1\"", ""), ("\"c-1\"", "\"\""), ("\"c-1\"", "null")] {
        assert_eq!(told(&one(&source, &[], ORDER.replace(from, to))).1, None, "{to}");
    }
    let event = one(&source, &[], r#"{"order":{"id":"a"}}"#);
    assert_eq!((told(&event), event.parts.time.instant()), (("json", None, None), start()));
    let event_type = Some(EventType::from_name("constant"));
    let source = source_with("json", FormatOptions { event_type, ..order() });
    assert_eq!(told(&one(&source, &[], r#"{"order":{"id":"a"}}"#)).0, "constant");
    assert_eq!(told(&one(&source, &[], ORDER)).0, "order.placed", "a pointer comes first");
}

#[test]
fn pointers_replace_parts_of_every_preset() {
    // A body that is an event in each of them, by its own fields or by pointers.
    let body = r#"{"eventId":"own","timestamp":0,"type":"DIALOG_STARTED","payload":{},"userId":"own","sessionId":"own",
        "call_sid":"own","call_status":"own","direction":"inbound","from":"+49300","event":"DIALOG_STARTED",
        "data":{},"specversion":"1.0","id":"own","source":"own","account":{"id":1},"created_at":0,
        "mine":{"id":"m-1","kind":"m","at":5,"contact":"m-c","conversation":"m-s"}}"#;
    let headers: Headers<'_> = &[("webhook-id", b"own"), ("x-chatwoot-delivery", b"own")];
    let options = || FormatOptions {
        id_pointer: pointer("/mine/id"),
        type_pointer: pointer("/mine/kind"),
        time_pointer: pointer("/mine/at"),
        contact_pointer: pointer("/mine/contact"),
        conversation_pointer: pointer("/mine/conversation"),
        ..FormatOptions::default()
    };
    for preset in FormatPreset::NAMES {
        let source = source_with(preset, options());
        let event = one(&source, headers, body);
        assert_eq!(
            (id(&event), told(&event)),
            ("m-1", ("m", Some("m-c"), Some("m-s"))),
            "{preset}"
        );
        assert_eq!(event.parts.time.as_json(), "5", "{preset}");
        let fields = wrong(
            &source,
            headers,
            body.replace(r#""id":"m-1","kind":"m""#, r#""id":[],"kind":[]"#),
        );
        assert_eq!(fields, ["/mine/id", "/mine/kind"], "{preset}");
        let without = body.replace("\"mine\"", "\"yours\"");
        assert_eq!(wrong(&source, headers, &without), ["/mine/id"], "{preset}");
        let own = source_with(preset, FormatOptions { id_pointer: None, ..options() });
        let event = one(&own, headers, without);
        assert_ne!(told(&event).0, "m", "{preset}");
        let bare = self::source(preset);
        assert_eq!(told(&one(&bare, headers, body)), told(&event), "{preset}");
    }
}

#[test]
fn with_pointers_a_callback_needs_nothing_of_its_own() {
    let options = FormatOptions {
        contact_pointer: pointer("/customer"),
        conversation_pointer: pointer("/thread"),
        ..FormatOptions::default()
    };
    let source = source_with("cognigy-callback", options);
    let event = one(&source, &[], r#"{"customer":"c","thread":"t"}"#);
    assert_eq!(told(&event), ("cognigy.bot.output", Some("c"), Some("t")));
    assert_eq!(wrong(&source, &[], r#"{"customer":"c"}"#), ["userId", "sessionId"]);
    assert_eq!(wrong(&source, &[], r#"{"thread":"t"}"#), ["userId"]);
}
