//! Transactions that fail in every way that the handler or PostgreSQL can cause: none of their
//! changes remain, and the event is retried or dead-lettered like any other.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use cognigy_core::{
    AttemptOutcome, Contact, Event, EventArchive, Failure, Pipeline, ReplayOutcome, State,
    TokioClock,
};
use cognigy_store_postgres::{
    Rollback, Transaction, TransactionOptions, TransactionalHandler,
    tokio_postgres::{IsolationLevel, NoTls},
};

use crate::{
    balance::Transfers,
    bank::{self, Bank},
    common::key,
};

/// How an attempt goes wrong, after it has moved the money.
#[derive(Debug, Clone, Copy)]
enum Mishap {
    Transient,
    Permanent,
    Panic,
    Sql(&'static str),
    /// An error of PostgreSQL's that the handler does not pass on.
    Swallowed(&'static str),
    /// The handler says that all is well.
    Quietly(&'static str),
}

/// Goes wrong in its first attempts.
struct Clumsy {
    mishap: Mishap,
    times: u32,
    calls: Arc<AtomicU32>,
}

#[async_trait]
impl TransactionalHandler for Clumsy {
    async fn handle(
        &self,
        transaction: &mut Transaction<'_>,
        event: Arc<Event>,
        contact: Option<Contact>,
    ) -> Result<(), Rollback> {
        Transfers.handle(transaction, event, contact).await?;
        if self.calls.fetch_add(1, Ordering::SeqCst) >= self.times {
            return Ok(());
        }
        match self.mishap {
            Mishap::Transient => Err(Failure::transient("the moon is full").into()),
            Mishap::Permanent => Err(Rollback::permanent("never on a Sunday")),
            Mishap::Panic => panic!("told to"),
            Mishap::Sql(sql) => Ok(transaction.batch_execute(sql).await?),
            Mishap::Swallowed(sql) => {
                assert!(transaction.batch_execute(sql).await.is_err());
                Ok(())
            }
            Mishap::Quietly(sql) => {
                transaction.batch_execute(sql).await.unwrap();
                Ok(())
            }
        }
    }
}

struct Case {
    bank: Bank<'static>,
    calls: Arc<AtomicU32>,
    pipeline: Pipeline,
}

impl Case {
    async fn new(mishap: Mishap, times: u32) -> Self {
        Self::with(mishap, times, TransactionOptions::default()).await
    }

    async fn with(mishap: Mishap, times: u32, options: TransactionOptions) -> Self {
        let bank = Bank::open().await;
        let calls = Arc::new(AtomicU32::new(0));
        let clumsy = Clumsy { mishap, times, calls: Arc::clone(&calls) };
        let pipeline = bank.pipeline(bank.store.transactional_with(clumsy, options).unwrap());
        bank.order("e1").await;
        Self { bank, calls, pipeline }
    }

    async fn run(&self) -> Vec<(AttemptOutcome, String)> {
        self.bank.finish_with(self.pipeline.clone()).await;
        self.bank.books_are_right();
        let attempts = self.bank.attempts("e1").await.into_iter();
        attempts.map(|one| (one.outcome, one.error.unwrap_or_default())).collect()
    }
}

use AttemptOutcome::{FailedPermanent, FailedTransient, Succeeded};

#[tokio::test]
async fn what_may_pass_is_undone_and_tried_again() {
    for (mishap, why) in [
        (Mishap::Transient, "the moon is full"),
        (Mishap::Panic, "the attempt panicked"),
        (Mishap::Sql("UPDATE accounts SET cents = -1"), "(23514)"),
        (Mishap::Sql("SELECT pg_sleep(60)"), "(57014)"),
        (Mishap::Sql("SELECT pg_terminate_backend(pg_backend_pid())"), "(57P01)"),
        (Mishap::Swallowed("SELECT 1/0"), "(25P02)"),
    ] {
        let statement_timeout = Duration::from_millis(500);
        let options = TransactionOptions { statement_timeout, ..TransactionOptions::default() };
        let case = Case::with(mishap, 2, options).await;
        let attempts = case.run().await;
        assert_eq!(attempts.len(), 3, "{mishap:?}: {attempts:?}");
        for (outcome, error) in &attempts[..2] {
            assert_eq!(*outcome, FailedTransient, "{mishap:?}");
            assert!(error.contains(why), "{mishap:?}: {error}");
        }
        assert_eq!((attempts[2].0, case.bank.moved()), (Succeeded, 1));
        // It fails for ever, and the event is given up.
        let case = Case::new(mishap, u32::MAX).await;
        if !matches!(mishap, Mishap::Sql("SELECT pg_sleep(60)")) {
            assert_eq!(case.run().await.len(), 4, "{mishap:?}");
            assert_eq!(case.bank.state("e1").await, State::DeadLettered);
            assert_eq!(case.bank.moved(), 0);
        }
    }
}

#[tokio::test]
async fn what_will_not_pass_is_undone_and_dead_lettered_at_once() {
    for (mishap, why) in [
        (Mishap::Permanent, "never on a Sunday"),
        (Mishap::Sql("SELECT 1/0"), "(22012)"),
        (Mishap::Sql("SELECT nothing FROM nowhere"), "(42P01)"),
        (Mishap::Quietly("ROLLBACK"), "the handler ended its transaction itself"),
        (Mishap::Quietly("ROLLBACK; BEGIN"), "the handler ended its transaction itself"),
    ] {
        let case = Case::new(mishap, u32::MAX).await;
        let attempts = case.run().await;
        assert_eq!(attempts.len(), 1, "{mishap:?}: {attempts:?}");
        assert_eq!(attempts[0].0, FailedPermanent);
        assert!(attempts[0].1.contains(why), "{mishap:?}: {}", attempts[0].1);
        assert_eq!((case.bank.moved(), case.bank.state("e1").await), (0, State::DeadLettered));
    }
}

/// What the handler committed stays, against its contract; but the event does not count as
/// processed, and the observer is told.
#[tokio::test]
async fn a_handler_that_commits_by_itself_is_found_out() {
    let case = Case::new(Mishap::Quietly("COMMIT; BEGIN"), u32::MAX).await;
    case.bank.finish_with(case.pipeline.clone()).await;
    let attempts = case.bank.attempts("e1").await;
    let error = attempts[0].error.clone().unwrap();
    assert_eq!((attempts.len(), error.as_str()), (1, "the handler ended its transaction itself"));
    assert_eq!(case.bank.state("e1").await, State::DeadLettered);
    assert_eq!(case.bank.moved(), 1, "the auditor would say so");
    assert!(!case.bank.audit().is_empty());
}

#[tokio::test]
async fn a_constraint_that_is_checked_at_the_commit_undoes_it_too() {
    let case = Case::new(Mishap::Quietly("INSERT INTO promises VALUES ('nobody')"), 1).await;
    case.bank.place.sql(
        "CREATE TABLE promises (name text REFERENCES accounts (name) DEFERRABLE INITIALLY DEFERRED)",
    );
    let attempts = case.run().await;
    assert_eq!(attempts.len(), 2);
    assert_eq!(attempts[0].0, FailedTransient);
    assert!(attempts[0].1.contains("(23503)"), "{}", attempts[0].1);
    assert!(!attempts[0].1.contains("nobody"), "and no value: {}", attempts[0].1);
    assert_eq!(case.bank.moved(), 1);
}

#[tokio::test]
async fn a_replay_moves_once_more_and_a_failed_one_does_not() {
    let case = Case::new(Mishap::Permanent, 0).await;
    case.run().await;
    assert_eq!(case.bank.moved(), 1);
    let clock = TokioClock::new();
    for run in 2..=4 {
        let outcome = case.pipeline.replay(&key("e1"), &clock).await.unwrap();
        assert!(matches!(outcome, ReplayOutcome::Replayed(_)), "{outcome:?}");
        assert_eq!(case.bank.moved(), run, "a run of its own");
        case.bank.books_are_right();
    }
    let clumsy = Clumsy { mishap: Mishap::Transient, times: 1, calls: Arc::default() };
    let pipeline = case.bank.pipeline(case.bank.store.transactional(clumsy).unwrap());
    let outcome = pipeline.replay(&key("e1"), &clock).await.unwrap();
    assert!(matches!(outcome, ReplayOutcome::Failed(_)), "{outcome:?}");
    assert_eq!(case.bank.moved(), 4);
    case.bank.books_are_right();
    assert_eq!(case.bank.store.counts().await.unwrap().unsent_dead_letters, 1);
}

/// In its first call the handler changes the database outside its transaction.
struct Disturbed {
    url: String,
    by: &'static str,
    calls: Arc<AtomicU32>,
}

#[async_trait]
impl TransactionalHandler for Disturbed {
    async fn handle(
        &self,
        transaction: &mut Transaction<'_>,
        event: Arc<Event>,
        contact: Option<Contact>,
    ) -> Result<(), Rollback> {
        transaction.query("SELECT * FROM accounts", &[]).await?;
        if self.calls.fetch_add(1, Ordering::SeqCst) == 0 {
            let (client, connection) =
                cognigy_store_postgres::tokio_postgres::connect(&self.url, NoTls).await?;
            let connection = tokio::spawn(connection);
            client.batch_execute(self.by).await?;
            drop(client);
            connection.await.unwrap().unwrap();
        }
        Transfers.handle(transaction, event, contact).await
    }
}

#[tokio::test]
async fn a_transaction_that_lost_a_race_is_tried_again_within_the_attempt() {
    for by in [
        // Acts like another transfer.
        "UPDATE accounts SET cents = cents",
        // A renewal of the event's own lease.
        "UPDATE cognigy_queue SET held_until = held_until + interval '1 s'",
    ] {
        for isolation in [IsolationLevel::RepeatableRead, IsolationLevel::Serializable] {
            let bank = Bank::open().await;
            bank.order("e1").await;
            let calls = Arc::new(AtomicU32::new(0));
            let url = bank.place.url();
            let handler = Disturbed { url, by, calls: Arc::clone(&calls) };
            let options = TransactionOptions { isolation, ..TransactionOptions::default() };
            let handler = bank.store.transactional_with(handler, options).unwrap();
            bank.finish_with(bank.pipeline(handler)).await;
            assert_eq!(calls.load(Ordering::SeqCst), 2, "{by}: once undone, once done");
            let attempts = bank.attempts("e1").await;
            assert_eq!((attempts.len(), attempts[0].outcome), (1, Succeeded));
            assert_eq!(bank.moved(), 1);
            bank.books_are_right();
        }
    }
}

/// A transaction that loses every race ends as a failure like any other.
#[tokio::test]
async fn a_race_is_not_run_for_ever() {
    let raise = "DO $$ BEGIN RAISE EXCEPTION 'lost' USING ERRCODE = '40001'; END $$";
    let case = Case::new(Mishap::Sql(raise), u32::MAX).await;
    let attempts = case.run().await;
    assert_eq!(attempts.len(), 4);
    assert!(attempts.iter().all(|(outcome, _)| *outcome == FailedTransient));
    assert_eq!(case.calls.load(Ordering::SeqCst), 4 * 4, "four times in each of four attempts");
    assert_eq!(case.bank.state("e1").await, State::DeadLettered);
}

/// The statement of a dropped attempt is cancelled, so the next attempt does not wait for it.
#[tokio::test]
async fn a_statement_of_an_attempt_that_was_dropped_is_cancelled() {
    let bank = Bank::open().await;
    bank.order("e1").await;
    let minutes = Duration::from_secs(600);
    let options = TransactionOptions {
        connections: 1,
        statement_timeout: minutes,
        ..TransactionOptions::default()
    };
    let calls = Arc::new(AtomicU32::new(0));
    let mishap = Mishap::Sql("SELECT pg_sleep(300)");
    let handler = Clumsy { mishap, times: 1, calls: Arc::clone(&calls) };
    let handler = bank.store.transactional_with(handler, options).unwrap();
    let pipeline = bank::pipeline(&bank.store, |pipeline| {
        pipeline.settling_handler(handler).attempt_timeout(Duration::from_secs(2))
    });
    bank.finish_with(pipeline).await;
    let attempts = bank.attempts("e1").await;
    assert_eq!(attempts[0].error.as_deref(), Some("the attempt took longer than 2s"));
    assert_eq!((attempts[1].outcome, bank.moved()), (Succeeded, 1));
    bank.books_are_right();
    bank.quiet().await;
}

/// The handler's statements are planned with the settings of the database's owner, not with the
/// store's.
#[tokio::test]
async fn the_handler_s_session_is_a_plain_one() {
    struct Settings(Arc<std::sync::Mutex<Vec<String>>>);
    #[async_trait]
    impl TransactionalHandler for Settings {
        async fn handle(
            &self,
            transaction: &mut Transaction<'_>,
            _: Arc<Event>,
            _: Option<Contact>,
        ) -> Result<(), Rollback> {
            let sql =
                "SELECT current_setting('enable_seqscan'), current_setting('plan_cache_mode'),
                              current_setting('statement_timeout'), current_setting('jit'),
                              current_setting('transaction_isolation')";
            let row = transaction.query_one(sql, &[]).await?;
            let settings = (0..5).map(|column| row.get::<_, String>(column)).collect();
            *self.0.lock().unwrap() = settings;
            // The handler may use savepoints.
            let savepoint = transaction.savepoint("mine").await?;
            savepoint.batch_execute("SELECT 1/0").await.unwrap_err();
            savepoint.rollback().await?;
            Ok(())
        }
    }
    let bank = Bank::open().await;
    let seen = Arc::default();
    // Twice on the same session: the settings for settling do not last.
    bank.order("e1").await;
    bank.order("e2").await;
    let one = TransactionOptions { connections: 1, ..TransactionOptions::default() };
    let handler = bank.store.transactional_with(Settings(Arc::clone(&seen)), one).unwrap();
    bank.finish_with(bank.pipeline(handler)).await;
    assert_eq!(bank.state("e2").await, State::Processed);
    assert_eq!(*seen.lock().unwrap(), ["on", "auto", "5s", "on", "read committed"]);
}
