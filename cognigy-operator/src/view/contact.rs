//! Everything about one contact.

use serde::Serialize;

use super::{EventLine, QuarantineLine};

/// What is known of a contact.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct Contact {
    /// The `externalId` or `userId`, as asked for.
    pub key: String,
    /// The newest 500 events, oldest first.
    pub events: Vec<EventLine>,
    /// The conversations of these events.
    pub conversations: Vec<Conversation>,
    /// Bodies that name the contact or one of its events.
    pub quarantine: Vec<QuarantineLine>,
    /// The events that were given up.
    pub dead_letters: Vec<DeadLetter>,
    /// The attempts of all runs but the first.
    pub replays: Vec<Replay>,
    /// Whether there are more events than are shown.
    pub more: bool,
}

/// A conversation of a contact.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct Conversation {
    /// Its name.
    pub conversation: String,
    /// How many of the events that are shown belong to it.
    pub events: u64,
    /// When the first of them was received.
    pub first: String,
    /// When the last of them was received.
    pub last: String,
}

/// An event that was given up.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The id of the event.
    pub event_id: String,
    /// Where it is.
    pub status: &'static str,
    /// Why its last attempt failed.
    pub error: Option<String>,
    /// When its last attempt began.
    pub at: Option<String>,
}

/// An attempt of a run after the first.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct Replay {
    /// The id of the event.
    pub event_id: String,
    /// Which run it belongs to.
    pub run: u32,
    /// What it came to.
    pub outcome: &'static str,
    /// When it began.
    pub at: String,
}
