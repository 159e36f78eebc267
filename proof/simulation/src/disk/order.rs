//! The order of each contact's events, kept without any index: every query works out from all
//! events which of them may run. Too slow for a real store, and too simple to be wrong.

use std::collections::BTreeSet;

use super::{Disk, EventRow, Phase, Tables};
use crate::planted::Bug;

impl EventRow {
    /// Whether others of its contact have to wait while it is first.
    fn is_unfinished(&self) -> bool {
        matches!(self.phase, Phase::Waiting { .. } | Phase::Held { .. }) || self.stops
    }

    /// Whether it must stay the head.
    fn is_begun(&self) -> bool {
        matches!(self.phase, Phase::Held { .. }) || self.begun || self.stops
    }

    fn is_of_the_contact_of(&self, other: &Self) -> bool {
        let contact = other.parts.contact_key();
        contact.is_some()
            && contact == self.parts.contact_key()
            && self.key.source == other.key.source
    }
}

impl Disk {
    /// The event that has to end before `id` can be run.
    pub(super) fn goes_before(&self, tables: &Tables, id: i64) -> Option<i64> {
        let row = tables.events.get(&id).filter(|_| self.order.is_kept())?;
        let others = tables.events.iter().filter(|(other, its)| {
            **other != id && its.is_unfinished() && its.is_of_the_contact_of(row)
        });
        // One that was begun, or the earliest.
        let (first, its) = others.min_by_key(|(other, its)| (!its.is_begun(), **other))?;
        let is_second = match self.bug {
            Some(Bug::OrderIgnoresHead) => return None,
            _ => its.is_begun() || row.is_unfinished() && *first < id && !row.is_begun(),
        };
        // A finished event that runs again goes behind all unfinished ones.
        (is_second || !row.is_unfinished()).then_some(*first)
    }

    /// The events that wait for another one.
    pub(super) fn held_back(&self, tables: &Tables) -> BTreeSet<i64> {
        let waits = |id: &&i64| self.goes_before(tables, **id).is_some();
        let unfinished = tables.events.iter().filter(|(_, row)| row.is_unfinished());
        unfinished.map(|(id, _)| id).filter(waits).copied().collect()
    }
}
