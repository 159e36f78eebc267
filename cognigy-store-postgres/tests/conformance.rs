//! The store fulfils the contract of stores, and the contract of stores that keep an order.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use cognigy_core::EventOrder;
use cognigy_store_postgres::{PostgresOptions, PostgresStore, TimeSource};
use cognigy_test_postgres::Cluster;

/// The suite sets the time by hand.
async fn open(order: Option<EventOrder>) -> (PostgresStore, ()) {
    let cluster = Cluster::shared();
    let url = cluster.url(&cluster.create_database());
    let options = PostgresOptions { time: TimeSource::Caller, order, ..PostgresOptions::default() };
    (PostgresStore::open_with(&url, options).await.unwrap(), ())
}

async fn fresh_store() -> (PostgresStore, ()) {
    open(None).await
}

async fn ordered_store(order: EventOrder) -> (PostgresStore, ()) {
    open(Some(order)).await
}

cognigy_core::store_conformance!(#[tokio::test], fresh_store);

mod while_order_is_kept {
    use super::ordered_store;

    cognigy_core::ordered_store_conformance!(#[tokio::test], ordered_store);
}
