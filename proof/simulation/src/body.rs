//! The bodies that senders send, and the headers they put before them.

use bytes::Bytes;
use cognigy_core::{
    EventKey, Headers, Secret, SignatureScheme, SignatureVerifier, sign, testing::sample,
};

use crate::plan::{Body, Nature, Plan};

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
    let sent = &plan.deliveries[delivery];
    let event = sent.event;
    let contact = match plan.natures.get(&event) {
        Some(Nature::Anonymous) => String::new(),
        _ => format!(r#""externalId": "contact-{}", "#, plan.contact(event)),
    };
    let with = |payload: &str| {
        format!(
            r#"{{"eventId": "event-{event}", "timestamp": "2026-01-01T00:00:00Z", {contact}"type": "USER_INPUT_RECEIVED", "payload": {payload}}}"#
        )
    };
    match sent.body {
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
pub(crate) struct Signatures(Vec<Vec<u8>>);

impl Headers for Signatures {
    fn for_each(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        self.0.iter().for_each(|value| visit(SignatureVerifier::DEFAULT_HEADER, value));
    }
}

/// The headers of a delivery of `body`.
pub(crate) fn signatures(kind: Body, body: &Bytes) -> Signatures {
    let right = sign(&sample::secret(), SignatureScheme::Base64, body).into_bytes();
    let Body::Forged(how) = kind else { return Signatures(vec![right]) };
    let other = |secret: &str, body: &[u8]| {
        // Long enough to be valid as a secret.
        Secret::new(secret).map(|secret| sign(&secret, SignatureScheme::Base64, body).into_bytes())
    };
    Signatures(match how {
        0 => Vec::new(),
        1 => other("not-the-secret", body).into_iter().collect(),
        // Signed, and then changed on the way.
        2 => other(sample::SECRET, &body[1..]).into_iter().collect(),
        3 => vec![right[..right.len() - 2].to_vec()],
        4 => vec![right.clone(), right],
        _ => vec![b"\xff\xfe".to_vec()],
    })
}

/// The signature headers that `body` should have had, as if the signature were not checked.
pub(crate) fn right_signature(body: &Bytes) -> Signatures {
    signatures(Body::Genuine, body)
}
