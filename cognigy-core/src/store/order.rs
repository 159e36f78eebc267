//! Whether events of one contact keep their order.
//!
//! ```text
//!   arrives ──▶ no unfinished event of its contact? ─ yes ──▶ head: due, claimed, retried …
//!                      │ no                                    │ processed, or given up
//!                      ▼                                       ▼
//!                   waits: pending, not due  ◀── next ── the first that waits becomes the head
//! ```
//!
//! A store that keeps the order holds an event back that arrives behind an unfinished one of the same
//! contact. The transaction that ends an event makes the contact's next one due. So a claim never looks
//! at events that have to wait, however many there are, and the worker needs no lock: each contact has
//! at most one event that can be claimed.

use std::{fmt, str::FromStr};

/// Whether a store hands out events of one contact one at a time.
///
/// A contact is a source and [`Event::contact_key`](crate::Event::contact_key) there; an event
/// without one never waits. The order is that in which the store took the events: a sender that
/// waits for each answer has its events run in the order it sent them.
///
/// ```
/// use std::time::Duration;
///
/// use cognigy_core::{
///     AfterDeadLetter, EventOrder, Failure, State, memory::MemoryStore,
///     testing::{ManualClock, World, sample},
/// };
///
/// let order = EventOrder::PerContact(AfterDeadLetter::Continue);
/// let clock = ManualClock::new(sample::start());
/// let mut world = World::built(clock, MemoryStore::keeping(order), |pipeline| {
///     pipeline.handler(|event: std::sync::Arc<cognigy_core::Event>, _| async move {
///         match (event.id(), event.attempt()) {
///             ("first", 1) => Err(Failure::transient("not yet")),
///             _ => Ok(()),
///         }
///     })
/// });
/// world.deliver_body(sample::body_from("ada", "first"));
/// world.deliver_body(sample::body_from("ada", "second"));
/// world.start_worker();
/// world.pass(Duration::from_millis(500));
/// assert_eq!(world.state("second"), State::Pending); // waits for the retry of the first
/// world.pass(Duration::from_secs(10));
/// assert_eq!(world.state("second"), State::Processed);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum EventOrder {
    /// Every event is due on its own. The default, and the faster one.
    #[default]
    Any,
    /// One at a time for each contact, in order of arrival.
    PerContact(AfterDeadLetter),
}

/// What becomes of a contact whose event was given up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub enum AfterDeadLetter {
    /// Its next event is run. Sending the dead letter holds up no event.
    #[default]
    Continue,
    /// Its events wait until that one has been replayed with success, and it is kept for as long.
    Stop,
}

impl EventOrder {
    const ALL: [Self; 3] = [
        Self::Any,
        Self::PerContact(AfterDeadLetter::Continue),
        Self::PerContact(AfterDeadLetter::Stop),
    ];

    /// The name in stores and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Any => "none",
            Self::PerContact(AfterDeadLetter::Continue) => "per_contact",
            Self::PerContact(AfterDeadLetter::Stop) => "per_contact_stop",
        }
    }

    /// Whether a contact's events are held back behind one another.
    #[must_use]
    pub fn is_kept(self) -> bool {
        self != Self::Any
    }

    /// Whether an event that was given up holds its contact.
    #[must_use]
    pub fn stops(self) -> bool {
        self == Self::PerContact(AfterDeadLetter::Stop)
    }
}

impl fmt::Display for EventOrder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Not the name of an [`EventOrder`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected none, per_contact or per_contact_stop")]
pub struct UnknownOrder;

impl FromStr for EventOrder {
    type Err = UnknownOrder;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|order| order.as_str() == text).ok_or(UnknownOrder)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_read_back() {
        for order in EventOrder::ALL {
            assert_eq!(order.to_string().parse(), Ok(order));
        }
        assert!("per-contact".parse::<EventOrder>().is_err());
        assert_eq!(EventOrder::default(), EventOrder::Any);
    }

    #[test]
    fn only_who_keeps_the_order_may_stop_a_contact() {
        assert_eq!(EventOrder::ALL.map(EventOrder::is_kept), [false, true, true]);
        assert_eq!(EventOrder::ALL.map(EventOrder::stops), [false, false, true]);
    }
}
