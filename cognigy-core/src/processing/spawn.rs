//! A worker as a tokio task.

use super::{Stop, Worker, WorkerOptions};
use crate::{pipeline::Pipeline, ports::Clock};

/// A worker that runs as a task. Dropping the handle leaves it running.
///
/// ```
/// use cognigy_core::{Pipeline, TokioClock, Worker, memory::MemoryStore, testing::sample};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), cognigy_core::BuildError> {
/// let pipeline = Pipeline::builder(sample::verifier()).store(MemoryStore::new()).build()?;
/// let worker = Worker::spawn(pipeline, TokioClock::new());
/// assert!(!worker.is_finished()); // what a probe for liveness asks
/// worker.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct WorkerHandle {
    stop: Stop,
    task: tokio::task::JoinHandle<()>,
}

impl Worker {
    /// Starts a worker with the default options on the current tokio runtime.
    pub fn spawn(pipeline: Pipeline, clock: impl Clock) -> WorkerHandle {
        Self::spawn_with(pipeline, clock, WorkerOptions::default())
    }

    /// Starts a worker that works as `options` say on the current tokio runtime.
    pub fn spawn_with(
        pipeline: Pipeline,
        clock: impl Clock,
        options: WorkerOptions,
    ) -> WorkerHandle {
        let stop = Stop::new();
        let worker = Worker::new(pipeline, clock).options(options);
        let task = tokio::spawn(worker.run(stop.clone()));
        WorkerHandle { stop, task }
    }
}

impl WorkerHandle {
    /// Whether the worker's task has ended. Before [`shutdown`](Self::shutdown) it ends only if it
    /// panics or its runtime drops it: then no event of the pipeline is worked off until another worker
    /// is started.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.task.is_finished()
    }

    /// Has the worker stop and waits until it has: attempts in flight end within the grace period.
    pub async fn shutdown(self) {
        self.stop.stop();
        // The loop does not panic: handlers and adapters are caught one level down.
        let _ = self.task.await;
    }
}
