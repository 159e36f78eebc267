//! A world for tests of an application: a pipeline with a scripted CRM and sink, workers, and time that
//! passes when the test says so.

use std::{cell::Cell, rc::Rc, time::Duration};

use bytes::Bytes;
use futures_executor::{LocalPool, block_on};
use futures_util::{
    future::{AbortHandle, abortable},
    task::LocalSpawnExt,
};

use super::{CrmAnswer, ManualClock, ScriptedCrm, ScriptedSink, sample};
use crate::{
    event::State,
    intake::{Headers, RawDelivery, Reply, Source},
    memory::MemoryStore,
    operations::ReplayOutcome,
    pipeline::{Pipeline, PipelineBuilder},
    ports::{Clock, DeadLetter, EventHandler, NoHandler},
    processing::{Stop, Worker, WorkerOptions},
    store::{Attempt, Counts, Store, StoredEvent},
};

/// A pipeline and all that is around it, on one thread.
///
/// ```
/// use std::time::Duration;
///
/// use cognigy_core::{Failure, Handlers, State, UserInput, testing::World};
///
/// let handlers = Handlers::new()
///     .on(|_: UserInput, cx| async move {
///         if cx.event().attempt() < 3 { Err(Failure::transient("not yet")) } else { Ok(()) }
///     });
/// let mut world = World::start(handlers);
/// assert_eq!(world.deliver("e1").status(), 200);
/// world.pass(Duration::from_secs(60));
/// assert_eq!((world.state("e1"), world.attempts("e1").len()), (State::Processed, 3));
/// ```
///
/// Nothing here needs a runtime, and nothing waits for real time: a handler in this world may wait for
/// the world's [`clock`](Self::clock), and not for sockets or for another clock. The store is the one in
/// memory; the CRM answers `{"name":"Ada"}` until it is [told otherwise](ScriptedCrm::set_default).
pub struct World {
    /// The clock of the world. [`pass`](Self::pass) moves it.
    pub clock: ManualClock,
    /// The CRM.
    pub crm: ScriptedCrm,
    /// Where dead letters go.
    pub sink: ScriptedSink,
    /// The pipeline.
    pub pipeline: Pipeline,
    pool: LocalPool,
    workers: Vec<(Stop, AbortHandle)>,
    ended: Rc<Cell<usize>>,
}

impl World {
    /// A world with `handler` and a worker.
    #[must_use]
    pub fn start(handler: impl EventHandler) -> Self {
        let mut world = Self::with_handler(handler);
        world.start_worker();
        world
    }

    /// A world without a handler and without a worker.
    #[must_use]
    pub fn new() -> Self {
        Self::with_handler(NoHandler)
    }

    /// A world with `handler`, and without a worker.
    #[must_use]
    pub fn with_handler(handler: impl EventHandler) -> Self {
        Self::with_parts(ManualClock::new(sample::start()), MemoryStore::new(), handler)
    }

    /// A world with these parts, and without a worker.
    #[must_use]
    pub fn with_parts(clock: ManualClock, store: impl Store, handler: impl EventHandler) -> Self {
        Self::built(clock, store, |pipeline| pipeline.handler(handler))
    }

    /// A world of another source than the contract's, with `handler` and a worker: for types of events that
    /// the contract does not know. [`deliver_body`](Self::deliver_body) signs for
    /// [`sample::verifier`]; for another authenticator there is [`receive`](Self::receive).
    #[must_use]
    pub fn of_source(source: Source, handler: impl EventHandler) -> Self {
        let pipeline = Pipeline::builder(source).store(MemoryStore::new()).handler(handler);
        let mut world = Self::around(ManualClock::new(sample::start()), pipeline, |it| it);
        world.start_worker();
        world
    }

    /// A world over `store`, whose pipeline is built further by `and`, and without a worker.
    #[must_use]
    pub fn built(
        clock: ManualClock,
        store: impl Store,
        and: impl FnOnce(PipelineBuilder) -> PipelineBuilder,
    ) -> Self {
        Self::around(clock, Pipeline::builder(sample::verifier()).store(store), and)
    }

    fn around(
        clock: ManualClock,
        pipeline: PipelineBuilder,
        and: impl FnOnce(PipelineBuilder) -> PipelineBuilder,
    ) -> Self {
        let crm = ScriptedCrm::answering(CrmAnswer::Found(r#"{"name":"Ada"}"#.into()));
        let sink = ScriptedSink::new();
        let pipeline = pipeline.crm(crm.clone()).dead_letters(sink.clone());
        let pipeline = and(pipeline).build().expect("a pipeline that can process events");
        let (workers, ended) = Default::default();
        Self { clock, crm, sink, pipeline, pool: LocalPool::new(), workers, ended }
    }

    /// Starts a worker with the default options.
    pub fn start_worker(&mut self) {
        self.start_worker_with(WorkerOptions::default());
    }

    /// Starts a worker that works as `options` say.
    pub fn start_worker_with(&mut self, options: WorkerOptions) {
        let stop = Stop::new();
        let worker = Worker::new(self.pipeline.clone(), self.clock.clone()).options(options);
        let (run, abort) = abortable(worker.run(stop.clone()));
        let ended = Rc::clone(&self.ended);
        self.spawn(async move {
            let _ = run.await;
            ended.set(ended.get() + 1);
        });
        self.workers.push((stop, abort));
    }

    /// Runs `task` beside the workers: it goes on whenever time passes.
    pub fn spawn(&self, task: impl Future<Output = ()> + 'static) {
        self.pool.spawner().spawn_local(task).expect("the world runs tasks");
    }

    /// All workers vanish, whatever they are doing, as in a crash of the process.
    pub fn crash(&mut self) {
        for (_, abort) in self.workers.drain(..) {
            abort.abort();
        }
        self.pool.run_until_stalled();
    }

    /// All workers are asked to stop.
    pub fn stop(&mut self) {
        for (stop, _) in &self.workers {
            stop.stop();
        }
        self.pool.run_until_stalled();
    }

    /// How many workers have ended.
    #[must_use]
    pub fn ended(&self) -> usize {
        self.ended.get()
    }

    /// Delivers [`sample::body`] of that id: what the user `u-{id}`, in the CRM `c-{id}`, has said.
    pub fn deliver(&self, id: &str) -> Reply {
        self.deliver_body(sample::body(id))
    }

    /// Delivers `body`, signed.
    pub fn deliver_body(&self, body: impl Into<Bytes>) -> Reply {
        self.receive(sample::delivery(body))
    }

    /// Delivers whatever a sender sends.
    pub fn receive<H: Headers + Send>(&self, delivery: RawDelivery<H>) -> Reply {
        block_on(self.pipeline.ingest(delivery, self.clock.now()))
    }

    /// Lets time pass, and stops at every time for which a task waits.
    pub fn pass(&mut self, time: Duration) {
        let end = self.clock.now() + time;
        self.pool.run_until_stalled();
        while let Some(next) = self.clock.next_deadline().filter(|next| *next <= end) {
            self.clock.set(next.max(self.clock.now()));
            self.pool.run_until_stalled();
        }
        self.clock.set(end);
        self.pool.run_until_stalled();
    }

    /// Pauses the machine: time passes, and no task notices until the pause is over.
    pub fn pause(&mut self, time: Duration) {
        self.clock.advance(time);
        self.pool.run_until_stalled();
    }

    /// Replays an event, and waits for the outcome.
    pub fn replay(&mut self, id: &str) -> ReplayOutcome {
        let (pipeline, clock) = (self.pipeline.clone(), self.clock.clone());
        let key = sample::key(id);
        let replay = async move { pipeline.replay(&key, &clock).await };
        self.pool.run_until(replay).expect("the event is there and free")
    }

    /// An event as it is stored.
    #[must_use]
    pub fn find(&self, id: &str) -> StoredEvent {
        let found = block_on(self.pipeline.store().find(&sample::key(id)));
        found.expect("the store answers").expect("the event is stored")
    }

    /// The state of an event.
    #[must_use]
    pub fn state(&self, id: &str) -> State {
        self.find(id).state
    }

    /// The history of an event, oldest attempt first.
    #[must_use]
    pub fn attempts(&self, id: &str) -> Vec<Attempt> {
        block_on(self.pipeline.store().attempts(&sample::key(id))).expect("the store answers")
    }

    /// How many events there are of each state.
    #[must_use]
    pub fn counts(&self) -> Counts {
        block_on(self.pipeline.store().counts()).expect("the store answers")
    }

    /// The dead letters that the sink has accepted, in order.
    #[must_use]
    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.sink.received()
    }
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl std::fmt::Debug for World {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("World").field("now", &self.clock.now()).finish_non_exhaustive()
    }
}
