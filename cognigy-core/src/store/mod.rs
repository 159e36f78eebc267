//! The storage ports: [`EventStore`] for the hot path, [`EventArchive`] for reading and upkeep,
//! [`Quarantine`] for what was signed but could not be taken.
//!
//! Every `## Contract` sentence is checked by the conformance suite in [`testing`](crate::testing),
//! which any implementation can run. `now` is the caller's clock; a store that several nodes share
//! may go by its own clock instead, as long as it always does.
//!
//! Every method is safe to repeat after an error, because an error says nothing about the effect.

mod administration;
mod audit;
mod claim;
mod error_class;
mod order;
mod page;
mod records;
mod search;
pub mod search_index;
mod shared;

use std::{collections::BTreeMap, time::Duration};

use async_trait::async_trait;

pub use administration::{
    Administration, Discarded, Erasure, LastFailure, Person, SCAN_BYTES, ScanPage, ScanRequest,
    Scanned,
};
pub use audit::{AuditEntry, AuditLog, AuditPage};
pub use claim::{
    Attempt, AttemptOutcome, Claim, ClaimToken, DeadLetterClaim, DeadLetterEnd, RunEnd, Settlement,
    WorkEnd, WorkKind,
};
pub use error_class::ErrorClass;
pub use order::{AfterDeadLetter, EventOrder, UnknownOrder};
pub use page::{
    Backlog, Counts, Cursor, EXCERPT_BYTES, EventFilter, EventPage, EventSummary, InvalidCursor,
    PAGE_BYTES, PageRequest, PurgeRequest, PurgeStep, Purged, QuarantinePage, QuarantineSummary,
    QuarantinedItem, StoreSize, StoredEvent, UnsentDeadLetter,
};
pub use records::{
    ClaimBatch, ClaimRequest, ClaimedDeadLetter, ClaimedRun, Forgotten, QuarantineEntry,
    QuarantineLimits, QuarantineReason, Recorded, ReplayClaim, Requeued, Settled,
};
pub(crate) use search::before;
pub use search::{ErrorGroup, GROUPED, SEARCHED, Words, error_groups, search};

use crate::{
    event::{EventKey, IncomingEvent, SourceName, Timestamp},
    ports::StoreError,
};

/// Where events live: recorded, claimed, settled.
///
/// A store may be told to keep the order of each contact's events ([`EventOrder`](crate::EventOrder)).
/// It then promises more, which a suite of its own checks:
///
/// * At most one unfinished event of a contact can be claimed, by any method. The others are `pending`
///   and not due until it has ended, however often it is retried or its lease runs out.
/// * When it ends, the earliest of the contact's waiting events becomes due at the same moment.
/// * An event that is run again takes its place in the order of arrival, but does not displace an
///   event that was handed out.
/// * Events of other contacts, and events without a contact, never wait for it.
///
/// ```
/// use std::time::Duration;
///
/// use cognigy_core::{
///     ClaimRequest, EventArchive, EventStore, Recorded, RunEnd, Settled, SourceName, State,
///     memory::MemoryStore, testing::sample,
/// };
///
/// # fn main() -> Result<(), cognigy_core::StoreError> {
/// # futures_executor::block_on(async {
/// // What a pipeline and its worker do with a store; `testing` has the suite that checks one.
/// let (store, now) = (MemoryStore::new(), sample::start());
/// let event = sample::incoming(sample::body("e1"));
/// assert_eq!(store.record(event.clone(), now).await?, Recorded::New);
/// assert_eq!(store.record(event, now).await?, Recorded::Identical);
///
/// let request = ClaimRequest {
///     source: SourceName::default(),
///     runs: 10,
///     dead_letters: 10,
///     lease: Duration::from_secs(60),
///     now,
/// };
/// let run = store.claim_due(request).await?.runs.remove(0);
/// let end = RunEnd::Processed { contact: None };
/// let settled = store.settle(&[run.claim.settle(end, None, now)]).await?;
/// assert_eq!(settled, [Settled::Done]);
/// let stored = store.find(&sample::key("e1")).await?.unwrap();
/// assert_eq!(stored.state, State::Processed);
/// # Ok(())
/// # })
/// # }
/// ```
#[async_trait]
pub trait EventStore: Send + Sync + 'static {
    /// Keeps an event, once.
    ///
    /// ## Contract
    /// * When it returns `Ok`, the outcome survives a crash of the process and of the machine.
    /// * The first delivery of a key gives `New` and makes the event `pending`, due at once.
    /// * Any later one changes nothing: `Identical` for equal bytes, else `Differs` with the first
    ///   body.
    /// * Of any number of concurrent deliveries of one key, exactly one is `New`.
    /// * The same id at two sources is two events.
    ///
    /// # Errors
    /// The store could not keep the event, or cannot say whether it did. The sender gets 503 and sends the event again,
    /// which is `New` or `Identical` then.
    async fn record(&self, event: IncomingEvent, now: Timestamp) -> Result<Recorded, StoreError>;

    /// Keeps the events of one delivery, each as [`record`](Self::record) does.
    ///
    /// ## Contract
    /// * One answer for each event, in order. Of two events with one key the first counts as delivered
    ///   before the second.
    /// * All of them are durable when it returns `Ok`. After an error, or a crash, all of them are
    ///   stored or none is.
    ///
    /// # Errors
    /// As [`record`](Self::record), for all of them.
    async fn record_all(
        &self,
        events: Vec<IncomingEvent>,
        now: Timestamp,
    ) -> Result<Vec<Recorded>, StoreError>;

    /// Takes work that is due: attempts at runs, and dead letters for the sink.
    ///
    /// ## Contract
    /// * Only work of the source that is named; another's is neither taken nor announced.
    /// * At most `runs` attempts and `dead_letters` letters, and nothing before its time; earliest
    ///   due first within each kind; of work that is due at the same time the store chooses. However
    ///   much waits of one kind, the other gets its share.
    /// * A claimed event is `processing`. It cannot be claimed again until the lease runs out.
    /// * Once it has, the event can be claimed again under a new token, which tells so (`took_over`);
    ///   the lost attempt is in its history as `lease_expired`, from its claim to the end of its lease,
    ///   with the error `the worker's lease ran out`: errors are grouped and searched by their words.
    /// * A claim tells how many attempts of its run were lost before.
    /// * An event whose body cannot be read back is claimed with the reason in place of the event.
    /// * `next_due` is not later than the time at which the next piece that was not claimed is due.
    ///   It says nothing of a kind whose limit is 0.
    ///
    /// # Errors
    /// The store could not be asked. The worker asks again. What was claimed all the same can be claimed again once its
    /// lease has run out.
    async fn claim_due(&self, request: ClaimRequest) -> Result<ClaimBatch, StoreError>;

    /// Prolongs leases to `now + lease`. One answer for each token, in order.
    ///
    /// ## Contract
    /// * No lease is shortened: a renewal that was held up on its way changes nothing where a later
    ///   one has been answered.
    /// * A token that is not the latest grant gets `LeaseLost` and changes nothing.
    ///
    /// # Errors
    /// The store could not be asked: no lease may have been prolonged. The worker asks again, and stops working on what it
    /// cannot renew before its lease ends.
    async fn renew(
        &self,
        tokens: &[ClaimToken],
        lease: Duration,
        now: Timestamp,
    ) -> Result<Vec<Settled>, StoreError>;

    /// Ends claims. One answer for each settlement, in order.
    ///
    /// ## Contract
    /// * All settlements of one call that are not lost take effect together, durably.
    /// * A token that is not the latest grant, or was settled before, gets `LeaseLost` and changes
    ///   nothing. A lease that ran out but was not granted again can still be settled.
    /// * `UnblockedNext` in place of `Done` where the end of a run made another event due.
    /// * `PutOff` and `Release` do not count the attempt.
    /// * What asking the CRM came to is kept where the settlement says so.
    /// * `GiveUp` makes the event `dead_lettering` and its dead letter due, in one transaction.
    /// * A dead letter that was sent makes its event `dead_lettered`, unless a replay has taken the
    ///   event further meanwhile.
    ///
    /// # Errors
    /// The store could not keep the settlements, or cannot say whether it did. The caller may send the same settlements
    /// again: one that took effect is answered with `LeaseLost` then, and changes nothing.
    async fn settle(&self, settlements: &[Settlement]) -> Result<Vec<Settled>, StoreError>;

    /// Takes one event for a new run, now.
    ///
    /// ## Contract
    /// * `Busy` while another run holds the event, or while an unfinished event of the same contact
    ///   comes first where the store keeps that order; otherwise the event is `processing` in a run of
    ///   its own, numbered one higher than the last, at attempt 1.
    /// * A dead letter of an earlier run that still waits for the sink is sent all the same.
    /// * `Forgotten`, and no change, where the event's body was forgotten.
    ///
    /// # Errors
    /// The store could not be asked. Where the event was claimed all the same, a worker claims it again once the lease has
    /// run out.
    async fn replay(
        &self,
        key: &EventKey,
        lease: Duration,
        now: Timestamp,
    ) -> Result<ReplayClaim, StoreError>;

    /// Has workers run events again. One answer for each key, in order.
    ///
    /// ## Contract
    /// * A finished event becomes `pending` in a new run, due at once.
    /// * One that is `pending` already keeps its run and becomes due at once, so that repeating the
    ///   call adds nothing.
    /// * `Busy`, and no change, for one that is `processing`, even where its lease has run out: the next
    ///   claim takes it over.
    /// * `Forgotten`, and no change, where the event's body was forgotten.
    ///
    /// # Errors
    /// The store could not be asked, or cannot say whether the events are due now. Repeating the call adds nothing.
    async fn requeue(&self, keys: &[EventKey], now: Timestamp)
    -> Result<Vec<Requeued>, StoreError>;
}

/// Reading what is stored, and keeping it small.
///
/// ```
/// use cognigy_core::{Clock, EventFilter, PageRequest, PurgeRequest, State, testing::World};
///
/// # fn main() -> Result<(), cognigy_core::StoreError> {
/// # use futures_executor::block_on;
/// let mut world = World::start(cognigy_core::NoHandler);
/// for number in 0..5 {
///     world.deliver(&format!("e{number}"));
/// }
/// world.pass(std::time::Duration::from_secs(1));
/// let store = world.pipeline.store();
///
/// // All processed events, page by page, newest first.
/// let filter = EventFilter { state: Some(State::Processed), ..EventFilter::default() };
/// let (mut ids, mut after) = (Vec::new(), None);
/// loop {
///     let page = block_on(store.list(&filter, PageRequest { limit: 2, after }))?;
///     ids.extend(page.events.iter().map(|event| event.id.to_string()));
///     after = page.next;
///     if after.is_none() {
///         break;
///     }
/// }
/// assert_eq!(ids, ["e4", "e3", "e2", "e1", "e0"]);
///
/// // What is finished goes, a step at a time.
/// let step = block_on(store.purge(PurgeRequest::all_before(world.clock.now(), 100)))?;
/// assert_eq!(step.purged.total_events(), 5);
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait EventArchive: Send + Sync + 'static {
    /// One event with its body, as stored.
    ///
    /// # Errors
    /// The store could not be asked, or the event cannot be read back
    /// ([`Corrupt`](crate::StoreErrorKind::Corrupt): an operator has to look).
    async fn find(&self, key: &EventKey) -> Result<Option<StoredEvent>, StoreError>;

    /// Events that match, newest first.
    ///
    /// ## Contract
    /// * Following `next` from page to page yields every event that was there at the start exactly
    ///   once, whatever arrives meanwhile.
    /// * A page ends early rather than hold more than [`PAGE_BYTES`] beyond its first event, and where
    ///   the filter names words or an error, once [`SEARCHED`] events have been looked at.
    ///
    /// # Errors
    /// As [`find`](Self::find). The same page can be asked for again.
    async fn list(&self, filter: &EventFilter, page: PageRequest) -> Result<EventPage, StoreError>;

    /// The history of an event, oldest attempt first; empty for an unknown one.
    ///
    /// # Errors
    /// As [`find`](Self::find).
    async fn attempts(&self, key: &EventKey) -> Result<Vec<Attempt>, StoreError>;

    /// How many events there are of each state and type, and how long the oldest has waited.
    ///
    /// # Errors
    /// The store could not be asked.
    async fn counts(&self) -> Result<Counts, StoreError>;

    /// How much room the store takes.
    ///
    /// # Errors
    /// The store could not be asked.
    async fn size(&self) -> Result<StoreSize, StoreError>;

    /// How much of each source's work is not finished; a source without any is absent. It may read
    /// all of it: a question for now and then, not for every scrape.
    ///
    /// # Errors
    /// The store could not be asked.
    async fn backlog(&self) -> Result<BTreeMap<SourceName, Backlog>, StoreError>;

    /// Forgets what `request` names, a step at a time, and says what went. An event forgotten can be
    /// recorded again.
    ///
    /// ## Contract
    /// * Events that are not `processed`, `dead_lettered` or `discarded` stay, however old, and so do events
    ///   with a dead letter still in the outbox or a contact that waits for them.
    /// * Dead-lettered events and conflicting bodies have a time of their own, and stay without one.
    /// * At most `limit` events and `limit` bodies go in one step. Following `next` from step to step,
    ///   all that could go at the start does.
    ///
    /// # Errors
    /// The store could not be asked, or cannot say whether the step took effect. What went stays gone; the same step can be
    /// asked for again.
    async fn purge(&self, request: PurgeRequest) -> Result<PurgeStep, StoreError>;

    /// What [`purge`](Self::purge) would forget in all its steps; `limit` and `after` mean nothing
    /// here. It may read everything that is stored.
    ///
    /// # Errors
    /// The store could not be asked.
    async fn purgeable(&self, request: PurgeRequest) -> Result<Purged, StoreError>;

    /// Forgets the bodies of at most `limit` sensitive events that were processed before `before`, and
    /// says how many.
    ///
    /// ## Contract
    /// * Of a forgotten body the digest stays: the same bytes under the same id are still `Identical`,
    ///   and others `Differs`, with an empty body.
    /// * Events that are not sensitive, or not processed, keep their bodies.
    ///
    /// # Errors
    /// The store could not be asked, or cannot say whether bodies went. The call can be repeated.
    async fn forget_sensitive(&self, before: Timestamp, limit: usize) -> Result<u64, StoreError>;

    /// Whether the store can take events right now: does what a delivery needs in every table that
    /// a delivery writes, leaves none of it, and makes something durable.
    ///
    /// # Errors
    /// The store cannot take events now, and says why. A probe for readiness fails then.
    async fn ready(&self) -> Result<(), StoreError>;
}

/// Bodies that were signed but could not be taken, for an operator to look at and try again.
///
/// ```
/// use cognigy_core::{PageRequest, QuarantineReason, QuarantineRetry, testing::World};
///
/// # fn main() -> Result<(), cognigy_core::StoreError> {
/// # use futures_executor::block_on;
/// let world = World::new();
/// assert_eq!(world.deliver_body(r#"{"eventId":"e1"}"#).status(), 400);
/// let store = world.pipeline.store();
/// let page = block_on(store.quarantined(PageRequest { limit: 10, after: None }))?;
/// let item = &page.items[0];
/// assert_eq!((item.reason, item.event_id.as_deref()), (QuarantineReason::Invalid, Some("e1")));
///
/// // Once the rules are others: read it again. Here they are the same.
/// # use cognigy_core::Clock;
/// let retried = block_on(world.pipeline.retry_quarantined(item.id, world.clock.now()))?;
/// assert!(matches!(retried, QuarantineRetry::Invalid(_)));
/// assert!(block_on(store.discharge(item.id))?);
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait Quarantine: Send + Sync + 'static {
    /// Keeps a body, and says how many older ones had to go for it.
    ///
    /// ## Contract
    /// * The same body with the same kept headers, from the same source for the same reason, is kept
    ///   once.
    /// * Durable like [`EventStore::record`].
    /// * Where the source's invalid bodies are more than `limits` allows, its oldest invalid ones go, and
    ///   none where it allows any number.
    ///   Conflicts and other sources' bodies never go for it.
    ///
    /// # Errors
    /// The store could not keep the body, or cannot say whether it did. The sender gets 503 and sends it again; it is kept
    /// once.
    async fn quarantine(
        &self,
        entry: QuarantineEntry,
        limits: QuarantineLimits,
        now: Timestamp,
    ) -> Result<u64, StoreError>;

    /// What is in quarantine, newest first, with excerpts of the bodies.
    ///
    /// # Errors
    /// The store could not be asked, or an item cannot be read back.
    async fn quarantined(&self, page: PageRequest) -> Result<QuarantinePage, StoreError>;

    /// One item.
    ///
    /// # Errors
    /// As [`quarantined`](Self::quarantined).
    async fn quarantined_item(&self, id: i64) -> Result<Option<QuarantinedItem>, StoreError>;

    /// Removes an item; whether it was there.
    ///
    /// # Errors
    /// The store could not be asked, or cannot say whether the item went. The call can be repeated; the answer may be `false`
    /// then.
    async fn discharge(&self, id: i64) -> Result<bool, StoreError>;
}

/// Small texts that all processes on one store share: tokens, and what one process has to tell the others.
///
/// ```
/// use cognigy_core::{SharedValues, memory::MemoryStore};
///
/// # fn main() -> Result<(), cognigy_core::StoreError> {
/// # futures_executor::block_on(async {
/// // Of several processes, the one that replaces the value may do the work.
/// let store = MemoryStore::new();
/// assert!(store.replace_shared_value("turn", None, Some("node-1")).await?);
/// assert!(!store.replace_shared_value("turn", None, Some("node-2")).await?);
/// assert_eq!(store.shared_value("turn").await?.as_deref(), Some("node-1"));
/// # Ok(())
/// # })
/// # }
/// ```
#[async_trait]
pub trait SharedValues: Send + Sync + 'static {
    /// The value called `name`.
    ///
    /// # Errors
    /// The store could not be asked.
    async fn shared_value(&self, name: &str) -> Result<Option<String>, StoreError>;

    /// Puts `new` in the place of `expected`, or removes it, and says whether it did. `None` is no value.
    ///
    /// ## Contract
    /// * One atomic step: of several callers that expect the same, one succeeds.
    /// * Durable like [`EventStore::record`].
    /// * Nothing changes where the value is another one.
    ///
    /// # Errors
    /// The store could not be asked, or cannot say whether it put the value there. The caller reads the value before it tries
    /// again.
    async fn replace_shared_value(
        &self,
        name: &str,
        expected: Option<&str>,
        new: Option<&str>,
    ) -> Result<bool, StoreError>;
}

/// All storage ports in one object, as the pipeline uses them.
///
/// ```
/// use std::sync::Arc;
///
/// use cognigy_core::{Pipeline, Store, memory::MemoryStore, testing::sample};
///
/// // A store of a kind that is chosen when the program runs.
/// let store: Arc<dyn Store> = Arc::new(MemoryStore::new());
/// let pipeline = Pipeline::builder(sample::verifier()).store(Arc::clone(&store)).build()?;
/// # let _ = pipeline;
/// # Ok::<_, cognigy_core::BuildError>(())
/// ```
pub trait Store:
    EventStore + EventArchive + Quarantine + SharedValues + AuditLog + Administration
{
}

impl<S: EventStore + EventArchive + Quarantine + SharedValues + AuditLog + Administration> Store
    for S
{
}
