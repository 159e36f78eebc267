//! The SQLite store fulfils the contract of stores, and the contract of stores that keep an order.

#![allow(clippy::expect_used)]

use cognigy_core::EventOrder;
use cognigy_store_sqlite::{SqliteOptions, SqliteStore};
use tempfile::TempDir;

async fn fresh_store() -> (SqliteStore, TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let store = SqliteStore::open(folder.path().join("test.db")).await.expect("a new database");
    (store, folder)
}

async fn ordered_store(order: EventOrder) -> (SqliteStore, TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let options = SqliteOptions { order: Some(order), ..SqliteOptions::default() };
    let opened = SqliteStore::open_with(folder.path().join("test.db"), options).await;
    (opened.expect("a new database"), folder)
}

cognigy_core::store_conformance!(#[tokio::test], fresh_store);

mod while_order_is_kept {
    use super::ordered_store;

    cognigy_core::ordered_store_conformance!(#[tokio::test], ordered_store);
}
