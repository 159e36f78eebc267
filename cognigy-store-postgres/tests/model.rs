//! For any sequence of calls the store gives the same answers as the store in memory, whether it
//! keeps the order of each contact's events or not.

mod common;

use cognigy_core::{
    AfterDeadLetter, EventOrder,
    testing::model::{Claims, compare},
};
use cognigy_store_postgres::{PostgresOptions, TimeSource};
use common::Place;

#[tokio::test]
async fn the_store_does_as_the_model_does() {
    compare_while_keeping(EventOrder::Any).await;
}

#[tokio::test]
async fn a_store_that_keeps_the_order_does_as_the_model_does() {
    compare_while_keeping(EventOrder::PerContact(AfterDeadLetter::Continue)).await;
}

#[tokio::test]
async fn a_store_that_stops_contacts_does_as_the_model_does() {
    compare_while_keeping(EventOrder::PerContact(AfterDeadLetter::Stop)).await;
}

async fn compare_while_keeping(order: EventOrder) {
    for seed in 0..10 {
        let place = Place::new();
        let time = TimeSource::Caller;
        let options = PostgresOptions { time, order: Some(order), ..PostgresOptions::default() };
        compare(place.open_with(options).await, order, Claims::Free, seed).await;
    }
}
