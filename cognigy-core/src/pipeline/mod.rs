//! The pipeline of one source: what it is made of and with which limits.
//!
//! Its calls live where their work is: deliveries in [`intake`](crate::intake), attempts and dead
//! letters in [`processing`](crate::processing), replays and redrives in
//! [`operations`](crate::operations).

mod build_error;
mod builder;

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

pub use build_error::BuildError;
pub use builder::{NeedsStore, PipelineBuilder};

use crate::{
    event::{EventType, Timestamp, TraceParent},
    intake::Source,
    ports::{
        CrmClient, DeadLetterSink, EventHandler, Observation, Observer, Operation, Origin,
        SettlingHandler, Span, StoreError, Tracer, report,
    },
    processing::{Breaker, Notify, RetryPolicy},
    store::{QuarantineLimits, Store},
};

/// How long a claim lives without renewal: long enough for a slow disk or a paused virtual machine,
/// short enough that a crashed worker's events are soon taken over.
pub const DEFAULT_LEASE: Duration = Duration::from_secs(60);

/// How long one attempt may take: twelve times the default CRM timeout leaves a handler room, and
/// a handler that hangs still gives its slot back.
pub const DEFAULT_ATTEMPT_TIMEOUT: Duration = Duration::from_secs(120);

/// How many leases a run may lose before its event is given up: an event that kills the process that
/// works on it must not go on for ever, and ten crashes within one run are hardly anything else.
pub const DEFAULT_MAX_LOST_LEASES: u32 = 10;

/// Receives, stores, processes and replays events. Cheap to clone; all clones are one pipeline.
///
/// ```
/// use cognigy_core::{
///     Clock, Failure, Handlers, Pipeline, RawDelivery, ReplayOutcome, Secret, SignatureScheme,
///     SignatureVerifier, TokioClock, UserInput, Worker, memory::MemoryStore, sign,
/// };
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let secret = Secret::new("the secret you share with Cognigy")?;
/// let handlers = Handlers::new().on(|said: UserInput<String>, cx| async move {
///     println!("{:?} said {}", cx.event().contact_key(), said.input);
///     Ok(())
/// });
/// let pipeline = Pipeline::builder(SignatureVerifier::new(&secret))
///     .store(MemoryStore::new()) // a store that survives the process, in a program
///     .handler(handlers)
///     .build()?;
/// let clock = TokioClock::new();
/// let worker = Worker::spawn(pipeline.clone(), clock); // runs what was taken in
///
/// // In a route of any web framework: headers and body as they came.
/// let body = r#"{"eventId":"e1","timestamp":0,"type":"USER_INPUT_RECEIVED","payload":{"input":"hi"}}"#;
/// let signature = sign(&secret, SignatureScheme::Base64, body.as_bytes());
/// let headers = [("X-Cognigy-Signature", signature.as_str())];
/// let reply = pipeline.ingest(RawDelivery::new(headers, body), clock.now()).await;
/// assert_eq!(reply.status(), 200); // the event is stored
///
/// worker.shutdown().await; // lets attempts in flight end
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Pipeline {
    pub(crate) inner: Arc<Inner>,
}

pub(crate) struct Inner {
    pub(crate) source: Source,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) crm: Arc<dyn CrmClient>,
    pub(crate) handler: Handler,
    pub(crate) sink: Arc<dyn DeadLetterSink>,
    pub(crate) observer: Arc<dyn Observer>,
    /// None: there are no traces.
    pub(crate) tracer: Option<Arc<dyn Tracer>>,
    pub(crate) retry: RetryPolicy,
    pub(crate) on_ambiguous: OnAmbiguous,
    pub(crate) breaker: Option<Breaker>,
    pub(crate) sink_retry: RetryPolicy,
    pub(crate) max_body_bytes: usize,
    pub(crate) quarantine_limits: QuarantineLimits,
    pub(crate) max_lost_leases: u32,
    pub(crate) lease: Duration,
    pub(crate) attempt_timeout: Duration,
    /// Notified when this process records or requeues an event. A hint: polling finds the event too.
    pub(crate) new_work: Notify,
    /// Whether its workers begin no attempts for now.
    pub(crate) paused: AtomicBool,
}

impl Inner {
    /// How much of a lease its holder uses. It must have stopped before the store grants the work to
    /// another worker; timers are late and clocks differ a little, so that the last twentieth of the
    /// lease is not used.
    pub(crate) fn usable_lease(&self) -> Duration {
        self.lease - self.lease / 20
    }
}

/// What to do with an event whose contact the CRM knows several times.
///
/// ```
/// use cognigy_core::{
///     OnAmbiguous, State, memory::MemoryStore,
///     testing::{CrmAnswer, ManualClock, World, sample},
/// };
///
/// let clock = ManualClock::new(sample::start());
/// let mut world = World::built(clock, MemoryStore::new(), |pipeline| {
///     pipeline.on_ambiguous(OnAmbiguous::NoContact)
/// });
/// world.start_worker();
/// world.crm.set_default(CrmAnswer::Ambiguous(None));
/// world.deliver("e1");
/// world.pass(std::time::Duration::from_secs(1));
/// let stored = world.find("e1");
/// assert_eq!((stored.state, stored.contact), (State::Processed, None));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum OnAmbiguous {
    /// Dead-letter it: an operator decides.
    #[default]
    DeadLetter,
    /// Go on without a contact.
    NoContact,
    /// Go on with the first of them, where the CRM's answer holds it, and else without one.
    First,
}

/// The user's business logic.
pub(crate) enum Handler {
    /// The worker settles the claim after this handler.
    Plain(Arc<dyn EventHandler>),
    /// This handler settles the claim itself.
    Settling(Arc<dyn SettlingHandler>),
}

impl Handler {
    pub(crate) fn retry_policy(&self, kind: &EventType) -> Option<RetryPolicy> {
        match self {
            Self::Plain(handler) => handler.retry_policy(kind),
            Self::Settling(handler) => handler.retry_policy(kind),
        }
    }
}

impl Pipeline {
    /// Starts a pipeline for deliveries from `source`: a [`Source`], or just a
    /// [`SignatureVerifier`](crate::SignatureVerifier) for the default one. Pipelines for different
    /// sources may share a store: each has workers of its own, which claim its source's work only.
    pub fn builder(source: impl Into<Source>) -> NeedsStore {
        NeedsStore::new(source.into())
    }

    /// The store, for reading what is in it.
    #[must_use]
    pub fn store(&self) -> &Arc<dyn Store> {
        &self.inner.store
    }

    /// The source of its deliveries.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.inner.source
    }

    /// The length of the longest body that is taken, in bytes.
    #[must_use]
    pub fn max_body_bytes(&self) -> usize {
        self.inner.max_body_bytes
    }

    /// Whether look-ups are held back because the CRM is out of reach. Always false without a
    /// [breaker](PipelineBuilder::breaker).
    #[must_use]
    pub fn breaker_is_open(&self) -> bool {
        self.inner.breaker.as_ref().is_some_and(Breaker::is_open)
    }

    /// How long a run holds its event without a sign of life.
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.inner.lease
    }

    /// Whether its dead letters are sent somewhere. Else they [stay in the store](crate::KeepInStore).
    #[must_use]
    pub fn sends_dead_letters(&self) -> bool {
        !self.inner.sink.keeps_in_store()
    }

    /// Has the workers of this pipeline begin no more attempts, until [`resume`](Self::resume). What they
    /// have begun ends as usual, and what they have claimed beside that is given back. Deliveries are still
    /// taken in, dead letters are still sent, and a replay that is asked for by itself still runs.
    ///
    /// Only this process knows of it. An application with several processes tells each of them.
    ///
    /// ```
    /// use std::time::Duration;
    ///
    /// use cognigy_core::{State, testing::World};
    ///
    /// let mut world = World::start(cognigy_core::NoHandler);
    /// world.pipeline.pause();
    /// assert_eq!(world.deliver("e1").status(), 200); // still taken in
    /// world.pass(Duration::from_secs(60));
    /// assert_eq!(world.state("e1"), State::Pending);
    ///
    /// world.pipeline.resume();
    /// world.pass(Duration::from_secs(1));
    /// assert_eq!(world.state("e1"), State::Processed);
    /// ```
    pub fn pause(&self) {
        self.inner.paused.store(true, Ordering::Release);
        // Wakes the workers, which give back what they have not begun.
        self.inner.new_work.notify();
    }

    /// Has the workers of this pipeline begin attempts again.
    pub fn resume(&self) {
        self.inner.paused.store(false, Ordering::Release);
        self.inner.new_work.notify();
    }

    /// Whether the workers of this pipeline begin no attempts.
    #[must_use]
    pub fn is_paused(&self) -> bool {
        self.inner.paused.load(Ordering::Acquire)
    }

    pub(crate) fn report_store_error(&self, operation: &'static str, error: &StoreError) {
        let error = &report(error);
        self.inner.observer.observe(&Observation::StoreError { operation, error });
    }
}

impl Inner {
    /// Begins a span, if there are traces.
    pub(crate) fn span(
        &self,
        operation: Operation<'_>,
        origin: Origin,
        since: Option<Timestamp>,
    ) -> Option<Span> {
        Some(self.tracer.as_ref()?.begin(operation, origin, since))
    }

    /// Begins a span within `parent`, if there are traces.
    pub(crate) fn span_within(
        &self,
        parent: Option<TraceParent>,
        operation: Operation<'_>,
    ) -> Option<Span> {
        self.span(operation, Origin::Child(parent?), None)
    }
}

impl fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pipeline").field("source", &self.inner.source).finish_non_exhaustive()
    }
}
