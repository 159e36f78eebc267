//! The index of words and contacts, beside transactions that are under way.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::Duration;

use cognigy_core::{
    Administration, EventArchive, EventFilter, EventStore, PageRequest, Person, Words,
    search_index::IndexRequest,
};
use cognigy_store_postgres::PostgresStore;
use common::{Place, event, now};

fn words(text: &str) -> EventFilter {
    EventFilter { words: Words::of(text), ..EventFilter::default() }
}

async fn found(store: &PostgresStore, filter: &EventFilter) -> usize {
    store.list(filter, PageRequest { limit: 100, after: None }).await.unwrap().events.len()
}

/// A session with a transaction that has done this and is not at its end.
async fn under_way(place: &Place<'_>, sql: &str) -> tokio_postgres::Client {
    let (client, connection) =
        tokio_postgres::connect(&place.url(), tokio_postgres::NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute(&format!("BEGIN; {sql}")).await.unwrap();
    client
}

/// An id is given out long before its event can be seen. What is described in between must not hide it.
#[tokio::test]
async fn no_event_is_missed_that_becomes_visible_late() {
    let place = Place::new();
    let store = place.open().await;
    for n in 1..=3 {
        store.record(event(&format!("e{n}")), now()).await.unwrap();
    }
    // As a delivery inserts it, with an id within the first segment.
    let late = under_way(
        &place,
        "INSERT INTO cognigy_events (received_at, source, event_id, type, timestamp_json)
         VALUES (now(), 'cognigy', 'late', 'DIALOG_ENDED', '1')",
    )
    .await;
    for n in 4..=8 {
        store.record(event(&format!("e{n}")), now()).await.unwrap();
    }
    let mut request = IndexRequest::tiny(now());
    request.rest = Duration::from_secs(60);
    assert!(!store.index(&request).await.unwrap(), "it waits for the transaction");
    assert_eq!(place.sql("SELECT count(*) FROM cognigy_search_parts"), "0");
    assert_eq!(found(&store, &words("e")).await, 8);
    late.batch_execute("COMMIT").await.unwrap();
    request.now = now() + Duration::from_secs(61);
    while store.index(&request).await.unwrap() {}
    assert_eq!(place.sql("SELECT bool_and(state = 'built') FROM cognigy_search_segments"), "t");
    assert_eq!(found(&store, &words("late")).await, 1);
    assert_eq!(found(&store, &words("e")).await, 8);
}

/// A segment that another process writes while a person is erased is dropped with what it has written.
#[tokio::test]
async fn nothing_of_an_erased_person_comes_back_with_a_segment_that_was_begun_before() {
    let place = Place::new();
    let store = place.open().await;
    for n in 1..=4 {
        store.record(event(&format!("e{n}")), now()).await.unwrap();
    }
    while store.index(&IndexRequest::tiny(now())).await.unwrap() {}
    place.sql("UPDATE cognigy_search_segments SET state = 'begun'");
    let segment = "(SELECT first FROM cognigy_search_segments, cognigy_events
                    WHERE event_id = 'e2' AND id BETWEEN first AND last)";
    let parts = || {
        let count = "SELECT count(*) FROM cognigy_search_parts WHERE segment =";
        place.sql(&format!("{count} {segment}"))
    };
    assert_ne!(parts(), "0");
    store.erase(&Person::ExternalId("c-e2".to_owned()), "admin", now()).await.unwrap();
    let state = "SELECT state FROM cognigy_search_segments WHERE first =";
    assert_eq!(place.sql(&format!("{state} {segment}")), "dropped");
    assert_eq!(parts(), "0");
    assert_eq!(found(&store, &words("e")).await, 4);
}

/// Several servers on one database make segments at the same time, while events come in.
#[tokio::test]
async fn segments_of_several_processes_never_overlap() {
    let place = Place::new();
    let stores = [place.open().await, place.open().await, place.open().await];
    let indexing = stores.clone().map(|store| {
        tokio::spawn(async move {
            for _ in 0..40 {
                store.index(&IndexRequest::tiny(now())).await.unwrap();
            }
        })
    });
    for n in 0..60 {
        stores[0].record(event(&format!("e{n}")), now()).await.unwrap();
    }
    for one in indexing {
        one.await.unwrap();
    }
    let overlapping = "SELECT count(*) FROM cognigy_search_segments AS one
                       JOIN cognigy_search_segments AS other
                         ON one.first < other.first AND one.last >= other.first";
    assert_eq!(place.sql(overlapping), "0");
    assert_ne!(place.sql("SELECT count(*) FROM cognigy_search_segments"), "0");
    for store in &stores {
        assert_eq!(found(store, &words("hello")).await, 60);
    }
}
