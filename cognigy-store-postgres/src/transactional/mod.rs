//! Runs a [`TransactionalHandler`]: begin, handle, settle, commit.
//!
//! ```text
//!   BEGIN ─▶ handler's statements ─▶ still the same transaction? ─▶ settle, fence compared ─▶ COMMIT
//!                    │ Err, panic, dropped      │ no                  │ lease lost            │ no answer
//!                    ▼                          ▼                     ▼                       ▼
//!                 ROLLBACK                   ROLLBACK              ROLLBACK        look the attempt up
//! ```
//!
//! The claim is settled last. Settling locks the event's row in the queue, and a renewal, which
//! prolongs all of a worker's leases in one statement, would wait for it.

pub(crate) mod transaction;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use cognigy_core::{
    ClaimToken, Completion, Contact, Event, Failure, Settled, SettlingHandler, StoreError,
};
use deadpool_postgres::{Object, Transaction};
use futures_util::FutureExt;
use tokio_postgres_rustls::MakeRustlsConnect;

use crate::{
    PostgresOptions, PostgresStore, Rollback, TransactionOptions, TransactionalHandler,
    calls::settle,
    config::MAX_RACES_LOST,
    error::PostgresError,
    row::{Private, read},
    server::{
        pools::{ConnectionPool, perform},
        session::Session,
    },
};

/// How long an attempt tries to get a connection from a server that refuses it. An outage should
/// not use up the event's attempts.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);
/// The first wait between tries; doubles up to [`MAX_CONNECT_PAUSE`].
const CONNECT_PAUSE: Duration = Duration::from_millis(100);
/// A server that takes connections again is noticed within this time.
const MAX_CONNECT_PAUSE: Duration = Duration::from_secs(2);

/// A [`TransactionalHandler`] and the store whose events it completes: what
/// [`settling_handler`](cognigy_core::PipelineBuilder::settling_handler) takes.
///
/// ```no_run
/// use std::sync::Arc;
///
/// use async_trait::async_trait;
/// use cognigy_core::{Contact, Event, Pipeline, Source};
/// use cognigy_store_postgres::{
///     PostgresStore, Rollback, Transaction, TransactionOptions, TransactionalHandler,
/// };
///
/// struct Visits;
///
/// #[async_trait]
/// impl TransactionalHandler for Visits {
///     async fn handle(
///         &self,
///         transaction: &mut Transaction<'_>,
///         event: Arc<Event>,
///         _contact: Option<Contact>,
///     ) -> Result<(), Rollback> {
///         let key = event.contact_key().ok_or_else(|| Rollback::permanent("no contact"))?;
///         transaction.execute("INSERT INTO visits (contact) VALUES ($1)", &[&key]).await?;
///         Ok(())
///     }
/// }
///
/// # async fn run(source: Source) -> Result<(), Box<dyn std::error::Error>> {
/// let store = PostgresStore::open("postgres://events@db.example.com/events").await?;
/// let options = TransactionOptions { connections: 4, ..TransactionOptions::default() };
/// let in_transactions = store.transactional_with(Visits, options)?;
/// let pipeline = Pipeline::builder(source).store(store).settling_handler(in_transactions).build()?;
/// # let _ = pipeline;
/// # Ok(())
/// # }
/// ```
pub struct Transactional<H> {
    handler: H,
    store: PostgresStore,
    pool: ConnectionPool,
    tls: MakeRustlsConnect,
    options: TransactionOptions,
}

impl PostgresStore {
    /// Makes `handler` handle events in transactions of this store's database, with the default
    /// options. Use it in a pipeline over this store.
    ///
    /// ```
    /// # use cognigy_core::{Pipeline, Source};
    /// # use cognigy_store_postgres::{PostgresStore, TransactionalHandler};
    /// # fn build(
    /// #     source: Source, store: PostgresStore, handler: impl TransactionalHandler,
    /// # ) -> Result<Pipeline, Box<dyn std::error::Error>> {
    /// let in_transactions = store.transactional(handler)?;
    /// let pipeline = Pipeline::builder(source)
    ///     .store(store)
    ///     .settling_handler(in_transactions)
    ///     .build()?;
    /// # Ok(pipeline)
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If TLS cannot be set up. It does not connect yet.
    pub fn transactional<H: TransactionalHandler>(
        &self,
        handler: H,
    ) -> Result<Transactional<H>, StoreError> {
        self.transactional_with(handler, TransactionOptions::default())
    }

    /// As [`transactional`](Self::transactional), with options.
    ///
    /// # Errors
    ///
    /// As [`transactional`](Self::transactional).
    pub fn transactional_with<H: TransactionalHandler>(
        &self,
        handler: H,
        options: TransactionOptions,
    ) -> Result<Transactional<H>, StoreError> {
        let target = &self.connections().target;
        let config = target.for_transactions(&options);
        let like_ours = PostgresOptions {
            statement_timeout: options.statement_timeout,
            ..self.options().clone()
        };
        // The attempt's own time limit bounds the wait.
        let pool = ConnectionPool::new(target, config, &like_ours, options.connections, None)?;
        let tls = target.trust.connector()?;
        Ok(Transactional { handler, store: self.clone(), pool, tls, options })
    }
}

#[async_trait]
impl<H: TransactionalHandler> SettlingHandler for Transactional<H> {
    async fn handle(
        &self,
        event: Arc<Event>,
        contact: Option<Contact>,
        completion: Completion<'_>,
    ) -> Result<Settled, Failure> {
        let mut races_lost = 0;
        loop {
            let mut session = Session::new(self.connect().await?, self.tls.clone());
            let once = self.in_transaction(&mut session, &event, contact.clone(), &completion);
            let undone = match once.await {
                Ended::Known(Ok(settled)) => {
                    session.give_back();
                    return Ok(settled);
                }
                Ended::Known(Err(undone)) => {
                    self.pool.within_deadline(given_back(session)).await.ok();
                    undone
                }
                // The session is closed.
                Ended::Unknown(undone) => undone,
                Ended::Doubtful(problem) => {
                    drop(session);
                    return self.look_up(completion.token(), problem).await;
                }
            };
            if !undone.lost_a_race || races_lost == MAX_RACES_LOST {
                return Err(undone.failure);
            }
            races_lost += 1;
            tokio::time::sleep(Duration::from_millis(5) * (1 << races_lost)).await;
        }
    }
}

/// How a transaction ended, which also says what is known about its session.
enum Ended {
    /// The server has confirmed the end.
    Known(Result<Settled, Rollback>),
    /// The transaction was not committed, but the server has not confirmed its end.
    Unknown(Rollback),
    /// The commit was sent, and no answer came.
    Doubtful(PostgresError),
}

impl<H: TransactionalHandler> Transactional<H> {
    /// Waits for a connection.
    async fn connect(&self) -> Result<Object, Failure> {
        let (mut pause, mut waited) = (CONNECT_PAUSE, Duration::ZERO);
        loop {
            let problem = match self.pool.lend().await {
                Ok(connection) => return Ok(connection),
                Err(problem) => problem,
            };
            if waited >= CONNECT_PATIENCE {
                let failure = Failure::transient("there is no connection for the transaction");
                return Err(failure.caused_by(problem));
            }
            if waited.is_zero() {
                tracing::warn!(error = %problem, "no connection for a handler's transaction");
            }
            tokio::time::sleep(pause).await;
            waited += pause;
            pause = MAX_CONNECT_PAUSE.min(pause * 2);
        }
    }

    async fn in_transaction(
        &self,
        session: &mut Session,
        event: &Arc<Event>,
        contact: Option<Contact>,
        completion: &Completion<'_>,
    ) -> Ended {
        let begun = self.pool.within_deadline(session.begin(self.options.isolation)).await;
        let (mut transaction, is_committing) = match begun {
            Ok(begun) => begun,
            Err(problem) => return Ended::Unknown(problem.into()),
        };
        let handled = self.handle_and_settle(&mut transaction, event, contact, completion).await;
        if !matches!(handled, Ok(Settled::Done | Settled::UnblockedNext)) {
            let rolled_back = self.pool.within_deadline(ended(transaction.rollback())).await;
            return match (rolled_back, handled) {
                (Ok(()), handled) => Ended::Known(handled),
                // The transaction counts as undone: the server will notice that the client is gone.
                (Err(_), Err(undone)) => Ended::Unknown(undone),
                (Err(problem), Ok(_)) => Ended::Unknown(problem.into()),
            };
        }
        *is_committing = true;
        match self.pool.within_deadline(ended(transaction.commit())).await {
            Ok(()) => Ended::Known(handled),
            Err(problem) if problem.outcome_is_unknown() => Ended::Doubtful(problem),
            // The commit was refused, for example by a constraint that was deferred until now.
            Err(problem) => Ended::Known(Err(problem.into())),
        }
    }

    async fn handle_and_settle(
        &self,
        transaction: &mut Transaction<'_>,
        event: &Arc<Event>,
        contact: Option<Contact>,
        completion: &Completion<'_>,
    ) -> Result<Settled, Rollback> {
        let token = completion.token();
        // The first poll sends the statement; its answer is not awaited. If it did not arrive, the
        // check below fails.
        let _ = transaction.batch_execute(&mark(token)).now_or_never();
        self.handler.handle(transaction, Arc::clone(event), contact).await?;
        self.pool
            .within_deadline(async {
                check(transaction, token, event).await?;
                let settlement = completion.settlement();
                let (ours, order) = (self.store.caller_clock(), self.store.order());
                Ok(settle::settle_within(transaction, &settlement, ours, order).await?)
            })
            .await
    }

    /// The commit's answer was lost. The database shows the outcome, if it can be reached. If it
    /// cannot, or if the commit has not arrived yet, a failure is still right: settling the failure
    /// compares fences, and waits for a transaction that still holds the claim's row.
    async fn look_up(&self, token: ClaimToken, problem: PostgresError) -> Result<Settled, Failure> {
        tracing::warn!(error = %problem, "a commit was not answered, looking it up");
        let working = &self.store.connections().working;
        let found = perform!(again working, connection => settle::has_succeeded(connection, token));
        match found {
            Ok(true) => Ok(Settled::Done),
            Ok(false) | Err(_) => {
                Err(Failure::transient("the commit was not answered").caused_by(problem))
            }
        }
    }
}

/// Marks a transaction until it ends.
fn mark(token: ClaimToken) -> String {
    format!("SET LOCAL cognigy.claim = '{}'", token.fence)
}

/// `$1` the mark, `$2` the event's handle, `$3` and `$4` its identity. From here on the transaction
/// holds the event's row in the queue and the handler's code no longer runs, so the transaction may
/// not pause for long. Its statements are planned as in the store's own sessions.
const CHECK: &str = r#"
SELECT coalesce(current_setting('cognigy.claim', true), '') = $1::text AS is_same,
       EXISTS (SELECT FROM cognigy_events
               WHERE id = $2 AND source = $3 COLLATE "C" AND event_id = $4 COLLATE "C") AS is_here,
       set_config('idle_in_transaction_session_timeout', '2s', true),
       set_config('plan_cache_mode', 'force_generic_plan', true),
       set_config('enable_seqscan', 'off', true), set_config('enable_bitmapscan', 'off', true),
       set_config('enable_mergejoin', 'off', true), set_config('jit', 'off', true)"#;

/// Checks that the handler's effects and the event are in one transaction of one database.
async fn check(
    transaction: &Transaction<'_>,
    token: ClaimToken,
    event: &Event,
) -> Result<(), Rollback> {
    let key = event.key();
    let (fence, id) = (token.fence.to_string(), Private(key.id.as_str()));
    let check = transaction.prepare_cached(CHECK).await?;
    let row =
        transaction.query_one(&check, &[&fence, &token.handle, &key.source.as_str(), &id]).await?;
    if !read::<bool>(&row, "is_same")? {
        return Err(Rollback::permanent("the handler ended its transaction itself"));
    }
    if !read::<bool>(&row, "is_here")? {
        return Err(Rollback::permanent("the event is not in the database of the transaction"));
    }
    Ok(())
}

async fn given_back(session: Session) -> Result<(), PostgresError> {
    session.give_back_if_it_writes().await;
    Ok(())
}

async fn ended(
    end: impl Future<Output = Result<(), tokio_postgres::Error>>,
) -> Result<(), PostgresError> {
    Ok(end.await?)
}

impl<H> fmt::Debug for Transactional<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transactional").field("options", &self.options).finish_non_exhaustive()
    }
}
