//! Which of a contact's events may run, and which wait behind it.

use std::collections::{BTreeSet, HashMap};

use crate::{
    event::{EventParts, SourceName},
    store::EventOrder,
};

/// A contact: its events come one after the other.
pub(super) type Contact = (SourceName, String);

/// The contacts that have unfinished events.
#[derive(Debug, Default)]
pub(super) struct ContactQueues {
    order: EventOrder,
    queues: HashMap<Contact, ContactQueue>,
}

#[derive(Debug)]
struct ContactQueue {
    /// The one event that may be due or held, or that was given up and stops the contact.
    head: i64,
    /// Whether it was given up, so that the contact is stopped.
    stopped: bool,
    /// The waiting events, in order of arrival.
    waiting: BTreeSet<i64>,
}

impl ContactQueues {
    pub(super) fn keeping(order: EventOrder) -> Self {
        Self { order, queues: HashMap::new() }
    }

    /// The contact of the event, if an order is kept and the event names one.
    pub(super) fn contact(&self, source: &SourceName, parts: &EventParts) -> Option<Contact> {
        let key = parts.contact_key().filter(|_| self.order.is_kept())?;
        Some((source.clone(), key.to_owned()))
    }

    /// The head of a contact's events.
    pub(super) fn head(&self, contact: &Contact) -> Option<i64> {
        self.queues.get(contact).map(|queue| queue.head)
    }

    /// Adds an event: at the head if the queue is empty, else among the waiting events. Returns
    /// whether it is the head.
    pub(super) fn enter(&mut self, contact: Contact, event: i64) -> bool {
        match self.queues.get_mut(&contact) {
            None => {
                let queue = ContactQueue { head: event, stopped: false, waiting: BTreeSet::new() };
                self.queues.insert(contact, queue);
                true
            }
            Some(queue) if queue.head == event => {
                queue.stopped = false;
                true
            }
            Some(queue) => {
                queue.waiting.insert(event);
                false
            }
        }
    }

    /// Makes `event` the head, and puts the old head among the waiting events.
    pub(super) fn overtake(&mut self, contact: &Contact, event: i64) {
        if let Some(queue) = self.queues.get_mut(contact) {
            queue.waiting.insert(std::mem::replace(&mut queue.head, event));
            queue.waiting.remove(&event);
        }
    }

    /// The head has ended. Returns the next event.
    pub(super) fn end(&mut self, contact: &Contact, given_up: bool) -> Option<i64> {
        let queue = self.queues.get_mut(contact)?;
        queue.stopped = given_up && self.order.stops();
        if queue.stopped {
            return None;
        }
        match queue.waiting.pop_first() {
            Some(next) => {
                queue.head = next;
                Some(next)
            }
            None => {
                self.queues.remove(contact);
                None
            }
        }
    }

    /// An event of the contact is not unfinished any more, whatever its place was. Returns the event that
    /// is due now.
    pub(super) fn leave(&mut self, contact: &Contact, event: i64) -> Option<i64> {
        let queue = self.queues.get_mut(contact)?;
        if queue.head == event {
            return self.end(contact, false);
        }
        queue.waiting.remove(&event);
        None
    }

    /// Whether `event` was given up and its contact waits for it.
    pub(super) fn is_stopped_by(&self, contact: &Contact, event: i64) -> bool {
        self.queues.get(contact).is_some_and(|queue| queue.stopped && queue.head == event)
    }

    /// How many events wait, and how many contacts are stopped.
    pub(super) fn counts(&self) -> (u64, u64) {
        let waiting = self.queues.values().map(|queue| queue.waiting.len() as u64).sum();
        let stopped = self.queues.values().filter(|queue| queue.stopped).count() as u64;
        (waiting, stopped)
    }
}
