//! Putting a pipeline together. Only the source and the store have no default.

use std::{
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use crate::{
    intake::{DEFAULT_MAX_BODY_BYTES, Source},
    pipeline::{
        BuildError, DEFAULT_ATTEMPT_TIMEOUT, DEFAULT_LEASE, DEFAULT_MAX_LOST_LEASES, Handler,
        Inner, OnAmbiguous, Pipeline, build_error::check_delays,
    },
    ports::{
        CrmClient, DeadLetterSink, EventHandler, KeepInStore, NoCrm, NoHandler, Observer,
        SettlingHandler, Silent, Tracer,
    },
    processing::{Breaker, Notify, RetryPolicy},
    store::{QuarantineLimits, Store},
};

/// A pipeline that knows its source and still needs a store.
///
/// ```
/// use cognigy_core::{CognigyFormat, Pipeline, Source, memory::MemoryStore, testing::sample};
///
/// // A source of another name than `cognigy`: its events have ids of their own.
/// let source = Source::new("shop".parse()?, sample::verifier(), CognigyFormat);
/// let pipeline = Pipeline::builder(source).store(MemoryStore::new()).build()?;
/// assert_eq!(pipeline.source().name().as_str(), "shop");
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
#[must_use]
pub struct NeedsStore {
    source: Source,
}

impl NeedsStore {
    pub(crate) fn new(source: Source) -> Self {
        Self { source }
    }

    /// Keeps events in `store`.
    pub fn store(self, store: impl Store) -> PipelineBuilder {
        PipelineBuilder {
            inner: Inner {
                source: self.source,
                store: Arc::new(store),
                crm: Arc::new(NoCrm),
                handler: Handler::Plain(Arc::new(NoHandler)),
                sink: Arc::new(KeepInStore),
                observer: Arc::new(Silent),
                tracer: None,
                retry: RetryPolicy::default(),
                on_ambiguous: OnAmbiguous::default(),
                breaker: None,
                sink_retry: RetryPolicy {
                    max_delay: Duration::from_secs(60),
                    ..RetryPolicy::default()
                },
                max_body_bytes: DEFAULT_MAX_BODY_BYTES,
                quarantine_limits: QuarantineLimits::default(),
                max_lost_leases: DEFAULT_MAX_LOST_LEASES,
                lease: DEFAULT_LEASE,
                attempt_timeout: DEFAULT_ATTEMPT_TIMEOUT,
                new_work: Notify::default(),
                paused: AtomicBool::new(false),
            },
            breaks: false,
        }
    }
}

/// A pipeline with a source and a store; everything else has a safe default.
///
/// ```
/// use std::time::Duration;
///
/// use cognigy_core::{
///     BuildError, OnAmbiguous, Pipeline, RetryPolicy, memory::MemoryStore, testing::sample,
/// };
///
/// let patient = RetryPolicy { max_attempts: 10, ..RetryPolicy::default() };
/// let pipeline = Pipeline::builder(sample::verifier())
///     .store(MemoryStore::new())
///     .handler(|_, _| async { Ok(()) })
///     .retry(patient)
///     .breaker(true) // a CRM that is down uses up no attempt
///     .on_ambiguous(OnAmbiguous::NoContact)
///     .attempt_timeout(Duration::from_secs(30))
///     .max_body_bytes(64 * 1024)
///     .build()?;
/// assert_eq!(pipeline.max_body_bytes(), 65_536);
///
/// // A setting with which no event could be processed is found before the first event.
/// let wrong = Pipeline::builder(sample::verifier()).store(MemoryStore::new()).max_body_bytes(0);
/// assert_eq!(wrong.build().unwrap_err(), BuildError::NoBodies);
/// # Ok::<_, BuildError>(())
/// ```
#[must_use]
pub struct PipelineBuilder {
    inner: Inner,
    breaks: bool,
}

impl PipelineBuilder {
    /// Asks `crm` who the person is. Default: no CRM is asked.
    pub fn crm(mut self, crm: impl CrmClient) -> Self {
        self.inner.crm = Arc::new(crm);
        self
    }

    /// Hands events and contacts to `handler`. Default: nothing more is done.
    pub fn handler(mut self, handler: impl EventHandler) -> Self {
        self.inner.handler = Handler::Plain(Arc::new(handler));
        self
    }

    /// Hands events and contacts to `handler`, which settles their claims itself, in one step with
    /// its own effects: such as a transactional handler of `cognigy-store-postgres`. There is one
    /// handler, of either kind; the last one that was set counts.
    pub fn settling_handler(mut self, handler: impl SettlingHandler) -> Self {
        self.inner.handler = Handler::Settling(Arc::new(handler));
        self
    }

    /// Sends dead letters to `sink`. Default: they stay in the store.
    pub fn dead_letters(mut self, sink: impl DeadLetterSink) -> Self {
        self.inner.sink = Arc::new(sink);
        self
    }

    /// Tells `observer` what happens. Default: no observer is told.
    pub fn observer(mut self, observer: impl Observer) -> Self {
        self.inner.observer = Arc::new(observer);
        self
    }

    /// Follows deliveries, attempts and dead letters with the spans of `tracer`. Default: no traces.
    pub fn tracer(mut self, tracer: impl Tracer) -> Self {
        self.inner.tracer = Some(Arc::new(tracer));
        self
    }

    /// Retries failed attempts by `policy`. Default: [`RetryPolicy::default`].
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        self.inner.retry = policy;
        self
    }

    /// What to do with an event whose contact the CRM knows several times. Default: dead-letter it.
    pub fn on_ambiguous(mut self, policy: OnAmbiguous) -> Self {
        self.inner.on_ambiguous = policy;
        self
    }

    /// Holds attempts back while the CRM is out of reach, instead of using them up. A look-up that fails
    /// and may pass opens the breaker: one attempt at a time is begun then, at least every five seconds
    /// unless the CRM asks for a longer wait, until the CRM answers; the wait is never longer than the
    /// retry policy's longest delay. Meanwhile no event runs out of attempts. A look-up that keeps
    /// failing while others are answered is its event's own failure, and counts. Each pipeline has a
    /// breaker of its own. Default: none.
    pub fn breaker(mut self, on: bool) -> Self {
        self.breaks = on;
        self
    }

    /// Spaces tries to hand over a dead letter by the delays of `policy`; its number of attempts is
    /// ignored, a dead letter is tried until the sink has it. Default: 2 s doubling up to 60 s.
    pub fn dead_letter_retry(mut self, policy: RetryPolicy) -> Self {
        self.inner.sink_retry = policy;
        self
    }

    /// Refuses larger bodies. Default: [`DEFAULT_MAX_BODY_BYTES`].
    pub fn max_body_bytes(mut self, bytes: usize) -> Self {
        self.inner.max_body_bytes = bytes;
        self
    }

    /// Keeps at most so many invalid bodies of this pipeline's source in quarantine. Default:
    /// [`QuarantineLimits::default`].
    pub fn quarantine_limits(mut self, limits: QuarantineLimits) -> Self {
        self.inner.quarantine_limits = limits;
        self
    }

    /// Gives an event up whose run has lost so many leases, at least one: its workers ended or stood
    /// still, perhaps because of it. They do not count as attempts. Default:
    /// [`DEFAULT_MAX_LOST_LEASES`].
    pub fn max_lost_leases(mut self, leases: u32) -> Self {
        self.inner.max_lost_leases = leases;
        self
    }

    /// How long a claim lives without renewal, and so how soon a crashed worker's events are taken
    /// over. Default: [`DEFAULT_LEASE`].
    pub fn lease(mut self, lease: Duration) -> Self {
        self.inner.lease = lease;
        self
    }

    /// Ends an attempt, CRM look-up and handler together, after this long. Default:
    /// [`DEFAULT_ATTEMPT_TIMEOUT`].
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.inner.attempt_timeout = timeout;
        self
    }

    /// The finished pipeline.
    ///
    /// An attempt may take longer than the lease: its worker renews the lease meanwhile.
    ///
    /// # Errors
    /// A setting with which no event could be processed.
    pub fn build(self) -> Result<Pipeline, BuildError> {
        self.check()?;
        let breaker = self.breaks.then(|| Breaker::new(self.inner.retry.max_delay));
        Ok(Pipeline { inner: Arc::new(Inner { breaker, ..self.inner }) })
    }

    fn check(&self) -> Result<(), BuildError> {
        let inner = &self.inner;
        let wrong = [
            (inner.retry.max_attempts == 0, BuildError::NoAttempts),
            (inner.lease.is_zero(), BuildError::NoLease),
            (inner.attempt_timeout.is_zero(), BuildError::NoTimeForAttempts),
            (inner.max_body_bytes == 0, BuildError::NoBodies),
            (inner.max_lost_leases == 0, BuildError::NoLostLeases),
        ];
        if let Some((_, error)) = wrong.into_iter().find(|(is_wrong, _)| *is_wrong) {
            return Err(error);
        }
        check_delays("retry", &inner.retry)?;
        check_delays("dead_letter_retry", &inner.sink_retry)
    }
}
