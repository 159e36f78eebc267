//! Who of a contact's events may be worked on, and who waits behind it.

use std::collections::{BTreeSet, HashMap};

use crate::{event::EventParts, intake::SourceName, store::EventOrder};

/// A contact: its events come one after the other.
pub(super) type Contact = (SourceName, String);

/// The contacts that have unfinished events.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    order: EventOrder,
    lanes: HashMap<Contact, Lane>,
}

#[derive(Debug)]
struct Lane {
    /// The one event that may be due or held, or that was given up and stops the contact.
    head: i64,
    /// Given up, and the contact waits for it.
    stopped: bool,
    /// The others, in order of arrival.
    waiting: BTreeSet<i64>,
}

impl Lanes {
    pub(super) fn keeping(order: EventOrder) -> Self {
        Self { order, lanes: HashMap::new() }
    }

    /// Whose event it is, if that is of importance.
    pub(super) fn contact(&self, source: &SourceName, parts: &EventParts) -> Option<Contact> {
        let key = parts.contact_key().filter(|_| self.order.is_kept())?;
        Some((source.clone(), key.to_owned()))
    }

    /// The head of a contact's events.
    pub(super) fn head(&self, contact: &Contact) -> Option<i64> {
        self.lanes.get(contact).map(|lane| lane.head)
    }

    /// Lets an event in: at the head if there is nobody, else among those that wait. Whether it is
    /// the head.
    pub(super) fn enter(&mut self, contact: Contact, event: i64) -> bool {
        match self.lanes.get_mut(&contact) {
            None => {
                let lane = Lane { head: event, stopped: false, waiting: BTreeSet::new() };
                self.lanes.insert(contact, lane);
                true
            }
            Some(lane) if lane.head == event => {
                lane.stopped = false;
                true
            }
            Some(lane) => {
                lane.waiting.insert(event);
                false
            }
        }
    }

    /// Puts `event` at the head, and the head among those that wait.
    pub(super) fn overtake(&mut self, contact: &Contact, event: i64) {
        if let Some(lane) = self.lanes.get_mut(contact) {
            lane.waiting.insert(std::mem::replace(&mut lane.head, event));
            lane.waiting.remove(&event);
        }
    }

    /// The head has ended. Yields the event that comes next.
    pub(super) fn end(&mut self, contact: &Contact, given_up: bool) -> Option<i64> {
        let lane = self.lanes.get_mut(contact)?;
        lane.stopped = given_up && self.order.stops();
        if lane.stopped {
            return None;
        }
        match lane.waiting.pop_first() {
            Some(next) => {
                lane.head = next;
                Some(next)
            }
            None => {
                self.lanes.remove(contact);
                None
            }
        }
    }

    /// Whether `event` was given up and its contact waits for it.
    pub(super) fn is_stopped_by(&self, contact: &Contact, event: i64) -> bool {
        self.lanes.get(contact).is_some_and(|lane| lane.stopped && lane.head == event)
    }

    /// How many events wait, and how many contacts are stopped.
    pub(super) fn counts(&self) -> (u64, u64) {
        let waiting = self.lanes.values().map(|lane| lane.waiting.len() as u64).sum();
        let stopped = self.lanes.values().filter(|lane| lane.stopped).count() as u64;
        (waiting, stopped)
    }
}
