//! Whatever is asked of it, in whatever order: the store answers as the one in memory does, whether
//! it keeps the order of each contact's events or not.

mod common;

use cognigy_core::{EventOrder, testing::model::Claims};
use cognigy_store_sqlite::{SqliteOptions, SqliteStore};
use common::Place;

async fn keeping(order: EventOrder) -> (SqliteStore, Place) {
    let place = Place::new();
    // Nothing here is about durability, and much is about many calls.
    let options = SqliteOptions { readers: 1, order: Some(order), ..SqliteOptions::default() };
    (place.open_with(options).await, place)
}

cognigy_core::model_conformance!(#[tokio::test], Claims::AsInMemory, keeping);
