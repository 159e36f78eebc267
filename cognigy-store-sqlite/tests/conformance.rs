//! The SQLite store keeps the contract of stores.

#![allow(clippy::expect_used)]

use cognigy_store_sqlite::SqliteStore;
use tempfile::TempDir;

async fn fresh_store() -> (SqliteStore, TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = SqliteStore::open(folder.path().join("test.db")).await.expect("a new database");
    (store, folder)
}

cognigy_core::store_conformance!(#[tokio::test], fresh_store);
