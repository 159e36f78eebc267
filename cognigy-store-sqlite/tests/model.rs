//! For any sequence of calls the store gives the same answers as the store in memory, whether it
//! keeps the order of each contact's events or not.

mod common;

use cognigy_core::{EventOrder, testing::model::Claims};
use cognigy_store_sqlite::{SqliteOptions, SqliteStore};
use common::Place;

async fn keeping(order: EventOrder) -> (SqliteStore, Place) {
    let place = Place::new();
    // The test is not about durability and makes many calls.
    let options = SqliteOptions { readers: 1, order: Some(order), ..SqliteOptions::default() };
    (place.open_with(options).await, place)
}

cognigy_core::model_conformance!(#[tokio::test], Claims::AsInMemory, keeping);
