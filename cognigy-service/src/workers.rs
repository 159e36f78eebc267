//! The workers of one process, and whether each of them is still there.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cognigy_core::{Clock, Pipeline, SourceName, Worker, WorkerHandle, WorkerOptions};
use futures_util::future::join_all;

use crate::happening::{Happening, ServiceObserver};

/// How often it is looked whether each worker is still there. A look costs no call to a store.
const INTERVAL: Duration = Duration::from_secs(1);

/// The workers that a process has started. Cheap to clone; all clones hold the same workers.
///
/// ```
/// use std::sync::Arc;
///
/// use cognigy_core::{Pipeline, TokioClock, WorkerOptions, memory::MemoryStore, testing::sample};
/// use cognigy_service::Workers;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), cognigy_core::BuildError> {
/// // A process that only works events off, which another process takes in.
/// let pipeline = Pipeline::builder(sample::verifier()).store(MemoryStore::new()).build()?;
/// let workers = Workers::default();
/// workers.start(pipeline, Arc::new(TokioClock::new()), WorkerOptions::default());
/// assert!(workers.ended().is_empty()); // for a probe of liveness
/// workers.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Workers(Arc<Mutex<Vec<Running>>>);

#[derive(Debug)]
struct Running {
    source: SourceName,
    worker: WorkerHandle,
    /// Whether the observer knows that it has ended.
    told: bool,
}

impl Workers {
    /// Starts a worker for `pipeline` on the current tokio runtime.
    pub fn start(&self, pipeline: Pipeline, clock: Arc<dyn Clock>, options: WorkerOptions) {
        let source = pipeline.source().name().clone();
        let worker = Worker::spawn_with(pipeline, clock, options);
        self.running().push(Running { source, worker, told: false });
    }

    /// The sources whose workers have ended although they were not asked to. Their events stay stored, and
    /// this process does not run them.
    #[must_use]
    pub fn ended(&self) -> Vec<SourceName> {
        let running = self.running();
        let ended = running.iter().filter(|it| it.worker.is_finished());
        ended.map(|it| it.source.clone()).collect()
    }

    /// Tells `observer` of each worker that ends although it was not asked to. Runs until it is dropped.
    pub async fn watch(self, observer: Arc<dyn ServiceObserver>) {
        loop {
            tokio::time::sleep(INTERVAL).await;
            for source in self.news() {
                observer.happened(&Happening::WorkerEnded { source: &source });
            }
        }
    }

    /// Has all workers stop and waits until they have: attempts in flight end within the grace period.
    pub async fn shutdown(&self) {
        let running = std::mem::take(&mut *self.running());
        join_all(running.into_iter().map(|it| it.worker.shutdown())).await;
    }

    /// The sources of workers that have ended and of which the observer does not know.
    fn news(&self) -> Vec<SourceName> {
        let mut running = self.running();
        let ended = running.iter_mut().filter(|it| !it.told && it.worker.is_finished());
        let news = ended.map(|it| {
            it.told = true;
            it.source.clone()
        });
        news.collect()
    }

    fn running(&self) -> MutexGuard<'_, Vec<Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
