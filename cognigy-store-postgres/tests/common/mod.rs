//! What the tests share: events, times, a store on a database of its own, a network that fails.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

pub(crate) mod proxy;

use std::time::Duration;

use cognigy_core::{
    Attempt, AttemptOutcome, ClaimBatch, ClaimRequest, ClaimedRun, Clock, EventStore,
    IncomingEvent, RunEnd, Settled, Settlement, SourceName, Timestamp, TokioClock, testing::sample,
};
use cognigy_store_postgres::{PostgresOptions, PostgresStore};
use cognigy_test_postgres::Cluster;

pub(crate) use cognigy_core::testing::sample::key;

pub(crate) const LEASE: Duration = Duration::from_secs(60);

/// A database of its own in a cluster.
pub(crate) struct Place<'a> {
    pub(crate) cluster: &'a Cluster,
    pub(crate) database: String,
}

impl Place<'static> {
    /// In the cluster that all tests share.
    pub(crate) fn new() -> Self {
        Self::in_cluster(Cluster::shared())
    }
}

impl<'a> Place<'a> {
    pub(crate) fn in_cluster(cluster: &'a Cluster) -> Self {
        Self { cluster, database: cluster.create_database() }
    }

    pub(crate) fn url(&self) -> String {
        self.cluster.url(&self.database)
    }

    pub(crate) async fn open(&self) -> PostgresStore {
        PostgresStore::open(&self.url()).await.unwrap()
    }

    pub(crate) async fn open_with(&self, options: PostgresOptions) -> PostgresStore {
        PostgresStore::open_with(&self.url(), options).await.unwrap()
    }

    /// Runs SQL as an operator would at the prompt.
    pub(crate) fn sql(&self, sql: &str) -> String {
        self.cluster.sql(&self.database, sql)
    }

    /// Makes the next `times` statements that do `event` ("DELETE", "INSERT" …) to `table` fail
    /// with an SQLSTATE.
    pub(crate) fn fail(&self, table: &str, event: &str, state: &str, times: u32) {
        self.sql(&format!(
            "CREATE SEQUENCE IF NOT EXISTS failures; SELECT setval('failures', 1, false);
             CREATE OR REPLACE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$
             BEGIN
                 -- A sequence goes on counting when the transaction is undone.
                 IF nextval('failures') <= {times} THEN
                     RAISE EXCEPTION 'injected' USING ERRCODE = '{state}';
                 END IF;
                 RETURN NULL;
             END $$;
             CREATE OR REPLACE TRIGGER fail AFTER {event} ON {table}
                 FOR EACH STATEMENT EXECUTE FUNCTION fail()"
        ));
    }

    /// How often a statement hit the injected failure, or would have.
    pub(crate) fn fired(&self) -> u32 {
        let row = self.sql("SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM failures");
        row.parse().unwrap()
    }
}

/// Options for tests that wait until something was given up.
pub(crate) fn impatient() -> PostgresOptions {
    PostgresOptions {
        writers: 1,
        workers: 1,
        readers: 1,
        pool_timeout: Duration::from_millis(300),
        connect_timeout: Duration::from_secs(1),
        statement_timeout: Duration::from_millis(500),
        lock_timeout: Duration::from_millis(300),
        ..PostgresOptions::default()
    }
}

pub(crate) fn event(id: &str) -> IncomingEvent {
    sample::incoming(sample::body(id))
}

/// The time by the clock of a node.
pub(crate) fn now() -> cognigy_core::Timestamp {
    TokioClock::new().now()
}

pub(crate) async fn claim(store: &PostgresStore, limit: usize) -> ClaimBatch {
    store.claim_due(request(limit, now())).await.unwrap()
}

/// For at most `limit` pieces of each kind of work at the default source.
pub(crate) fn request(limit: usize, now: Timestamp) -> ClaimRequest {
    let source = SourceName::default();
    ClaimRequest { source, runs: limit, dead_letters: limit, lease: LEASE, now }
}

pub(crate) async fn claim_one(store: &PostgresStore) -> ClaimedRun {
    let mut batch = claim(store, 1).await;
    assert_eq!(batch.runs.len(), 1, "one run is due");
    batch.runs.remove(0)
}

/// Ends a run that was claimed, with an attempt in its history.
pub(crate) fn ended(run: ClaimedRun, end: RunEnd) -> Settlement {
    ended_at(run, end, now(), now())
}

/// As [`ended`], by a worker whose clock showed these times.
pub(crate) fn ended_at(
    run: ClaimedRun,
    end: RunEnd,
    started_at: Timestamp,
    at: Timestamp,
) -> Settlement {
    let attempt = Attempt {
        number: run.attempt,
        run: run.run,
        started_at,
        duration: Duration::from_millis(5),
        outcome: AttemptOutcome::Succeeded,
        error: None,
    };
    run.claim.settle(end, Some(attempt), at)
}

pub(crate) fn processed(run: ClaimedRun) -> Settlement {
    ended(run, RunEnd::Processed { contact: None })
}

pub(crate) async fn settle(store: &PostgresStore, settlement: Settlement) -> Settled {
    store.settle(&[settlement]).await.unwrap()[0]
}

pub(crate) async fn process(store: &PostgresStore, id: &str) {
    store.record(event(id), now()).await.unwrap();
    let run = claim_one(store).await;
    assert_eq!(run.key, key(id));
    assert_eq!(settle(store, processed(run)).await, Settled::Done);
}

/// Asks again until there is an answer; fails after 30 s.
pub(crate) async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    for _ in 0..1500 {
        if let Some(answer) = ask().await {
            return answer;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("it never happened: {what}");
}
