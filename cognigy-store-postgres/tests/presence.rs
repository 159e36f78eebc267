//! Whether a server with workers uses the database, as commands beside it ask.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::Duration;

use cognigy_store_postgres::WorkerPresence;
use common::Place;

/// Asks until the answer is as expected; fails after twenty seconds.
async fn becomes(place: &Place<'_>, expected: bool) {
    for _ in 0..200 {
        if WorkerPresence::is_announced(&place.url()).await.unwrap() == expected {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("it never became {expected}");
}

#[tokio::test]
async fn a_server_at_work_is_seen_in_its_own_database_until_it_ends() {
    let (place, other) = (Place::new(), Place::new());
    assert!(!WorkerPresence::is_announced(&place.url()).await.unwrap());
    let one = WorkerPresence::announce(&place.url()).unwrap();
    becomes(&place, true).await;
    let second = WorkerPresence::announce(&place.url()).unwrap();
    assert!(!WorkerPresence::is_announced(&other.url()).await.unwrap(), "no worker runs there");
    drop(one);
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(WorkerPresence::is_announced(&place.url()).await.unwrap(), "the other one works on");
    // The process takes the lock again after its connection was cut.
    place.sql("SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'");
    becomes(&place, false).await;
    becomes(&place, true).await;
    drop(second);
    becomes(&place, false).await;
}
