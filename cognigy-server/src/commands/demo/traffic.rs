//! The sender: signed events over HTTP, some of them faulty on purpose.

use std::{net::SocketAddr, time::Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use cognigy_core::{Secret, SignatureScheme, sign};
use cognigy_http::{TransportError, read_bounded};
use futures_util::{StreamExt, stream};
use serde_json::{Value, json};

use super::{CALLBACK_SECRET, CLOUD_SECRET, SECRET, TOKEN};
use crate::{
    commands::send::{TIMEOUT, client},
    error::StartError,
};

/// Requests in flight.
const CONCURRENCY: usize = 64;
/// One in so many events is from a contact of the given kind.
const STRANGER_EVERY: u32 = 10;
const SHAKY_EVERY: u32 = 15;
const DOWN_EVERY: u32 = 50;
/// One in so many events is delivered twice.
const DUPLICATE_EVERY: u32 = 8;
/// For one in so many events, the id comes again with other content.
const CONFLICT_EVERY: u32 = 60;
/// Deliveries with a forged signature.
const FORGED: u32 = 3;
/// Deliveries that are signed but are not valid events.
const INVALID: u32 = 5;

/// Callbacks of a Webhook Endpoint.
const CALLBACKS: u32 = 40;
/// Batches of CloudEvents, and how many events each holds.
const BATCHES: u32 = 4;
const BATCH: u32 = 25;

/// What was sent, and what was answered.
#[derive(Debug, Default)]
pub(super) struct Sent {
    pub(super) new: u32,
    pub(super) duplicates: u32,
    pub(super) conflicts: u32,
    pub(super) forged: u32,
    pub(super) invalid: u32,
    /// New events by the kind of their contact.
    pub(super) strangers: u32,
    pub(super) shaky: u32,
    pub(super) down: u32,
    /// Callbacks of a Webhook Endpoint, each an event of its own.
    pub(super) callbacks: u32,
    /// Batches of CloudEvents, and the events in them.
    pub(super) batches: u32,
    pub(super) cloud_events: u32,
    /// Answers that differ from the expected ones.
    pub(super) surprises: Vec<String>,
    pub(super) seconds: f64,
}

impl Sent {
    pub(super) fn total(&self) -> u32 {
        self.new
            + self.duplicates
            + self.conflicts
            + self.forged
            + self.invalid
            + self.callbacks
            + self.batches
    }

    /// Events of all senders.
    pub(super) fn events(&self) -> u32 {
        self.new + self.callbacks + self.cloud_events
    }
}

struct Delivery {
    path: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
    expected: (u16, Value),
}

const NATIVE_PATH: &str = "/webhooks/cognigy";
const CALLBACK_PATH: &str = "/webhooks/cognigy/callback";
const CLOUD_PATH: &str = "/webhooks/cognigy/cloud";

/// Posts deliveries, and calls the operator API.
pub(super) struct Sender {
    client: reqwest::Client,
    base: String,
    secret: Secret,
}

impl Sender {
    pub(super) fn new(address: SocketAddr) -> Result<Self, StartError> {
        let base = format!("http://{address}");
        let client = client(&base, false, TIMEOUT)?;
        let secret = Secret::new(SECRET).map_err(|error| StartError::failed("secret", &error))?;
        Ok(Self { client, base, secret })
    }

    /// Posts `count` events, then the duplicates and conflicts of some of them.
    pub(super) async fn send_all(&self, count: u32) -> Result<Sent, StartError> {
        let mut sent = Sent { forged: FORGED, invalid: INVALID, ..Sent::default() };
        let mut first = Vec::new();
        let mut second = Vec::new();
        for number in 0..count {
            let contact = if number % DOWN_EVERY == 1 {
                sent.down += 1;
                format!("down-{number}")
            } else if number % SHAKY_EVERY == 2 {
                sent.shaky += 1;
                format!("shaky-{number}")
            } else if number % STRANGER_EVERY == 3 {
                sent.strangers += 1;
                format!("stranger-{number}")
            } else {
                format!("customer-{number}")
            };
            let body = event(number, &contact, "first");
            sent.new += 1;
            if number % DUPLICATE_EVERY == 0 {
                sent.duplicates += 1;
                let answer = json!({ "status": "accepted", "duplicate": true });
                second.push(self.signed(body.clone(), 200, answer));
            }
            if number % CONFLICT_EVERY == 0 {
                sent.conflicts += 1;
                let answer = json!({ "status": "accepted", "duplicate": true, "conflict": true });
                second.push(self.signed(event(number, &contact, "other"), 200, answer));
            }
            first.push(self.signed(body, 200, json!({ "status": "accepted" })));
        }
        for number in 0..FORGED {
            let body = event(count + number, "customer-0", "forged");
            let expected = (401, json!("Invalid HMAC signature"));
            let headers = vec![("X-Cognigy-Signature", "Zm9yZ2Vk".to_owned())];
            first.push(Delivery { path: NATIVE_PATH, headers, body, expected });
        }
        for number in 0..INVALID {
            let body = json!({
                "eventId": format!("invalid-{number}"), "timestamp": "2026-01-01T00:00:00Z",
                "type": "PROFILE_UPDATED", "payload": {},
            });
            let detail =
                "Payload validation failed: payload.profile is required for this type of event";
            first.push(self.signed(body.to_string().into_bytes(), 400, json!(detail)));
        }
        first.extend(callbacks(&mut sent));
        first.extend(batches(&mut sent));
        let started = Instant::now();
        self.post_all(first, &mut sent).await;
        self.post_all(second, &mut sent).await;
        sent.seconds = started.elapsed().as_secs_f64();
        Ok(sent)
    }

    fn signed(&self, body: Vec<u8>, status: u16, answer: Value) -> Delivery {
        let signature = sign(&self.secret, SignatureScheme::Base64, &body);
        let headers = vec![("X-Cognigy-Signature", signature)];
        Delivery { path: NATIVE_PATH, headers, body, expected: (status, answer) }
    }

    async fn post_all(&self, deliveries: Vec<Delivery>, sent: &mut Sent) {
        let mut answers =
            stream::iter(deliveries).map(|one| self.post(one)).buffer_unordered(CONCURRENCY);
        while let Some(surprise) = answers.next().await {
            sent.surprises.extend(surprise);
        }
    }

    /// Posts one delivery. Yields its answer, if that is not the expected one.
    async fn post(&self, delivery: Delivery) -> Option<String> {
        let Delivery { path, headers, body, expected } = delivery;
        let mut request = self.client.post(format!("{}{path}", self.base)).body(body);
        for (name, value) in headers {
            request = request.header(name, value);
        }
        let answer = match answer_of(request).await {
            Ok((status, body)) if matches!(status, 200 | 202) => (status, body),
            Ok((status, body)) => (status, body["detail"].clone()),
            Err(error) => return Some(error.to_string()),
        };
        (answer != expected).then(|| format!("expected {expected:?}, got {answer:?}"))
    }

    /// Asks the server for its statistics.
    pub(super) async fn stats(&self) -> Result<Value, StartError> {
        let url = format!("{}/admin/stats", self.base);
        answer_of(self.client.get(url).bearer_auth(TOKEN)).await.map(|(_, body)| body)
    }

    /// Replays one event and yields the answer.
    pub(super) async fn replay(&self, event_id: &str) -> Result<Value, StartError> {
        let url = format!("{}/webhooks/replay/{event_id}", self.base);
        answer_of(self.client.post(url).bearer_auth(TOKEN)).await.map(|(_, body)| body)
    }
}

/// Outputs of a flow, as a Webhook Endpoint calls back with them.
fn callbacks(sent: &mut Sent) -> Vec<Delivery> {
    sent.callbacks = CALLBACKS;
    let credential = format!("Basic {}", STANDARD.encode(CALLBACK_SECRET));
    let delivery = |number: u32| {
        let user = format!("callback-{number}");
        let body = json!({
            "userId": user, "sessionId": "demo",
            "AIOutput": { "text": "How can I help you?", "data": {}, "source": "bot" },
        });
        Delivery {
            path: CALLBACK_PATH,
            headers: vec![("Authorization", credential.clone())],
            body: body.to_string().into_bytes(),
            expected: (200, json!({ "status": "accepted" })),
        }
    };
    (0..CALLBACKS).map(delivery).collect()
}

/// CloudEvents in batches, each recorded in one commit.
fn batches(sent: &mut Sent) -> Vec<Delivery> {
    (sent.batches, sent.cloud_events) = (BATCHES, BATCHES * BATCH);
    let event = |number: u32| {
        json!({
            "specversion": "1.0", "type": "demo.order.placed", "source": "/demo",
            "id": format!("order-{number}"), "externalid": format!("cloud-{number}"),
            "data": { "number": number },
        })
    };
    let delivery = |batch: u32| {
        let events: Vec<_> = (batch * BATCH..(batch + 1) * BATCH).map(event).collect();
        Delivery {
            path: CLOUD_PATH,
            headers: vec![
                ("Authorization", format!("Bearer {CLOUD_SECRET}")),
                ("Content-Type", "application/cloudevents-batch+json".to_owned()),
            ],
            body: json!(events).to_string().into_bytes(),
            expected: (202, json!({ "status": "accepted" })),
        }
    };
    (0..BATCHES).map(delivery).collect()
}

async fn answer_of(request: reqwest::RequestBuilder) -> Result<(u16, Value), StartError> {
    let failed = |what: String| StartError::Failed(format!("a request failed: {what}"));
    let answer =
        request.send().await.map_err(|error| failed(TransportError::from(error).to_string()))?;
    let status = answer.status().as_u16();
    let body =
        read_bounded(answer, 1024 * 1024).await.map_err(|error| failed(error.to_string()))?;
    Ok((status, serde_json::from_slice(&body).unwrap_or_default()))
}

fn event(number: u32, contact: &str, text: &str) -> Vec<u8> {
    let (kind, payload) = match number % 4 {
        0 => ("DIALOG_STARTED", json!({ "text": text })),
        1 => ("USER_INPUT_RECEIVED", json!({ "input": text })),
        2 => ("PROFILE_UPDATED", json!({ "profile": { "note": text } })),
        _ => ("DIALOG_ENDED", json!({ "text": text })),
    };
    let event = json!({
        "eventId": format!("demo-{number}"),
        "timestamp": "2026-01-01T00:00:00Z",
        "type": kind,
        "externalId": contact,
        "payload": payload,
    });
    event.to_string().into_bytes()
}
