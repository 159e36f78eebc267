//! A process: the real pipeline and real workers over the simulated world, until it stops or
//! crashes.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use cognigy_core::{Pipeline, Source, SourceName, Stop, Worker, testing::sample};

use crate::{
    body::Lines,
    clock::ProcessClock,
    executor::Owner,
    history::Happened,
    outside::{SettlesItself, SimCrm, SimHandler, SimSink},
    planted::Bug,
    store::StoreClient,
    world::World,
};

/// A running process, as senders and operators reach it.
#[derive(Clone)]
pub(crate) struct Running {
    pub(crate) pipeline: Pipeline,
    pub(crate) clock: ProcessClock,
    stop: Stop,
    working: Arc<AtomicUsize>,
}

impl Running {
    /// Starts process number `process` with its clock ahead by `clock`.
    pub(crate) fn start(world: &Arc<World>, process: usize, clock: i64) {
        world.log(Some(process), Happened::Started { clock });
        let clock = ProcessClock::new(world.handle.clone(), clock);
        let settings = &world.plan.settings;
        let mut retry = settings.retry;
        retry.max_attempts += u32::from(world.has(Bug::RetryOffByOne));
        let outside = || (Arc::clone(world), clock.clone());
        let crm = {
            let (world, clock) = outside();
            SimCrm { world, process, clock }
        };
        let handler = {
            let (world, clock) = outside();
            SimHandler { world, process, clock }
        };
        let store = StoreClient::new(Arc::clone(world), process);
        let source = Source::new(SourceName::default(), sample::verifier(), Lines);
        let pipeline = Pipeline::builder(source).store(store.clone());
        let pipeline = if settings.settling_handler {
            pipeline.settling_handler(SettlesItself { handler, store })
        } else {
            pipeline.handler(handler)
        };
        let pipeline = pipeline
            .crm(crm)
            .dead_letters(SimSink { world: Arc::clone(world), process })
            .retry(retry)
            .max_lost_leases(settings.max_lost_leases)
            .dead_letter_retry(settings.sink_retry)
            .lease(settings.lease)
            .attempt_timeout(settings.attempt_timeout)
            .build();
        // A world's settings are valid: worlds are made for what a deployment can be.
        #[allow(clippy::expect_used)]
        let pipeline = pipeline.expect("a world's settings are valid");
        let stop = Stop::new();
        let working = Arc::new(AtomicUsize::new(settings.workers));
        for _ in 0..settings.workers {
            let worker =
                Worker::new(pipeline.clone(), clock.clone()).options(settings.options.clone());
            let (stop, working, world) = (stop.clone(), Arc::clone(&working), Arc::clone(world));
            world.handle.clone().spawn(Owner::Process(process), async move {
                worker.run(stop.clone()).await;
                working.fetch_sub(1, Ordering::Relaxed);
                let asked = stop.is_stopped();
                world.log(Some(process), Happened::WorkerEnded { asked });
            });
        }
        let running = Self { pipeline, clock, stop, working };
        world.state().processes[process] = Some(running);
    }

    /// Asks its workers to end.
    pub(crate) fn stop(&self) {
        self.stop.stop();
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stop.is_stopped()
    }

    /// Whether its workers have ended.
    pub(crate) fn has_stopped(&self) -> bool {
        self.working.load(Ordering::Relaxed) == 0
    }
}
