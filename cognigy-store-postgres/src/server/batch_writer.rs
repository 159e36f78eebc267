//! The writers: tasks that take all waiting deliveries and record them together.
//!
//! While one writer waits for its commit, the next takes the deliveries that have arrived since. A
//! delivery whose data the database refuses is found by halving the batch, and does not harm the
//! others in the batch.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cognigy_core::{Recorded, StoreError};
use tokio::{
    sync::{
        Mutex,
        mpsc::{self, error::TrySendError},
        oneshot,
    },
    task::JoinHandle,
};

use crate::{
    PostgresOptions,
    calls::{
        contact_queue::OrderHint,
        record::{self, Delivery},
    },
    config::{MAX_BATCH, MAX_BATCH_BYTES},
    error::PostgresError,
    server::pools::{ConnectionPool, perform},
};

/// A delivery that waited so long is refused as overloaded rather than tried: its sender has most
/// likely given up, and the deliveries behind it should not wait too.
const STALE: Duration = Duration::from_secs(5);

/// Deliveries that are recorded together, all or none, and the channel for their outcome.
struct Job {
    deliveries: Vec<Delivery>,
    since: Instant,
    reply: oneshot::Sender<Result<Vec<Recorded>, StoreError>>,
}

/// The handle to the writers.
#[derive(Debug)]
pub(crate) struct Writers {
    queue: mpsc::Sender<Job>,
    tasks: Vec<JoinHandle<()>>,
}

impl Writers {
    /// Starts them on the current runtime.
    pub(crate) fn start(
        pool: &ConnectionPool,
        options: &PostgresOptions,
        order: &Arc<OrderHint>,
    ) -> Self {
        let (queue, waiting) = mpsc::channel(options.queue_limit.max(1));
        let waiting = Arc::new(Mutex::new(waiting));
        let write =
            |_| tokio::spawn(work_off(pool.clone(), Arc::clone(&waiting), Arc::clone(order)));
        Self { queue, tasks: (0..options.writers.max(1)).map(write).collect() }
    }

    /// Records deliveries, all or none, and waits until that is durable. At least one.
    pub(crate) async fn record(
        &self,
        deliveries: Vec<Delivery>,
    ) -> Result<Vec<Recorded>, StoreError> {
        let (reply, answer) = oneshot::channel();
        let job = Job { deliveries, since: Instant::now(), reply };
        self.queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::overloaded(),
            TrySendError::Closed(_) => PostgresError::Stopped.into(),
        })?;
        answer.await.unwrap_or_else(|_| Err(PostgresError::Stopped.into()))
    }
}

impl Drop for Writers {
    fn drop(&mut self) {
        // No call waits any more: a waiting call would keep the store alive.
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

async fn work_off(
    pool: ConnectionPool,
    waiting: Arc<Mutex<mpsc::Receiver<Job>>>,
    order: Arc<OrderHint>,
) {
    loop {
        let Some(batch) = next_batch(&waiting).await else { return };
        let (deliveries, replies): (Vec<_>, Vec<_>) =
            batch.into_iter().map(|job| (job.deliveries, job.reply)).unzip();
        settle_up(&pool, &deliveries, replies, &order).await;
    }
}

/// All waiting deliveries within the limits of a batch, at least one. None once the store has been
/// dropped.
async fn next_batch(waiting: &Mutex<mpsc::Receiver<Job>>) -> Option<Vec<Job>> {
    let mut waiting = waiting.lock().await;
    let mut batch = Vec::new();
    let (mut count, mut bytes) = (0, 0);
    while count < MAX_BATCH && bytes < MAX_BATCH_BYTES {
        let job = if batch.is_empty() {
            waiting.recv().await?
        } else {
            match waiting.try_recv() {
                Ok(job) => job,
                Err(_) => break,
            }
        };
        if job.since.elapsed() > STALE {
            // A caller that no longer waits gets no answer.
            drop(job.reply.send(Err(StoreError::overloaded())));
            continue;
        }
        count += job.deliveries.len();
        bytes += job.deliveries.iter().map(|delivery| delivery.event.body.len()).sum::<usize>();
        batch.push(job);
    }
    Some(batch)
}

/// Records the deliveries together, or in halves if one of them may be at fault, and answers all of
/// them.
async fn settle_up(
    pool: &ConnectionPool,
    deliveries: &[Vec<Delivery>],
    mut replies: Vec<oneshot::Sender<Result<Vec<Recorded>, StoreError>>>,
    order: &OrderHint,
) {
    let all: Vec<_> = deliveries.iter().flatten().collect();
    match perform!(again pool, connection => record::record(connection, &all, order)) {
        Ok(mut outcomes) => {
            for (reply, job) in replies.into_iter().zip(deliveries) {
                let rest = outcomes.split_off(job.len().min(outcomes.len()));
                drop(reply.send(Ok(std::mem::replace(&mut outcomes, rest))));
            }
        }
        Err(problem) if deliveries.len() > 1 && problem.may_concern_one_call() => {
            let (ours, theirs) = deliveries.split_at(deliveries.len() / 2);
            let others = replies.split_off(ours.len());
            Box::pin(settle_up(pool, ours, replies, order)).await;
            Box::pin(settle_up(pool, theirs, others, order)).await;
        }
        Err(problem) => {
            let problem = Arc::new(problem);
            replies.into_iter().for_each(|reply| drop(reply.send(Err(problem.shared()))));
        }
    }
}
