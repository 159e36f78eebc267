//! A database that the server of schema version 1 left behind is opened, migrated and gone on with.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use cognigy_core::{AfterDeadLetter, Clock, EventOrder, TokioClock, testing::recorded::goes_on};
use cognigy_store_sqlite::{SqliteOptions, SqliteStore};

const VERSION_1: &str = include_str!("recorded/version_1.sql");

#[tokio::test]
async fn a_database_of_version_1_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("webhooks.db");
    let sql = rusqlite::Connection::open(&path).unwrap();
    // What a dump writes of SQLite's own tables is for a prompt that may write to them.
    sql.execute_batch(VERSION_1).unwrap();
    let version =
        || sql.pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(version(), 1);
    let order = EventOrder::PerContact(AfterDeadLetter::Stop);
    let options = SqliteOptions { order: Some(order), ..SqliteOptions::default() };
    let store = SqliteStore::open_with(&path, options.clone()).await.unwrap();
    let migrations = concat!(env!("CARGO_MANIFEST_DIR"), "/migrations");
    let known = std::fs::read_dir(migrations).unwrap().count();
    assert_eq!(version(), i64::try_from(known).unwrap(), "one version for each migration");
    goes_on(&store, TokioClock::new().now()).await;
    drop(store);
    SqliteStore::open_with(&path, options).await.unwrap();
    let rows = "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'";
    assert_eq!(sql.query_row(rows, [], |row| row.get::<_, i64>(0)).unwrap(), 1);
}
