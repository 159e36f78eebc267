//! What operators see: the JSON shapes of the contract, for the operator API and for `--json`.

use cognigy_core::{
    Attempt, AttemptOutcome, AuditEntry, Contact, Counts, DeliveryContext, Erasure, ErrorGroup,
    EventKey, EventSummary, EventTime, EventType, Forgotten, QuarantineSummary, QuarantinedItem,
    SourceName, State, StoredEvent, Timestamp,
};
use serde::{Deserialize, Serialize};

use crate::{
    breakers::Breakers,
    pausing::Paused,
    settings::Role,
    telemetry::{Deliveries, age_seconds, milliseconds},
};

/// RFC 3339, microseconds, UTC.
pub(crate) fn time(at: Timestamp) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

/// The source's name. None for the plain path's source.
fn named(source: &SourceName) -> Option<String> {
    (!source.is_default()).then(|| source.to_string())
}

/// An event in a list.
#[derive(Serialize)]
pub(crate) struct EventLine {
    pub(crate) event_id: String,
    #[serde(rename = "type")]
    pub(crate) kind: EventType,
    pub(crate) status: &'static str,
    pub(crate) timestamp: EventTime,
    pub(crate) external_id: Option<String>,
    pub(crate) user_id: Option<String>,
    pub(crate) conversation: Option<String>,
    pub(crate) correlation: &'static str,
    pub(crate) received_at: String,
    pub(crate) processed_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
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

/// A page of the quarantine.
#[derive(Serialize)]
pub(crate) struct QuarantinePage {
    pub(crate) items: Vec<QuarantineLine>,
    pub(crate) next_cursor: Option<String>,
}

/// An event with its body and its history.
#[derive(Serialize)]
pub(crate) struct EventDetail {
    pub(crate) event_id: String,
    #[serde(rename = "type")]
    pub(crate) kind: EventType,
    pub(crate) status: &'static str,
    pub(crate) timestamp: EventTime,
    pub(crate) external_id: Option<String>,
    pub(crate) user_id: Option<String>,
    pub(crate) conversation: Option<String>,
    /// What asking the CRM came to.
    pub(crate) correlation: &'static str,
    pub(crate) received_at: String,
    pub(crate) processed_at: Option<String>,
    /// When its next attempt is due, while it waits for one.
    pub(crate) next_attempt_at: Option<String>,
    pub(crate) crm_context: Option<Contact>,
    /// The received text. None for a sensitive event, and once it was forgotten.
    pub(crate) body: Option<String>,
    /// Whether the sender asked that the content be logged nowhere.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) sensitive: bool,
    /// Why the body is not there any more.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) forgotten: Option<&'static str>,
    /// The headers that were kept of its delivery.
    #[serde(skip_serializing_if = "DeliveryContext::is_empty")]
    pub(crate) headers: DeliveryContext,
    pub(crate) attempts: Vec<AttemptLine>,
    /// What operators did to it, newest first.
    pub(crate) audit: Vec<AuditLine>,
    /// The dead letter of an event that was given up, while it waits to be sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) dead_letter: Option<DeadLetterLine>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
}

/// The dead letter of an event that is `dead_lettering`.
#[derive(Serialize)]
pub(crate) struct DeadLetterLine {
    /// `unsent`: it waits until the queue takes it.
    pub(crate) status: &'static str,
    /// Why the event was given up.
    pub(crate) reason: String,
    /// How often the server began to send it.
    pub(crate) tries: u32,
    /// The time of the next try, or the end of the lease of the worker that is sending it.
    pub(crate) next_try_at: String,
}

/// One attempt.
#[derive(Serialize)]
pub(crate) struct AttemptLine {
    pub(crate) number: u32,
    pub(crate) run: u32,
    pub(crate) started_at: String,
    pub(crate) duration_ms: f64,
    pub(crate) outcome: &'static str,
    pub(crate) error: Option<String>,
}

impl EventDetail {
    pub(crate) fn new(stored: StoredEvent, attempts: Vec<Attempt>, audit: Vec<AuditEntry>) -> Self {
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
}

impl EventDetail {
    /// What an operator of that role sees of it. The contact and the kept headers say who wrote what, as
    /// the body does.
    pub(crate) fn seen_by(mut self, role: Role) -> Self {
        if !role.sees_bodies() {
            self.body = None;
            self.crm_context = None;
            self.headers = DeliveryContext::default();
        }
        self
    }
}

impl QuarantineLine {
    /// What an operator of that role sees of it.
    pub(crate) fn seen_by(self, role: Role) -> Self {
        if role.sees_bodies() { self } else { Self { body: None, ..self } }
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

/// One thing that an operator did.
#[derive(Serialize)]
pub(crate) struct AuditLine {
    pub(crate) at: String,
    pub(crate) by: String,
    pub(crate) action: String,
    pub(crate) target: Option<String>,
    pub(crate) filter: Option<serde_json::Value>,
    pub(crate) count: Option<u64>,
    pub(crate) outcome: String,
    /// The source of the event that is the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
}

impl From<AuditEntry> for AuditLine {
    fn from(entry: AuditEntry) -> Self {
        let AuditEntry { at, by, action, target, source, filter, count, outcome } = entry;
        let (at, source) = (time(at), source.as_ref().and_then(named));
        let filter = filter.map(|text| serde_json::from_str(&text).unwrap_or(text.into()));
        Self { at, by, action, target, filter, count, outcome, source }
    }
}

/// A body in quarantine.
#[derive(Serialize)]
pub(crate) struct QuarantineLine {
    pub(crate) id: i64,
    pub(crate) reason: &'static str,
    pub(crate) event_id: Option<String>,
    pub(crate) received_at: String,
    pub(crate) detail: String,
    /// The body, or only its beginning if `body_bytes` is more.
    /// None for an operator who sees no bodies.
    pub(crate) body: Option<String>,
    pub(crate) body_bytes: u64,
    pub(crate) body_truncated: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) source: Option<String>,
}

impl From<QuarantineSummary> for QuarantineLine {
    fn from(item: QuarantineSummary) -> Self {
        Self {
            id: item.id,
            reason: item.reason.as_str(),
            body_truncated: !item.is_whole(),
            event_id: item.event_id,
            received_at: time(item.received_at),
            detail: item.detail,
            source: named(&item.source),
            body: Some(String::from_utf8_lossy(&item.excerpt).into_owned()),
            body_bytes: item.length,
        }
    }
}

impl From<QuarantinedItem> for QuarantineLine {
    fn from(item: QuarantinedItem) -> Self {
        let body = Some(String::from_utf8_lossy(&item.body).into_owned());
        Self { body, body_truncated: false, ..Self::from(item.summary()) }
    }
}

/// The statistics: deliveries, their outcomes, and what is stored.
#[derive(Serialize)]
pub(crate) struct Stats {
    /// Since the process started: `received` = `new` + `duplicates` + `conflicts` + `refused`.
    /// None in the answer of a command, which sees the database only.
    pub(crate) deliveries: Option<Deliveries>,
    pub(crate) events: EventCounts,
    pub(crate) by_status: std::collections::BTreeMap<&'static str, u64>,
    pub(crate) by_type: std::collections::BTreeMap<String, u64>,
    pub(crate) oldest_pending_seconds: f64,
    pub(crate) unsent_dead_letters: u64,
    pub(crate) quarantined: u64,
    /// Waiting events that wait for an earlier one of the same contact.
    pub(crate) held_back: u64,
    pub(crate) stopped_contacts: u64,
    /// The sources whose workers are paused, and who paused each.
    pub(crate) paused: Paused,
    /// The sources whose look-ups are held back, because their CRM is out of reach.
    pub(crate) breakers: Breakers,
    /// None in the answer of a command.
    pub(crate) rates: Option<Rates>,
}

/// What is stored: `total` = `processed` + `dead_lettered` + `discarded` + `waiting`.
#[derive(Serialize)]
pub(crate) struct EventCounts {
    pub(crate) total: u64,
    pub(crate) processed: u64,
    pub(crate) dead_lettered: u64,
    #[serde(skip_serializing_if = "is_none")]
    pub(crate) discarded: u64,
    pub(crate) waiting: u64,
}

/// Left out where there are none.
fn is_none(count: &u64) -> bool {
    *count == 0
}

/// Rates over the last minute.
#[derive(Serialize)]
pub(crate) struct Rates {
    pub(crate) received_per_second: f64,
    pub(crate) processed_per_second: f64,
}

impl EventCounts {
    pub(crate) fn new(counts: &Counts) -> Self {
        let total = counts.by_state.values().sum();
        let processed = counts.of(State::Processed);
        let dead_lettered = counts.of(State::DeadLettered);
        let discarded = counts.of(State::Discarded);
        let waiting = total - processed - dead_lettered - discarded;
        Self { total, processed, dead_lettered, discarded, waiting }
    }
}

impl Stats {
    pub(crate) fn new(
        counts: Counts,
        process: Option<(Deliveries, Rates)>,
        paused: Paused,
        now: Timestamp,
    ) -> Self {
        let (deliveries, rates) = process.unzip();
        Self {
            deliveries,
            paused,
            breakers: Breakers::new(),
            events: EventCounts::new(&counts),
            by_status: State::ALL.map(|state| (state.as_str(), counts.of(state))).into(),
            oldest_pending_seconds: age_seconds(&counts, now),
            unsent_dead_letters: counts.unsent_dead_letters,
            quarantined: counts.quarantined,
            held_back: counts.held_back,
            stopped_contacts: counts.stopped_contacts,
            by_type: counts.by_type,
            rates,
        }
    }
}

/// Failures of one class.
#[derive(Serialize, Deserialize)]
pub(crate) struct ErrorLine {
    pub(crate) class: String,
    pub(crate) message: String,
    pub(crate) count: u64,
    /// When the first of these attempts began.
    pub(crate) first: String,
    pub(crate) last: String,
    /// The newest of the events.
    pub(crate) sample: Vec<String>,
}

impl From<ErrorGroup> for ErrorLine {
    fn from(group: ErrorGroup) -> Self {
        Self {
            class: group.class.name,
            message: group.class.message,
            count: group.count,
            first: time(group.first),
            last: time(group.last),
            sample: ids(&group.sample),
        }
    }
}

fn ids(keys: &[EventKey]) -> Vec<String> {
    keys.iter().map(|key| key.id.as_str().to_owned()).collect()
}

/// The receipt of an erasure.
#[derive(Serialize, Deserialize)]
pub(crate) struct ErasureLine {
    pub(crate) id: String,
    pub(crate) events: u64,
    pub(crate) quarantined: u64,
    pub(crate) dead_letters: u64,
    /// The events whose dead letters were sent to a queue: their messages have to be deleted there.
    pub(crate) sent_dead_letters: Vec<String>,
}

impl From<Erasure> for ErasureLine {
    fn from(erasure: Erasure) -> Self {
        Self {
            id: erasure.id.to_string(),
            events: erasure.events,
            quarantined: erasure.quarantined,
            dead_letters: erasure.dead_letters,
            sent_dead_letters: ids(&erasure.sent),
        }
    }
}
