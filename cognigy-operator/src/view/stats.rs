//! Numbers: what is stored, and what a process has done.

use std::collections::BTreeMap;

use cognigy_core::{Counts, State, Timestamp};
use serde::Serialize;

use crate::{breakers::Breakers, pausing::Paused};

/// The statistics: deliveries, their outcomes, and what is stored.
#[derive(Debug, Serialize)]
#[non_exhaustive]
pub struct Stats {
    /// The deliveries since the process started. None where the process does not count them.
    pub deliveries: Option<Deliveries>,
    /// The events that are stored.
    pub events: EventCounts,
    /// How many events are stored, by status.
    pub by_status: BTreeMap<&'static str, u64>,
    /// How many events are stored, by type.
    pub by_type: BTreeMap<String, u64>,
    /// How long the oldest waiting event has waited, in seconds; 0 if none waits.
    pub oldest_pending_seconds: f64,
    /// How many dead letters wait for the queue.
    pub unsent_dead_letters: u64,
    /// How many bodies are in quarantine.
    pub quarantined: u64,
    /// Waiting events that wait for an earlier one of the same contact.
    pub held_back: u64,
    /// How many contacts wait for an operator to deal with an event that was given up.
    pub stopped_contacts: u64,
    /// The sources whose workers are paused, and who paused each.
    pub paused: Paused,
    /// The sources whose look-ups are held back, because their CRM is out of reach.
    pub breakers: Breakers,
    /// Averages of the process over the last minute. None where the process does not count.
    pub rates: Option<Rates>,
}

/// Deliveries since the start: `received` is the sum of the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Deliveries {
    /// All of them.
    pub received: u64,
    /// Stored as new events.
    pub new: u64,
    /// Known ids with the same content.
    pub duplicates: u64,
    /// Known ids with other content.
    pub conflicts: u64,
    /// Not taken: signature, content, size or load.
    pub refused: u64,
}

impl std::ops::Add for Deliveries {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            received: self.received + other.received,
            new: self.new + other.new,
            duplicates: self.duplicates + other.duplicates,
            conflicts: self.conflicts + other.conflicts,
            refused: self.refused + other.refused,
        }
    }
}

/// What is stored: `total` = `processed` + `dead_lettered` + `discarded` + `waiting`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct EventCounts {
    /// All of them.
    pub total: u64,
    /// Done.
    pub processed: u64,
    /// Given up, with a dead letter that was sent or is kept.
    pub dead_lettered: u64,
    /// Given up, with a dead letter that an operator dropped.
    #[serde(skip_serializing_if = "is_none")]
    pub discarded: u64,
    /// For an attempt, for the end of one, or for the queue to take their dead letters.
    pub waiting: u64,
}

/// Left out where there are none.
fn is_none(count: &u64) -> bool {
    *count == 0
}

/// Rates over the last minute.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rates {
    /// Deliveries received.
    pub received_per_second: f64,
    /// Events processed.
    pub processed_per_second: f64,
}

impl EventCounts {
    /// From what a store has counted.
    #[must_use]
    pub fn new(counts: &Counts) -> Self {
        let total = counts.by_state.values().sum();
        let processed = counts.of(State::Processed);
        let dead_lettered = counts.of(State::DeadLettered);
        let discarded = counts.of(State::Discarded);
        let waiting = total - processed - dead_lettered - discarded;
        Self { total, processed, dead_lettered, discarded, waiting }
    }
}

impl Stats {
    /// From what a store has counted and what a process has done, if it counts that.
    #[must_use]
    pub fn new(
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

    /// The same with these open breakers.
    #[must_use]
    pub fn with_breakers(self, breakers: Breakers) -> Self {
        Self { breakers, ..self }
    }
}

/// How long the oldest unfinished event has waited, in seconds.
#[must_use]
pub fn age_seconds(counts: &Counts, now: Timestamp) -> f64 {
    let age = counts.oldest_pending.and_then(|oldest| (now - oldest).to_std().ok());
    age.unwrap_or_default().as_secs_f64()
}
