//! A server that accepts no more connections, and a server that was replaced but still runs and
//! cannot write.

use cognigy_core::{TokioClock, Worker};
use cognigy_store_postgres::{
    PostgresStore, TransactionOptions,
    tokio_postgres::{self, NoTls},
};
use cognigy_test_postgres::Cluster;

use crate::{
    balance::Transfers,
    bank::{Bank, pipeline},
    common::{Place, eventually, impatient},
};

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_waits_for_a_server_that_takes_no_connection() {
    let cluster = Cluster::start_with(&[("fsync", "off"), ("max_connections", "12")]);
    let place = Place::in_cluster(&cluster);
    let store = place.open_with(impatient()).await;
    let bank = Bank::found(place, store);
    // The store has the connections it needs, and other clients take the rest.
    bank.order("e0").await;
    bank.finish_with(pipeline(&bank.store, |pipeline| pipeline)).await;
    let mut others = Vec::new();
    while let Ok((client, connection)) = tokio_postgres::connect(&bank.place.url(), NoTls).await {
        others.push((client, tokio::spawn(connection)));
        assert!(others.len() < 50, "there is a limit");
    }
    bank.order("e1").await;
    let worker = Worker::spawn(bank.pipeline(bank.transfers()), TokioClock::new());
    let refusals = cluster.log().matches("FATAL:").count();
    eventually("it was refused again and again", async || {
        (cluster.log().matches("FATAL:").count() >= refusals + 3).then_some(())
    })
    .await;
    others.into_iter().for_each(|(_, connection)| connection.abort());
    bank.at_rest().await;
    worker.shutdown().await;
    assert_eq!((bank.moved(), bank.attempts("e1").await.len()), (1, 1), "and that was no failure");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failover_transfers_go_on_where_they_can_be_written() {
    let old = Cluster::start();
    let place = Place::in_cluster(&old);
    let new = old.standby();
    let (ports, database) = ((old.port(), new.port()), place.database.clone());
    let url = format!("postgres://postgres@127.0.0.1:{},127.0.0.1:{}/{database}", ports.0, ports.1);
    let store = PostgresStore::open_with(&url, impatient()).await.unwrap();
    let bank = Bank::found(place, store.clone());
    // One session, which is connected to the old primary.
    let one = TransactionOptions { connections: 1, ..TransactionOptions::default() };
    let handler = store.transactional_with(Transfers, one).unwrap();
    let pipeline = pipeline(&store, |pipeline| pipeline.settling_handler(handler));
    bank.order("e1").await;
    bank.finish_with(pipeline.clone()).await;
    assert_eq!(bank.moved(), 1);

    eventually("the standby has it all", async || {
        let sql = "SELECT count(*) FROM cognigy_queue";
        let moved = "SELECT count(*) FROM transfers";
        (new.sql(&database, sql) == "0" && new.sql(&database, moved) == "1").then_some(())
    })
    .await;
    old.sql("postgres", "ALTER SYSTEM SET default_transaction_read_only = on");
    old.sql("postgres", "SELECT pg_reload_conf()");
    new.promote();

    let bank = Bank { place: Place { cluster: &new, database }, store };
    eventually("the new primary is found", async || bank.try_order("e2").await.ok()).await;
    let worker = Worker::spawn(pipeline, TokioClock::new());
    // Asked at the new primary itself, because connections that only read do not notice the
    // failover.
    eventually("it is done", async || {
        (bank.place.sql("SELECT count(*) FROM cognigy_queue") == "0").then_some(())
    })
    .await;
    worker.shutdown().await;
    let state = "SELECT state FROM cognigy_events WHERE event_id = 'e2'";
    assert_eq!((bank.place.sql(state).as_str(), bank.moved()), ("processed", 2));
    let history = "SELECT number, outcome, error LIKE '%(25006)' FROM cognigy_attempts
                   WHERE event = (SELECT max(id) FROM cognigy_events) ORDER BY number";
    let history = bank.place.sql(history);
    assert_eq!(history, "1|failed_transient|t\n2|succeeded|", "the stale session was used once");
    bank.books_are_right();
}
