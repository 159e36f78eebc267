//! First starts, and programs of several versions at once.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use cognigy_core::{EventArchive, EventStore, Recorded, StoreErrorKind};
use cognigy_store_postgres::PostgresStore;
use common::{Place, event, key, now, process};

/// The version of the schema that this program knows: one for each migration.
fn known() -> usize {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
    std::fs::read_dir(folder).unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_first_starts_at_once_make_one_schema() {
    let place = Place::new();
    let url = place.url();
    let starts: Vec<_> = (0..6)
        .map(|number| {
            let url = url.clone();
            tokio::spawn(async move {
                let store = PostgresStore::open(&url).await.unwrap();
                store.record(event(&format!("e{number}")), now()).await.unwrap()
            })
        })
        .collect();
    for start in starts {
        assert_eq!(start.await.unwrap(), Recorded::New);
    }
    assert_eq!(place.sql("SELECT * FROM cognigy_schema"), format!("{}|1", known()));
    assert_eq!(place.sql("SELECT count(*) FROM cognigy_events"), "6");
}

#[tokio::test]
async fn an_older_program_goes_on_while_a_newer_one_expands_the_schema() {
    let place = Place::new();
    let store = place.open().await;
    process(&store, "before").await;
    // A next version may add to the schema, but not change what exists.
    let next = known() + 1;
    place.sql(&format!(
        "BEGIN;
         ALTER TABLE cognigy_events ADD COLUMN priority integer NOT NULL DEFAULT 0;
         ALTER TABLE cognigy_queue ADD COLUMN shard text COLLATE \"C\";
         CREATE INDEX cognigy_queue_shard ON cognigy_queue (shard);
         UPDATE cognigy_schema SET version = {next}, compatible_from = 1;
         COMMIT",
    ));
    process(&store, "on the newer schema").await;
    let restarted = place.open().await;
    process(&restarted, "after a restart").await;
    assert!(restarted.find(&key("before")).await.unwrap().is_some());
}

#[tokio::test]
async fn a_program_that_is_too_old_refuses_and_touches_nothing() {
    let place = Place::new();
    drop(place.open().await);
    let (found, from) = (known() + 4, known() + 2);
    place.sql(&format!("UPDATE cognigy_schema SET version = {found}, compatible_from = {from}"));
    let error = PostgresStore::open(&place.url()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    let cause = std::error::Error::source(&error).unwrap().to_string();
    let told =
        [format!("schema version {found}"), format!("works with schema version {}", known())];
    assert!(told.iter().all(|part| cause.contains(part)), "{cause}");
    assert_eq!(place.sql("SELECT * FROM cognigy_schema"), format!("{found}|{from}"));
}

#[tokio::test]
async fn a_migration_that_fails_leaves_nothing_behind() {
    let place = Place::new();
    // A table with the name of one of the last objects that the first migration makes.
    place.sql("CREATE TABLE webhook_events (theirs integer)");
    let error = PostgresStore::open(&place.url()).await.unwrap_err();
    let cause = std::error::Error::source(&error).unwrap().to_string();
    assert!(cause.contains("webhook_events"), "{cause}");
    assert_eq!(place.sql("SELECT count(*) FROM pg_class WHERE relname LIKE 'cognigy%'"), "0");
    place.sql("DROP TABLE webhook_events");
    process(&place.open().await, "e1").await;
}

#[tokio::test]
async fn a_role_without_the_right_to_create_can_serve_what_is_there() {
    let place = Place::new();
    let owner = place.open().await;
    process(&owner, "e1").await;
    let role = format!("serves_{}", place.database);
    place.sql(&format!(
        "CREATE ROLE {role} LOGIN;
         GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {role};
         GRANT USAGE, UPDATE ON ALL SEQUENCES IN SCHEMA public TO {role};"
    ));
    let url = place.url().replace("postgres@", &format!("{role}@"));
    let store = PostgresStore::open(&url).await.unwrap();
    process(&store, "e2").await;
}
