//! A database that the server of schema version 1 left behind is opened, migrated and gone on with,
//! beside a program of that version.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use cognigy_core::{
    AfterDeadLetter, EventArchive, EventOrder, EventStore, Recorded, testing::recorded::goes_on,
};
use cognigy_store_postgres::PostgresOptions;
use common::{Place, key, now};

const VERSION_1: &str = include_str!("recorded/version_1.sql");

fn options() -> PostgresOptions {
    let order = EventOrder::PerContact(AfterDeadLetter::Stop);
    PostgresOptions { order: Some(order), ..PostgresOptions::default() }
}

#[tokio::test]
async fn a_database_of_version_1_goes_on() {
    let place = Place::new();
    place.sql(VERSION_1);
    assert_eq!(place.sql("SELECT * FROM cognigy_schema"), "1|1");
    let store = place.open_with(options()).await;
    let migrations = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
    let known = std::fs::read_dir(migrations).unwrap().count();
    assert_eq!(place.sql("SELECT * FROM cognigy_schema"), format!("{known}|1"));
    goes_on(&store, now()).await;
    drop(store);
    place.open_with(options()).await;
}

#[tokio::test]
async fn what_a_program_of_version_1_inserts_beside_is_taken_up() {
    let place = Place::new();
    let store = place.open().await;
    // The first delivery makes the day's partitions.
    common::process(&store, "first").await;
    // Its statements name no column that version 2 added.
    place.sql(
        "WITH event AS (
             INSERT INTO cognigy_events (received_at, source, event_id, type, timestamp_json)
             VALUES (statement_timestamp(), 'cognigy', 'old-1', 'DIALOG_STARTED', '1772366400')
             RETURNING id, received_at
         ), queue AS (
             INSERT INTO cognigy_queue (event, received_at, source, due_at, run, attempt)
             SELECT id, received_at, 'cognigy', received_at, 1, 0 FROM event
         )
         INSERT INTO cognigy_bodies (event, received_at, body)
         SELECT id, received_at, '{\"eventId\":\"old-1\",\"timestamp\":1772366400,\"type\":\"DIALOG_STARTED\",\"payload\":{}}'
         FROM event",
    );
    let stored = store.find(&key("old-1")).await.unwrap().unwrap().event;
    assert!(stored.context().is_empty() && stored.conversation().is_none());
    let claimed = common::claim(&store, 10).await.runs;
    assert_eq!(claimed.len(), 1);
    let event = claimed[0].event.as_ref().unwrap();
    assert_eq!(event.id(), "old-1");
    let again = cognigy_core::testing::sample::incoming(event.body().clone());
    assert_eq!(store.record(again, now()).await.unwrap(), Recorded::Identical);
}
