//! The one thread that writes.
//!
//! It takes all waiting calls, performs them in one transaction, and answers them once the
//! transaction is committed. A call that fails because of its own data is taken out of the batch
//! and does not harm the others.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::Ordering,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use cognigy_core::StoreError;
use rusqlite::TransactionBehavior;
use tokio::sync::oneshot;

use crate::{
    config::{MAX_GROUP, OTHER_CALLS},
    error::SqliteError,
    file::{
        checkpoint::Checkpointer,
        database::{Database, DatabaseConnection},
        lock_wait::LockWait,
        write_batch::WriteBatch,
    },
};

/// The handle to the writer thread. Dropping it waits until everything in the queue is done.
#[derive(Debug)]
pub(crate) struct Writer {
    queue: Option<SyncSender<Box<dyn Job>>>,
    thread: Option<JoinHandle<()>>,
    max_wait: Duration,
    lock: Arc<LockWait>,
}

impl Writer {
    /// Starts the thread and has it open the database.
    pub(crate) async fn start(database: Database) -> Result<Self, StoreError> {
        let (queue, waiting) =
            sync_channel(database.options.queue_limit.saturating_add(OTHER_CALLS));
        let (max_wait, lock) = (database.options.max_wait, Arc::clone(&database.lock_wait));
        let (report, opened) = oneshot::channel();
        let thread = thread::Builder::new()
            .name("sqlite-writer".to_owned())
            .spawn(move || match WriterState::set_up(database) {
                Ok(state) => {
                    if report.send(Ok(())).is_ok() {
                        state.work_off(&waiting);
                    }
                }
                Err(error) => drop(report.send(Err(error))),
            })
            .map_err(SqliteError::Thread)?;
        let writer = Self { queue: Some(queue), thread: Some(thread), max_wait, lock };
        opened.await.map_err(|_| SqliteError::Panicked)??;
        Ok(writer)
    }

    /// Does `work` in a transaction and waits until it is durable. `work` may be called again if
    /// the transaction it was part of had to be undone.
    pub(crate) async fn perform<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: FnMut(&mut WriteBatch<'_>) -> Result<T, SqliteError> + Send + 'static,
    {
        self.queue_up(work, None).await
    }

    /// As [`perform`](Self::perform), but fails as overloaded, without doing anything, if its turn
    /// comes too late; as unavailable, if another program's lock is why.
    pub(crate) async fn perform_soon<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: FnMut(&mut WriteBatch<'_>) -> Result<T, SqliteError> + Send + 'static,
    {
        let begin_by = Instant::now() + self.max_wait;
        self.queue_up(work, Some(begin_by)).await
    }

    async fn queue_up<T, W>(&self, work: W, begin_by: Option<Instant>) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: FnMut(&mut WriteBatch<'_>) -> Result<T, SqliteError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        let job = Box::new(Task { work, outcome: None, reply, begin_by });
        let queue = self.queue.as_ref().ok_or(SqliteError::Stopped)?;
        queue.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => self.lock.refusal(),
            TrySendError::Disconnected(_) => SqliteError::Stopped.into(),
        })?;
        answer.await.unwrap_or_else(|_| Err(SqliteError::Stopped.into()))
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.queue = None;
        if let Some(thread) = self.thread.take() {
            // It catches panics itself, so there is no outcome to look at.
            drop(thread.join());
        }
    }
}

/// A call in the queue.
trait Job: Send {
    /// The latest time to begin the call; after it the call is refused.
    fn begin_by(&self) -> Option<Instant>;
    fn perform(&mut self, group: &mut WriteBatch<'_>) -> Result<(), SqliteError>;
    fn answer(self: Box<Self>, result: Result<(), StoreError>);
}

struct Task<T, W> {
    work: W,
    outcome: Option<T>,
    reply: oneshot::Sender<Result<T, StoreError>>,
    begin_by: Option<Instant>,
}

impl<T, W> Job for Task<T, W>
where
    T: Send,
    W: FnMut(&mut WriteBatch<'_>) -> Result<T, SqliteError> + Send,
{
    fn begin_by(&self) -> Option<Instant> {
        self.begin_by
    }

    fn perform(&mut self, group: &mut WriteBatch<'_>) -> Result<(), SqliteError> {
        self.outcome = Some((self.work)(group)?);
        Ok(())
    }

    fn answer(self: Box<Self>, result: Result<(), StoreError>) {
        let Self { outcome, reply, .. } = *self;
        let outcome = result.and_then(|()| outcome.ok_or_else(|| SqliteError::Panicked.into()));
        // A caller that no longer waits gets no answer.
        drop(reply.send(outcome));
    }
}

/// The state of the writer thread.
struct WriterState {
    database: Database,
    // Dropped before the writer's connection, which is to be the last to close.
    checkpointer: Checkpointer,
    /// None after a failure, until the database could be opened again.
    session: Option<DatabaseConnection>,
}

impl WriterState {
    fn set_up(database: Database) -> Result<Self, SqliteError> {
        let session = Some(database.set_up()?);
        let checkpointer = Checkpointer::start(database.clone())?;
        Ok(Self { database, checkpointer, session })
    }

    fn work_off(mut self, waiting: &Receiver<Box<dyn Job>>) {
        while let Ok(first) = waiting.recv() {
            let mut jobs = vec![first];
            gather(&mut jobs, waiting);
            let now = Instant::now();
            let is_late = |job: &mut Box<dyn Job>| job.begin_by().is_some_and(|by| by < now);
            for late in jobs.extract_if(.., is_late) {
                late.answer(Err(self.database.lock_wait.refusal()));
            }
            self.settle_up(jobs);
            // After the answers, so that only the next batch waits for it.
            if let Some(session) = &self.session {
                self.checkpointer.after_commit(session);
            }
        }
    }

    /// Performs the jobs in one transaction, or in halves if one of them may be at fault, and
    /// answers all of them.
    fn settle_up(&mut self, mut jobs: Vec<Box<dyn Job>>) {
        if jobs.is_empty() {
            return;
        }
        match self.commit(&mut jobs) {
            Ok(()) => jobs.into_iter().for_each(|job| job.answer(Ok(()))),
            Err(error) if jobs.len() > 1 && error.may_concern_one_call() => {
                let others = jobs.split_off(jobs.len() / 2);
                self.settle_up(jobs);
                self.settle_up(others);
            }
            Err(error) => {
                let error = Arc::new(error);
                jobs.into_iter().for_each(|job| job.answer(Err(error.shared())));
            }
        }
    }

    fn commit(&mut self, jobs: &mut [Box<dyn Job>]) -> Result<(), SqliteError> {
        let mut session = match self.session.take() {
            session if !self.database.write_back.is_trusted() => {
                self.database.begin_anew(session)?
            }
            Some(session) => session,
            None => self.database.reopen()?,
        };
        let attempt = AssertUnwindSafe(|| transact(&mut session, jobs, &self.database.lock_wait));
        let result = catch_unwind(attempt).unwrap_or(Err(SqliteError::Panicked));
        if result.as_ref().is_err_and(SqliteError::is_of_the_disk) {
            self.database.write_back.distrust();
        }
        if matches!(result, Err(SqliteError::Replaced)) {
            // Every connection closes its files, so that the connections that are opened next share
            // nothing with them. SQLite writes a log back if its database is still in its place.
            self.database.write_back.close_all(Some(session));
            return result;
        }
        // After any other failure the connection's idea of the file may be wrong: it is dropped,
        // and what is on disk counts.
        if result.as_ref().err().is_none_or(SqliteError::is_busy) {
            self.session = Some(session);
        }
        result
    }
}

/// Adds the waiting calls to the batch, for as long as yielding the processor brings more: a batch
/// twice as large costs far less than two commits. Where no other thread wants the processor, the
/// yield returns at once, and a single call does not wait for others.
fn gather<J>(jobs: &mut Vec<J>, waiting: &Receiver<J>) {
    while jobs.len() < MAX_GROUP {
        let before = jobs.len();
        thread::yield_now();
        jobs.extend(waiting.try_iter().take(MAX_GROUP - before));
        if jobs.len() == before {
            return;
        }
    }
}

fn transact(
    session: &mut DatabaseConnection,
    jobs: &mut [Box<dyn Job>],
    lock: &LockWait,
) -> Result<(), SqliteError> {
    // Immediate: the lock is taken here, where SQLite waits for it, and not at the first write,
    // which can fail at once (SQLITE_BUSY_SNAPSHOT).
    let connection = &mut session.connection;
    let transaction =
        lock.during(|| connection.transaction_with_behavior(TransactionBehavior::Immediate))?;
    let mut group = WriteBatch::new(&transaction);
    for job in jobs {
        job.perform(&mut group)?;
    }
    let log_to_empty = group.log_to_empty.take();
    group.finish()?;
    transaction.commit()?;
    // Checked after the commit and before the answer, so that no call is answered for a file that
    // was gone by then.
    session.must_be_in_place()?;
    if let Some(is_left) = log_to_empty
        && session.empty_log()
    {
        is_left.store(false, Ordering::Relaxed);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Waker},
    };

    use cognigy_core::StoreErrorKind;
    use rusqlite::Connection;

    use super::*;
    use crate::SqliteOptions;

    async fn writer(folder: &tempfile::TempDir) -> Writer {
        let path = folder.path().join("w.db");
        Writer::start(Database::new(&path, SqliteOptions::default()).unwrap()).await.unwrap()
    }

    fn beat(group: &mut WriteBatch<'_>) -> Result<i64, SqliteError> {
        group.beat()
    }

    #[test]
    fn a_group_takes_what_waits_up_to_its_limit() {
        let (sender, waiting) = sync_channel(2 * MAX_GROUP);
        for number in 1..MAX_GROUP + 10 {
            sender.send(number).unwrap();
        }
        let mut groups = [vec![0], vec![MAX_GROUP + 10], vec![MAX_GROUP + 11]];
        for group in &mut groups {
            gather(group, &waiting);
        }
        assert_eq!(groups.each_ref().map(Vec::len), [MAX_GROUP, 11, 1]);
        assert!(groups[0].is_sorted(), "in the order in which they came");
    }

    #[tokio::test]
    async fn a_call_that_panics_or_breaks_a_rule_harms_only_itself() {
        let folder = tempfile::tempdir().unwrap();
        let writer = writer(&folder).await;
        for round in 0..20 {
            let panics = writer.perform(|group| -> Result<(), SqliteError> {
                beat(group)?;
                panic!("poison")
            });
            let breaks = writer.perform(|group| {
                beat(group)?;
                Ok(group.connection().execute("INSERT INTO heartbeat VALUES (2, 2)", [])?)
            });
            let (panics, breaks, fine) = tokio::join!(panics, breaks, writer.perform(beat));
            assert_eq!(panics.unwrap_err().kind(), StoreErrorKind::Unavailable);
            assert_eq!(breaks.unwrap_err().kind(), StoreErrorKind::Corrupt);
            assert_eq!(fine.unwrap(), round + 1, "what the others began must be undone");
        }
    }

    #[tokio::test]
    async fn after_a_failed_write_the_file_is_opened_afresh() {
        let folder = tempfile::tempdir().unwrap();
        let writer = writer(&folder).await;
        let fill_up = |group: &mut WriteBatch<'_>| -> Result<(), SqliteError> {
            let pages: i64 =
                group.connection().pragma_query_value(None, "page_count", |row| row.get(0))?;
            group.connection().pragma_update(None, "max_page_count", pages)?;
            let body = vec![0; 1 << 20];
            group.prepare("INSERT INTO bodies (event, body) VALUES (1, ?1)")?.execute([body])?;
            Ok(())
        };
        let (full, other) = tokio::join!(writer.perform(fill_up), writer.perform(beat));
        assert_eq!(full.unwrap_err().kind(), StoreErrorKind::Unavailable);
        // Whether the second call shared the transaction is up to the scheduler. The limit goes
        // with the connection, so this only succeeds on a new one.
        let beats = i64::from(other.is_ok());
        let enough = |group: &mut WriteBatch<'_>| -> Result<(), SqliteError> {
            let body = vec![0; 1 << 20];
            group.prepare("INSERT INTO bodies (event, body) VALUES (1, ?1)")?.execute([body])?;
            Ok(())
        };
        writer.perform(enough).await.unwrap();
        assert_eq!(writer.perform(beat).await.unwrap(), beats + 1);
    }

    #[tokio::test]
    async fn dropping_the_writer_finishes_what_is_queued() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.db");
        let writer = writer(&folder).await;
        for _ in 0..100 {
            // The first poll puts the call into the queue; then no task waits for it any more.
            let mut call = pin!(writer.perform(beat));
            let _ = call.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
        drop(writer);
        assert!(!folder.path().join("w.db-wal").exists(), "a clean end leaves a single file");
        let connection = Connection::open(&path).unwrap();
        let beats: i64 =
            connection.query_row("SELECT beats FROM heartbeat", [], |row| row.get(0)).unwrap();
        assert_eq!(beats, 100);
    }
}
