//! Files that are not opened, and stay as they were.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{error::Error, fs};

use cognigy_core::{EventArchive, EventStore, StoreError, StoreErrorKind};
use cognigy_store_sqlite::SqliteStore;
use common::{Place, at, event, key};

async fn refusal(place: &Place) -> (StoreErrorKind, String) {
    let before = fs::read(place.path()).unwrap();
    let error = SqliteStore::open(place.path()).await.expect_err("the file must be refused");
    assert_eq!(fs::read(place.path()).unwrap(), before, "the file must stay as it was");
    let kind = error.kind();
    (kind, report(&error))
}

fn report(error: &StoreError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[tokio::test]
async fn a_later_schema_is_refused() {
    let place = Place::new();
    place.open().await.record(event("e1"), at(0)).await.unwrap();
    place.sql().pragma_update(None, "user_version", 99).unwrap();
    let (kind, message) = refusal(&place).await;
    assert_eq!(kind, StoreErrorKind::Corrupt);
    assert!(message.contains("schema version 99"), "{message}");

    place.sql().pragma_update(None, "user_version", 1).unwrap();
    assert!(place.open().await.find(&key("e1")).await.unwrap().is_some());
}

#[tokio::test]
async fn another_application_s_database_is_refused() {
    for setup in [
        "CREATE TABLE notes (text)",
        "PRAGMA application_id = 7; CREATE TABLE notes (text)",
        "PRAGMA user_version = 1",
    ] {
        let place = Place::new();
        place.sql().execute_batch(setup).unwrap();
        let (kind, message) = refusal(&place).await;
        assert_eq!(kind, StoreErrorKind::Corrupt, "{setup}");
        assert!(message.contains("another application"), "{message}");
    }
}

#[tokio::test]
async fn what_is_no_database_is_refused() {
    let place = Place::new();
    fs::write(place.path(), "eventId,timestamp\n".repeat(1000)).unwrap();
    let (kind, message) = refusal(&place).await;
    assert_eq!(kind, StoreErrorKind::Corrupt);
    assert!(message.contains("not a database"), "{message}");
}

#[tokio::test]
async fn a_folder_that_is_not_there_is_named() {
    let place = Place::new();
    let path = place.folder.path().join("no/such/webhooks.db");
    let error = SqliteStore::open(&path).await.expect_err("there is no such folder");
    assert_eq!(error.kind(), StoreErrorKind::Unavailable);
    assert!(report(&error).contains("no/such/webhooks.db"), "{}", report(&error));
}

#[tokio::test]
async fn an_empty_file_is_a_new_database() {
    let place = Place::new();
    fs::write(place.path(), "").unwrap();
    place.open().await.record(event("e1"), at(0)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn several_processes_may_make_the_same_database_at_once() {
    let place = Place::new();
    let path = place.path();
    let opening: Vec<_> = (0..8).map(|_| tokio::spawn(SqliteStore::open(path.clone()))).collect();
    for store in opening {
        store.await.unwrap().unwrap().ready().await.unwrap();
    }
}
