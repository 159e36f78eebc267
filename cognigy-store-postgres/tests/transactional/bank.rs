//! A bank on a database of its own, and its auditor.

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use cognigy_core::{
    Attempt, Contact, Event, EventArchive, EventHandler, EventStore, Failure, Jitter, Observation,
    Observer, Pipeline, PipelineBuilder, RetryPolicy, SettlingHandler, State, StoreError,
    TokioClock, Worker, WorkerOptions, testing::sample,
};
use cognigy_store_postgres::{
    PostgresStore, Rollback, Transactional,
    tokio_postgres::{self, NoTls},
};
use deadpool_postgres::{Manager, Pool};

use crate::{
    balance::{self, Order, Transfers},
    common::{Place, eventually, key, now},
};

const ACCOUNTS: [&str; 4] = ["ada", "bob", "cyd", "dan"];
const CENTS_EACH: i64 = 1_000_000;

/// A policy that does not make a test wait.
pub(crate) const RETRY: RetryPolicy = RetryPolicy {
    max_attempts: 4,
    base_delay: Duration::from_millis(20),
    max_delay: Duration::from_secs(1),
    jitter: Jitter::None,
};

pub(crate) struct Bank<'a> {
    pub(crate) place: Place<'a>,
    pub(crate) store: PostgresStore,
}

impl Bank<'static> {
    pub(crate) async fn open() -> Self {
        let place = Place::new();
        let store = place.open().await;
        Self::found(place, store)
    }
}

impl<'a> Bank<'a> {
    pub(crate) fn found(place: Place<'a>, store: PostgresStore) -> Self {
        let accounts = ACCOUNTS.map(|name| format!("('{name}', {CENTS_EACH})")).join(", ");
        place.sql(&format!("{}; INSERT INTO accounts VALUES {accounts}", balance::TABLES));
        Self { place, store }
    }

    /// A transfer between any two of the accounts.
    pub(crate) async fn order(&self, id: &str) {
        self.try_order(id).await.unwrap();
    }

    pub(crate) async fn try_order(&self, id: &str) -> Result<(), StoreError> {
        let number = id.bytes().fold(0_usize, |sum, byte| sum * 31 + usize::from(byte)) % 997;
        let (payer, payee) = (ACCOUNTS[number % 4], ACCOUNTS[(number % 4 + 1 + number % 3) % 4]);
        let body = balance::order(id, payer, payee, i64::try_from(number).unwrap() + 1);
        self.store.record(sample::incoming(body), now()).await.map(drop)
    }

    pub(crate) fn transfers(&self) -> Transactional<Transfers> {
        transfers(&self.store)
    }

    pub(crate) fn pipeline(&self, handler: impl SettlingHandler) -> Pipeline {
        pipeline(&self.store, |pipeline| pipeline.settling_handler(handler))
    }

    /// Works until every event has ended, like another process that finds the remaining events.
    pub(crate) async fn finish(&self) {
        self.finish_with(self.pipeline(self.transfers())).await;
    }

    pub(crate) async fn finish_with(&self, pipeline: Pipeline) {
        let worker = Worker::spawn(pipeline, TokioClock::new());
        self.at_rest().await;
        worker.shutdown().await;
    }

    /// Waits until everything has ended.
    pub(crate) async fn at_rest(&self) {
        eventually("everything has ended", async || {
            let counts = self.store.counts().await.unwrap();
            let left = State::ALL.into_iter().filter(|state| !state.is_final());
            (left.map(|state| counts.of(state)).sum::<u64>() == 0).then_some(())
        })
        .await;
    }

    /// Ends all leases now, as if their time had passed.
    pub(crate) fn end_leases(&self) {
        self.place.sql(
            "UPDATE cognigy_queue SET held_until = now() - interval '1 ms'
             WHERE held_until IS NOT NULL",
        );
    }

    /// Waits until the server has noticed that the clients are gone: no transaction is open any
    /// more.
    pub(crate) async fn quiet(&self) {
        eventually("no transaction is open", async || {
            let open = "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid()
                        AND datname = current_database() AND xact_start IS NOT NULL";
            (self.place.sql(open) == "0").then_some(())
        })
        .await;
    }

    /// What is wrong with the accounts. May be called at any time, because one query sees one
    /// moment.
    pub(crate) fn audit(&self) -> Vec<String> {
        let sum = CENTS_EACH * i64::try_from(ACCOUNTS.len()).unwrap();
        let sql = format!(
            "WITH succeeded AS (
                 SELECT events.event_id, attempts.run, count(*) AS times
                 FROM cognigy_attempts AS attempts JOIN cognigy_events AS events
                      ON events.id = attempts.event
                 WHERE attempts.outcome = 'succeeded' GROUP BY 1, 2
             ), moved AS (
                 SELECT event_id, run, count(*) AS times FROM transfers GROUP BY 1, 2
             )
             SELECT format('all accounts together hold %s', sum(cents)) FROM accounts
             HAVING sum(cents) <> {sum}
             UNION ALL
             SELECT format('%s does not hold what the transfers say', name) FROM accounts
             WHERE cents <> {CENTS_EACH}
                 + coalesce((SELECT sum(cents) FROM transfers WHERE payee = name), 0)
                 - coalesce((SELECT sum(cents) FROM transfers WHERE payer = name), 0)
             UNION ALL
             SELECT format('%s, run %s: moved %s times, succeeded %s times', event_id, run,
                           coalesce(moved.times, 0), coalesce(succeeded.times, 0))
             FROM moved FULL JOIN succeeded USING (event_id, run)
             WHERE (moved.times, succeeded.times) IS DISTINCT FROM (1, 1)
             UNION ALL
             SELECT format('%s is processed, but not in its last run', event_id)
             FROM cognigy_events AS events
             WHERE state = 'processed' AND NOT EXISTS (
                 SELECT FROM moved WHERE moved.event_id = events.event_id AND moved.run = events.run)"
        );
        self.place.sql(&sql).lines().map(str::to_owned).collect()
    }

    #[track_caller]
    pub(crate) fn books_are_right(&self) {
        assert_eq!(self.audit(), Vec::<String>::new());
    }

    pub(crate) fn moved(&self) -> usize {
        self.place.sql("SELECT count(*) FROM transfers").parse().unwrap()
    }

    pub(crate) async fn attempts(&self, id: &str) -> Vec<Attempt> {
        self.store.attempts(&key(id)).await.unwrap()
    }

    pub(crate) async fn state(&self, id: &str) -> State {
        self.store.find(&key(id)).await.unwrap().unwrap().state
    }
}

pub(crate) fn transfers(store: &PostgresStore) -> Transactional<Transfers> {
    store.transactional(Transfers).unwrap()
}

pub(crate) fn pipeline(
    store: &PostgresStore,
    and: impl FnOnce(PipelineBuilder) -> PipelineBuilder,
) -> Pipeline {
    let pipeline = Pipeline::builder(sample::verifier()).store(store.clone()).retry(RETRY);
    and(pipeline).build().unwrap()
}

pub(crate) fn few_at_once(concurrency: usize) -> WorkerOptions {
    let batch = concurrency;
    WorkerOptions { concurrency, batch, grace: Duration::from_secs(2), ..WorkerOptions::default() }
}

/// The same transfers by a handler of the plain kind, in a transaction of its own.
pub(crate) struct Separately(Pool);

impl Separately {
    pub(crate) fn new(url: &str) -> Self {
        let manager = Manager::new(url.parse::<tokio_postgres::Config>().unwrap(), NoTls);
        Self(Pool::builder(manager).max_size(8).build().unwrap())
    }

    async fn carry_out(&self, event: &Event) -> Result<(), Rollback> {
        let mut connection =
            self.0.get().await.map_err(|_| Rollback::transient("no connection"))?;
        let level = tokio_postgres::IsolationLevel::ReadCommitted;
        let transaction = connection.build_transaction().isolation_level(level).start().await?;
        let order = event.payload::<Order>().unwrap();
        balance::carry_out(&transaction, event, &order).await?;
        Ok(transaction.commit().await?)
    }
}

#[async_trait]
impl EventHandler for Separately {
    async fn handle(&self, event: Arc<Event>, _: Option<Contact>) -> Result<(), Failure> {
        self.carry_out(&event).await.map_err(|_| Failure::transient("not carried out"))
    }
}

/// What observers hear of attempts and leases.
#[derive(Clone, Default)]
pub(crate) struct Ear(Arc<Mutex<Vec<String>>>);

impl Ear {
    pub(crate) fn heard(&self) -> Vec<String> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

impl Observer for Ear {
    fn observe(&self, observation: &Observation<'_>) {
        let word = match observation {
            Observation::Attempt { outcome, .. } => outcome.as_str(),
            Observation::LeaseLost { .. } => "lease_lost",
            _ => return,
        };
        self.0.lock().unwrap().push(word.to_owned());
    }
}
