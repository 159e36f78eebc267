//! What operators did, what fails, and the receipt of an erasure.

use cognigy_core::{AuditEntry, Erasure, ErrorGroup};
use serde::{Deserialize, Serialize};

use super::{ids, named, time};
use crate::Role;

/// One thing that an operator did.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct AuditLine {
    /// When it was done.
    pub at: String,
    /// The name of the operator.
    pub by: String,
    /// What was done, such as `replay` or `pause`.
    pub action: String,
    /// The id of an event, bulk replay, quarantined body or erasure, or a source. None for a selection.
    pub target: Option<String>,
    /// The request's selection; of a long one only its names and its length.
    pub filter: Option<serde_json::Value>,
    /// To how many events. None where that means nothing, and for an event that was one of many.
    pub count: Option<u64>,
    /// What it came to.
    pub outcome: String,
    /// The source of the event that is the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

impl From<AuditEntry> for AuditLine {
    fn from(entry: AuditEntry) -> Self {
        let AuditEntry { at, by, action, target, source, filter, count, outcome } = entry;
        let (at, source) = (time(at), source.as_ref().and_then(named));
        let filter = filter.map(|text| serde_json::from_str(&text).unwrap_or(text.into()));
        Self { at, by, action, target, filter, count, outcome, source }
    }
}

impl AuditLine {
    /// What an operator of that role sees of it: the words of a search tell what bodies say.
    #[must_use]
    pub fn seen_by(mut self, role: Role) -> Self {
        let words = self.filter.as_mut().and_then(|filter| filter.get_mut("q"));
        if let Some(words) = words.filter(|_| !role.sees_bodies()) {
            *words = "(not shown to a reader)".into();
        }
        self
    }
}

/// Failures of one class.
#[derive(Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ErrorLine {
    /// A name for the filter `error`.
    pub class: String,
    /// An error of the class, without what differs.
    pub message: String,
    /// How many events.
    pub count: u64,
    /// When the first of these attempts began.
    pub first: String,
    /// When the last of these attempts began.
    pub last: String,
    /// The newest of the events.
    pub sample: Vec<String>,
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

/// The receipt of an erasure.
#[derive(Debug, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ErasureLine {
    /// The number of the receipt. The record of what operators did names it as the target.
    pub id: String,
    /// How many events were erased.
    pub events: u64,
    /// How many quarantined bodies were erased.
    pub quarantined: u64,
    /// How many dead letters of these events were erased, sent ones included.
    pub dead_letters: u64,
    /// The events whose dead letters were sent to a queue: their messages have to be deleted there.
    pub sent_dead_letters: Vec<String>,
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
