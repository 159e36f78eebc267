//! The store keeps the contract of stores.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use cognigy_store_postgres::{PostgresOptions, PostgresStore, TimeSource};
use cognigy_test_postgres::Cluster;

/// The suite sets the time by hand.
async fn fresh_store() -> (PostgresStore, ()) {
    let cluster = Cluster::shared();
    let url = cluster.url(&cluster.create_database());
    let options = PostgresOptions { time: TimeSource::Caller, ..PostgresOptions::default() };
    (PostgresStore::open_with(&url, options).await.unwrap(), ())
}

cognigy_core::store_conformance!(#[tokio::test], fresh_store);
