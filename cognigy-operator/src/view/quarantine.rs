//! Bodies in quarantine.

use cognigy_core::{QuarantineSummary, QuarantinedItem};
use serde::Serialize;

use super::{named, time};
use crate::Role;

/// A body in quarantine.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct QuarantineLine {
    /// Its number.
    pub id: i64,
    /// `invalid`, or `conflict`: its event id is known with other content.
    pub reason: &'static str,
    /// The event's id, if the body has one that can be read.
    pub event_id: Option<String>,
    /// When it was received.
    pub received_at: String,
    /// What is wrong with it.
    pub detail: String,
    /// The body, or only its beginning if `body_bytes` is more.
    /// None for an operator who sees no bodies.
    pub body: Option<String>,
    /// The length of the whole body, in bytes.
    pub body_bytes: u64,
    /// Whether `body` is only the beginning.
    pub body_truncated: bool,
    /// Its source. None for the source of the plain path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// A page of the quarantine.
#[derive(Serialize)]
pub(crate) struct QuarantinePage {
    pub(crate) items: Vec<QuarantineLine>,
    pub(crate) next_cursor: Option<String>,
}

impl QuarantineLine {
    /// What an operator of that role sees of it.
    #[must_use]
    pub fn seen_by(self, role: Role) -> Self {
        if role.sees_bodies() { self } else { Self { body: None, ..self } }
    }
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
