//! What the tests of this crate share: events, a secret, and a check of signatures that does not use the
//! crate's own code.
#![allow(dead_code, clippy::unwrap_used)]

#[path = "../../../cognigy-http/tests/stand_in/mod.rs"]
pub(crate) mod stand_in;

use std::time::{SystemTime, UNIX_EPOCH};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use cognigy_core::{Contact, Event, testing::sample};
use cognigy_handler_http::{ForwardHandler, ForwardHandlerBuilder};
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;
use sha2::Sha256;

use stand_in::{Seen, StandIn};

/// 32 bytes that make a marked text in base64.
pub(crate) const SECRET: &str = "whsec_secretmarker1secretmarker1secretmarker1seAA=";

pub(crate) fn builder(url: &str) -> ForwardHandlerBuilder {
    ForwardHandler::builder(url).secret(SECRET)
}

pub(crate) fn handler(server: &StandIn) -> ForwardHandler {
    builder(&server.url()).build().unwrap()
}

/// The event in `body`, in its first run or a replay.
pub(crate) fn event_in(body: impl Into<Bytes>, run: u32) -> Event {
    let incoming = sample::incoming(body);
    Event::restore(incoming.key, incoming.parts, incoming.body, sample::start(), run)
}

pub(crate) fn event(id: &str) -> Event {
    event_in(sample::body(id), 1)
}

pub(crate) fn contact(json: &str) -> Option<Contact> {
    Some(Contact::from_json(json).unwrap())
}

pub(crate) fn read(seen: &Seen) -> Value {
    serde_json::from_slice(&seen.body).unwrap()
}

/// Computes the signature anew, from what arrived.
pub(crate) fn assert_signed(seen: &Seen) {
    let header = |name| seen.header(name).unwrap();
    let key = STANDARD.decode(SECRET.strip_prefix("whsec_").unwrap()).unwrap();
    let mut mac = Hmac::<Sha256>::new_from_slice(&key).unwrap();
    let (id, timestamp) = (header("webhook-id"), header("webhook-timestamp"));
    mac.update(&[id.as_bytes(), b".", timestamp.as_bytes(), b".", &seen.body].concat());
    let expected = STANDARD.encode(mac.finalize().into_bytes());
    assert_eq!(header("webhook-signature"), format!("v1,{expected}"));
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    assert!(now.abs_diff(timestamp.parse().unwrap()) < 60, "{timestamp}");
}
