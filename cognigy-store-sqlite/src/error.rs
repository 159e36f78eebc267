//! The errors inside the store, and the kind of [`StoreError`] that each becomes.
//!
//! Messages name tables, columns and files, never a body.

use std::{io, path::PathBuf, sync::Arc};

use cognigy_core::{IllegalMove, StoreError, StoreErrorKind};
use rusqlite::ErrorCode;

#[derive(Debug, thiserror::Error)]
pub(crate) enum SqliteError {
    #[error("{}", of_sqlite(.0))]
    Sqlite(#[from] rusqlite::Error),
    #[error("{} is a folder, not a database", .0.display())]
    Folder(PathBuf),
    #[error("the database file cannot be reached")]
    File(#[source] io::Error),
    #[error("a thread for the database cannot be started")]
    Thread(#[source] io::Error),
    #[error(
        "the database file was moved, deleted or replaced while it was open: put the file back"
    )]
    Replaced,
    #[error("there is no database at {}", .0.display())]
    Missing(PathBuf),
    #[error("{} cannot be created: its folder is not there", .0.display())]
    NoFolder(PathBuf),
    #[error(
        "there is no database at {}, but {} of one is still there: put the database back, or move \
         what is left of it away to begin a new one",
        database.display(), names(beside)
    )]
    Orphans { database: PathBuf, beside: Vec<PathBuf> },
    #[error(
        "{} was left by a process that ended without writing it back, and the shared memory beside it is \
         missing: start the server once, it recovers the database",
        .0.display()
    )]
    NeedsRecovery(PathBuf),
    #[error(
        "other processes kept changing the database while it was opened for reading: try again"
    )]
    Changing,
    #[error("the database was opened for reading only, so nothing can be written")]
    OpenedForReading,
    #[error(
        "the database file cannot be written to: check the permissions of the file and of its file system"
    )]
    ReadOnly,
    #[error("the file is a database of another application")]
    Foreign,
    #[error(
        "the database has schema version {found}, from a later version of this program; this version knows \
         schemas up to {known}: use the later version"
    )]
    Newer { found: i64, known: usize },
    #[error(
        "the database has schema version {found}, from an earlier version of this program: start the \
         server once, it brings the database up to date"
    )]
    Older { found: usize },
    #[error(
        "the tables of this version are missing from the database: the file was replaced or emptied while \
         it was open"
    )]
    NoSchema,
    #[error(
        "the database cannot use a write-ahead log, only the journal mode {0}: put its file on a local \
         disk, not on a network file system"
    )]
    NoWal(String),
    #[error(
        "SQLite {0} can corrupt a database in WAL mode: build this program with SQLite 3.51.3 or later"
    )]
    OldSqlite(&'static str),
    #[error(
        "another program has kept the lock of the database file for {seconds} s; end it, or wait for it"
    )]
    Locked { seconds: u64 },
    #[error("{0}")]
    Unreadable(String),
    #[error(transparent)]
    IllegalMove(#[from] IllegalMove),
    #[error(
        "an earlier write could not be synced to the disk: the database has to be recovered before this \
         write"
    )]
    SyncLost,
    #[error(
        "a thread of the store panicked, which is a fault in this program: look in the log for the panic"
    )]
    Panicked,
    #[error("the store has stopped: its thread for the database has ended")]
    Stopped,
}

impl SqliteError {
    pub(crate) fn kind(&self) -> StoreErrorKind {
        match self {
            Self::Foreign
            | Self::Newer { .. }
            | Self::Older { .. }
            | Self::NoSchema
            | Self::Unreadable(_)
            | Self::IllegalMove(_) => StoreErrorKind::Corrupt,
            Self::Sqlite(error) => match error.sqlite_error_code() {
                // `Unknown` is SQLITE_ERROR, which with fixed statements means a missing table.
                Some(
                    ErrorCode::DatabaseCorrupt
                    | ErrorCode::NotADatabase
                    | ErrorCode::SchemaChanged
                    | ErrorCode::ConstraintViolation
                    | ErrorCode::Unknown,
                ) => StoreErrorKind::Corrupt,
                Some(_) => StoreErrorKind::Unavailable,
                // Not an error of SQLite, but of reading what it returned.
                None => StoreErrorKind::Corrupt,
            },
            _ => StoreErrorKind::Unavailable,
        }
    }

    /// Whether the disk failed, so that unsynced data may be lost.
    pub(crate) fn is_of_the_disk(&self) -> bool {
        matches!(self, Self::File(_)) || self.code() == Some(ErrorCode::SystemIoFailure)
    }

    /// Whether another process merely holds the lock, so that the connection can still be used.
    pub(crate) fn is_busy(&self) -> bool {
        matches!(self.code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
    }

    /// Whether the error will pass in a moment, for a store that only reads: another process was
    /// changing the database's files, or the index of its log in shared memory. A store that only
    /// reads cannot repair these and has to wait for the other process (`SQLITE_READONLY_RECOVERY`,
    /// `_CANTINIT`, `SQLITE_BUSY_RECOVERY`; <https://sqlite.org/rescode.html>).
    pub(crate) fn is_passing(&self) -> bool {
        use rusqlite::ffi::{
            SQLITE_BUSY_RECOVERY, SQLITE_READONLY_CANTINIT, SQLITE_READONLY_RECOVERY,
        };
        match self {
            Self::Changing => true,
            Self::Sqlite(rusqlite::Error::SqliteFailure(error, _)) => matches!(
                error.extended_code,
                SQLITE_READONLY_RECOVERY | SQLITE_READONLY_CANTINIT | SQLITE_BUSY_RECOVERY
            ),
            _ => false,
        }
    }

    /// Whether the call's own data may be at fault, so that calls it shared a transaction with are
    /// worth another try without it.
    pub(crate) fn may_concern_one_call(&self) -> bool {
        match self {
            Self::Sqlite(_) => matches!(
                self.code(),
                None | Some(
                    ErrorCode::ConstraintViolation
                        | ErrorCode::TooBig
                        | ErrorCode::TypeMismatch
                        | ErrorCode::ParameterOutOfRange
                )
            ),
            Self::Unreadable(_) | Self::IllegalMove(_) | Self::Panicked => true,
            _ => false,
        }
    }

    /// Whether the data itself is damaged, as opposed to a failing disk or a lock.
    pub(crate) fn is_damage(&self) -> bool {
        match self {
            Self::Sqlite(_) => matches!(self.code(), None | Some(ErrorCode::DatabaseCorrupt)),
            Self::Unreadable(_) => true,
            _ => false,
        }
    }

    fn code(&self) -> Option<ErrorCode> {
        match self {
            Self::Sqlite(error) => error.sqlite_error_code(),
            _ => None,
        }
    }

    /// The error for one of several callers.
    pub(crate) fn shared(self: &Arc<Self>) -> StoreError {
        StoreError::new(self.kind(), Arc::clone(self))
    }
}

impl From<SqliteError> for StoreError {
    fn from(problem: SqliteError) -> Self {
        Self::new(problem.kind(), problem)
    }
}

/// What a failure of SQLite means, put before SQLite's own message.
fn of_sqlite(error: &rusqlite::Error) -> &'static str {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "another program holds the lock of the database file; end it, or wait for it"
        }
        Some(ErrorCode::CannotOpen) => "the database file cannot be opened: may this user read it?",
        _ => "SQLite failed",
    }
}

/// The names of files, without their folder.
fn names(files: &[PathBuf]) -> String {
    let names = files.iter().map(|file| file.file_name().unwrap_or_default().to_string_lossy());
    names.collect::<Vec<_>>().join(" and ")
}

/// The failure of SQLite with that code.
#[cfg(test)]
pub(crate) fn sqlite(code: i32) -> SqliteError {
    SqliteError::Sqlite(rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(code), None))
}

#[cfg(test)]
mod tests {
    use cognigy_core::report;
    use rusqlite::ffi;

    use super::*;

    fn unreadable_row() -> SqliteError {
        SqliteError::Sqlite(rusqlite::Error::InvalidColumnIndex(7))
    }

    /// The questions about an error: is it of the disk, busy, damage, or of one call alone?
    fn answers(problem: &SqliteError) -> [bool; 4] {
        [
            problem.is_of_the_disk(),
            problem.is_busy(),
            problem.is_damage(),
            problem.may_concern_one_call(),
        ]
    }

    #[test]
    fn each_problem_is_what_it_is() {
        use StoreErrorKind::{Corrupt, Unavailable};
        let of_the_disk = [true, false, false, false];
        let busy = [false, true, false, false];
        let damage = [false, false, true, false];
        let of_one_call = [false, false, false, true];
        let damage_for_one = [false, false, true, true];
        for (problem, kind, expected) in [
            (sqlite(ffi::SQLITE_IOERR_FSYNC), Unavailable, of_the_disk),
            (SqliteError::File(io::ErrorKind::NotFound.into()), Unavailable, of_the_disk),
            (sqlite(ffi::SQLITE_BUSY_SNAPSHOT), Unavailable, busy),
            (sqlite(ffi::SQLITE_LOCKED), Unavailable, busy),
            (sqlite(ffi::SQLITE_READONLY), Unavailable, [false; 4]),
            (sqlite(ffi::SQLITE_FULL), Unavailable, [false; 4]),
            (sqlite(ffi::SQLITE_CORRUPT), Corrupt, damage),
            (sqlite(ffi::SQLITE_CONSTRAINT_UNIQUE), Corrupt, of_one_call),
            (sqlite(ffi::SQLITE_TOOBIG), Unavailable, of_one_call),
            (unreadable_row(), Corrupt, damage_for_one),
            (SqliteError::Unreadable("state".into()), Corrupt, damage_for_one),
            (SqliteError::Panicked, Unavailable, of_one_call),
            (SqliteError::Stopped, Unavailable, [false; 4]),
        ] {
            assert_eq!((problem.kind(), answers(&problem)), (kind, expected), "{problem:?}");
        }
    }

    #[test]
    fn what_is_over_in_a_moment_is_told_from_what_stays() {
        let passing = [
            ffi::SQLITE_READONLY_RECOVERY,
            ffi::SQLITE_READONLY_CANTINIT,
            ffi::SQLITE_BUSY_RECOVERY,
        ];
        assert!(passing.into_iter().all(|code| sqlite(code).is_passing()));
        let staying = [ffi::SQLITE_READONLY, ffi::SQLITE_CANTOPEN, ffi::SQLITE_BUSY];
        assert!(!staying.into_iter().any(|code| sqlite(code).is_passing()));
        assert!(SqliteError::Changing.is_passing() && !SqliteError::Replaced.is_passing());
    }

    #[test]
    fn a_report_has_the_cause() {
        let error = SqliteError::File(io::Error::other("no such disk"));
        assert_eq!(report(&error), "the database file cannot be reached: no such disk");
        assert_eq!(
            report(&SqliteError::Stopped),
            "the store has stopped: its thread for the database has ended"
        );
    }
}
