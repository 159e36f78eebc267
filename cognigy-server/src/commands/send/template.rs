//! Made-up deliveries.

use cognigy_core::{EventType, FormatPreset};
use serde_json::{Value, json};

/// What was asked for of made-up events.
pub(super) struct Wishes<'a> {
    /// The type; none: the four of the contract in turn.
    pub(super) kind: Option<&'a EventType>,
    pub(super) external_id: Option<&'a str>,
}

/// What a sender of that preset sends.
pub(super) fn made_up(preset: FormatPreset, id: &str, number: u32, wishes: &Wishes<'_>) -> Vec<u8> {
    let user = format!("user-{}", number % 1000);
    let body = match preset {
        FormatPreset::CognigyCallback => json!({
            "userId": user, "sessionId": id,
            "AIOutput": { "text": "How can I help you?", "data": {}, "source": "bot" },
        }),
        FormatPreset::VoiceGateway => json!({
            "call_sid": id, "direction": "inbound", "call_status": "completed",
            "from": format!("+49300000{number:04}"), "to": "+4930999999",
            "customer_data": { "externalId": format!("customer-{}", number % 1000) },
        }),
        FormatPreset::CloudEvents => json!({
            "specversion": "1.0", "type": "sent.made-up", "source": "/cognigy-server/send",
            "id": id, "externalid": format!("customer-{}", number % 1000), "data": {},
        }),
        FormatPreset::Chatwoot => json!({
            "event": "message_created", "id": number, "content": "Hello",
            "message_type": "incoming", "created_at": chrono::Utc::now().to_rfc3339(),
            "sender": { "id": number, "email": format!("{user}@example.test") },
            "conversation": { "id": number }, "account": { "id": 1 },
        }),
        _ => return event(id, number, wishes),
    };
    body.to_string().into_bytes()
}

/// The headers of a preset's deliveries, beside those that authenticate them.
pub(super) fn headers_of(preset: FormatPreset, id: &str) -> Vec<(&'static str, String)> {
    match preset {
        FormatPreset::CloudEvents => {
            vec![("Content-Type", "application/cloudevents+json".to_owned())]
        }
        FormatPreset::Chatwoot => vec![
            ("Content-Type", "application/json".to_owned()),
            ("X-Chatwoot-Delivery", id.to_owned()),
        ],
        _ => vec![("Content-Type", "application/json".to_owned())],
    }
}

/// A valid event. Without a wish, its type depends on `number`.
fn event(id: &str, number: u32, wishes: &Wishes<'_>) -> Vec<u8> {
    let all = &EventType::CONTRACT;
    let kind = wishes.kind.unwrap_or(&all[number as usize % all.len()]);
    let contact =
        wishes.external_id.map_or_else(|| format!("customer-{}", number % 1000), str::to_owned);
    let event = json!({
        "eventId": id,
        "timestamp": chrono::Utc::now().to_rfc3339(),
        "type": kind.as_str(),
        "externalId": contact,
        "userId": format!("user-{number}"),
        "payload": payload(kind),
    });
    event.to_string().into_bytes()
}

/// A payload as such an event has it.
fn payload(kind: &EventType) -> Value {
    match kind {
        EventType::DialogStarted => json!({ "channel": "webchat" }),
        EventType::UserInputReceived => json!({ "input": { "text": "Where is my order?" } }),
        EventType::ProfileUpdated => json!({ "profile": { "language": "en" } }),
        EventType::DialogEnded => json!({ "reason": "completed" }),
        _ => json!({}),
    }
}
