//! Files that are not opened, and stay as they were.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    error::Error,
    fs,
    time::{Duration, Instant},
};

use cognigy_core::{EventArchive, EventStore, StoreError, StoreErrorKind};
use cognigy_store_sqlite::SqliteStore;
use common::{Place, at, event, impatient, key};

async fn refusal(place: &Place) -> (StoreErrorKind, String) {
    let files = || [place.path(), place.folder.path().join("webhooks.db-wal")];
    let read = || files().map(|file| fs::read(file).unwrap_or_default());
    let before = read();
    let error = SqliteStore::open(place.path()).await.expect_err("the file must be refused");
    assert_eq!(read(), before, "the file and its WAL must stay as they were");
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
    let known: i64 =
        place.sql().pragma_query_value(None, "user_version", |row| row.get(0)).unwrap();
    place.sql().pragma_update(None, "user_version", 99).unwrap();
    let (kind, message) = refusal(&place).await;
    assert_eq!(kind, StoreErrorKind::Corrupt);
    assert!(message.contains("schema version 99"), "{message}");

    place.sql().pragma_update(None, "user_version", known).unwrap();
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
async fn a_refused_database_keeps_what_a_crash_left_in_its_wal() {
    let (crashed, place) = (Place::new(), Place::new());
    let sql = crashed.sql();
    sql.execute_batch("PRAGMA journal_mode = wal; CREATE TABLE notes (text)").unwrap();
    for file in ["webhooks.db", "webhooks.db-wal"] {
        fs::copy(crashed.folder.path().join(file), place.folder.path().join(file)).unwrap();
    }
    let (kind, message) = refusal(&place).await;
    assert_eq!(kind, StoreErrorKind::Corrupt);
    assert!(message.contains("another application"), "{message}");
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
async fn a_database_that_is_in_use_is_opened_once_they_are_done() {
    // Only the single connection of a database can put it back into WAL mode. SQLite waits for
    // readers, but not for a writer.
    for others in ["BEGIN; SELECT * FROM events", "BEGIN IMMEDIATE"] {
        let place = Place::new();
        drop(place.open().await);
        let other = place.sql();
        other.execute_batch(&format!("PRAGMA journal_mode = delete; {others}")).unwrap();
        let begun = Instant::now();
        let error =
            SqliteStore::open_with(place.path(), impatient()).await.expect_err("it is in use");
        assert_eq!(error.kind(), StoreErrorKind::Unavailable);
        let waited = begun.elapsed();
        let bounds = Duration::from_millis(200)..Duration::from_secs(5);
        assert!(bounds.contains(&waited), "{others}: {waited:?}");

        let opening = tokio::spawn(SqliteStore::open(place.path()));
        tokio::time::sleep(Duration::from_millis(100)).await;
        assert!(!opening.is_finished(), "{others}: it waits");
        other.execute_batch("COMMIT").unwrap();
        opening.await.unwrap().unwrap().ready().await.unwrap();
    }
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
