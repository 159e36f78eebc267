//! What a failed sync leaves behind, and how the store loses nothing by it.
//!
//! The operating system reports a failed sync once, forgets what should have been synced, and goes
//! on returning it to every reader. SQLite relies on such pages in two places:
//!
//! * It writes pages from the WAL into the database in several passes, each of which begins where
//!   the last one ended, and syncs the database after the last pass. Only then may the WAL begin
//!   anew. If that sync fails, the next try repeats only the last pass. Its sync succeeds, the WAL
//!   begins anew, and the pages of the earlier passes are lost.
//! * A commit whose sync failed does not count. But the first connection that opens the database
//!   recovers the WAL, finds that commit complete and appends to it, while the disk has a gap
//!   there.
//!
//! So after such a failure nothing more is written back, all connections are closed without the
//! write-back that SQLite does at the last, the WAL is recovered, which begins its write-back from the
//! start, and written once more where it is: [`Database::begin_anew`](crate::file::database::Database). A start
//! writes the WAL that it finds once more, too: the process before may have ended just then. A
//! connection in another process, or of another store in this one, keeps the old count alive; it has to
//! be closed, too. Until the WAL has been written once more, no connection writes it back, not even one
//! that is closed because the start has failed.

use std::sync::{
    Arc, Mutex, MutexGuard, PoisonError, TryLockError, Weak,
    atomic::{AtomicBool, Ordering},
};

use crate::{error::SqliteError, file::database::DatabaseConnection};

/// Where a thread keeps its connection: locked while the thread uses it, so that it can be closed
/// in between.
pub(crate) type Slot = Arc<Mutex<Option<DatabaseConnection>>>;

/// What all connections of a store share about write-backs.
#[derive(Debug, Default)]
pub(crate) struct WriteBack {
    /// Allows one write-back at a time, so that none begins after another has failed and before the
    /// failure is noted.
    turn: Mutex<()>,
    /// Whether everything in the WAL is known to be on the disk. False at the start: what the
    /// process before left is unknown.
    trusted: AtomicBool,
    /// All connections but the writer's. The threads own them: a connection holds this struct in
    /// turn, and would keep itself open.
    slots: Mutex<Vec<Weak<Mutex<Option<DatabaseConnection>>>>>,
}

impl WriteBack {
    /// Does `work` unless another thread is writing back.
    pub(crate) fn perform<T>(
        &self,
        work: impl FnOnce() -> Result<T, SqliteError>,
    ) -> Result<Option<T>, SqliteError> {
        let _turn = match self.turn.try_lock() {
            Ok(turn) => turn,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return Ok(None),
        };
        if !self.is_trusted() {
            return Err(SqliteError::SyncLost);
        }
        let result = work();
        if result.as_ref().is_err_and(|error| !error.is_busy()) {
            self.distrust();
        }
        result.map(Some)
    }

    /// A sync has failed, or may have.
    pub(crate) fn distrust(&self) {
        self.trusted.store(false, Ordering::Release);
    }

    /// The WAL has been recovered and is on the disk.
    pub(crate) fn trust(&self) {
        self.trusted.store(true, Ordering::Release);
    }

    /// Whether anything may be written back. Otherwise all connections have to be closed first.
    pub(crate) fn is_trusted(&self) -> bool {
        self.trusted.load(Ordering::Acquire)
    }

    /// A slot for a thread's connection.
    pub(crate) fn slot(&self) -> Slot {
        let slot = Slot::default();
        lock(&self.slots).push(Arc::downgrade(&slot));
        slot
    }

    /// Closes all connections, and waits for those that are in use. The next connection that opens
    /// the database recovers the WAL.
    pub(crate) fn close_all(&self, writer: Option<DatabaseConnection>) {
        let slots: Vec<_> = lock(&self.slots).iter().filter_map(Weak::upgrade).collect();
        let mut guards: Vec<_> = slots.iter().map(|slot| lock(slot)).collect();
        guards.iter_mut().for_each(|guard| **guard = None);
        drop(writer);
    }
}

/// A panic leaves nothing half-done behind these locks.
pub(crate) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use rusqlite::ffi;

    use super::*;
    use crate::error::sqlite;

    #[test]
    fn after_a_failure_nothing_is_written_back_until_the_wal_is_recovered() {
        let write_back = WriteBack::default();
        assert!(matches!(write_back.perform(|| Ok(7)), Err(SqliteError::SyncLost)), "not yet");
        write_back.trust();
        let fail = |code| write_back.perform(|| -> Result<(), _> { Err(sqlite(code)) });
        fail(ffi::SQLITE_BUSY).unwrap_err();
        assert_eq!(write_back.perform(|| Ok(7)).unwrap(), Some(7), "a lock is no failure");
        for code in [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_FULL, ffi::SQLITE_CORRUPT] {
            fail(code).unwrap_err();
            assert!(!write_back.is_trusted());
            let again = write_back.perform(|| -> Result<(), _> { unreachable!("not again") });
            assert!(matches!(again, Err(SqliteError::SyncLost)));
            write_back.trust();
            assert_eq!(write_back.perform(|| Ok(7)).unwrap(), Some(7));
        }
    }

    #[test]
    fn one_thread_at_a_time_writes_back() {
        let write_back = WriteBack::default();
        write_back.trust();
        let both = write_back.perform(|| write_back.perform(|| Ok(7)));
        assert_eq!(both.unwrap(), Some(None));
    }
}
