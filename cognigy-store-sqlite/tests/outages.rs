//! A database that cannot be written to: no wrong answer, a bounded wait, and recovery without a
//! restart.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    fs,
    time::{Duration, Instant},
};

use cognigy_core::{EventArchive, EventStore, Recorded, StoreError, StoreErrorKind};
use cognigy_store_sqlite::{SqliteOptions, SqliteStore};
use common::{Place, at, event, impatient, key, request};

#[tokio::test]
async fn a_lock_that_is_held_too_long_fails_the_call_and_no_later_one() {
    let place = Place::new();
    let store = place.open_with(impatient()).await;
    let holder = place.sql();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let began = Instant::now();
    let error = store.record(event("e1"), at(0)).await.expect_err("the lock is held");
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(began.elapsed() < Duration::from_secs(5), "within a bound");
    assert_eq!(store.ready().await.expect_err("not ready").kind(), StoreErrorKind::Unavailable);
    assert!(store.find(&key("e1")).await.unwrap().is_none(), "reading goes on");

    holder.execute_batch("COMMIT").unwrap();
    assert_eq!(store.record(event("e1"), at(1)).await.unwrap(), Recorded::New);
    store.ready().await.unwrap();
}

#[tokio::test]
async fn a_full_queue_says_so_at_once() {
    let place = Place::new();
    let options = SqliteOptions {
        queue_limit: 2,
        busy_timeout: Duration::from_secs(30),
        ..SqliteOptions::default()
    };
    let store = place.open_with(options).await;
    let holder = place.sql();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    // The writer takes the waiting calls and then waits for the lock; later calls fill the queue.
    let mut waiting = Vec::new();
    loop {
        let (store, id) = (store.clone(), format!("e{}", waiting.len()));
        let call = tokio::spawn(async move { store.record(event(&id), at(0)).await });
        tokio::time::sleep(Duration::from_millis(1)).await;
        let refused = call.is_finished();
        waiting.push(call);
        if refused {
            break;
        }
    }
    let posted = waiting.len() as u64;

    holder.execute_batch("COMMIT").unwrap();
    let (mut stored, mut refused) = (0, 0);
    for answer in waiting {
        match answer.await.unwrap() {
            Ok(recorded) => {
                assert_eq!(recorded, Recorded::New);
                stored += 1;
            }
            Err(error) => {
                assert_eq!(error.kind(), StoreErrorKind::Overloaded);
                refused += 1;
            }
        }
    }
    assert!(refused > 0 && stored >= 2 && stored + refused == posted, "{stored} and {refused}");
    let counts = store.counts().await.unwrap();
    assert_eq!(counts.by_state.values().sum::<u64>(), stored, "what was refused was not done");
}

type Recording = tokio::task::JoinHandle<Result<Recorded, StoreError>>;

/// A store whose file another program has locked, with a delivery that waits for the lock and one behind it.
struct Held {
    store: SqliteStore,
    holder: rusqlite::Connection,
    at_the_lock: Recording,
    behind: Recording,
}

impl Held {
    async fn at(place: &Place) -> Self {
        let options = SqliteOptions {
            max_wait: Duration::from_millis(20),
            busy_timeout: Duration::from_secs(30),
            ..SqliteOptions::default()
        };
        let store = place.open_with(options).await;
        let holder = place.sql();
        holder.execute_batch("BEGIN IMMEDIATE").unwrap();
        let record = |id: &'static str| {
            let store = store.clone();
            tokio::spawn(async move { store.record(event(id), at(0)).await })
        };
        let at_the_lock = record("e1");
        tokio::time::sleep(Duration::from_millis(10)).await;
        let behind = record("e2");
        Self { store, holder, at_the_lock, behind }
    }
}

#[tokio::test]
async fn a_delivery_whose_turn_comes_too_late_is_not_stored() {
    let place = Place::new();
    let Held { store, holder, at_the_lock, behind } = Held::at(&place).await;
    let settled = store.claim_due(request(1, at(0)));
    let wait = async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        holder.execute_batch("COMMIT").unwrap();
    };
    let (claimed, ()) = tokio::join!(settled, wait);

    assert_eq!(at_the_lock.await.unwrap().unwrap(), Recorded::New, "its turn had come");
    let late = behind.await.unwrap().expect_err("its turn came too late");
    assert_eq!(late.kind(), StoreErrorKind::Overloaded);
    assert!(store.find(&key("e2")).await.unwrap().is_none(), "nothing half-done");
    assert_eq!(claimed.unwrap().len(), 1, "claims wait for as long as it takes");
}

#[tokio::test]
async fn a_delivery_that_another_program_holds_up_says_so() {
    let place = Place::new();
    let Held { store, holder, at_the_lock, behind } = Held::at(&place).await;
    tokio::time::sleep(Duration::from_millis(1100)).await;
    holder.execute_batch("COMMIT").unwrap();
    assert_eq!(at_the_lock.await.unwrap().unwrap(), Recorded::New);
    let late = behind.await.unwrap().expect_err("its turn came too late");
    assert_eq!(late.kind(), StoreErrorKind::Unavailable);
    let why = cognigy_core::report(&late);
    assert!(
        why.contains("another program has kept the lock of the database file for 1 s"),
        "{why}"
    );
    assert!(store.find(&key("e2")).await.unwrap().is_none(), "nothing half-done");
}

#[tokio::test]
async fn the_room_that_is_left_on_the_disk_is_told() {
    let place = Place::new();
    let size = place.open().await.size().await.unwrap();
    assert!(size.free.is_some_and(|free| free > 0) && size.database.is_some(), "{size:?}");
}

#[tokio::test]
async fn a_file_that_was_deleted_takes_no_event() {
    for file in ["webhooks.db", "webhooks.db-wal"] {
        let place = Place::new();
        let store = place.open().await;
        store.record(event("e1"), at(0)).await.unwrap();
        fs::remove_file(place.folder.path().join(file)).unwrap();
        let error = store.record(event("e2"), at(1)).await.expect_err("nothing would keep it");
        assert_eq!(error.kind(), StoreErrorKind::Unavailable, "{file}");
    }
    let place = Place::new();
    // A store that has the file open.
    let store = place.open_with(SqliteOptions { readers: 1, ..SqliteOptions::default() }).await;
    store.record(event("e1"), at(0)).await.unwrap();
    assert!(store.find(&key("e1")).await.unwrap().is_some());
    fs::remove_file(place.path()).unwrap();
    for _ in 0..3 {
        assert_eq!(store.ready().await.expect_err("gone").kind(), StoreErrorKind::Unavailable);
        assert!(store.find(&key("e1")).await.is_err());
    }
    assert!(!place.path().exists(), "an empty database in its place would look healthy");
}

#[tokio::test]
async fn a_file_that_comes_back_is_taken_up_again() {
    let place = Place::new();
    let store = place.open().await;
    store.record(event("e1"), at(0)).await.unwrap();
    let files = ["webhooks.db", "webhooks.db-wal", "webhooks.db-shm"];
    let elsewhere = tempfile::tempdir().unwrap();
    for file in files {
        fs::rename(place.folder.path().join(file), elsewhere.path().join(file)).unwrap();
    }
    store.record(event("e2"), at(1)).await.expect_err("the file is elsewhere");
    store.ready().await.expect_err("still");
    for file in files {
        // The WAL was written back when the store closed the database.
        let _ = fs::rename(elsewhere.path().join(file), place.folder.path().join(file));
    }
    store.ready().await.unwrap();
    assert!(store.find(&key("e1")).await.unwrap().is_some());
    assert_eq!(store.record(event("e3"), at(2)).await.unwrap(), Recorded::New);
}

#[tokio::test]
async fn a_file_that_is_replaced_by_something_else_is_refused() {
    let place = Place::new();
    let store = place.open().await;
    store.record(event("e1"), at(0)).await.unwrap();
    fs::remove_file(place.path()).unwrap();
    fs::write(place.path(), "").unwrap();
    for _ in 0..2 {
        store.record(event("e2"), at(1)).await.expect_err("an empty file is not the database");
        store.ready().await.expect_err("nor is it ready");
    }
}

#[tokio::test]
async fn a_transaction_that_sqlite_rolls_back_leaves_nothing() {
    let place = Place::new();
    let store = place.open().await;
    let trigger = "CREATE TRIGGER veto BEFORE INSERT ON bodies
                   BEGIN SELECT RAISE(ROLLBACK, 'no'); END";
    place.sql().execute_batch(trigger).unwrap();
    for _ in 0..3 {
        store.record(event("e1"), at(0)).await.expect_err("the transaction is rolled back");
    }
    assert!(store.find(&key("e1")).await.unwrap().is_none(), "nothing is half done");
    place.sql().execute_batch("DROP TRIGGER veto").unwrap();
    assert_eq!(store.record(event("e1"), at(1)).await.unwrap(), Recorded::New);
    assert_eq!(store.counts().await.unwrap().by_state.values().sum::<u64>(), 1);
}
