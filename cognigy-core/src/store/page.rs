//! What the reading side asks for and gets.

use std::{collections::BTreeMap, fmt, str::FromStr};

use bytes::Bytes;

use super::QuarantineReason;
use crate::{Contact, Event, EventId, EventTime, EventType, SourceName, State, Timestamp};

/// Where a page ended. Opaque outside the store that made it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(pub i64);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Cursor {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self).map_err(|_| "is not a cursor")
    }
}

/// One page: at most `limit` entries after `after`.
#[derive(Debug, Clone, Copy)]
pub struct PageRequest {
    /// The most entries.
    pub limit: usize,
    /// The previous page's end; `None` for the first page.
    pub after: Option<Cursor>,
}

/// Which events. Everything set has to hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EventFilter {
    /// In this state.
    pub state: Option<State>,
    /// Of this type.
    pub kind: Option<EventType>,
    /// With exactly this `userId`.
    pub user_id: Option<String>,
    /// With exactly this `externalId`.
    pub external_id: Option<String>,
    /// Received at or after this time.
    pub from: Option<Timestamp>,
    /// Received before this time.
    pub to: Option<Timestamp>,
    /// From this source.
    pub source: Option<SourceName>,
}

/// An event without its body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EventSummary {
    /// Its source.
    pub source: SourceName,
    /// Its id there.
    pub id: EventId,
    /// What kind of event it is.
    pub kind: EventType,
    /// Where it is in its life.
    pub state: State,
    /// When it happened, by the sender's word.
    pub time: EventTime,
    /// The contact's id in the CRM.
    pub external_id: Option<String>,
    /// The contact's id at the sender.
    pub user_id: Option<String>,
    /// When it was first received.
    pub received_at: Timestamp,
    /// When its last successful run ended.
    pub processed_at: Option<Timestamp>,
}

/// An event with everything known about it but its history.
#[derive(Debug, Clone)]
pub struct StoredEvent {
    /// The event with its body and run.
    pub event: Event,
    /// Where it is in its life.
    pub state: State,
    /// When its last successful run ended.
    pub processed_at: Option<Timestamp>,
    /// What the CRM knew in the last successful run.
    pub contact: Option<Contact>,
}

/// A page of events.
#[derive(Debug, Clone, Default)]
pub struct EventPage {
    /// Newest first.
    pub events: Vec<EventSummary>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<Cursor>,
}

/// What is stored, in numbers.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events by state. Absent means none.
    pub by_state: BTreeMap<State, u64>,
    /// Events by type, by name.
    pub by_type: BTreeMap<String, u64>,
    /// When the event that has waited longest was received, of those that are `pending` or
    /// `processing`.
    pub oldest_pending: Option<Timestamp>,
    /// Dead letters in the outbox.
    pub unsent_dead_letters: u64,
    /// Bodies in quarantine.
    pub quarantined: u64,
    /// Of the `pending` events, those that wait for another of the same contact to end.
    pub held_back: u64,
    /// Contacts whose events wait for one that was given up.
    pub stopped_contacts: u64,
}

impl Counts {
    /// How many events are in `state`.
    #[must_use]
    pub fn of(&self, state: State) -> u64 {
        self.by_state.get(&state).copied().unwrap_or_default()
    }
}

/// Work of a source that is not finished.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Backlog {
    /// Events that are `pending` or `processing`.
    pub events: u64,
    /// Dead letters in the outbox.
    pub dead_letters: u64,
}

/// A body in quarantine.
#[derive(Debug, Clone)]
pub struct QuarantinedItem {
    /// Names it in this store.
    pub id: i64,
    /// Whose delivery it was.
    pub source: SourceName,
    /// Why it was not taken.
    pub reason: QuarantineReason,
    /// The event's id, if it could be read.
    pub event_id: Option<String>,
    /// What was wrong.
    pub detail: String,
    /// The received bytes.
    pub body: Bytes,
    /// When it was first received.
    pub received_at: Timestamp,
}

/// A page of the quarantine.
#[derive(Debug, Clone, Default)]
pub struct QuarantinePage {
    /// Newest first.
    pub items: Vec<QuarantinedItem>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<Cursor>,
}

#[cfg(test)]
mod tests {
    use super::Cursor;

    #[test]
    fn cursors_read_back() {
        assert_eq!(Cursor(-7).to_string().parse(), Ok(Cursor(-7)));
        assert!("".parse::<Cursor>().is_err());
    }
}
