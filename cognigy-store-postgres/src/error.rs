//! The errors inside the store, and the kind of [`StoreError`] that each becomes.
//!
//! Messages name tables, columns and SQLSTATEs, never a value: the server's own details may quote
//! the row that it refused.

use std::{
    error::Error,
    io::{
        self,
        ErrorKind::{ConnectionRefused, NotFound},
    },
    sync::Arc,
};

use cognigy_core::{IllegalMove, StoreError, StoreErrorKind};
use deadpool_postgres::{HookError, PoolError, TimeoutType};
use tokio_postgres::error::{DbError, SqlState};

#[derive(Debug, thiserror::Error)]
pub(crate) enum PostgresError {
    #[error("the database URL cannot be used: {0}")]
    Url(String),
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    #[error("PostgreSQL refused a statement: {0}")]
    Refused(Refusal),
    #[error("the connection to PostgreSQL failed: {0}")]
    Connection(String),
    /// No process listens at the address, or there is no socket.
    #[error("the connection to PostgreSQL failed: {0}")]
    NotListening(String),
    #[error("PostgreSQL did not answer in time")]
    Timeout,
    #[error("no connection to PostgreSQL was free in time")]
    Busy,
    #[error("{0}")]
    Session(String),
    #[error(
        "the database has schema version {found}, from a later version of this program; this version works \
         with schema version {known}: use the later version"
    )]
    Newer { found: i32, known: i32 },
    #[error(
        "the database has no tables of this program yet: start the server once, it creates them"
    )]
    NoSchema,
    #[error(
        "the database has schema version {found}, from an earlier version of this program: start the \
         server once, it brings the database up to date"
    )]
    Older { found: i32 },
    #[error("{0}")]
    Unreadable(String),
    #[error(transparent)]
    IllegalMove(#[from] IllegalMove),
    #[error("the store has stopped")]
    Stopped,
}

/// Whether opening failed because the database is not up yet: nothing listens at its address, or the
/// server says that it is starting or stopping (SQLSTATE 57P03). It may be up in a moment, which is
/// worth waiting for at a start; a wrong password or an unknown host is not.
///
/// ```no_run
/// use std::time::Duration;
///
/// use cognigy_core::StoreError;
/// use cognigy_store_postgres::{PostgresStore, is_not_up_yet};
///
/// /// Waits for a database that starts at the same time as the program.
/// async fn open(url: &str) -> Result<PostgresStore, StoreError> {
///     loop {
///         match PostgresStore::open(url).await {
///             Err(error) if is_not_up_yet(&error) => tokio::time::sleep(Duration::from_secs(1)).await,
///             opened => return opened,
///         }
///     }
/// }
/// # let _ = open("");
/// ```
#[must_use]
pub fn is_not_up_yet(error: &StoreError) -> bool {
    match error.source().and_then(<dyn Error>::downcast_ref) {
        Some(PostgresError::NotListening(_)) => true,
        Some(PostgresError::Refused(refusal)) => refusal.state == SqlState::CANNOT_CONNECT_NOW,
        _ => false,
    }
}

/// An error that the server answered, without its values.
#[derive(Debug)]
pub(crate) struct Refusal {
    state: SqlState,
    words: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.words, self.state.code())
    }
}

impl Refusal {
    fn new(error: &DbError) -> Self {
        let state = error.code().clone();
        // Class 22 is about values and class 23 about rows, and their messages may quote them.
        let quotes = matches!(state.code().get(..2), Some("22" | "23"));
        let mut words =
            if quotes { "a value was not accepted" } else { error.message() }.to_owned();
        for (what, name) in [("table", error.table()), ("constraint", error.constraint())] {
            if let Some(name) = name {
                words.push_str(&format!(", {what} {name}"));
            }
        }
        Self { state, words }
    }
}

impl PostgresError {
    pub(crate) fn kind(&self) -> StoreErrorKind {
        match self {
            Self::Newer { .. }
            | Self::NoSchema
            | Self::Older { .. }
            | Self::Unreadable(_)
            | Self::IllegalMove(_) => StoreErrorKind::Corrupt,
            Self::Busy => StoreErrorKind::Overloaded,
            // Class 42: a table or column does not exist, or the user may not use it. Class XX:
            // damage.
            Self::Refused(refusal) => match refusal.state.code().get(..2) {
                Some("22" | "23" | "42" | "XX") => StoreErrorKind::Corrupt,
                _ => StoreErrorKind::Unavailable,
            },
            _ => StoreErrorKind::Unavailable,
        }
    }

    fn state(&self) -> Option<&SqlState> {
        match self {
            Self::Refused(refusal) => Some(&refusal.state),
            _ => None,
        }
    }

    /// Whether the transaction lost against another one and changed nothing, so that it is worth
    /// another try.
    pub(crate) fn lost_a_race(&self) -> bool {
        matches!(
            self.state(),
            Some(&SqlState::T_R_SERIALIZATION_FAILURE | &SqlState::T_R_DEADLOCK_DETECTED)
        )
    }

    /// Whether the connection is no longer usable: it is closed, silent, or leads to a server that
    /// cannot write any more, as after a failover.
    pub(crate) fn ends_connection(&self) -> bool {
        match self {
            Self::Connection(_) | Self::NotListening(_) | Self::Timeout => true,
            Self::Refused(refusal) => {
                refusal.state == SqlState::READ_ONLY_SQL_TRANSACTION
                    || matches!(refusal.state.code().get(..2), Some("08" | "57" | "58" | "XX"))
                        && refusal.state != SqlState::QUERY_CANCELED
            }
            _ => false,
        }
    }

    /// Whether it is unknown if the call took effect.
    pub(crate) fn outcome_is_unknown(&self) -> bool {
        match self {
            Self::Connection(_) | Self::NotListening(_) | Self::Timeout => true,
            Self::Refused(refusal) => {
                refusal.state == SqlState::T_R_STATEMENT_COMPLETION_UNKNOWN
                    || matches!(refusal.state.code().get(..2), Some("08" | "57"))
                        && refusal.state != SqlState::QUERY_CANCELED
            }
            _ => false,
        }
    }

    /// Whether the call's own data may be at fault, so that calls it shared a statement with are
    /// worth another try without it.
    pub(crate) fn may_concern_one_call(&self) -> bool {
        match self.state() {
            Some(state) => matches!(state.code().get(..2), Some("21" | "22" | "23" | "54")),
            None => matches!(self, Self::Unreadable(_)),
        }
    }

    /// Whether the same statement with the same values would be refused again, whatever other
    /// transactions do meanwhile. Class 0A: something the server cannot do.
    pub(crate) fn will_repeat_itself(&self) -> bool {
        match self.state() {
            Some(state) => matches!(state.code().get(..2), Some("0A" | "22" | "42")),
            None => matches!(self, Self::Unreadable(_)),
        }
    }

    /// Whether there is no partition yet for a row that was to be written. (The server reports it
    /// as a check that failed; there are no such checks on our tables otherwise.)
    pub(crate) fn lacks_partition(&self) -> bool {
        self.state() == Some(&SqlState::CHECK_VIOLATION)
    }

    /// Whether waiting for a lock timed out.
    pub(crate) fn is_lock_timeout(&self) -> bool {
        self.state() == Some(&SqlState::LOCK_NOT_AVAILABLE)
    }

    /// The error for one of several callers.
    pub(crate) fn shared(self: &Arc<Self>) -> StoreError {
        StoreError::new(self.kind(), Arc::clone(self))
    }
}

impl From<tokio_postgres::Error> for PostgresError {
    fn from(error: tokio_postgres::Error) -> Self {
        if let Some(refusal) = error.as_db_error() {
            return Self::Refused(Refusal::new(refusal));
        }
        let mut words = error.to_string();
        // Not an error of the server, but of reading what it returned.
        let is_ours = ["error serializing", "error deserializing", "query returned an unexpected"]
            .iter()
            .any(|beginning| words.starts_with(beginning));
        let mut cause = error.source();
        let mut listens = true;
        while let Some(error) = cause {
            // For an I/O error its kind, such as "connection refused". Other causes are short.
            match error.downcast_ref::<io::Error>() {
                Some(io) if io.raw_os_error().is_some() => {
                    words = format!("{words}: {}", io.kind());
                    listens &= !matches!(io.kind(), ConnectionRefused | NotFound);
                }
                _ => words = format!("{words}: {error}"),
            }
            cause = error.source();
        }
        match (is_ours, listens) {
            (true, _) => Self::Unreadable(words),
            (false, true) => Self::Connection(words),
            (false, false) => Self::NotListening(words),
        }
    }
}

impl From<PoolError> for PostgresError {
    fn from(error: PoolError) -> Self {
        match error {
            PoolError::Timeout(TimeoutType::Wait) => Self::Busy,
            PoolError::Timeout(_) => Self::Timeout,
            PoolError::Backend(error) => error.into(),
            PoolError::PostCreateHook(HookError::Backend(error)) => error.into(),
            PoolError::PostCreateHook(HookError::Message(message)) => Self::Session(message.into()),
            PoolError::Closed => Self::Stopped,
            PoolError::NoRuntimeSpecified => Self::Session("there is no tokio runtime".to_owned()),
        }
    }
}

impl From<PostgresError> for StoreError {
    fn from(problem: PostgresError) -> Self {
        Self::new(problem.kind(), problem)
    }
}

pub(crate) fn unreadable(what: &str, why: impl std::fmt::Display) -> PostgresError {
    PostgresError::Unreadable(format!("{what} {why}"))
}
