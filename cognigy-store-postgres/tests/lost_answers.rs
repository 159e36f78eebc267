//! A commit whose outcome is unknown: the connection is lost after the server has done its work and
//! before its answer arrives.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use cognigy_core::{EventArchive, EventStore, Recorded, RunEnd, Settled, State, StoreErrorKind};
use cognigy_store_postgres::PostgresStore;
use common::{
    Place, claim_one, event, impatient, key, now, process, processed, proxy::Proxy, request,
};

/// A store behind a network that can fail, with everything prepared that it prepares once.
async fn behind_a_proxy(place: &Place<'_>) -> (PostgresStore, Proxy) {
    let proxy = Proxy::start(place.cluster.port()).await;
    let url = proxy.url(&place.database);
    let store = PostgresStore::open_with(&url, impatient()).await.unwrap();
    process(&store, "warm-up").await;
    store.record(event("warm-up"), now()).await.unwrap();
    (store, proxy)
}

#[tokio::test]
async fn a_delivery_whose_answer_was_lost_is_looked_up_and_answered() {
    let place = Place::new();
    let (store, proxy) = behind_a_proxy(&place).await;
    proxy.lose([1]);
    // The first try records the event, the second finds it: the sender is told of a duplicate,
    // which counts as accepted.
    assert_eq!(store.record(event("e1"), now()).await.unwrap(), Recorded::Identical);
    assert_eq!(proxy.lost(), 1, "the fault was met");
    assert_eq!(place.sql("SELECT count(*) FROM cognigy_events WHERE event_id = 'e1'"), "1");
    assert_eq!(claim_one(&store).await.key, key("e1"), "and it is due");
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.of(State::Processing), counts.by_type["USER_INPUT_RECEIVED"]), (1, 2));
}

#[tokio::test]
async fn a_delivery_that_cannot_be_looked_up_is_an_error_and_a_duplicate_when_it_comes_again() {
    let place = Place::new();
    let (store, proxy) = behind_a_proxy(&place).await;
    proxy.lose(1..100);
    let error = store.record(event("e1"), now()).await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::Unavailable, "never a 200 on a guess");
    assert!(proxy.lost() >= 2, "the try and the look-up");
    proxy.lose([]);
    assert_eq!(store.record(event("e1"), now()).await.unwrap(), Recorded::Identical);
    assert_eq!(place.sql("SELECT count(*) FROM cognigy_events WHERE event_id = 'e1'"), "1");
}

#[tokio::test]
async fn a_settlement_whose_answer_was_lost_stands_and_is_not_done_twice() {
    let place = Place::new();
    let (store, proxy) = behind_a_proxy(&place).await;
    store.record(event("e1"), now()).await.unwrap();
    let run = claim_one(&store).await;
    let verdict = RunEnd::GiveUp { reason: "no use".to_owned(), attempts: 1 };
    let settlement = common::ended(run, verdict);
    proxy.lose([1]);
    assert!(store.settle(std::slice::from_ref(&settlement)).await.is_err());
    assert_eq!(proxy.lost(), 1);
    // Repeated until there is an answer, as the worker does.
    assert_eq!(store.settle(&[settlement]).await.unwrap(), [Settled::LeaseLost]);
    assert_eq!(store.find(&key("e1")).await.unwrap().unwrap().state, State::DeadLettering);
    assert_eq!(store.counts().await.unwrap().unsent_dead_letters, 1);
    assert_eq!(store.attempts(&key("e1")).await.unwrap().len(), 1);
}

#[tokio::test]
async fn what_a_lost_claim_took_is_given_back_and_the_attempt_does_not_count() {
    let place = Place::new();
    let (store, proxy) = behind_a_proxy(&place).await;
    store.record(event("e1"), now()).await.unwrap();
    // The first answer is about dead letters, the second about events.
    proxy.lose([2]);
    let request = request(10, now());
    assert!(store.claim_due(request).await.is_err());
    assert_eq!(proxy.lost(), 1);
    assert_eq!(
        place.sql("SELECT held_until IS NOT NULL, attempt FROM cognigy_queue"),
        "t|1",
        "the claim took effect"
    );
    let run = claim_one(&store).await;
    assert_eq!((run.key.clone(), run.attempt), (key("e1"), 1));
    assert_eq!(store.settle(&[processed(run)]).await.unwrap(), [Settled::Done]);
    assert_eq!(store.attempts(&key("e1")).await.unwrap().len(), 1);
    assert_eq!(store.counts().await.unwrap().of(State::Processed), 2);
}

#[tokio::test]
async fn a_silent_network_is_given_up_and_what_comes_after_is_served() {
    let place = Place::new();
    let (store, proxy) = behind_a_proxy(&place).await;
    let warm_up = key("warm-up");
    proxy.fall_silent(true);
    let (recorded, read) = tokio::join!(store.record(event("e1"), now()), store.find(&warm_up));
    assert_eq!(recorded.unwrap_err().kind(), StoreErrorKind::Unavailable);
    assert_eq!(read.unwrap_err().kind(), StoreErrorKind::Unavailable);
    proxy.fall_silent(false);
    let recorded = store.record(event("e2"), now()).await.unwrap();
    assert_eq!(recorded, Recorded::New);
    // The unanswered delivery may have arrived since; delivering it again does not record a second
    // event.
    store.record(event("e1"), now()).await.unwrap();
    assert_eq!(place.sql("SELECT count(*) FROM cognigy_events"), "3");
}
