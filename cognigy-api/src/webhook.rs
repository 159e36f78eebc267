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

/// What is to change of a webhook. What is not set stays as it is.
#[derive(Debug, Clone, Default)]
pub struct WebhookChange {
    /// Its name for people.
    pub name: Option<String>,
    /// Where Cognigy is to post.
    pub url: Option<String>,
    /// Which kinds of event it is to send.
    pub events: Option<Vec<EventType>>,
    /// Whether it is to send any.
    pub active: Option<bool>,
    pub(crate) secret: Option<SecretText>,
}

impl WebhookChange {
    /// Has Cognigy sign with this secret from now on.
    #[must_use]
    pub fn secret(mut self, secret: impl Into<String>) -> Self {
        self.secret = Some(SecretText::new(secret));
        self
    }

    /// Whether nothing is to change.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        let Self { name, url, events, active, secret } = self;
        name.is_none() && url.is_none() && events.is_none() && active.is_none() && secret.is_none()
    }

    /// The request's body: the fields that change and no other.
    pub(crate) fn to_json(&self) -> String {
        let mut fields = json!({
            "name": self.name, "url": self.url, "events": self.events, "active": self.active,
            "secret": self.secret.as_ref().map(SecretText::expose),
        });
        if let Some(fields) = fields.as_object_mut() {
            fields.retain(|_, value| !value.is_null());
        }
        fields.to_string()
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
        Self::of(redactor.json(serde_json::from_slice(body).ok()?))
    }

    /// Reads a list: an array, or an object with one in `items`.
    pub(crate) fn read_list(body: &[u8], redactor: &Redactor) -> Option<Vec<Self>> {
        let items = match redactor.json(serde_json::from_slice(body).ok()?) {
            Value::Array(items) => items,
            Value::Object(mut fields) => match fields.remove("items")? {
                Value::Array(items) => items,
                _ => return None,
            },
            _ => return None,
        };
        items.into_iter().map(Self::of).collect()
    }

    fn of(answer: Value) -> Option<Self> {
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
