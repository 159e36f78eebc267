//! What to register, and what came of it.

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
    /// The answer's `id` (or `_id`), where it has one: text or a number, as text.
    pub id: Option<String>,
    /// The whole answer with secrets masked; `null` where it is not JSON. By then the webhook is
    /// registered, so that an answer nobody can read is not an error.
    pub answer: Value,
}

impl RegisteredWebhook {
    pub(crate) fn read(body: &[u8], redactor: &Redactor) -> Self {
        let answer = redactor.json(serde_json::from_slice(body).unwrap_or_default());
        let id = answer.get("id").or_else(|| answer.get("_id")).and_then(|id| match id {
            Value::String(id) => Some(id.clone()),
            Value::Number(id) => Some(id.to_string()),
            _ => None,
        });
        Self { id, answer }
    }
}
