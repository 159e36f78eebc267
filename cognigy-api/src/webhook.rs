//! What to register, and the result of a registration.

use cognigy_core::EventType;
use serde_json::{Value, json};

use crate::secret::{Redactor, SecretText};

/// A webhook as Cognigy should keep it: where to send which events, and what to sign them with.
#[derive(Debug, Clone)]
pub struct WebhookRegistration {
    name: String,
    url: String,
    secret: SecretText,
    events: Vec<EventType>,
    active: bool,
}

impl WebhookRegistration {
    /// An active webhook for all four kinds of event ([`EventType::CONTRACT`]). `name` is for
    /// people; `url` is where this service can be reached from outside; with `secret` Cognigy signs
    /// each event and the receiver checks it.
    pub fn new(name: impl Into<String>, url: impl Into<String>, secret: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            url: url.into(),
            secret: SecretText::new(secret),
            events: EventType::CONTRACT.to_vec(),
            active: true,
        }
    }

    /// Asks for these kinds of event only.
    #[must_use]
    pub fn events(mut self, events: impl IntoIterator<Item = EventType>) -> Self {
        self.events = events.into_iter().collect();
        self
    }

    /// Whether events are to be sent at once.
    #[must_use]
    pub fn active(mut self, active: bool) -> Self {
        self.active = active;
        self
    }

    pub(crate) fn secret(&self) -> &SecretText {
        &self.secret
    }

    /// The request's body: these five fields and no other.
    pub(crate) fn to_json(&self) -> String {
        json!({
            "name": self.name,
            "url": self.url,
            "secret": self.secret.expose(),
            "events": self.events,
            "active": self.active,
        })
        .to_string()
    }
}

/// What Cognigy answered to a registration.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegisteredWebhook {
    /// The answer's `id` (or `_id`): text or a number, as text. Never empty.
    pub id: String,
    /// The whole answer with secrets masked.
    pub answer: Value,
}

impl RegisteredWebhook {
    /// Reads the answer, which has to be a JSON object with an id and without an error; `None` where
    /// it is anything else: a sign-in page, say, comes with a 200 too.
    pub(crate) fn read(body: &[u8], redactor: &Redactor) -> Option<Self> {
        let answer = redactor.json(serde_json::from_slice(body).ok()?);
        let fields = answer.as_object()?;
        if fields.get("error").is_some_and(|error| !error.is_null()) {
            return None;
        }
        let id = match fields.get("id").or_else(|| fields.get("_id"))? {
            Value::String(id) if !id.trim().is_empty() => id.clone(),
            Value::Number(id) => id.to_string(),
            _ => return None,
        };
        Some(Self { id, answer })
    }
}
