//! For any sequence of calls the store gives the same answers as the store in memory, whether it
//! keeps the order of each contact's events or not.

mod common;

use cognigy_core::{EventOrder, testing::model::Claims};
use cognigy_store_postgres::{PostgresOptions, PostgresStore, TimeSource};
use common::Place;

async fn keeping(order: EventOrder) -> (PostgresStore, Place<'static>) {
    let place = Place::new();
    let time = TimeSource::Caller;
    let options = PostgresOptions { time, order: Some(order), ..PostgresOptions::default() };
    (place.open_with(options).await, place)
}

cognigy_core::model_conformance!(#[tokio::test], Claims::Free, keeping);
