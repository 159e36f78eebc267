//! The database's clock counts. The clocks of nodes may be wrong by hours.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::Duration;

use cognigy_core::{ClaimRequest, EventArchive, EventStore, RunEnd, Settled};
use common::{Place, claim, claim_one, event, key, now, processed, request, settle};

fn off(hours: i64) -> cognigy_core::Timestamp {
    now() + chrono::Duration::hours(hours)
}

#[tokio::test]
async fn a_node_in_the_future_takes_nothing_from_others_and_a_node_in_the_past_holds_nothing() {
    let place = Place::new();
    let (store, ahead, behind) = (place.open().await, place.open().await, place.open().await);
    let lease = Duration::from_secs(60);
    behind.record(event("e1"), off(-5)).await.unwrap();
    ahead.record(event("e2"), off(5)).await.unwrap();

    let held = claim_one(&store).await;
    let early = ClaimRequest { lease, ..request(10, off(5)) };
    let asked_at = early.now;
    let batch = ahead.claim_due(early).await.unwrap();
    assert_eq!(batch.runs.len(), 1, "the other one, although it came from the future");
    assert_ne!(batch.runs[0].key, held.key);
    // The next due time is the end of a lease: in a minute, by any clock.
    let next_in = batch.next_due.unwrap() - asked_at;
    assert!((55..=60).contains(&next_in.num_seconds()), "{next_in}");

    let late = ClaimRequest { lease, ..request(10, off(-5)) };
    assert!(behind.claim_due(late).await.unwrap().is_empty());
    let renewed = behind.renew(&[held.claim.token()], lease, off(-5)).await.unwrap();
    assert_eq!(renewed, [Settled::Done]);
    assert!(claim(&store, 10).await.is_empty(), "the lease was prolonged, not ended");
    assert_eq!(settle(&store, processed(held)).await, Settled::Done);
}

#[tokio::test]
async fn a_retry_waits_as_long_as_its_node_meant() {
    let place = Place::new();
    let (store, ahead) = (place.open().await, place.open().await);
    for id in ["soon", "later"] {
        store.record(event(id), now()).await.unwrap();
    }
    let batch = claim(&ahead, 2).await;
    let retries: Vec<_> = batch
        .runs
        .into_iter()
        .map(|run| {
            let delay = if run.key == key("soon") { 0 } else { 3600 };
            let due = off(5) + chrono::Duration::seconds(delay);
            // Its worker's clock reads five hours ahead throughout.
            let started_at = off(5) - chrono::Duration::seconds(2);
            common::ended_at(run, RunEnd::Retry { due }, started_at, off(5))
        })
        .collect();
    assert_eq!(ahead.settle(&retries).await.unwrap(), [Settled::Done; 2]);
    let batch = claim(&store, 10).await;
    assert_eq!((batch.runs.len(), &batch.runs[0].key), (1, &key("soon")));
    let history = store.attempts(&key("soon")).await.unwrap();
    let began_ago = now() - history[0].started_at;
    assert!((1..60).contains(&began_ago.num_seconds()), "in the database's time: {began_ago}");
    let found = store.find(&key("soon")).await.unwrap().unwrap();
    assert!((now() - found.event.received_at()).num_seconds().abs() < 60);
}
