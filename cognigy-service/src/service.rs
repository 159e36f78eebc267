//! The whole receiver: intake, workers, upkeep and health over one or several pipelines.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use bytes::Bytes;
use cognigy_core::{
    Clock, Headers, Pipeline, Reply, Silent, SourceName, Store, StoreError, TokioClock,
    WorkerOptions,
};
use futures_util::Stream;
use ipnet::IpNet;
use tokio::task::AbortHandle;

use crate::{
    Admission, Head, Health, Readiness, Receiver, Retention, ServiceObserver, Upkeep,
    UpkeepOptions, Workers,
    admission::TrustedProxies,
    health::{liveness, readiness},
};

/// How many deliveries of one source may wait for the store at once unless set otherwise. A store that
/// answers within a second takes that many in a second, and further ones are better answered with 503.
pub const DEFAULT_MAX_IN_FLIGHT: usize = 1024;

/// What a [`Service`] is made of. Everything but the pipeline has a safe default.
///
/// ```
/// use std::time::Duration;
///
/// use cognigy_core::{CognigyFormat, Pipeline, Source, WorkerOptions, memory::MemoryStore, testing::sample};
/// use cognigy_service::{Service, StartError};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let first = Pipeline::builder(sample::verifier()).store(MemoryStore::new()).build()?;
/// let shop = Source::new("shop".parse()?, sample::verifier(), CognigyFormat);
/// let second = Pipeline::builder(shop).store(MemoryStore::new()).build()?;
/// let service = Service::builder(first)
///     .pipeline(second) // a source with a worker and limits of its own
///     .worker(WorkerOptions { concurrency: 8, ..WorkerOptions::default() })
///     .retention(Duration::from_secs(7 * 24 * 3600))
///     .trusted_proxies(["10.0.0.0/8".parse()?])
///     .start()
///     .await?;
/// assert_eq!(service.receivers().count(), 2);
/// service.shutdown().await;
///
/// let one = || Pipeline::builder(sample::verifier()).store(MemoryStore::new()).build();
/// let twice = Service::builder(one()?).pipeline(one()?).start().await;
/// assert!(matches!(twice, Err(StartError::SameSource(_))));
/// # Ok(())
/// # }
/// ```
#[must_use]
pub struct ServiceBuilder {
    pipelines: Vec<Pipeline>,
    clock: Arc<dyn Clock>,
    worker: Option<WorkerOptions>,
    upkeep: UpkeepOptions,
    max_in_flight: usize,
    trusted: TrustedProxies,
    observer: Arc<dyn ServiceObserver>,
}

/// Why a service does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// Two pipelines are for one source: give each a source with a name of its own.
    #[error("two pipelines have the source {0}")]
    SameSource(SourceName),
    /// `max_in_flight` is 0.
    #[error("`max_in_flight` is 0: each delivery would be refused")]
    NoDeliveries,
    /// A store cannot take events: the error says why. Starting again may help.
    #[error("the store of the source {0} cannot take events")]
    Store(SourceName, #[source] StoreError),
}

impl ServiceBuilder {
    /// Adds the pipeline of a further source. Each has a receiver and a worker of its own.
    pub fn pipeline(mut self, pipeline: Pipeline) -> Self {
        self.pipelines.push(pipeline);
        self
    }

    /// Tells the time by `clock`, everywhere. Default: a [`TokioClock`].
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Has each worker work as `options` say. Default: [`WorkerOptions::default`].
    pub fn worker(mut self, options: WorkerOptions) -> Self {
        self.worker = Some(options);
        self
    }

    /// Takes events in and runs none: another process does.
    pub fn without_workers(mut self) -> Self {
        self.worker = None;
        self
    }

    /// How long processed and discarded events and invalid bodies are kept. Default: 30 days.
    pub fn retention(mut self, retention: Duration) -> Self {
        self.upkeep.retention.finished = retention;
        self
    }

    /// How long dead-lettered events that no operator has dealt with, and conflicts, are kept. Default: for
    /// ever.
    pub fn dead_letter_retention(mut self, retention: Duration) -> Self {
        self.upkeep.retention.dead_letters = Some(retention);
        self
    }

    /// How long the body of a sensitive event is kept after the event was processed. Default: no time.
    pub fn sensitive_retention(mut self, retention: Duration) -> Self {
        self.upkeep.retention.sensitive = retention;
        self
    }

    /// Whether the index is kept by which lists find words and contacts without reading everything. Default:
    /// yes. It is made after the events were answered.
    pub fn search_index(mut self, is_kept: bool) -> Self {
        self.upkeep.search_index = is_kept;
        self
    }

    /// How many deliveries of one source may wait for the store at once. Default:
    /// [`DEFAULT_MAX_IN_FLIGHT`].
    pub fn max_in_flight(mut self, deliveries: usize) -> Self {
        self.max_in_flight = deliveries;
        self
    }

    /// Takes the sender's address from `X-Forwarded-For` where a proxy in one of these networks has written
    /// it. Default: none is trusted. Without it, all senders behind a proxy count as one.
    pub fn trusted_proxies(mut self, networks: impl IntoIterator<Item = IpNet>) -> Self {
        self.trusted = TrustedProxies::new(&networks.into_iter().collect::<Vec<_>>());
        self
    }

    /// Tells `observer` what the service does on its own account. Default: no observer is told.
    pub fn observer(mut self, observer: impl ServiceObserver) -> Self {
        self.observer = Arc::new(observer);
        self
    }

    /// Starts workers and upkeep on the current tokio runtime. From now on deliveries can be received.
    ///
    /// # Errors
    ///
    /// Two pipelines are for one source, no delivery may be in flight, or a store cannot take events now.
    pub async fn start(self) -> Result<Service, StartError> {
        let mut names: Vec<_> = self.pipelines.iter().map(|it| it.source().name()).collect();
        names.sort();
        if let Some(pair) = names.windows(2).find(|pair| pair[0] == pair[1]) {
            return Err(StartError::SameSource(pair[0].clone()));
        }
        if self.max_in_flight == 0 {
            return Err(StartError::NoDeliveries);
        }
        for pipeline in &self.pipelines {
            let name = || pipeline.source().name().clone();
            pipeline.store().ready().await.map_err(|error| StartError::Store(name(), error))?;
        }
        Ok(self.run())
    }

    fn run(self) -> Service {
        let Self { pipelines, clock, worker, upkeep, max_in_flight, trusted, observer } = self;
        let admission = Admission::new(pipelines.len());
        let admission = admission.clock(Arc::clone(&clock)).trusted_proxies(trusted);
        let receivers = pipelines.iter().map(|it| {
            let pipeline = it.clone();
            Receiver::new(pipeline, &admission, max_in_flight)
        });
        let receivers: Vec<_> = receivers.collect();
        let stores: Vec<_> = pipelines.iter().map(|it| Arc::clone(it.store())).collect();
        let workers = Workers::default();
        if let Some(options) = worker {
            for pipeline in pipelines {
                workers.start(pipeline, Arc::clone(&clock), options.clone());
            }
        }
        let watch = tokio::spawn(workers.clone().watch(Arc::clone(&observer))).abort_handle();
        let retention = upkeep.retention;
        let upkeep = Upkeep::start(stores.clone(), Arc::clone(&clock), upkeep, observer);
        let readiness = Readiness::default();
        let tasks = Mutex::new(Some((upkeep, watch)));
        Service(Arc::new(Running {
            receivers,
            stores,
            workers,
            readiness,
            clock,
            retention,
            tasks,
        }))
    }
}

/// A receiver at work. Cheap to clone; all clones are one service.
///
/// It works until [`shutdown`](Self::shutdown). If it is dropped without that, workers and upkeep go on as
/// long as their runtime.
///
/// ```
/// use cognigy_core::{Pipeline, memory::MemoryStore, testing::sample};
/// use cognigy_service::Service;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pipeline = Pipeline::builder(sample::verifier()).store(MemoryStore::new()).build()?;
/// let service = Service::builder(pipeline).start().await?;
///
/// // Probes, and what an operator's route calls.
/// assert_eq!((service.liveness().status(), service.readiness().await.status()), (200, 200));
/// let counts = service.pipeline().store().counts().await?;
/// assert_eq!(counts.oldest_pending, None);
///
/// // At the end: first a balancer hears of it, then the listener ends, then this.
/// service.announce_stop();
/// assert_eq!(service.readiness().await.status(), 503);
/// service.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Service(Arc<Running>);

struct Running {
    /// Never empty.
    receivers: Vec<Receiver>,
    stores: Vec<Arc<dyn Store>>,
    workers: Workers,
    readiness: Readiness,
    clock: Arc<dyn Clock>,
    retention: Retention,
    /// Upkeep, and the watch over the workers. None after the shutdown.
    tasks: Mutex<Option<(Upkeep, AbortHandle)>>,
}

impl Service {
    /// A service for the source of `pipeline`.
    pub fn builder(pipeline: Pipeline) -> ServiceBuilder {
        ServiceBuilder {
            pipelines: vec![pipeline],
            clock: Arc::new(TokioClock::new()),
            worker: Some(WorkerOptions::default()),
            upkeep: UpkeepOptions::default(),
            max_in_flight: DEFAULT_MAX_IN_FLIGHT,
            trusted: TrustedProxies::default(),
            observer: Arc::new(Silent),
        }
    }

    /// Takes a delivery of the first source in, and yields the answer to its sender. Once the answer says
    /// success, the event is durable and will be processed.
    pub async fn receive<H, E>(
        &self,
        head: Head<'_, H>,
        body: impl Stream<Item = Result<Bytes, E>>,
    ) -> Reply
    where
        H: Headers + Clone + Send,
    {
        self.first().receive(head, body).await
    }

    /// What takes the deliveries of `source` in.
    #[must_use]
    pub fn receiver(&self, source: &SourceName) -> Option<&Receiver> {
        self.receivers().find(|it| it.pipeline().source().name() == source)
    }

    /// What takes the deliveries of each source in, in the order in which their pipelines were given.
    pub fn receivers(&self) -> impl Iterator<Item = &Receiver> {
        self.0.receivers.iter()
    }

    /// The pipeline of the first source: for replays, and for reading what is stored.
    #[must_use]
    pub fn pipeline(&self) -> &Pipeline {
        self.first().pipeline()
    }

    /// The clock by which the service tells the time.
    #[must_use]
    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.0.clock
    }

    /// How long the service keeps what is stored.
    #[must_use]
    pub fn retention(&self) -> Retention {
        self.0.retention
    }

    /// How the service is now. The store is asked at most twice a second.
    pub async fn health(&self) -> Health {
        let Running { stores, workers, readiness, .. } = &*self.0;
        Health {
            store_is_ready: readiness.stores_are_ready(stores).await,
            ended_workers: workers.ended(),
            is_stopping: readiness.is_stopping(),
        }
    }

    /// The answer to `/readyz`: 200, or 503 while events cannot be taken.
    pub async fn readiness(&self) -> Reply {
        readiness(self.0.readiness.check(&self.0.stores).await)
    }

    /// The answer to `/healthz`: 200, or 503 once a worker has ended although it was not asked to, so that
    /// the process has to be restarted. The store is not asked: restarting would not bring it back.
    #[must_use]
    pub fn liveness(&self) -> Reply {
        liveness(&self.0.workers.ended())
    }

    /// From now on [`health`](Self::health) says that the service is stopping, so that a balancer sends no
    /// more. Deliveries that come are still taken in.
    pub fn announce_stop(&self) {
        self.0.readiness.stop();
    }

    /// Stops: upkeep ends, workers claim no more, and attempts in flight end within the grace period of
    /// [`WorkerOptions`]. What is not finished then is claimed again when its lease ends. Deliveries that
    /// still come are stored, for the next start. Call it once the listener has ended.
    pub async fn shutdown(&self) {
        self.announce_stop();
        let tasks = self.0.tasks.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some((upkeep, watch)) = tasks {
            upkeep.stop();
            watch.abort();
        }
        self.0.workers.shutdown().await;
    }

    fn first(&self) -> &Receiver {
        &self.0.receivers[0]
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources = self.receivers().map(|it| it.pipeline().source().name().as_str());
        f.debug_struct("Service").field("sources", &sources.collect::<Vec<_>>()).finish()
    }
}
