//! The threads that read, each with a read-only connection of its own.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, SyncSender, TrySendError, sync_channel},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use cognigy_core::StoreError;
use rusqlite::Connection;
use tokio::sync::oneshot;

use crate::{
    SqliteAccess,
    error::SqliteError,
    file::{
        database::{Database, DatabaseConnection},
        write_back::{Slot, lock},
    },
};

/// How often a query is tried whose result is invalid because another process changed the database
/// meanwhile.
const MAX_READINGS: usize = 100;
/// The pause between two such queries. The other process needs only microseconds.
const READING_PAUSE: Duration = Duration::from_millis(2);

type Query = Box<dyn FnOnce(&mut ReaderState) + Send>;

/// The handle to the reader threads. Dropping it waits until the queue is empty.
#[derive(Debug)]
pub(crate) struct Readers {
    queue: Option<SyncSender<Query>>,
    threads: Vec<JoinHandle<()>>,
}

impl Readers {
    /// Starts the threads. They open the database when they are first asked something.
    pub(crate) fn start(database: &Database) -> Result<Self, SqliteError> {
        let (queue, waiting) = sync_channel::<Query>(database.options.queue_limit.max(1));
        let waiting = Arc::new(Mutex::new(waiting));
        let start = |_| {
            let state =
                ReaderState { database: database.clone(), slot: database.write_back.slot() };
            let waiting = Arc::clone(&waiting);
            let builder = thread::Builder::new().name("sqlite-reader".to_owned());
            builder.spawn(move || state.work_off(&waiting)).map_err(SqliteError::Thread)
        };
        let threads = (0..database.options.readers.max(1)).map(start).collect::<Result<_, _>>()?;
        Ok(Self { queue: Some(queue), threads })
    }

    /// Does `work` on one snapshot of the database.
    pub(crate) async fn query<T, W>(&self, work: W) -> Result<T, StoreError>
    where
        T: Send + 'static,
        W: Fn(&Connection) -> Result<T, SqliteError> + Send + 'static,
    {
        let (reply, answer) = oneshot::channel();
        // A caller that no longer waits gets no answer.
        let query: Query = Box::new(move |state| drop(reply.send(state.query(&work))));
        let queue = self.queue.as_ref().ok_or(SqliteError::Stopped)?;
        queue.try_send(query).map_err(|error| match error {
            TrySendError::Full(_) => StoreError::overloaded(),
            TrySendError::Disconnected(_) => SqliteError::Stopped.into(),
        })?;
        Ok(answer.await.map_err(|_| SqliteError::Panicked)??)
    }
}

impl Drop for Readers {
    fn drop(&mut self) {
        self.queue = None;
        for thread in self.threads.drain(..) {
            // It catches panics itself, so there is no outcome to look at.
            drop(thread.join());
        }
    }
}

/// The state of one reader thread.
struct ReaderState {
    database: Database,
    slot: Slot,
}

impl ReaderState {
    fn work_off(mut self, waiting: &Mutex<Receiver<Query>>) {
        loop {
            // The lock is held while waiting: one reader waits for the next query, the others wait
            // for the lock.
            let next = waiting.lock().unwrap_or_else(PoisonError::into_inner).recv();
            let Ok(query) = next else { return };
            // After a panic the dropped reply channel tells the caller.
            drop(catch_unwind(AssertUnwindSafe(|| query(&mut self))));
        }
    }

    fn query<T>(
        &mut self,
        work: &impl Fn(&Connection) -> Result<T, SqliteError>,
    ) -> Result<T, SqliteError> {
        let slot = Arc::clone(&self.slot);
        let mut place = lock(&slot);
        for _ in 0..MAX_READINGS {
            match self.try_query(&mut place, work) {
                Err(error) if error.is_passing() => thread::sleep(READING_PAUSE),
                result => return result,
            }
        }
        Err(SqliteError::Changing)
    }

    fn try_query<T>(
        &self,
        place: &mut Option<DatabaseConnection>,
        work: &impl Fn(&Connection) -> Result<T, SqliteError>,
    ) -> Result<T, SqliteError> {
        let mut session = match place.take() {
            Some(session) if session.must_be_in_place().is_ok() && session.has_read_one_state() => {
                session
            }
            _ => self.open()?,
        };
        // All statements of one query see the same state.
        let snapshot = session.connection.transaction()?;
        let result = work(&snapshot);
        drop(snapshot);
        if !session.has_read_one_state() {
            return Err(SqliteError::Changing);
        }
        if result.is_ok() {
            *place = Some(session);
        }
        result
    }

    fn open(&self) -> Result<DatabaseConnection, SqliteError> {
        match self.database.options.access {
            SqliteAccess::Read => self.database.open_unwritten(),
            SqliteAccess::Create | SqliteAccess::Write => self.database.open_reader(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Waker},
        time::Duration,
    };

    use super::*;
    use crate::SqliteOptions;

    #[test]
    fn the_threads_are_gone_when_their_handle_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("w.db");
        let database = Database::new(&path, SqliteOptions::default()).unwrap();
        let _writer = database.set_up().unwrap();
        let readers = Readers::start(&database).unwrap();
        {
            // The first poll puts the query into the queue; then no task waits for it any more.
            let mut query = pin!(readers.query(|_| {
                thread::sleep(Duration::from_millis(50));
                Ok(())
            }));
            let _ = query.as_mut().poll(&mut Context::from_waker(Waker::noop()));
        }
        let held_by_the_threads = Arc::downgrade(&database.write_back);
        drop((readers, database));
        assert_eq!(held_by_the_threads.strong_count(), 1, "the writer's");
    }
}
