//! The interface for users whose own tables are in the events' database: a handler that receives a
//! transaction, how to undo the transaction, and how many of them there may be.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use cognigy_core::{Contact, Event, Failure};
use deadpool_postgres::Transaction;
use tokio_postgres::IsolationLevel;

use crate::{error::PostgresError, server::url::session_limits};

/// What to do with an event and its contact, in a transaction that also holds the event's
/// completion: both are committed together, or neither is. So whatever the handler writes through
/// `transaction` happens exactly once for each run of an event, through crashes, lost leases and
/// lost answers.
///
/// ```
/// # use std::sync::Arc;
/// # use cognigy_core::{Contact, Event};
/// use cognigy_store_postgres::{Rollback, Transaction, TransactionalHandler};
///
/// /// Counts how often each contact wrote.
/// struct Count;
///
/// #[async_trait::async_trait]
/// impl TransactionalHandler for Count {
///     async fn handle(
///         &self,
///         transaction: &mut Transaction<'_>,
///         event: Arc<Event>,
///         _contact: Option<Contact>,
///     ) -> Result<(), Rollback> {
///         let key = event.contact_key().ok_or_else(|| Rollback::permanent("whose is it?"))?;
///         let sql = "INSERT INTO visits VALUES ($1, 1)
///                    ON CONFLICT (contact) DO UPDATE SET times = visits.times + 1";
///         transaction.execute(sql, &[&key]).await?;
///         Ok(())
///     }
/// }
/// ```
///
/// ## Contract
/// * Only what goes through `transaction` happens exactly once. A call to another service, or a
///   write on another connection, happens at least once, as with any
///   [`EventHandler`](cognigy_core::EventHandler), and stays when the transaction is undone.
/// * The handler does not end the transaction: no `COMMIT`, no `ROLLBACK`. A handler that does is
///   detected before the event is completed, and fails permanently; but what it committed stays.
///   The handler may use savepoints.
/// * The handler leaves the session as it was: `SET LOCAL`, not `SET`; no session-level advisory
///   lock. The next handler gets the same session.
/// * It may run several times for one run of an event, each time in a new transaction, the earlier
///   ones having been undone. Within one attempt it runs again where the transaction lost a
///   deadlock or a serialization conflict (three times at most).
/// * It may be dropped at any `await`, when the lease is lost or the attempt takes too long, and a
///   panic counts as a transient failure of this event alone. Both undo the transaction.
/// * The transaction is open while it runs: other transactions wait for the rows it has written. Do
///   slow work before the transaction, or in an event of its own.
#[async_trait]
pub trait TransactionalHandler: Send + Sync + 'static {
    /// Handles one event. With `Err` the transaction is undone; a transient failure is then
    /// retried, a permanent one dead-letters the event.
    ///
    /// # Errors
    /// A [`Rollback`]: nothing of the transaction stays. A transient one is tried again by the retry policy, or at once where the
    /// transaction lost against another one; a permanent one dead-letters the event.
    async fn handle(
        &self,
        transaction: &mut Transaction<'_>,
        event: Arc<Event>,
        contact: Option<Contact>,
    ) -> Result<(), Rollback>;
}

/// Why a transaction is to be undone. `?` makes one of a [`Failure`] and of an error of PostgreSQL's.
///
/// What PostgreSQL refused is permanent if the same statement with the same values would be refused
/// again: SQLSTATE classes 22 (a value), 42 (syntax, a missing table or right) and 0A, and values
/// that do not read as the type that was asked for. Anything else may pass (a connection, a lock, a
/// constraint that depends on other rows) and is transient. The message names the SQLSTATE, the
/// table and the constraint, never a value. Where you know better, return a failure of your own.
///
/// ```
/// use cognigy_core::Failure;
/// use cognigy_store_postgres::Rollback;
///
/// /// `?` takes both kinds out of a handler: a decision of your own, and an error of the database.
/// fn checked(balance: i64, amount: i64) -> Result<i64, Rollback> {
///     if amount <= 0 {
///         return Err(Rollback::permanent("the amount is not positive"));
///     }
///     if amount > balance {
///         return Err(Failure::transient("the balance is too low for now").into());
///     }
///     Ok(balance - amount)
/// }
/// assert_eq!(checked(10, 4).unwrap(), 6);
/// assert!(checked(10, 0).is_err());
/// ```
#[derive(Debug)]
pub struct Rollback {
    pub(crate) failure: Failure,
    /// The transaction lost against another one and is worth another try at once.
    pub(crate) lost_a_race: bool,
}

impl Rollback {
    /// For a failure that may pass by itself.
    pub fn transient(message: impl Into<String>) -> Self {
        Failure::transient(message).into()
    }

    /// For a failure that will not pass by itself.
    pub fn permanent(message: impl Into<String>) -> Self {
        Failure::permanent(message).into()
    }
}

impl From<Failure> for Rollback {
    fn from(failure: Failure) -> Self {
        Self { failure, lost_a_race: false }
    }
}

impl From<tokio_postgres::Error> for Rollback {
    fn from(error: tokio_postgres::Error) -> Self {
        PostgresError::from(error).into()
    }
}

impl From<PostgresError> for Rollback {
    fn from(problem: PostgresError) -> Self {
        let lost_a_race = problem.lost_a_race();
        let message = "the transaction was undone";
        let failure = if problem.will_repeat_itself() {
            Failure::permanent(message)
        } else {
            Failure::transient(message)
        };
        Self { failure: failure.caused_by(problem), lost_a_race }
    }
}

/// How handlers' transactions are run.
#[derive(Debug, Clone)]
pub struct TransactionOptions {
    /// Connections for handlers' transactions, beside those of the store. Default 8. Attempts beyond
    /// it wait for one, as long as an attempt may take; the store's own calls (claims, renewals,
    /// deliveries) never do. Each is a process on the server.
    pub connections: usize,
    /// Default `ReadCommitted`, as PostgreSQL's own. The stricter levels make transactions fail
    /// that collide with others; such a transaction is tried again. The renewal of the event's own
    /// lease is one of the others, so a transaction has to be shorter than a third of the lease.
    pub isolation: IsolationLevel,
    /// How long one statement may take; the server ends it then. Default 5 s.
    pub statement_timeout: Duration,
    /// How long a statement may wait for a row or a table that another transaction has. Default 2 s.
    pub lock_timeout: Duration,
    /// How long a transaction may go without a statement; the server ends it then, so that a paused
    /// node does not block other transactions. Default 10 s.
    pub idle_timeout: Duration,
}

impl Default for TransactionOptions {
    fn default() -> Self {
        Self {
            connections: 8,
            isolation: IsolationLevel::ReadCommitted,
            statement_timeout: Duration::from_secs(5),
            lock_timeout: Duration::from_secs(2),
            idle_timeout: Duration::from_secs(10),
        }
    }
}

impl TransactionOptions {
    pub(crate) fn limits(&self) -> [String; 6] {
        session_limits(self.statement_timeout, self.lock_timeout, self.idle_timeout)
    }
}
