//! The simulated disk: an event store of its own, written from the contract and not from the
//! core's reference store, whose phases are spelt out.
//!
//! A process that crashes loses everything but this. Each operation is one transaction: it has
//! happened or it has not. It passes the core's conformance suite (`tests/disk_conformance.rs`),
//! and it can be given a [`Bug`] to show that the checker would notice.

mod administration;
mod archive;
mod claims;
mod order;
mod runs;

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use bytes::Bytes;
use cognigy_core::{
    Attempt, AuditEntry, Contact, Correlation, DeadLetter, DeliveryContext, Event, EventKey,
    EventOrder, EventParts, Forgotten, QuarantinedItem, State, Timestamp,
};
use sha2::{Digest, Sha256};

use crate::planted::Bug;

/// An event store that outlives its processes.
#[derive(Debug, Default)]
pub struct Disk {
    tables: Mutex<Tables>,
    order: EventOrder,
    bug: Option<Bug>,
}

#[derive(Debug, Default)]
struct Tables {
    events: BTreeMap<i64, EventRow>,
    outbox: BTreeMap<i64, OutboxRow>,
    quarantine: BTreeMap<i64, QuarantinedItem>,
    shared: BTreeMap<String, String>,
    audit: Vec<AuditEntry>,
    last_id: i64,
    /// Dead letters of a store that writes them in a transaction of their own. Empty without that
    /// bug.
    unwritten: Vec<(i64, OutboxRow)>,
}

/// Where an event is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    Waiting { due: Timestamp },
    Held { since: Timestamp, until: Timestamp },
    Processed,
    DeadLettering,
    DeadLettered,
    Discarded,
}

#[derive(Debug)]
struct EventRow {
    key: EventKey,
    parts: EventParts,
    body: Bytes,
    context: DeliveryContext,
    received_at: Timestamp,
    phase: Phase,
    /// The fence of the latest grant, or one higher once that was settled.
    fence: i64,
    run: u32,
    attempt: u32,
    attempts: Vec<Attempt>,
    processed_at: Option<Timestamp>,
    contact: Option<Contact>,
    /// As a settlement said; none where the CRM was not asked.
    correlation: Option<Correlation>,
    /// Why only the digest of the body is left.
    forgotten: Option<Forgotten>,
    unreadable: bool,
    /// How many of its dead letters the sink has.
    letters_sent: u64,
    /// An attempt of its run was begun, or it stopped its contact, so it must stay the head.
    begun: bool,
    /// It was given up, and its contact waits for its replay.
    stops: bool,
}

#[derive(Debug)]
struct OutboxRow {
    event: i64,
    dead_letter: DeadLetter,
    due: Timestamp,
    held: bool,
    fence: i64,
    tries: u32,
}

impl Phase {
    fn state(self) -> State {
        match self {
            Self::Waiting { .. } => State::Pending,
            Self::Held { .. } => State::Processing,
            Self::Processed => State::Processed,
            Self::DeadLettering => State::DeadLettering,
            Self::DeadLettered => State::DeadLettered,
            Self::Discarded => State::Discarded,
        }
    }
}

impl Disk {
    /// An empty disk with nothing wrong with it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty disk of a store that keeps `order` and has `bug`.
    #[must_use]
    pub fn keeping(order: EventOrder, bug: Option<Bug>) -> Self {
        Self { tables: Mutex::default(), order, bug }
    }

    fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    fn tables(&self) -> MutexGuard<'_, Tables> {
        self.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on the body stored under `key` cannot be read back.
    pub fn damage(&self, key: &EventKey) {
        if let Some((_, row)) = self.tables().row(key) {
            row.unreadable = true;
        }
    }

    /// The effect of a crash on the store: none, unless the store has a bug.
    pub fn crash(&self) {
        if self.has(Bug::OutboxLostInCrash) {
            self.tables().outbox.retain(|_, row| !row.held);
        }
        self.tables().unwritten.clear();
    }
}

impl Tables {
    fn next_id(&mut self) -> i64 {
        self.last_id += 1;
        self.last_id
    }

    fn row(&mut self, key: &EventKey) -> Option<(i64, &mut EventRow)> {
        self.events.iter_mut().find(|(_, row)| row.key == *key).map(|(id, row)| (*id, row))
    }
}

impl EventRow {
    fn event(&self) -> Result<Event, String> {
        if self.unreadable {
            return Err("a page of the body is damaged".to_owned());
        }
        Ok(self.restored())
    }

    /// Whether `body` is what was received.
    fn says(&self, body: &Bytes) -> bool {
        if self.forgotten.is_some() { self.body == digest(body) } else { self.body == *body }
    }

    fn restored(&self) -> Event {
        let body = if self.forgotten.is_some() { Bytes::new() } else { self.body.clone() };
        let (key, parts) = (self.key.clone(), self.parts.clone());
        Event::restore(key, parts, body, self.received_at, self.run)
            .with_context(self.context.clone())
    }
}

/// What stays of a body that was forgotten.
fn digest(body: &Bytes) -> Bytes {
    Bytes::copy_from_slice(&Sha256::digest(body))
}
