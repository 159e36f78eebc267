//! What is sent: the body, as Standard Webhooks recommends it, and the id.

use chrono::SecondsFormat;
use cognigy_core::{Contact, Event};
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};

#[derive(Serialize)]
struct Message<'a> {
    r#type: &'a str,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    event_id: &'a str,
    source: &'a str,
    contact_key: Option<&'a str>,
    conversation: Option<&'a str>,
    correlation: &'static str,
    contact: Option<&'a Contact>,
    event: Received<'a>,
    run: u32,
    attempt: u32,
}

/// The body of an event as it was received.
struct Received<'a>(&'a [u8]);

impl Serialize for Received<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match serde_json::from_slice::<&RawValue>(self.0) {
            Ok(json) => json.serialize(serializer),
            Err(_) => serializer.serialize_str(&String::from_utf8_lossy(self.0)),
        }
    }
}

/// The body of the message for `event`.
pub(crate) fn body(event: &Event, contact: Option<&Contact>) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec(&Message {
        r#type: event.kind().as_str(),
        timestamp: event.time().instant().to_rfc3339_opts(SecondsFormat::AutoSi, true),
        data: Data {
            event_id: event.id(),
            source: event.key().source.as_str(),
            contact_key: event.contact_key(),
            conversation: event.conversation(),
            correlation: event.correlation().as_str(),
            contact,
            event: Received(event.body()),
            run: event.run(),
            attempt: event.attempt(),
        },
    })
}

/// The id of the message for `event`, the same for all attempts of one run. A digest, because an id must
/// hold no dot, and a header value only ASCII.
pub(crate) fn id(event: &Event) -> String {
    let digest = Sha256::digest(event.idempotency_key());
    format!("msg_{}", base16ct::lower::encode_string(&digest))
}
