//! What Cognigy sends: callbacks of the Webhook Endpoint, and requests of the HTTP Request node.

use cognigy_core::{EventType, FormatOptions, testing::sample::start};

use crate::{id, one, read, source, source_with, told, wrong};

const CALLBACK: &str = r#"{"userId":"u-9","sessionId":"s-3","AIOutput":{"text":"Good day","data":{},
    "traceId":"endpoint-httpIncomingMessage-77","disableSensitiveLogging":false,"source":"bot"}}"#;

#[test]
fn a_callback_is_an_output_of_a_session() {
    let source = source("cognigy-callback");
    let event = one(&source, &[], CALLBACK);
    assert_eq!(told(&event), ("cognigy.bot.output", Some("u-9"), Some("u-9/s-3")));
    assert_eq!((event.parts.external_id, event.parts.user_id.as_deref()), (None, Some("u-9")));
    assert_eq!(event.parts.time.instant(), start(), "the time of receipt");
    assert!(!event.parts.sensitive);
    // Two outputs of one turn can be alike, byte for byte.
    assert_ne!(one(&source, &[], CALLBACK).key.id, one(&source, &[], CALLBACK).key.id);
}

#[test]
fn a_callback_needs_user_and_session_and_nothing_else() {
    let source = source("cognigy-callback");
    assert_eq!(wrong(&source, &[], "{}"), ["userId", "sessionId"]);
    assert_eq!(wrong(&source, &[], r#"{"userId":"","sessionId":{}}"#), ["userId", "sessionId"]);
    assert_eq!(wrong(&source, &[], r#"{"userId":null,"sessionId":"s"}"#), ["userId"]);
    for output in ["null", "[1]", "\"text\"", "{}", r#"{"data":{"_cognigy":7}}"#] {
        let body = format!(r#"{{"userId":4915,"sessionId":"s","AIOutput":{output}}}"#);
        assert_eq!(
            told(&one(&source, &[], &body)),
            ("cognigy.bot.output", Some("4915"), Some("4915/s"))
        );
    }
    one(&source, &[], r#"{"userId":"u","sessionId":"s"}"#);
}

#[test]
fn the_name_of_an_activity_is_its_type() {
    let source = source("cognigy-callback");
    let with = |name: &str| {
        CALLBACK.replace(
            r#""data":{}"#,
            &format!(r#""data":{{"_cognigy":{{"event":{{"type":{name}}}}}}}"#),
        )
    };
    assert_eq!(told(&one(&source, &[], with("\"typing\""))).0, "cognigy.activity.typing");
    for name in ["7", "null", "\"\"", "\"a\\n\"", "\"\\ud800\""] {
        assert_eq!(told(&one(&source, &[], with(name))).0, "cognigy.bot.output", "{name}");
    }
}

#[test]
fn a_callback_that_must_not_be_logged_is_sensitive() {
    let source = source("cognigy-callback");
    let with = |value: &str| CALLBACK.replace("\"disableSensitiveLogging\":false", value);
    for value in [
        r#""disableSensitiveLogging":true"#,
        r#""disableSensitiveLogging":"true""#,
        r#""disableSensitiveLogging":1"#,
        r#""disableSensitiveLogging":true,"disableSensitiveLogging":false"#,
    ] {
        assert!(one(&source, &[], with(value)).parts.sensitive, "{value}");
    }
    for value in [r#""disableSensitiveLogging":null"#, r#""other":true"#] {
        assert!(!one(&source, &[], with(value)).parts.sensitive, "{value}");
    }
    let flat = r#"{"userId":"u","sessionId":"s","disableSensitiveLogging":true}"#;
    assert!(one(&source, &[], flat).parts.sensitive, "a transformer may leave AIOutput out");
    // Nothing is guessed about an object that cannot be read.
    let unreadable = with(r#""disableSensitiveLogging":true,"\ud800":1"#);
    assert_eq!(wrong(&source, &[], unreadable), ["AIOutput"]);
}

#[test]
fn no_two_sessions_have_the_same_conversation() {
    let source = source("cognigy-callback");
    let of = |user: &str, session: &str| {
        let body = serde_json::json!({ "userId": user, "sessionId": session }).to_string();
        one(&source, &[], body).parts.conversation.unwrap()
    };
    let pairs = [("a/b", "c"), ("a", "b/c"), ("a%2Fb", "c"), ("a", "c"), ("c", "a"), ("\0", "c")];
    let all: std::collections::HashSet<_> = pairs.iter().map(|(user, it)| of(user, it)).collect();
    assert_eq!(all.len(), pairs.len(), "{all:?}");
    assert!(all.iter().all(|name| !name.contains(char::is_control)), "{all:?}");
    assert_ne!(of(&"u".repeat(5000), "1"), of(&"u".repeat(5000), "2"));
    assert!(of(&"u".repeat(5000), "1").len() < 100);
}

const NODE: &str = r#"{"event":"DIALOG_STARTED","eventId":"i-1:start","timestamp":"2026-01-05T10:00:00.000Z",
    "sessionId":"s-3","userId":"u-9","data":{"channel":"web","endpoint":"e-1"}}"#;

#[test]
fn a_request_of_the_http_node_is_the_event_of_the_contract() {
    let source = source("cognigy-http-node");
    let event = one(&source, &[("content-type", b"application/x-www-form-urlencoded")], NODE);
    assert_eq!((id(&event), &event.parts.kind), ("i-1:start", &EventType::DialogStarted));
    assert_eq!(told(&event), ("DIALOG_STARTED", Some("u-9"), Some("u-9/s-3")));
    assert_eq!(event.parts.time.as_json(), "\"2026-01-05T10:00:00.000Z\"");
    for (from, to) in [
        ("\"event\"", "\"type\""),
        ("\"data\"", "\"payload\""),
        ("\"eventId\"", "\"event_id\""),
        ("\"userId\"", "\"user_id\""),
        ("\"sessionId\"", "\"session_id\""),
        ("\"timestamp\"", "\"time\""),
    ] {
        let same = one(&source, &[], NODE.replace(from, to));
        assert_eq!((id(&same), told(&same)), (id(&event), told(&event)), "{to}");
    }
}

#[test]
fn types_of_the_http_node_are_open_and_the_four_keep_their_rules() {
    let source = source("cognigy-http-node");
    let open = NODE.replace("DIALOG_STARTED", "ORDER_PLACED");
    assert_eq!(told(&one(&source, &[], &open)).0, "ORDER_PLACED");
    let without = r#"{"event":"PING","eventId":"1","timestamp":1767600000}"#;
    assert_eq!(told(&one(&source, &[], without)), ("PING", None, None));
    assert_eq!(wrong(&source, &[], without.replace("PING", "DIALOG_ENDED")), ["payload"]);
    assert_eq!(
        wrong(&source, &[], NODE.replace("DIALOG_STARTED", "PROFILE_UPDATED")),
        ["data.profile"]
    );
    assert_eq!(
        wrong(&source, &[], open.replace(r#"{"channel":"web","endpoint":"e-1"}"#, "[]")),
        ["data"]
    );
    assert_eq!(wrong(&source, &[], "{}"), ["eventId", "timestamp", "type"]);
    assert_eq!(wrong(&source, &[], NODE.replace("DIALOG_STARTED", "")), ["event"]);
    assert_eq!(wrong(&source, &[], NODE.replace("\"i-1:start\"", "7")), ["eventId"]);
}

#[test]
fn two_spellings_of_a_field_have_to_agree() {
    let source = source("cognigy-http-node");
    let with = |more: &str| NODE.replacen('{', &format!("{{{more},"), 1);
    one(&source, &[], with(r#""type":"DIALOG_STARTED""#));
    one(&source, &[], with(r#""payload":{"endpoint":"e-1", "channel":"web"}"#));
    one(&source, &[], with(r#""type":null"#));
    assert_eq!(wrong(&source, &[], with(r#""type":"DIALOG_ENDED""#)), ["event"]);
    assert_eq!(wrong(&source, &[], with(r#""payload":{}"#)), ["data"]);
    assert_eq!(wrong(&source, &[], with(r#""event_id":"i-2""#)), ["event_id"]);
    let message = read(&source, &[], with(r#""type":"marked""#)).unwrap_err().to_string();
    assert!(
        message.contains("event differs from `type`") && !message.contains("marked"),
        "{message}"
    );
}

#[test]
fn the_contact_of_the_http_node_is_looked_for_in_its_data_too() {
    let source = source("cognigy-http-node");
    let inside = NODE.replace(r#""channel":"web""#, r#""externalId":"C-7""#);
    assert_eq!(told(&one(&source, &[], &inside)).1, Some("C-7"));
    let outside = inside.replacen('{', r#"{"externalId":"C-1","#, 1);
    assert_eq!(told(&one(&source, &[], outside)).1, Some("C-1"));
    let empty = inside.replacen('{', r#"{"externalId":"","#, 1);
    assert_eq!(told(&one(&source, &[], empty)).1, Some("C-7"));
    let number = inside.replace("\"C-7\"", "1007");
    assert_eq!(told(&one(&source, &[], number)).1, Some("1007"));
    let nobody = inside.replace("\"C-7\"", "\"\"");
    assert_eq!(told(&one(&source, &[], nobody)).1, Some("u-9"));
    assert_eq!(wrong(&source, &[], inside.replace("\"C-7\"", "{}")), ["data.externalId"]);
    let twice = inside.replace(r#""externalId":"C-7""#, r#""externalId":"C-7","externalId":"C-8""#);
    assert_eq!(wrong(&source, &[], twice), ["data.externalId"]);
    let alone = NODE.replace(r#""userId":"u-9","#, "");
    assert_eq!(told(&one(&source, &[], alone)), ("DIALOG_STARTED", None, Some("/s-3")));
}

#[test]
fn the_native_format_takes_its_four_types_with_or_without_pointers() {
    let native = source("native");
    let body = r#"{"eventId":"e1","timestamp":0,"type":"DIALOG_STARTED","payload":{"at":5,"who":"c"},"userId":"u"}"#;
    assert_eq!(told(&one(&native, &[], body)), ("DIALOG_STARTED", Some("u"), None));
    let pointer = |text: &str| Some(text.parse().unwrap());
    let contact_pointer = pointer("/payload/who");
    let pointed =
        source_with("native", FormatOptions { contact_pointer, ..FormatOptions::default() });
    assert_eq!(told(&one(&pointed, &[], body)), ("DIALOG_STARTED", Some("c"), None));
    for source in [&native, &pointed] {
        assert_eq!(wrong(source, &[], body.replace("DIALOG_STARTED", "OTHER")), ["type"]);
        assert_eq!(
            wrong(source, &[], body.replace("DIALOG_STARTED", "USER_INPUT_RECEIVED")),
            ["payload.input"]
        );
        assert_eq!(wrong(source, &[], body.replace("payload", "data")), ["payload"]);
        assert_eq!(wrong(source, &[], body.replace("\"u\"", "1")), ["userId"]);
    }
    let time_pointer = pointer("/payload/at");
    let options = FormatOptions {
        time_pointer,
        event_type: Some(EventType::from_name("OTHER")),
        ..FormatOptions::default()
    };
    let event = one(&source_with("native", options), &[], body);
    assert_eq!((told(&event).0, event.parts.time.as_json()), ("OTHER", "5"));
}
