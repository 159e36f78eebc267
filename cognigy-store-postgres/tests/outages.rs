//! The server restarts, fails over, runs out of connections, locks, time or space.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use cognigy_core::{
    AfterDeadLetter, EventArchive, EventOrder, EventStore, Recorded, RunEnd, Settled,
    StoreErrorKind, testing::sample,
};
use cognigy_store_postgres::{PostgresOptions, PostgresStore};
use cognigy_test_postgres::{Cluster, Stop};
use common::{
    Place, claim, claim_one, event, eventually, impatient, key, now, process, processed, request,
    settle,
};
use tokio_postgres::NoTls;

/// Senders that deliver one event after another, and remember what was acknowledged.
struct Senders {
    stop: Arc<AtomicBool>,
    taken: Arc<AtomicU32>,
    refused: Arc<AtomicU32>,
    tasks: Vec<tokio::task::JoinHandle<Vec<String>>>,
}

impl Senders {
    fn start(store: &PostgresStore, count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let [taken, refused] = [0, 0].map(|none| Arc::new(AtomicU32::new(none)));
        let send = |sender| {
            let (store, stop) = (store.clone(), Arc::clone(&stop));
            let (taken, refused) = (Arc::clone(&taken), Arc::clone(&refused));
            tokio::spawn(async move {
                let mut acknowledged = Vec::new();
                for number in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let id = format!("s{sender}-{number}");
                    if store.record(event(&id), now()).await.is_ok() {
                        acknowledged.push(id);
                        taken.fetch_add(1, Ordering::SeqCst);
                    } else {
                        refused.fetch_add(1, Ordering::SeqCst);
                        tokio::time::sleep(Duration::from_millis(20)).await;
                    }
                }
                acknowledged
            })
        };
        Self { tasks: (0..count).map(send).collect(), stop, taken, refused }
    }

    fn taken(&self) -> u32 {
        self.taken.load(Ordering::SeqCst)
    }

    fn refused(&self) -> u32 {
        self.refused.load(Ordering::SeqCst)
    }

    async fn stop(self) -> Vec<String> {
        self.stop.store(true, Ordering::SeqCst);
        let mut acknowledged = Vec::new();
        for task in self.tasks {
            acknowledged.extend(task.await.unwrap());
        }
        acknowledged
    }
}

/// Every acknowledged event is stored, once, with its body, and is waiting in the queue.
fn all_are_there(cluster: &Cluster, database: &str, acknowledged: &[String]) {
    let stored = cluster.sql(
        database,
        "SELECT event_id FROM webhook_events WHERE status = 'pending' AND raw_payload IS NOT NULL",
    );
    let stored: std::collections::HashSet<&str> = stored.lines().collect();
    let lost: Vec<_> = acknowledged.iter().filter(|id| !stored.contains(id.as_str())).collect();
    assert!(lost.is_empty(), "acknowledged but not stored: {lost:?}");
    assert!(
        acknowledged.len() > 20,
        "enough was acknowledged to test something: {}",
        acknowledged.len()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_under_load_loses_nothing_and_heals_by_itself() {
    let mut cluster = Cluster::start();
    let database = cluster.create_database();
    let store = PostgresStore::open_with(&cluster.url(&database), impatient()).await.unwrap();
    for how in [Stop::Fast, Stop::Immediate] {
        let senders = Senders::start(&store, 8);
        eventually("some are taken", async || (senders.taken() > 50).then_some(())).await;
        cluster.stop(how);
        eventually("senders are told to come back", async || (senders.refused() > 0).then_some(()))
            .await;
        assert_eq!(store.ready().await.unwrap_err().kind(), StoreErrorKind::Unavailable);
        cluster.start_again();
        let back = Instant::now();
        eventually("it is ready again", async || store.ready().await.ok()).await;
        assert!(back.elapsed() < Duration::from_secs(10), "{:?}", back.elapsed());
        let acknowledged = senders.stop().await;
        all_are_there(&cluster, &database, &acknowledged);
        cluster.sql(&database, "TRUNCATE cognigy_events, cognigy_queue");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_that_are_cut_under_load_are_replaced() {
    let place = Place::new();
    let store = place.open().await;
    let senders = Senders::start(&store, 8);
    let mut cut = 0;
    let started = Instant::now();
    while cut < 20 || senders.taken() < 100 {
        assert!(
            started.elapsed() < Duration::from_secs(60),
            "{cut} cut, {} taken",
            senders.taken()
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
        let sql = "SELECT count(*) FROM (
                       SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                       WHERE datname = current_database() AND application_name = 'cognigy') AS cut";
        cut += place.sql(sql).parse::<u32>().unwrap();
    }
    let acknowledged = senders.stop().await;
    all_are_there(place.cluster, &place.database, &acknowledged);
    let run = claim_one(&store).await;
    assert_eq!(settle(&store, processed(run)).await, Settled::Done);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_promoted_standby_has_everything_that_was_acknowledged() {
    let mut primary = Cluster::start();
    let database = primary.create_database();
    let standby = primary.standby();
    // Without this setting the standby may lag, and a failover would lose what the standby had not
    // received.
    primary.sql(&database, "ALTER SYSTEM SET synchronous_standby_names = '*'");
    primary.sql(&database, "SELECT pg_reload_conf()");
    eventually("the standby is synchronous", async || {
        let state = primary.sql(&database, "SELECT sync_state FROM pg_stat_replication");
        (state == "sync").then_some(())
    })
    .await;
    let url = format!(
        "postgres://postgres@127.0.0.1:{},127.0.0.1:{}/{database}",
        primary.port(),
        standby.port()
    );
    let store = PostgresStore::open_with(&url, impatient()).await.unwrap();
    let senders = Senders::start(&store, 8);
    eventually("some are taken", async || (senders.taken() > 50).then_some(())).await;
    primary.stop(Stop::Immediate);
    eventually("senders are told to come back", async || (senders.refused() > 0).then_some(()))
        .await;
    assert!(store.ready().await.is_err(), "the standby takes no writes yet");
    standby.promote();
    // No standby is left to wait for.
    standby.sql("postgres", "ALTER SYSTEM SET synchronous_standby_names = ''");
    standby.sql("postgres", "SELECT pg_reload_conf()");
    eventually("the new primary is found", async || store.ready().await.ok()).await;
    let acknowledged = senders.stop().await;
    all_are_there(&standby, &database, &acknowledged);
}

#[tokio::test]
async fn a_server_without_a_free_connection_is_a_503_at_once() {
    let cluster = Cluster::start_with(&[("fsync", "off"), ("max_connections", "8")]);
    let database = cluster.create_database();
    let url = cluster.url(&database);
    let store = PostgresStore::open_with(&url, impatient()).await.unwrap();
    let mut others = Vec::new();
    while let Ok((client, connection)) = tokio_postgres::connect(&url, NoTls).await {
        others.push((client, tokio::spawn(connection)));
        assert!(others.len() < 50, "there is a limit");
    }
    let asked = Instant::now();
    let error = store.record(event("e1"), now()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("53300"), "{cause}");
    assert!(asked.elapsed() < Duration::from_secs(3));
    others.into_iter().for_each(|(_, connection)| connection.abort());
    eventually("a connection is free", async || store.record(event("e1"), now()).await.ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_all_connections_are_busy_a_call_does_not_wait_for_long() {
    let place = Place::new();
    let options = PostgresOptions { lock_timeout: Duration::from_secs(3), ..impatient() };
    let options = PostgresOptions { statement_timeout: Duration::from_secs(4), ..options };
    let store = place.open_with(options).await;
    store.record(event("e1"), now()).await.unwrap();
    let run = claim_one(&store).await;
    let held = hold(&place, "SELECT * FROM cognigy_queue FOR UPDATE").await;
    let settling = {
        let (store, settlement) = (store.clone(), processed(run));
        tokio::spawn(async move { settle(&store, settlement).await })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    let asked = Instant::now();
    let request = request(1, now());
    let error = store.claim_due(request).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Overloaded);
    assert!(asked.elapsed() < Duration::from_secs(2), "{:?}", asked.elapsed());
    // Senders have connections of their own.
    assert_eq!(store.record(event("e2"), now()).await.unwrap(), Recorded::New);
    drop(held);
    assert_eq!(settling.await.unwrap(), Settled::Done);
}

/// Another application's transaction, open until dropped.
async fn hold(
    place: &Place<'_>,
    sql: &str,
) -> (tokio_postgres::Client, tokio::task::JoinHandle<()>) {
    let (client, connection) = tokio_postgres::connect(&place.url(), NoTls).await.unwrap();
    let connection = tokio::spawn(async move { drop(connection.await) });
    client.batch_execute(&format!("BEGIN; {sql}")).await.unwrap();
    (client, connection)
}

#[tokio::test]
async fn a_lock_that_is_not_let_go_is_an_error_in_time() {
    let place = Place::new();
    let store = place.open_with(impatient()).await;
    process(&store, "e1").await;
    let held = hold(&place, "LOCK TABLE cognigy_events IN ACCESS EXCLUSIVE MODE").await;
    let asked = Instant::now();
    let error = store.record(event("e2"), now()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(store.find(&key("e1")).await.is_err());
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    held.0.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(store.record(event("e2"), now()).await.unwrap(), Recorded::New);
}

#[tokio::test]
async fn a_deadlock_is_tried_again_and_not_for_ever() {
    let place = Place::new();
    let store = place.open().await;
    for state in ["40P01", "40001"] {
        let id = format!("e-{state}");
        store.record(event(&id), now()).await.unwrap();
        let run = claim_one(&store).await;
        place.fail("cognigy_queue", "DELETE", state, 3);
        assert_eq!(settle(&store, processed(run)).await, Settled::Done);
        assert_eq!(place.fired(), 4, "three losses and a win");
        place.fail("cognigy_queue", "DELETE", state, 1000);
        store.record(event(&format!("{id}-2")), now()).await.unwrap();
        let settlement = processed(claim_one(&store).await);
        let error = store.settle(std::slice::from_ref(&settlement)).await.unwrap_err();
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        assert_eq!(place.fired(), 4, "and no more than that");
        place.sql("DROP TRIGGER fail ON cognigy_queue");
        assert_eq!(settle(&store, settlement).await, Settled::Done);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_deadlock_between_a_settlement_and_another_transaction_is_survived() {
    let cluster = Cluster::start_with(&[("fsync", "off"), ("deadlock_timeout", "300ms")]);
    let place = Place::in_cluster(&cluster);
    let store = place.open().await;
    for id in ["a", "b"] {
        store.record(event(id), now()).await.unwrap();
    }
    let runs = claim(&store, 2).await.runs;
    let (other, _connection) = hold(
        &place,
        "SELECT * FROM cognigy_queue WHERE event = (SELECT max(event) FROM cognigy_queue) FOR UPDATE",
    )
    .await;
    let settling = {
        let store = store.clone();
        let settlements: Vec<_> = runs.into_iter().map(processed).collect();
        tokio::spawn(async move { store.settle(&settlements).await })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    // By now the settlement has locked the first row and waits for the second.
    let crossed = "SELECT * FROM cognigy_queue WHERE event = (SELECT min(event) FROM cognigy_queue)
                   FOR UPDATE";
    let other_lost = other.batch_execute(crossed).await.is_err();
    other.batch_execute("ROLLBACK").await.unwrap();
    assert_eq!(settling.await.unwrap().unwrap(), [Settled::Done; 2]);
    let deadlocks = cluster.log().matches("deadlock detected").count();
    assert!(deadlocks >= 1, "there was one; the other side lost: {other_lost}");
}

#[tokio::test]
async fn a_delivery_that_the_database_refuses_does_not_harm_the_others() {
    let place = Place::new();
    let store = place.open_with(PostgresOptions { writers: 1, ..PostgresOptions::default() }).await;
    process(&store, "warm-up").await;
    place.sql(
        "ALTER TABLE cognigy_events ADD CONSTRAINT poison CHECK (event_id <> 'poison') NOT VALID",
    );
    // One batch is under way, so these deliveries wait and share the next batch.
    let ids: Vec<_> = (0..40)
        .map(|number| if number == 17 { "poison".into() } else { format!("e{number}") })
        .collect();
    let mut deliveries = tokio::task::JoinSet::new();
    for id in ids {
        let store = store.clone();
        deliveries.spawn(async move { (id.clone(), store.record(event(&id), now()).await) });
    }
    while let Some(delivery) = deliveries.join_next().await {
        let (id, recorded) = delivery.unwrap();
        if id == "poison" {
            let error = recorded.unwrap_err();
            assert_eq!(error.kind(), StoreErrorKind::Corrupt);
            let cause = std::error::Error::source(&error).unwrap().to_string();
            assert!(cause.contains("constraint poison"), "{cause}");
            assert!(!cause.contains("hello"), "no content: {cause}");
        } else {
            assert_eq!(recorded.unwrap(), Recorded::New, "{id}");
        }
    }
}

/// A separate file system for a database's files, if the test may mount one.
struct SmallDisk(std::path::PathBuf);

impl SmallDisk {
    fn mount(cluster: &Cluster, megabytes: u32) -> Option<Self> {
        let folder = cluster.folder().join("small");
        std::fs::create_dir(&folder).unwrap();
        let size = format!("size={megabytes}m,mode=777");
        let mount = ["-t", "tmpfs", "-o", &size, "tmpfs"];
        let mounted = Command::new("mount").args(mount).arg(&folder).output();
        mounted.is_ok_and(|output| output.status.success()).then_some(Self(folder))
    }

    fn grow(&self, megabytes: u32) {
        let size = format!("remount,size={megabytes}m");
        assert!(Command::new("mount").args(["-o", &size]).arg(&self.0).status().unwrap().success());
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: the server has files open until it stops.
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[tokio::test]
async fn a_full_disk_is_a_503_until_there_is_space_and_harms_nothing_that_was_stored() {
    let cluster = Cluster::start();
    let Some(disk) = SmallDisk::mount(&cluster, 24) else {
        // Mounting needs root. The store sees only what the server answers.
        return a_server_that_says_its_disk_is_full().await;
    };
    let location = disk.0.join("space");
    std::fs::create_dir(&location).unwrap();
    assert!(Command::new("chown").arg("postgres").arg(&location).status().unwrap().success());
    cluster.sql("postgres", &format!("CREATE TABLESPACE small LOCATION '{}'", location.display()));
    cluster.sql("postgres", "CREATE DATABASE small TABLESPACE small");
    let store = PostgresStore::open(&cluster.url("small")).await.unwrap();
    let large = |id: &str| {
        // Random data, because the server compresses what it can.
        let noise: String = (0..40_000_u64)
            .map(|n| format!("{:x}", n.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ id.len() as u64))
            .collect();
        let body = format!(
            r#"{{"eventId":"{id}","timestamp":1,"type":"DIALOG_ENDED","payload":{{"n":"{noise}"}}}}"#
        );
        sample::incoming(body)
    };
    let mut acknowledged = Vec::new();
    let full = loop {
        let id = format!("large-{}", acknowledged.len());
        match store.record(large(&id), now()).await {
            Ok(_) => acknowledged.push(id),
            Err(error) => break error,
        }
        assert!(acknowledged.len() < 1000, "the disk is small");
    };
    assert_eq!(full.kind(), StoreErrorKind::Unavailable);
    let cause = std::error::Error::source(&full).unwrap().to_string();
    assert!(cause.contains("53100"), "{cause}");
    disk.grow(200);
    assert_eq!(store.record(large("after"), now()).await.unwrap(), Recorded::New);
    for id in &acknowledged {
        let stored = store.find(&key(id)).await.unwrap().unwrap();
        assert_eq!(stored.event.body(), &large(id).body);
    }
    let run = claim_one(&store).await;
    assert_eq!(settle(&store, processed(run)).await, Settled::Done);
    drop(store);
}

async fn a_server_that_says_its_disk_is_full() {
    let place = Place::new();
    let store = place.open().await;
    store.record(event("e1"), now()).await.unwrap();
    let run = claim_one(&store).await;
    place.fail("cognigy_events", "INSERT", "53100", 2);
    let error = store.record(event("e2"), now()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    let verdict = RunEnd::Processed { contact: None };
    assert_eq!(settle(&store, common::ended(run, verdict)).await, Settled::Done);
    assert!(store.record(event("e2"), now()).await.is_err());
    assert_eq!(store.record(event("e2"), now()).await.unwrap(), Recorded::New);
    assert_eq!(place.fired(), 3);
}

#[tokio::test]
async fn readiness_tries_every_table_that_a_delivery_writes() {
    let place = Place::new();
    let order = Some(EventOrder::PerContact(AfterDeadLetter::Continue));
    let lock_timeout = Duration::from_millis(100);
    let store = place
        .open_with(PostgresOptions { order, lock_timeout, ..PostgresOptions::default() })
        .await;
    store.ready().await.unwrap();
    let (holder, connection) =
        tokio_postgres::connect(&place.url(), tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    let tables =
        ["events", "queue", "bodies", "quarantine", "tallies", "lanes", "settings", "heartbeat"];
    let rows = || tables.map(|table| place.sql(&format!("SELECT count(*) FROM cognigy_{table}")));
    let before = rows();
    for table in tables {
        let lock = format!("BEGIN; LOCK TABLE cognigy_{table} IN ACCESS EXCLUSIVE MODE");
        holder.batch_execute(&lock).await.unwrap();
        store.ready().await.expect_err(table);
        holder.batch_execute("ROLLBACK").await.unwrap();
        store.ready().await.unwrap();
    }
    assert_eq!(rows(), before, "nothing is left of it");
    connection.abort();
}
