//! Events: in a list, and one with its history.

use cognigy_core::{
    Attempt, AttemptOutcome, AuditEntry, Contact, DeliveryContext, EventSummary, EventTime,
    EventType, Forgotten, StoredEvent,
};
use serde::Serialize;

use super::{AuditLine, milliseconds, named, time};
use crate::Role;

/// An event in a list.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct EventLine {
    /// The id of the event.
    pub event_id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// Where it is.
    pub status: &'static str,
    /// When it happened, as its sender said.
    pub timestamp: EventTime,
    /// The `externalId` that was sent.
    pub external_id: Option<String>,
    /// The `userId` that was sent.
    pub user_id: Option<String>,
    /// The conversation that it belongs to.
    pub conversation: Option<String>,
    /// What asking the CRM came to.
    pub correlation: &'static str,
    /// When it was received.
    pub received_at: String,
    /// When it was processed.
    pub processed_at: Option<String>,
    /// Its source. None for the source of the plain path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

impl From<EventSummary> for EventLine {
    fn from(event: EventSummary) -> Self {
        Self {
            event_id: event.id.as_str().to_owned(),
            kind: event.kind,
            status: event.state.as_str(),
            timestamp: event.time,
            external_id: event.external_id,
            user_id: event.user_id,
            conversation: event.conversation,
            correlation: event.correlation.as_str(),
            received_at: time(event.received_at),
            processed_at: event.processed_at.map(time),
            source: named(&event.source),
        }
    }
}

/// A page of events. Serialized in one step, so that numbers stay as they were received.
#[derive(Serialize)]
pub(crate) struct EventsPage {
    pub(crate) events: Vec<EventLine>,
    pub(crate) next_cursor: Option<String>,
}

/// An event with its body and its history.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct EventDetail {
    /// The id of the event.
    pub event_id: String,
    /// Its type.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// Where it is.
    pub status: &'static str,
    /// When it happened, as its sender said.
    pub timestamp: EventTime,
    /// The `externalId` that was sent.
    pub external_id: Option<String>,
    /// The `userId` that was sent.
    pub user_id: Option<String>,
    /// The conversation that it belongs to.
    pub conversation: Option<String>,
    /// What asking the CRM came to.
    pub correlation: &'static str,
    /// When it was received.
    pub received_at: String,
    /// When it was processed.
    pub processed_at: Option<String>,
    /// When its next attempt is due, while it waits for one.
    pub next_attempt_at: Option<String>,
    /// The contact, as the CRM knew it.
    pub crm_context: Option<Contact>,
    /// The received text. None for a sensitive event, and once it was forgotten.
    pub body: Option<String>,
    /// Whether the sender asked that the content be logged nowhere.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub sensitive: bool,
    /// Why the body is not there any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub forgotten: Option<&'static str>,
    /// The headers that were kept of its delivery.
    #[serde(skip_serializing_if = "DeliveryContext::is_empty")]
    pub headers: DeliveryContext,
    /// All attempts, the earliest first.
    pub attempts: Vec<AttemptLine>,
    /// What operators did to it, newest first.
    pub audit: Vec<AuditLine>,
    /// The dead letter of an event that was given up, while it waits to be sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_letter: Option<DeadLetterLine>,
    /// Its source. None for the source of the plain path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// The dead letter of an event that is `dead_lettering`.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct DeadLetterLine {
    /// `unsent`: it waits until the queue takes it.
    pub status: &'static str,
    /// Why the event was given up.
    pub reason: String,
    /// How often the server began to send it.
    pub tries: u32,
    /// The time of the next try, or the end of the lease of the worker that is sending it.
    pub next_try_at: String,
}

/// One attempt.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct AttemptLine {
    /// Its number in its run, from 1.
    pub number: u32,
    /// 1 for the first run of the event; each replay is a further one.
    pub run: u32,
    /// When it began.
    pub started_at: String,
    /// How long it took, in milliseconds.
    pub duration_ms: f64,
    /// What it came to.
    pub outcome: &'static str,
    /// Why it failed.
    pub error: Option<String>,
}

impl EventDetail {
    /// What is stored of an event: itself, its attempts, and what operators did to it.
    #[must_use]
    pub fn new(stored: StoredEvent, attempts: Vec<Attempt>, audit: Vec<AuditEntry>) -> Self {
        let event = stored.event;
        let is_hidden = event.is_sensitive() || stored.forgotten.is_some();
        let dead_letter = stored.unsent.map(|unsent| DeadLetterLine {
            status: "unsent",
            reason: unsent.reason,
            tries: unsent.tries,
            next_try_at: time(unsent.due),
        });
        Self {
            dead_letter,
            event_id: event.id().to_owned(),
            kind: event.kind().clone(),
            status: stored.state.as_str(),
            timestamp: event.time().clone(),
            external_id: event.external_id().map(str::to_owned),
            user_id: event.user_id().map(str::to_owned),
            conversation: event.conversation().map(str::to_owned),
            correlation: stored.correlation.as_str(),
            received_at: time(event.received_at()),
            processed_at: stored.processed_at.map(time),
            next_attempt_at: stored.due.map(time),
            crm_context: stored.contact,
            // Accepted bodies are UTF-8, so that no byte is lost.
            body: (!is_hidden).then(|| String::from_utf8_lossy(event.body()).into_owned()),
            sensitive: event.is_sensitive(),
            forgotten: stored.forgotten.map(Forgotten::as_str),
            headers: if is_hidden { DeliveryContext::default() } else { event.context().clone() },
            attempts: attempts.into_iter().map(AttemptLine::from).collect(),
            audit: audit.into_iter().map(AuditLine::from).collect(),
            source: named(&event.key().source),
        }
    }

    /// What an operator of that role sees of it. The contact and the kept headers say who wrote what, as
    /// the body does.
    #[must_use]
    pub fn seen_by(mut self, role: Role) -> Self {
        if !role.sees_bodies() {
            self.body = None;
            self.crm_context = None;
            self.headers = DeliveryContext::default();
        }
        self.audit = self.audit.into_iter().map(|line| line.seen_by(role)).collect();
        self
    }
}

impl From<Attempt> for AttemptLine {
    fn from(attempt: Attempt) -> Self {
        let Attempt { number, run, started_at, duration, outcome, error } = attempt;
        let outcome = AttemptOutcome::as_str(outcome);
        let duration_ms = milliseconds(duration);
        Self { number, run, started_at: time(started_at), duration_ms, outcome, error }
    }
}
