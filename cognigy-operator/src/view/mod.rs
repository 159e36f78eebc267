//! What operators see: the JSON shapes of the operator API.
//!
//! Times are RFC 3339 in UTC, with microseconds. Where a type shows what people wrote, it has a method
//! `seen_by`, which leaves out what a [`Role`](crate::Role) does not show.

mod audit;
mod contact;
mod event;
mod quarantine;
mod stats;

use std::time::Duration;

use cognigy_core::{EventKey, SourceName, Timestamp};

pub use audit::{AuditLine, ErasureLine, ErrorLine};
pub use contact::{Contact, Conversation, DeadLetter, Replay};
pub(crate) use event::EventsPage;
pub use event::{AttemptLine, DeadLetterLine, EventDetail, EventLine};
pub use quarantine::QuarantineLine;
pub(crate) use quarantine::QuarantinePage;
pub use stats::{Deliveries, EventCounts, Rates, Stats, age_seconds};

/// RFC 3339, microseconds, UTC.
#[must_use]
pub fn time(at: Timestamp) -> String {
    at.to_rfc3339_opts(chrono::SecondsFormat::Micros, true)
}

/// A duration as operators see it: in milliseconds, to the microsecond.
#[must_use]
pub fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// The source's name. None for the plain path's source.
fn named(source: &SourceName) -> Option<String> {
    (!source.is_default()).then(|| source.to_string())
}

fn ids(keys: &[EventKey]) -> Vec<String> {
    keys.iter().map(|key| key.id.as_str().to_owned()).collect()
}
