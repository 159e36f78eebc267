//! The other kind of handler: one whose effects live where the events do, so that it ends the run
//! itself, in the same step.
//!
//! The core knows no transaction. It says what the end of the run is ([`Completion::settlement`]),
//! and is told whether that took effect ([`Settled`]). The PostgreSQL store's `TransactionalHandler`
//! is built on this; so may be a store of your own.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;

use crate::{
    event::{Correlation, Event, EventType, Timestamp},
    ports::{Clock, Contact, Failure},
    processing::RetryPolicy,
    store::{Attempt, AttemptOutcome, ClaimToken, RunEnd, Settled, Settlement},
};

/// What to do with an event and its contact, by a handler that settles the event's claim itself.
///
/// ## Contract
/// * On success its effects and [`Completion::settlement`] took effect together, and the answer is
///   that of the settlement. `LeaseLost` means that neither did: another worker has the event.
/// * With a failure neither took effect, as far as it knows. The worker then settles the claim as
///   after any handler's failure; should the handler's own settlement have taken effect all the
///   same (its answer was lost), the fencing token makes that one void.
/// * It may be dropped at any `await`, and it may panic: both are as good as a failure.
///
/// ```
/// use std::{sync::Arc, time::Duration};
///
/// use async_trait::async_trait;
/// use cognigy_core::{
///     Completion, Contact, Event, EventStore, Failure, OrFail, Settled, SettlingHandler, State,
///     memory::MemoryStore,
///     testing::{ManualClock, World, sample},
/// };
///
/// /// Keeps its effects where the events are, so that both take effect in one step.
/// struct InTheStore(Arc<MemoryStore>);
///
/// #[async_trait]
/// impl SettlingHandler for InTheStore {
///     async fn handle(
///         &self,
///         _event: Arc<Event>,
///         _contact: Option<Contact>,
///         completion: Completion<'_>,
///     ) -> Result<Settled, Failure> {
///         // A database would have a transaction here, with the handler's own writes in it.
///         let settled = self.0.settle(&[completion.settlement()]).await;
///         Ok(settled.or_transient("the store could not settle")?.remove(0))
///     }
/// }
///
/// let store = Arc::new(MemoryStore::new());
/// let clock = ManualClock::new(sample::start());
/// let mut world = World::built(clock, store.clone(), |it| it.settling_handler(InTheStore(store)));
/// world.start_worker();
/// world.deliver("e1");
/// world.pass(Duration::from_secs(1));
/// assert_eq!(world.state("e1"), State::Processed);
/// ```
#[async_trait]
pub trait SettlingHandler: Send + Sync + 'static {
    /// Handles one event and settles its claim. A transient failure is retried, a permanent one
    /// dead-letters the event.
    ///
    /// # Errors
    /// As [`EventHandler::handle`](crate::EventHandler::handle), where nothing took effect as far as the handler knows. The
    /// worker then settles the claim.
    async fn handle(
        &self,
        event: Arc<Event>,
        contact: Option<Contact>,
        completion: Completion<'_>,
    ) -> Result<Settled, Failure>;

    /// As [`EventHandler::retry_policy`](crate::EventHandler::retry_policy).
    fn retry_policy(&self, kind: &EventType) -> Option<RetryPolicy> {
        let _ = kind;
        None
    }
}

/// The end of a run that goes well, for the handler that settles it.
#[must_use = "an attempt that is not settled is repeated once its lease has run out"]
pub struct Completion<'a> {
    pub(crate) token: ClaimToken,
    pub(crate) run: u32,
    pub(crate) number: u32,
    pub(crate) started_at: Timestamp,
    pub(crate) contact: Option<Contact>,
    pub(crate) correlation: Correlation,
    pub(crate) clock: &'a dyn Clock,
    pub(crate) settling: &'a Settling,
}

impl Completion<'_> {
    /// Whose claim it is.
    #[must_use]
    pub fn token(&self) -> ClaimToken {
        self.token
    }

    /// The end as of now: the event is processed, the attempt succeeded. To be asked for when
    /// nothing but settling is left to do. It may be asked for again, when the transaction it went
    /// into was undone and is tried once more.
    #[must_use]
    pub fn settlement(&self) -> Settlement {
        self.settling.begin();
        let at = self.clock.now();
        let attempt = Attempt {
            number: self.number,
            run: self.run,
            started_at: self.started_at,
            duration: (at - self.started_at).to_std().unwrap_or_default(),
            outcome: AttemptOutcome::Succeeded,
            error: None,
        };
        let end = RunEnd::Processed { contact: self.contact.clone() };
        Settlement::of_run(self.token, end, Some(attempt), at).correlated(self.correlation)
    }
}

impl fmt::Debug for Completion<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Completion").field("token", &self.token).finish_non_exhaustive()
    }
}

/// Whether an attempt may have settled its claim by itself. From then on a renewal that finds the
/// claim gone says nothing: the attempt may be what ended it, and if it was not, its settlement
/// finds that out.
#[derive(Debug, Clone, Default)]
pub(crate) struct Settling(Arc<AtomicBool>);

impl Settling {
    fn begin(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn has_begun(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
