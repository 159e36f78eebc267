//! A store that only reads: beside a process that writes, after a crash, and without any process. It
//! creates nothing, changes nothing and waits for no lock.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use cognigy_core::{EventArchive, EventStore, StoreErrorKind};
use cognigy_store_sqlite::{SqliteAccess, SqliteOptions, SqliteStore};
use common::{Place, at, event, event_saying, key, request};

async fn reader(path: &Path) -> SqliteStore {
    let options = SqliteOptions { access: SqliteAccess::Read, ..SqliteOptions::default() };
    SqliteStore::open_with(path, options).await.unwrap()
}

/// Every file in the folder with its bytes and the time of its last change.
fn contents(folder: &Path) -> BTreeMap<String, (Vec<u8>, std::time::SystemTime)> {
    let file = |path: &Path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, (fs::read(path).unwrap(), fs::metadata(path).unwrap().modified().unwrap()))
    };
    fs::read_dir(folder).unwrap().map(|entry| file(&entry.unwrap().path())).collect()
}

#[tokio::test]
async fn a_database_that_was_closed_is_read_as_it_is() {
    let place = Place::new();
    place.open().await.record(event("e1"), at(0)).await.unwrap();
    let before = contents(place.folder.path());
    assert_eq!(before.len(), 1, "a single file");
    let store = reader(&place.path()).await;
    assert!(store.find(&key("e1")).await.unwrap().is_some());
    assert_eq!(store.counts().await.unwrap().by_state.values().sum::<u64>(), 1);
    assert_eq!(contents(place.folder.path()), before);
    drop(store);
    assert_eq!(contents(place.folder.path()), before);
}

#[tokio::test]
async fn a_database_in_use_is_read_without_waiting_for_its_lock() {
    let place = Place::new();
    let writer = place.open().await;
    writer.record(event_saying("e1", &"x".repeat(500_000)), at(0)).await.unwrap();
    let holder = place.sql();
    holder.execute_batch("BEGIN IMMEDIATE").unwrap();
    let before = contents(place.folder.path());
    assert!(before["webhooks.db-wal"].0.len() > 500_000, "the event is in the log");
    let began = Instant::now();
    let store = reader(&place.path()).await;
    assert!(store.find(&key("e1")).await.unwrap().is_some());
    drop(store);
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(contents(place.folder.path()), before, "not even the shared memory");
    holder.execute_batch("COMMIT").unwrap();

    let store = reader(&place.path()).await;
    writer.record(event("e2"), at(1)).await.unwrap();
    assert!(store.find(&key("e2")).await.unwrap().is_some(), "it sees what comes later");
}

#[tokio::test]
async fn what_a_crash_left_is_read_without_being_recovered() {
    let (place, crashed) = (Place::new(), Place::new());
    let writer = place.open().await;
    writer.record(event("e1"), at(0)).await.unwrap();
    for file in ["webhooks.db", "webhooks.db-wal", "webhooks.db-shm"] {
        fs::copy(place.folder.path().join(file), crashed.folder.path().join(file)).unwrap();
    }
    let before = contents(crashed.folder.path());
    let store = reader(&crashed.path()).await;
    assert!(store.find(&key("e1")).await.unwrap().is_some());
    drop(store);
    assert_eq!(contents(crashed.folder.path()), before);

    fs::remove_file(crashed.folder.path().join("webhooks.db-shm")).unwrap();
    let options = SqliteOptions { access: SqliteAccess::Read, ..SqliteOptions::default() };
    let opened = SqliteStore::open_with(crashed.path(), options).await;
    let error = cognigy_core::Failure::from(opened.expect_err("it must be made first")).report();
    assert!(error.contains("start the server once"), "{error}");
    assert!(crashed.open().await.find(&key("e1")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_process_that_begins_to_write_meanwhile_is_noticed() {
    let place = Place::new();
    place.open().await.record(event("e1"), at(0)).await.unwrap();
    let store = reader(&place.path()).await;
    assert!(store.find(&key("e1")).await.unwrap().is_some());
    // Once the log is written back and deleted, only the database shows the change.
    place.open().await.record(event("e2"), at(1)).await.unwrap();
    assert!(store.find(&key("e2")).await.unwrap().is_some());
    let writer = place.open().await;
    writer.record(event("e3"), at(2)).await.unwrap();
    assert!(store.find(&key("e3")).await.unwrap().is_some());
}

#[tokio::test]
async fn nothing_can_be_changed_through_it() {
    let place = Place::new();
    place.open().await.record(event("e1"), at(0)).await.unwrap();
    let store = reader(&place.path()).await;
    let refused = [
        store.record(event("e2"), at(1)).await.map(drop),
        store.claim_due(request(1, at(1))).await.map(drop),
        store.requeue(&[key("e1")], at(1)).await.map(drop),
        store.ready().await,
    ];
    for answer in refused {
        assert_eq!(answer.expect_err("it only reads").kind(), StoreErrorKind::Unavailable);
    }
}
