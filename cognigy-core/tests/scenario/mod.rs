//! A world of its own for each test: a store, a CRM, a sink, a clock, and workers on one thread.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

pub mod store;

use std::{
    cell::Cell,
    rc::Rc,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use cognigy_core::{
    Attempt, Clock, Counts, DeadLetter, DeadLetterSource, EventHandler, Failure, NoHandler,
    Pipeline, PipelineBuilder, ReceivedDeadLetter, RedriveReport, ReplayError, ReplayOutcome,
    Reply, State, Stop, Store, StoredEvent, Worker, WorkerOptions,
    memory::MemoryStore,
    testing::{CrmAnswer, ManualClock, ScriptedCrm, ScriptedSink, sample},
};
use futures_executor::{LocalPool, block_on};
use futures_util::{future::AbortHandle, future::abortable, task::LocalSpawnExt};

/// The outcome of a replay, once it has ended.
pub type Replay = Arc<Mutex<Option<Result<ReplayOutcome, ReplayError>>>>;

/// The report of a redrive, once it has ended.
pub type Redrive = Arc<Mutex<Option<Result<RedriveReport, Failure>>>>;

/// A slow queue, so that an event can fail again before the redrive ends.
struct Unhurried<S> {
    source: S,
    clock: ManualClock,
}

#[async_trait]
impl<S: DeadLetterSource> DeadLetterSource for Unhurried<S> {
    async fn receive(&self, max: usize) -> Result<Vec<ReceivedDeadLetter>, Failure> {
        self.clock.sleep_until(self.clock.now() + Duration::from_millis(100)).await;
        self.source.receive(max).await
    }

    async fn acknowledge(&self, receipts: &[String]) -> Vec<Result<(), Failure>> {
        self.source.acknowledge(receipts).await
    }

    async fn release(&self, receipts: &[String]) -> Vec<Result<(), Failure>> {
        self.source.release(receipts).await
    }

    fn holds_back(&self) -> bool {
        self.source.holds_back()
    }
}

pub struct Scenario {
    pub clock: ManualClock,
    pub crm: ScriptedCrm,
    pub sink: ScriptedSink,
    pub pipeline: Pipeline,
    pool: LocalPool,
    workers: Vec<(Stop, AbortHandle)>,
    ended: Rc<Cell<usize>>,
}

impl Scenario {
    pub fn new() -> Self {
        Self::with_handler(NoHandler)
    }

    pub fn with_handler(handler: impl EventHandler) -> Self {
        Self::with_parts(ManualClock::new(sample::start()), MemoryStore::new(), handler)
    }

    pub fn with_parts(clock: ManualClock, store: impl Store, handler: impl EventHandler) -> Self {
        Self::built(clock, store, |pipeline| pipeline.handler(handler))
    }

    pub fn built(
        clock: ManualClock,
        store: impl Store,
        and: impl FnOnce(PipelineBuilder) -> PipelineBuilder,
    ) -> Self {
        let crm = ScriptedCrm::answering(CrmAnswer::Found(r#"{"name":"Ada"}"#.into()));
        let sink = ScriptedSink::new();
        let pipeline = Pipeline::builder(sample::verifier())
            .store(store)
            .crm(crm.clone())
            .dead_letters(sink.clone());
        let pipeline = and(pipeline).build().unwrap();
        let (workers, ended) = Default::default();
        Self { clock, crm, sink, pipeline, pool: LocalPool::new(), workers, ended }
    }

    pub fn start_worker(&mut self) {
        self.start_worker_with(WorkerOptions::default());
    }

    pub fn start_worker_with(&mut self, options: WorkerOptions) {
        let stop = Stop::new();
        let worker = Worker::new(self.pipeline.clone(), self.clock.clone()).options(options);
        let (run, abort) = abortable(worker.run(stop.clone()));
        let ended = Rc::clone(&self.ended);
        let run = async move {
            let _ = run.await;
            ended.set(ended.get() + 1);
        };
        self.pool.spawner().spawn_local(run).unwrap();
        self.workers.push((stop, abort));
    }

    /// All workers vanish, whatever they are doing.
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
    pub fn ended(&self) -> usize {
        self.ended.get()
    }

    pub fn deliver(&self, id: &str) -> Reply {
        let delivery = sample::delivery(sample::body(id));
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

    pub fn replay(&mut self, id: &str) -> ReplayOutcome {
        let (pipeline, clock) = (self.pipeline.clone(), self.clock.clone());
        let key = sample::key(id);
        self.pool.run_until(async move { pipeline.replay(&key, &clock).await }).unwrap()
    }

    /// Begins a replay; its outcome is there once it has ended.
    pub fn begin_replay(&self, id: &str) -> Replay {
        let (pipeline, clock) = (self.pipeline.clone(), self.clock.clone());
        let key = sample::key(id);
        let outcome = Replay::default();
        let told = Arc::clone(&outcome);
        let replay = async move {
            let ended = pipeline.replay(&key, &clock).await;
            *told.lock().unwrap() = Some(ended);
        };
        self.pool.spawner().spawn_local(replay).unwrap();
        outcome
    }

    /// Begins to take dead letters back, a tenth of a second for each batch; the report is there
    /// once it has ended.
    pub fn redrive(&self, source: impl DeadLetterSource) -> Redrive {
        let (pipeline, clock) = (self.pipeline.clone(), self.clock.clone());
        let source = Unhurried { source, clock: clock.clone() };
        let report = Redrive::default();
        let told = Arc::clone(&report);
        let redrive = async move {
            let ended = pipeline.redrive(&source, None, &clock, |_| {}).await;
            *told.lock().unwrap() = Some(ended);
        };
        self.pool.spawner().spawn_local(redrive).unwrap();
        report
    }

    pub fn find(&self, id: &str) -> StoredEvent {
        block_on(self.pipeline.store().find(&sample::key(id))).unwrap().expect("stored")
    }

    pub fn state(&self, id: &str) -> State {
        self.find(id).state
    }

    pub fn attempts(&self, id: &str) -> Vec<Attempt> {
        block_on(self.pipeline.store().attempts(&sample::key(id))).unwrap()
    }

    pub fn counts(&self) -> Counts {
        block_on(self.pipeline.store().counts()).unwrap()
    }

    pub fn dead_letters(&self) -> Vec<DeadLetter> {
        self.sink.received()
    }
}
