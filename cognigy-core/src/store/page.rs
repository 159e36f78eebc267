//! What the reading side asks for and gets.

use std::{collections::BTreeMap, fmt, str::FromStr};

use bytes::Bytes;

use super::{Forgotten, QuarantineReason, Words};
use crate::{
    event::{
        Correlation, DeliveryContext, Event, EventId, EventKey, EventTime, EventType, SourceName,
        State, Timestamp,
    },
    ports::Contact,
};

/// Ids of contacts that one page of events holds, in bytes, beyond its first event. A sender may
/// give each event an `externalId` as large as a body; thousands of usual ones fit.
pub const PAGE_BYTES: usize = 2 * 1024 * 1024;

/// How much of a body a page of the quarantine shows, in bytes: enough to see what was sent. The
/// whole body is fetched singly ([`Quarantine::quarantined_item`](crate::Quarantine::quarantined_item)).
pub const EXCERPT_BYTES: usize = 1024;

/// Where a page ended. Opaque outside the store that made it.
///
/// ```
/// use cognigy_core::{Cursor, InvalidCursor};
///
/// let cursor: Cursor = "42".parse()?;
/// assert_eq!(cursor.to_string(), "42");
/// assert_eq!("page 2".parse::<Cursor>(), Err(InvalidCursor));
/// # Ok::<_, InvalidCursor>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor(pub i64);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Not the text of a [`Cursor`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("is not a cursor")]
pub struct InvalidCursor;

impl FromStr for Cursor {
    type Err = InvalidCursor;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // The one way to write it: no sign, no zeros in front.
        let number = text.parse::<i64>().ok().filter(|number| number.to_string() == text);
        number.map(Self).ok_or(InvalidCursor)
    }
}

/// One page: at most `limit` entries after `after`; fewer where they are large.
///
/// ```
/// use cognigy_core::{Cursor, EventFilter, PageRequest, testing::World};
///
/// # use futures_executor::block_on;
/// let world = World::new();
/// (0..3).for_each(|number| assert_eq!(world.deliver(&format!("e{number}")).status(), 200));
/// let store = world.pipeline.store();
/// let first = PageRequest { limit: 2, after: None };
/// let page = block_on(store.list(&EventFilter::default(), first)).unwrap();
///
/// // The cursor goes to a client as text, and comes back.
/// let cursor: Cursor = page.next.unwrap().to_string().parse().unwrap();
/// let second = PageRequest { limit: 2, after: Some(cursor) };
/// let page = block_on(store.list(&EventFilter::default(), second)).unwrap();
/// assert_eq!((page.events.len(), page.next), (1, None));
/// ```
#[derive(Debug, Clone, Copy)]
pub struct PageRequest {
    /// The most entries.
    pub limit: usize,
    /// The previous page's end; `None` for the first page.
    pub after: Option<Cursor>,
}

/// Which events. Everything set has to hold.
///
/// ```
/// use cognigy_core::{EventFilter, PageRequest, State, testing::{CrmAnswer, World}};
///
/// # let mut world = World::start(cognigy_core::NoHandler);
/// world.crm.set_default(CrmAnswer::Permanent("no such field".into()));
/// world.deliver("e1");
/// world.pass(std::time::Duration::from_secs(1));
///
/// // What was given up, of one contact.
/// let filter = EventFilter {
///     state: Some(State::DeadLettered),
///     external_id: Some("c-e1".into()),
///     ..EventFilter::default()
/// };
/// let page = PageRequest { limit: 20, after: None };
/// # use futures_executor::block_on;
/// let found = block_on(world.pipeline.store().list(&filter, page)).unwrap();
/// assert_eq!(found.events[0].id.as_str(), "e1");
/// ```
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
    /// Of exactly this conversation.
    pub conversation: Option<String>,
    /// With this outcome of asking the CRM. Events that were settled before it was kept do not match.
    pub correlation: Option<Correlation>,
    /// With all of these words.
    pub words: Option<Words>,
    /// Dead-lettered or being retried, and failed last with an error of the class of this name.
    pub error: Option<String>,
}

impl EventFilter {
    /// For stores: whether matching events have to be searched for ([`search`](crate::search)).
    #[must_use]
    pub fn is_search(&self) -> bool {
        self.words.is_some() || self.error.is_some()
    }
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
    /// What names its conversation.
    pub conversation: Option<String>,
    /// What asking the CRM for its contact came to.
    pub correlation: Correlation,
    /// When it was first received.
    pub received_at: Timestamp,
    /// When its last successful run ended.
    pub processed_at: Option<Timestamp>,
}

impl EventSummary {
    /// What names it.
    #[must_use]
    pub fn key(&self) -> EventKey {
        EventKey { source: self.source.clone(), id: self.id.clone() }
    }

    /// How much of [`PAGE_BYTES`] it takes.
    #[must_use]
    pub fn page_bytes(&self) -> usize {
        let length = |id: &Option<String>| id.as_ref().map_or(0, String::len);
        length(&self.external_id) + length(&self.user_id) + length(&self.conversation)
    }
}

/// A dead letter that the sink does not have yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnsentDeadLetter {
    /// The run that was given up.
    pub run: u32,
    /// Why it was given up.
    pub reason: String,
    /// How often sending it has begun.
    pub tries: u32,
    /// When it is tried next, or when the lease of the worker that is sending it ends.
    pub due: Timestamp,
}

/// An event with everything known about it but its history.
///
/// ```
/// use cognigy_core::{State, testing::World};
///
/// let mut world = World::start(cognigy_core::NoHandler);
/// world.deliver("e1");
/// world.pass(std::time::Duration::from_secs(1));
/// let stored = world.find("e1");
/// assert_eq!((stored.state, stored.event.run()), (State::Processed, 1));
/// assert_eq!(stored.contact.unwrap().as_json(), r#"{"name":"Ada"}"#);
/// assert!(stored.unsent.is_none() && stored.forgotten.is_none());
/// ```
#[derive(Debug, Clone)]
pub struct StoredEvent {
    /// The event with its body and run.
    pub event: Event,
    /// Where it is in its life.
    pub state: State,
    /// When its next attempt is due; `None` unless it is pending, and while it waits for an earlier event
    /// of its contact.
    pub due: Option<Timestamp>,
    /// When its last successful run ended.
    pub processed_at: Option<Timestamp>,
    /// What the CRM knew in the last successful run.
    pub contact: Option<Contact>,
    /// What asking the CRM for its contact came to.
    pub correlation: Correlation,
    /// Why its body is not there any more; then the event's body is empty.
    pub forgotten: Option<Forgotten>,
    /// The dead letter of the latest run that left one, while it waits for the sink.
    pub unsent: Option<UnsentDeadLetter>,
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
///
/// ```
/// use cognigy_core::{State, testing::World};
///
/// let world = World::new(); // without a worker
/// world.deliver("e1");
/// world.deliver("e2");
/// let counts = world.counts();
/// assert_eq!((counts.of(State::Pending), counts.of(State::Processed)), (2, 0));
/// assert_eq!(counts.by_type["USER_INPUT_RECEIVED"], 2);
/// assert!(counts.oldest_pending.is_some());
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Events by state. Absent means none.
    pub by_state: BTreeMap<State, u64>,
    /// Events by type, by name.
    pub by_type: BTreeMap<String, u64>,
    /// When the event that has waited longest was received, of those that are not finished:
    /// `pending`, `processing`, or with a dead letter that the sink does not have yet.
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

/// How much room the store takes on its disk and how much is left, in bytes; none where the store cannot tell.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StoreSize {
    /// Everything that is stored, indexes included.
    pub database: Option<u64>,
    /// The write-ahead log that belongs to this store alone.
    pub log: Option<u64>,
    /// What is free on the disk of the store, for a process without special rights.
    pub free: Option<u64>,
}

/// One step of a purge: what is to be forgotten.
///
/// ```
/// use std::time::Duration;
///
/// use cognigy_core::{Clock, PurgeRequest, Purged, testing::World};
///
/// # let mut world = World::start(cognigy_core::NoHandler);
/// # use futures_executor::block_on;
/// # for number in 0..5 { world.deliver(&format!("e{number}")); }
/// // Processed events go after a month, dead letters never; two events in a step.
/// world.pass(Duration::from_secs(1));
/// world.pause(Duration::from_secs(40 * 86_400));
/// let mut request = PurgeRequest {
///     before: world.clock.now() - Duration::from_secs(30 * 86_400),
///     unresolved_before: None,
///     limit: 2,
///     after: None,
/// };
/// let mut purged = Purged::default();
/// loop {
///     let step = block_on(world.pipeline.store().purge(request)).unwrap();
///     purged.add(&step.purged);
///     match step.next {
///         Some(next) => request.after = Some(next),
///         None => break,
///     }
/// }
/// assert_eq!(purged.total_events(), 5);
/// ```
#[derive(Debug, Clone, Copy)]
pub struct PurgeRequest {
    /// For processed and discarded events, and for quarantined bodies that were refused as invalid: their senders
    /// were told.
    pub before: Timestamp,
    /// For dead-lettered events, and for quarantined bodies that were answered 200 because their
    /// event id was known with other content: an operator has to deal with them. `None`: they stay.
    pub unresolved_before: Option<Timestamp>,
    /// The most events, and the most quarantined bodies, to forget in one step; at least 1.
    pub limit: usize,
    /// Where the step before ended; `None` for the first one.
    pub after: Option<Cursor>,
}

/// What one step of a purge did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PurgeStep {
    /// What was forgotten.
    pub purged: Purged,
    /// Where the next step begins; `None` once everything has been looked at.
    pub next: Option<Cursor>,
}

impl PurgeStep {
    /// What a step did that ended with the event of the handle `last`, and whose next one begins
    /// there unless fewer events and fewer bodies went than `limit` allowed.
    #[must_use]
    pub fn up_to(last: Option<i64>, purged: Purged, limit: usize) -> Self {
        let bodies: u64 = purged.quarantined.values().sum();
        let next = match last {
            Some(last) => Some(Cursor(last)),
            None => (bodies >= limit as u64).then_some(Cursor(i64::MAX)),
        };
        Self { purged, next }
    }
}

impl PurgeRequest {
    /// Forgets everything finished that was received before `before`, whether or not an operator has
    /// dealt with it.
    #[must_use]
    pub fn all_before(before: Timestamp, limit: usize) -> Self {
        Self { before, unresolved_before: Some(before), limit, after: None }
    }

    /// Before which time something has to be received to go.
    #[must_use]
    pub fn before_for(&self, unresolved: bool) -> Option<Timestamp> {
        if unresolved { self.unresolved_before } else { Some(self.before) }
    }
}

/// What was forgotten, or would be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Purged {
    /// Events by the state they were in.
    pub events: BTreeMap<State, u64>,
    /// Quarantined bodies by the reason for which they were kept.
    pub quarantined: BTreeMap<QuarantineReason, u64>,
}

impl Purged {
    /// How many events went.
    #[must_use]
    pub fn total_events(&self) -> u64 {
        self.events.values().sum()
    }

    /// Whether nothing went.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.values().chain(self.quarantined.values()).all(|count| *count == 0)
    }

    /// Counts `other` in.
    pub fn add(&mut self, other: &Self) {
        for (state, count) in &other.events {
            *self.events.entry(*state).or_default() += count;
        }
        for (reason, count) in &other.quarantined {
            *self.quarantined.entry(*reason).or_default() += count;
        }
    }
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
    /// The kept headers of the delivery.
    pub context: DeliveryContext,
    /// When it was first received.
    pub received_at: Timestamp,
}

/// A body in quarantine, as a list shows it.
///
/// ```
/// use cognigy_core::{PageRequest, testing::World};
///
/// let world = World::new();
/// let body = format!(r#"{{"eventId":"e1","text":"{}"}}"#, "a".repeat(5000));
/// world.deliver_body(body.clone());
/// let list = world.pipeline.store().quarantined(PageRequest { limit: 10, after: None });
/// let summary = futures_executor::block_on(list).unwrap().items.remove(0);
/// assert_eq!(summary.length, body.len() as u64);
/// assert!(!summary.is_whole()); // a list has the beginning of long bodies
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuarantineSummary {
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
    /// The first [`EXCERPT_BYTES`] of the received bytes.
    pub excerpt: Bytes,
    /// How many bytes were received.
    pub length: u64,
    /// When it was first received.
    pub received_at: Timestamp,
}

impl QuarantineSummary {
    /// Whether the excerpt is the whole body.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.length == self.excerpt.len() as u64
    }
}

impl QuarantinedItem {
    /// What a list shows of it.
    #[must_use]
    pub fn summary(&self) -> QuarantineSummary {
        QuarantineSummary {
            id: self.id,
            source: self.source.clone(),
            reason: self.reason,
            event_id: self.event_id.clone(),
            detail: self.detail.clone(),
            excerpt: self.body.slice(..self.body.len().min(EXCERPT_BYTES)),
            length: self.body.len() as u64,
            received_at: self.received_at,
        }
    }
}

/// A page of the quarantine.
#[derive(Debug, Clone, Default)]
pub struct QuarantinePage {
    /// Newest first.
    pub items: Vec<QuarantineSummary>,
    /// Where the next page begins; `None` on the last one.
    pub next: Option<Cursor>,
}

#[cfg(test)]
mod tests {
    use super::Cursor;

    #[test]
    fn cursors_read_back() {
        assert_eq!(Cursor(-7).to_string().parse(), Ok(Cursor(-7)));
        for text in ["", "+7", "007", " 7", "7 ", "-0"] {
            assert!(text.parse::<Cursor>().is_err(), "{text:?}");
        }
    }
}
