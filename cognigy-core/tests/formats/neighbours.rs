//! Senders around Cognigy: Voice Gateway, Standard Webhooks, Chatwoot.

use cognigy_core::{FormatOptions, testing::sample::start};

use crate::{Headers, MINUTE, id, one, read, source, source_with, told, wrong};

const CALL: &str = r#"{"call_sid":"c-5","direction":"outbound","from":"+4930000011","to":"+4930000022","call_id":"x",
    "sip_status":200,"sip_reason":"OK","call_status":"completed","duration":12,"account_sid":"a-2",
    "customer_data":{"externalId":"C-5005"}}"#;

#[test]
fn a_status_of_a_call_is_an_event_of_the_call() {
    let source = source("voice-gateway");
    let event = one(&source, &[], CALL);
    assert_eq!(told(&event), ("voice.call.completed", Some("C-5005"), Some("c-5")));
    assert_eq!(event.parts.user_id.as_deref(), Some("+4930000022"));
    assert_eq!(event.parts.time.instant(), start());
    let without_tag = CALL.replace(r#"{"externalId":"C-5005"}"#, "\"text\"");
    assert_eq!(told(&one(&source, &[], &without_tag)).1, Some("+4930000022"));
    let inbound = without_tag.replace("outbound", "inbound");
    assert_eq!(told(&one(&source, &[], &inbound)).1, Some("+4930000011"));
    assert_eq!(told(&one(&source, &[], inbound.replace("+4930000011", "anonymous"))).1, None);
    assert_eq!(told(&one(&source, &[], inbound.replace("inbound", "sideways"))).1, None);
    assert_eq!(wrong(&source, &[], "{}"), ["call_sid", "call_status"]);
    assert_eq!(wrong(&source, &[], CALL.replace("\"completed\"", "\"\"")), ["call_status"]);
    assert_eq!(wrong(&source, &[], CALL.replace("\"C-5005\"", "[]")), ["customer_data.externalId"]);
}

#[test]
fn a_repeated_status_is_one_event_within_the_window() {
    let options = || FormatOptions { derived_id_window: MINUTE, ..FormatOptions::default() };
    let source = source_with("voice-gateway", options());
    let first = one(&source, &[], CALL);
    assert_eq!(one(&source, &[], CALL).key, first.key);
    assert_ne!(one(&source, &[], CALL.replace("completed", "failed")).key, first.key);
    assert!(first.earlier.is_some());
}

#[test]
fn an_event_of_a_call_is_taken_in_the_shape_that_cognigy_hands_on() {
    let source = source("voice-gateway");
    let body = format!(r#"{{"event":"CALL_COMPLETED","payload":{CALL},"msgid":"m-1"}}"#);
    let event = one(&source, &[], &body);
    assert_eq!(told(&event), ("voice.call_completed", Some("C-5005"), Some("c-5")));
    assert_eq!((id(&event), event.parts.sensitive), ("m-1", false));
    let derived = one(&source, &[], body.replace(r#","msgid":"m-1""#, ""));
    assert!(id(&derived).starts_with("derived-"));
    assert_eq!(wrong(&source, &[], body.replace("\"call_sid\"", "\"sid\"")), ["payload.call_sid"]);
    assert_eq!(wrong(&source, &[], body.replace("CALL_COMPLETED", "")), ["event"]);
    let invalid = read(&source, &[], body.replace("\"CALL_COMPLETED\"", "7")).unwrap_err();
    assert_eq!(invalid.event_id.as_deref(), Some("m-1"));
    let dialled = body.replace("\"duration\":12", "\"digits\":\"1234\"");
    assert!(one(&source, &[], dialled).parts.sensitive, "digits may be a PIN");
}

const ID: Headers<'_> = &[("Webhook-Id", b"msg_1")];

#[test]
fn the_id_of_a_standard_webhook_is_in_its_header() {
    let source = source("standard-webhooks");
    let body = r#"{"type":"contact.updated","timestamp":"2026-01-05T10:00:00Z","data":{"userId":"u","sessionId":"s","externalId":"C-1"}}"#;
    let event = one(&source, ID, body);
    assert_eq!(
        (id(&event), told(&event)),
        ("msg_1", ("contact.updated", Some("C-1"), Some("u/s")))
    );
    assert_eq!(event.parts.time.as_json(), "\"2026-01-05T10:00:00Z\"");
    assert_eq!(event.context.get("webhook-id"), Some("msg_1"));
    let long = "x".repeat(257);
    let refused: [Headers<'_>; 5] = [
        &[],
        &[("webhook-id", b"")],
        &[("webhook-id", b"a"), ("webhook-id", b"a")],
        &[("webhook-id", long.as_bytes())],
        &[("webhook-id", b"\xff")],
    ];
    for headers in refused {
        assert_eq!(wrong(&source, headers, body), ["webhook-id"]);
    }
}

#[test]
fn a_standard_webhook_may_hold_the_event_of_the_contract_or_little_else_than_a_type() {
    let source = source("standard-webhooks");
    let contract = r#"{"eventId":"e-1","timestamp":1767600000,"type":"USER_INPUT_RECEIVED","payload":{"input":"hi"},"userId":"u"}"#;
    let event = one(&source, ID, contract);
    assert_eq!((id(&event), told(&event)), ("msg_1", ("USER_INPUT_RECEIVED", Some("u"), None)));
    assert_eq!(wrong(&source, ID, contract.replace("input", "text")), ["payload.input"]);
    let transformer = r#"{"event":"MESSAGE_SENT","eventId":"msg_1","timestamp":"2026-01-05T10:00:00Z","sessionId":"s","userId":"u","data":{"text":"hi","payload":null}}"#;
    assert_eq!(told(&one(&source, ID, transformer)), ("MESSAGE_SENT", Some("u"), Some("u/s")));
    for data in ["7", "null", "[]", "\"x\""] {
        let event = one(&source, ID, format!(r#"{{"type":"t","data":{data},"event":{{}}}}"#));
        assert_eq!((told(&event), event.parts.time.instant()), (("t", None, None), start()));
    }
    assert_eq!(wrong(&source, ID, r#"{"data":{}}"#), ["type"]);
    assert_eq!(wrong(&source, ID, r#"{"type":"t","timestamp":"soon"}"#), ["timestamp"]);
    assert_eq!(wrong(&source, ID, r#"{"type":"DIALOG_STARTED"}"#), ["payload"]);
    assert_eq!(wrong(&source, ID, r#"{"type":"t","userId":{}}"#), ["userId"]);
}

const MESSAGE: &str = r#"{"event":"message_created","id":55,"content":"Hi","message_type":"incoming","private":false,
    "created_at":"2026-01-05T10:00:00Z","sender":{"id":8,"name":"B","email":"b@example.test","identifier":"C-8"},
    "conversation":{"id":21,"status":"open","meta":{"sender":{"id":8,"email":"b@example.test"}}},"account":{"id":3}}"#;
const DELIVERY: Headers<'_> = &[("X-Chatwoot-Delivery", b"d-1")];

#[test]
fn a_message_of_chatwoot_belongs_to_its_conversation_and_its_contact() {
    let source = source("chatwoot");
    let event = one(&source, DELIVERY, MESSAGE);
    assert_eq!(
        (id(&event), told(&event)),
        ("d-1", ("chatwoot.message_created", Some("C-8"), Some("3:21")))
    );
    assert_eq!(event.parts.user_id.as_deref(), Some("b@example.test"));
    assert_eq!(event.parts.time.as_json(), "\"2026-01-05T10:00:00Z\"");
    let unix = one(&source, DELIVERY, MESSAGE.replace("\"2026-01-05T10:00:00Z\"", "1767600000"));
    assert_eq!(unix.parts.time.as_json(), "1767600000");
    let no_time = one(&source, DELIVERY, MESSAGE.replace("\"2026-01-05T10:00:00Z\"", "null"));
    assert_eq!(no_time.parts.time.instant(), start());
    assert_eq!(wrong(&source, DELIVERY, MESSAGE.replace("2026-01-05T10", "soon")), ["created_at"]);
    let plain = MESSAGE.replace(r#","identifier":"C-8""#, "");
    assert_eq!(told(&one(&source, DELIVERY, &plain)).1, Some("b@example.test"));
    let id_only = plain.replace(r#""email":"b@example.test""#, r#""email":null"#);
    assert_eq!(told(&one(&source, DELIVERY, id_only)).1, Some("8"));
}

#[test]
fn the_agent_who_writes_a_message_is_not_its_contact() {
    let source = source("chatwoot");
    let outgoing = MESSAGE.replace("incoming", "outgoing").replace("C-8", "agent");
    assert_eq!(told(&one(&source, DELIVERY, outgoing)).1, Some("b@example.test"));
    let by_agent = MESSAGE.replace(r#""name":"B""#, r#""type":"user""#).replace("C-8", "agent");
    assert_eq!(told(&one(&source, DELIVERY, by_agent)).1, Some("b@example.test"));
    let private = MESSAGE.replace("\"private\":false", "\"private\":true");
    assert_eq!(told(&one(&source, DELIVERY, private)).0, "chatwoot.message_created");
}

#[test]
fn events_of_conversations_and_contacts_are_about_themselves() {
    let source = source("chatwoot");
    let conversation = r#"{"event":"conversation_updated","id":21,"created_at":1767600000,"meta":{"sender":{"id":8,"identifier":"C-8"}},"account":{"id":3}}"#;
    assert_eq!(
        told(&one(&source, DELIVERY, conversation)),
        ("chatwoot.conversation_updated", Some("C-8"), Some("3:21"))
    );
    let typing = r#"{"event":"conversation_typing_on","user":{"id":1},"conversation":{"id":21},"account":{"id":3}}"#;
    assert_eq!(told(&one(&source, DELIVERY, typing)).2, Some("3:21"));
    let contact =
        r#"{"event":"contact_updated","id":8,"email":"b@example.test","account":{"id":3}}"#;
    assert_eq!(
        told(&one(&source, DELIVERY, contact)),
        ("chatwoot.contact_updated", Some("b@example.test"), None)
    );
}

#[test]
fn without_a_delivery_id_chatwoot_events_are_told_by_their_version_or_their_body() {
    let source = source("chatwoot");
    let updated = MESSAGE.replacen('{', r#"{"updated_at":1767600000.25,"#, 1);
    assert_eq!(id(&one(&source, &[], &updated)), "3:message_created:55:1767600000.25");
    assert!(id(&one(&source, &[], MESSAGE)).starts_with("derived-"));
    let odd = updated.replace("\"id\":55", "\"id\":\"5:5\"");
    assert!(id(&one(&source, &[], odd)).starts_with("derived-"));
    let refused: [Headers<'_>; 2] = [
        &[("x-chatwoot-delivery", b"a"), ("x-chatwoot-delivery", b"b")],
        &[("x-chatwoot-delivery", b"")],
    ];
    for headers in refused {
        assert_eq!(wrong(&source, headers, MESSAGE), ["x-chatwoot-delivery"]);
    }
    assert_eq!(wrong(&source, DELIVERY, "{}"), ["event"]);
}
