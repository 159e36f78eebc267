//! The worker loop: claims what is due, keeps many attempts in flight, settles what has ended.
//!
//! One future, on any executor. It holds no lock and sleeps on nothing but the clock; a retry is a
//! row in the store, not a sleeping task. Claims, settlements and renewals go to the store one call
//! of each kind at a time, and whatever gathers meanwhile goes with the next call: the busier the
//! store, the larger the batches.
//!
//! Errors never end the loop. It ends when told to stop: it claims no more, gives back what it has
//! not begun, lets attempts in flight end within a grace period and leaves the rest to the lease.

use std::{sync::Arc, time::Duration};

use futures_util::{
    FutureExt, StreamExt,
    future::{Either, select},
    pin_mut, select_biased,
};

use super::in_flight::InFlight;
use crate::{pipeline::Pipeline, ports::Clock, processing::Notify};

/// How a worker goes about its work.
///
/// ```
/// use std::time::Duration;
///
/// use cognigy_core::{State, WorkerOptions, testing::World};
///
/// // A CRM that takes no more than four requests at once.
/// let options = WorkerOptions { concurrency: 4, grace: Duration::from_secs(5), ..Default::default() };
/// let mut world = World::new();
/// world.start_worker_with(options);
/// world.deliver("e1");
/// world.pass(Duration::from_secs(1));
/// assert_eq!(world.state("e1"), State::Processed);
/// ```
#[derive(Debug, Clone)]
pub struct WorkerOptions {
    /// Attempts in flight at once. Default 64: as many CRM calls as most CRMs admit.
    pub concurrency: usize,
    /// Events claimed at once, and the most that are held to be worked on. Default 1024, raised to
    /// `concurrency`: every commit costs an fsync and a few dozen system calls, so handlers that are
    /// quick share them among many events. A store may hand out fewer, to bound the bytes that are
    /// held. A quarter as many dead letters may be held beside them, and as many again of both that
    /// only wait to be settled.
    pub batch: usize,
    /// How often to look for work that was not announced: other processes' events, expired leases.
    /// Default 500 ms; an idle look costs some ten microseconds.
    pub poll_interval: Duration,
    /// How long attempts in flight may go on after a stop. Default 20 s: more than one CRM timeout,
    /// less than the 30 s that Kubernetes waits.
    pub grace: Duration,
}

impl Default for WorkerOptions {
    fn default() -> Self {
        Self {
            concurrency: 64,
            batch: 1024,
            poll_interval: Duration::from_millis(500),
            grace: Duration::from_secs(20),
        }
    }
}

/// Tells a worker to stop. Clones tell the same worker.
///
/// ```
/// use cognigy_core::{Pipeline, Stop, TokioClock, Worker, memory::MemoryStore, testing::sample};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), cognigy_core::BuildError> {
/// let pipeline = Pipeline::builder(sample::verifier()).store(MemoryStore::new()).build()?;
/// let stop = Stop::new();
/// let worker = Worker::new(pipeline, TokioClock::new()).run(stop.clone());
///
/// // Elsewhere, for example where the program waits for a signal:
/// stop.stop();
/// worker.await; // attempts in flight have ended, or their leases run out
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Stop(Arc<Notify>);

impl Stop {
    /// A stop that has not been asked for yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for it. Not to be taken back.
    pub fn stop(&self) {
        self.0.notify();
    }

    /// Whether it has been asked for.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.0.is_notified()
    }

    /// Resolves once it has been asked for.
    pub async fn stopped(&self) {
        self.0.notified().await;
    }
}

/// Processes what a pipeline has recorded. Any number may work on one store, in any number of
/// processes.
///
/// ```
/// use std::time::Duration;
///
/// use cognigy_core::{
///     Pipeline, Stop, TokioClock, Worker, WorkerOptions, memory::MemoryStore, testing::sample,
/// };
///
/// # #[tokio::main(flavor = "current_thread", start_paused = true)]
/// # async fn main() -> Result<(), cognigy_core::BuildError> {
/// let pipeline = Pipeline::builder(sample::verifier()).store(MemoryStore::new()).build()?;
/// let worker = Worker::new(pipeline, TokioClock::new())
///     .options(WorkerOptions { concurrency: 16, ..WorkerOptions::default() });
///
/// // One future, on any executor. On tokio, `Worker::spawn` does this with a handle.
/// let stop = Stop::new();
/// let task = tokio::spawn(worker.run(stop.clone()));
/// tokio::time::sleep(Duration::from_secs(60)).await;
/// stop.stop();
/// task.await.unwrap();
/// # Ok(())
/// # }
/// ```
pub struct Worker {
    pipeline: Pipeline,
    clock: Arc<dyn Clock>,
    options: WorkerOptions,
}

impl Worker {
    /// A worker with the default options.
    pub fn new(pipeline: Pipeline, clock: impl Clock) -> Self {
        Self { pipeline, clock: Arc::new(clock), options: WorkerOptions::default() }
    }

    /// Works as `options` say.
    #[must_use]
    pub fn options(mut self, options: WorkerOptions) -> Self {
        self.options = options;
        self
    }

    /// Works until told to stop. Dropping the future is safe too: leases run out.
    pub async fn run(self, stop: Stop) {
        let Self { pipeline, clock, options } = self;
        let grace = options.grace;
        let mut in_flight = InFlight::new(pipeline.clone(), Arc::clone(&clock), options);

        while !stop.is_stopped() {
            // An announcement is left standing until a claim can follow it.
            let announced = in_flight.listens() && pipeline.inner.new_work.take();
            in_flight.start_due(announced, clock.now());
            let listens = in_flight.listens();
            let more = async {
                // Listening while nothing more can be claimed would only spin.
                if listens {
                    pipeline.inner.new_work.notified().await;
                } else {
                    std::future::pending::<()>().await;
                }
            }
            .fuse();
            let stopped = stop.stopped().fuse();
            let alarm = clock.sleep_until(in_flight.next_deadline()).fuse();
            let expired = in_flight.lease_ended().fuse();
            pin_mut!(more, stopped, alarm, expired);
            select_biased! {
                () = stopped => {}
                () = expired => {}
                done = in_flight.tasks.select_next_some() => in_flight.end_task(done, clock.now()),
                () = more => {}
                () = alarm => {}
            }
            in_flight.abandon_expired(clock.now());
            in_flight.end_tasks_that_are_done(clock.now());
        }

        let deadline = clock.now() + grace;
        let drain = async {
            in_flight.close();
            loop {
                in_flight.abandon_expired(clock.now());
                in_flight.give_back_unbegun(clock.now());
                in_flight.finish_up(clock.now());
                if in_flight.is_clear() {
                    return;
                }
                let alarm = clock.sleep_until(in_flight.next_deadline()).fuse();
                let expired = in_flight.lease_ended().fuse();
                pin_mut!(alarm, expired);
                select_biased! {
                    () = expired => {}
                    done = in_flight.tasks.select_next_some() => in_flight.end_task(done, clock.now()),
                    () = alarm => {}
                }
            }
        };
        pin_mut!(drain);
        match select(drain, clock.sleep_until(deadline)).await {
            Either::Left(_) | Either::Right(_) => {}
        }
    }
}
