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

/// The SQL that an operator runs before an upgrade (docs/operating.md).
fn beforehand() -> Vec<&'static str> {
    let page = include_str!("../../docs/operating.md");
    let block = page.split_once("```sql\nCREATE INDEX CONCURRENTLY").unwrap().1;
    let block = block.split_once("```").unwrap().0;
    let first = page.find(block).unwrap() - "CREATE INDEX CONCURRENTLY".len();
    let block = &page[first..first + "CREATE INDEX CONCURRENTLY".len() + block.len()];
    block.split_inclusive(';').map(str::trim).filter(|statement| !statement.is_empty()).collect()
}

#[tokio::test]
async fn indexes_that_were_built_before_the_upgrade_are_taken_as_they_are() {
    let place = Place::new();
    drop(place.open().await);
    let names = ["external_id", "user_id", "conversation"].map(|it| format!("cognigy_events_{it}"));
    let indexes = || {
        place.sql(
            "SELECT string_agg(indexname || indexdef, ' ' ORDER BY indexname) FROM pg_indexes
             WHERE tablename = 'cognigy_events' AND indexname LIKE 'cognigy\\_events\\_%'",
        )
    };
    let made_by_the_migration = indexes();
    for name in &names {
        assert!(made_by_the_migration.contains(name.as_str()), "{made_by_the_migration}");
        place.sql(&format!("DROP INDEX {name}"));
    }
    place.sql("UPDATE cognigy_schema SET version = 5");
    let statements = beforehand();
    assert_eq!(statements.len(), 3);
    for statement in statements {
        place.sql(statement);
    }
    drop(place.open().await);
    assert_eq!(place.sql("SELECT version FROM cognigy_schema"), known().to_string());
    assert_eq!(indexes(), made_by_the_migration);
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
