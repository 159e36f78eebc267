//! The bodies that senders send, the headers they put before them, and how both are read.
//!
//! A delivery of several events has one in each line. A header that is kept with each of them names
//! the delivery, so that the store's rows tell what came together.

use bytes::Bytes;
use cognigy_core::{
    CognigyFormat, DeliveryContext, EventFormat, EventKey, Headers, InvalidEvent, ReadEvent,
    Secret, SignatureScheme, SignatureVerifier, VerifiedDelivery, sign, testing::sample,
};

use crate::plan::{Body, Nature, Part, Plan};

/// The header that names a delivery of several events.
const DELIVERY_HEADER: &str = "x-delivery";

/// One event of the contract in each line.
pub(crate) struct Lines;

impl EventFormat for Lines {
    fn read(&self, delivery: &VerifiedDelivery) -> Result<Vec<ReadEvent>, InvalidEvent> {
        let lines = delivery.body().split(|byte| *byte == b'\n');
        let read = |line| {
            let parts = CognigyFormat.read_body(line)?;
            Ok(ReadEvent::new(parts, delivery.body().slice_ref(line)))
        };
        lines.map(read).collect()
    }

    fn context_headers(&self) -> &[&str] {
        &[DELIVERY_HEADER]
    }
}

/// The delivery of several events that an event came in, if it did.
pub(crate) fn delivery_of(context: &DeliveryContext) -> Option<usize> {
    context.get(DELIVERY_HEADER)?.parse().ok()
}

/// The key of event number `event`.
pub(crate) fn key(event: u32) -> EventKey {
    sample::key(&format!("event-{event}"))
}

/// The number in an event's id.
pub(crate) fn number(key: &EventKey) -> u32 {
    number_in(key.id.as_str())
}

/// The number at the end of an id or a contact key.
pub(crate) fn number_in(text: &str) -> u32 {
    let digits = text.rsplit('-').next().unwrap_or_default();
    digits.parse().unwrap_or(u32::MAX)
}

/// The body of delivery number `delivery` of `plan`.
pub(crate) fn bytes(plan: &Plan, delivery: usize) -> Bytes {
    let parts: Vec<_> = parts(plan, delivery).collect();
    parts.join(&b'\n').into()
}

/// The body of each event of delivery number `delivery` of `plan`.
pub(crate) fn parts(plan: &Plan, delivery: usize) -> impl Iterator<Item = Bytes> + '_ {
    plan.deliveries[delivery].parts().map(move |part| part_bytes(plan, delivery, part))
}

fn part_bytes(plan: &Plan, delivery: usize, part: Part) -> Bytes {
    let event = part.event;
    let contact = match plan.natures.get(&event) {
        Some(Nature::Anonymous) => String::new(),
        _ => format!(r#""externalId": "contact-{}", "#, plan.contact(event)),
    };
    let with = |payload: &str| {
        format!(
            r#"{{"eventId": "event-{event}", "timestamp": "2026-01-01T00:00:00Z", {contact}"type": "USER_INPUT_RECEIVED", "payload": {payload}}}"#
        )
    };
    match part.body {
        Body::Genuine => with(r#"{"input": "hello", "amount": 1e400}"#),
        Body::Reworded => with(r#"{"amount":1e400,"input":"hell\u006f"}"#),
        Body::Contradicting(n) => with(&format!(r#"{{"input": "something else {n}"}}"#)),
        Body::Invalid(0) => with("{}"),
        Body::Invalid(1) => with(r#"{"input": "twice"}, "payload": {}"#),
        Body::Invalid(2) => format!("{} ", "not JSON"),
        Body::Invalid(n) => with(&format!("[{n}]")),
        // All different: none of these bodies may ever be accepted.
        Body::Forged(n) => with(&format!(r#"{{"input": "forged {n} {delivery}"}}"#)),
    }
    .into()
}

/// The headers of a sender.
pub(crate) struct SenderHeaders {
    pub(crate) signatures: Vec<Vec<u8>>,
    /// The delivery, if it carries several events.
    pub(crate) delivery: Option<usize>,
}

impl Headers for SenderHeaders {
    fn for_each(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        let signatures = self.signatures.iter();
        signatures.for_each(|value| visit(SignatureVerifier::DEFAULT_HEADER, value));
        if let Some(delivery) = self.delivery {
            visit(DELIVERY_HEADER, delivery.to_string().as_bytes());
        }
    }
}

/// The signature headers of a delivery of `body`.
pub(crate) fn signatures(kind: Body, body: &Bytes) -> Vec<Vec<u8>> {
    let right = sign(&sample::secret(), SignatureScheme::Base64, body).into_bytes();
    let Body::Forged(how) = kind else { return vec![right] };
    let other = |secret: &str, body: &[u8]| {
        // Long enough to be valid as a secret.
        Secret::new(secret).map(|secret| sign(&secret, SignatureScheme::Base64, body).into_bytes())
    };
    match how {
        0 => Vec::new(),
        1 => other("not-the-secret", body).into_iter().collect(),
        // Signed, and then changed on the way.
        2 => other(sample::SECRET, &body[1..]).into_iter().collect(),
        3 => vec![right[..right.len() - 2].to_vec()],
        4 => vec![right.clone(), right],
        _ => vec![b"\xff\xfe".to_vec()],
    }
}

/// The signature headers that `body` should have had, as if the signature were not checked.
pub(crate) fn right_signature(body: &Bytes) -> Vec<Vec<u8>> {
    signatures(Body::Genuine, body)
}
