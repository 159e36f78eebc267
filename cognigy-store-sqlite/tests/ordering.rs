//! Keeping the order of each contact's events is turned on and off on a file that is in use.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use cognigy_core::{AfterDeadLetter, EventArchive, EventOrder, EventStore, RunEnd, Settled, State};
use cognigy_store_sqlite::{SqliteOptions, SqliteStore};
use common::{Place, at, claim, ended, event_from, key, settle};

const CONTINUE: EventOrder = EventOrder::PerContact(AfterDeadLetter::Continue);
const STOP: EventOrder = EventOrder::PerContact(AfterDeadLetter::Stop);

async fn open(place: &Place, order: impl Into<Option<EventOrder>>) -> SqliteStore {
    place.open_with(SqliteOptions { order: order.into(), ..SqliteOptions::default() }).await
}

async fn arrive(store: &SqliteStore, contact: &str, ids: &[&str]) {
    for id in ids {
        store.record(event_from(contact, id, "hello"), at(0)).await.unwrap();
    }
}

/// Claims the due events, which must be `ids`, and ends them with `verdict`.
async fn end(store: &SqliteStore, ids: &[&str], verdict: RunEnd) -> Vec<Settled> {
    let runs = claim(store, 100, at(10)).await.runs;
    assert_eq!(runs.iter().map(|run| run.key.id.as_str()).collect::<Vec<_>>(), ids);
    let mut answers = Vec::new();
    for run in runs {
        answers.push(settle(store, ended(run, verdict.clone(), at(10))).await);
    }
    answers
}

const WELL: RunEnd = RunEnd::Processed { contact: None };

fn for_good() -> RunEnd {
    RunEnd::GiveUp { reason: "no use".to_owned(), attempts: 1 }
}

#[tokio::test]
async fn a_backlog_gets_its_order_when_that_is_turned_on() {
    let place = Place::new();
    let store = open(&place, None).await;
    arrive(&store, "ann", &["a1", "a2", "a3"]).await;
    arrive(&store, "bob", &["b1", "b2"]).await;
    // Ann's second event is the first one that was begun. It waits for its next attempt.
    let begun = claim(&store, 2, at(1)).await.runs.pop().unwrap();
    settle(&store, ended(begun, RunEnd::Retry { due: at(5) }, at(1))).await;
    let held = open(&place, CONTINUE).await;
    let counts = held.counts().await.unwrap();
    assert_eq!((counts.held_back, counts.of(State::Pending)), (3, 4));

    // The store that was already open keeps the order too, and claimed events end without it.
    arrive(&store, "ann", &["a4"]).await;
    assert_eq!(end(&store, &["b1"], WELL).await, [Settled::UnblockedNext]);
    assert_eq!(end(&store, &["b2"], WELL).await, [Settled::Done]);
    let lapsed = claim(&store, 10, at(100)).await.runs.pop().unwrap();
    assert_eq!(lapsed.key, key("a1"));
    let settled = settle(&store, ended(lapsed, WELL, at(100))).await;
    assert_eq!(settled, Settled::UnblockedNext);
    for id in ["a2", "a3", "a4"] {
        end(&store, &[id], WELL).await;
    }
    assert_eq!(store.counts().await.unwrap().held_back, 0);
}

#[tokio::test]
async fn what_was_in_hand_when_the_order_was_turned_on_ends_as_it_began() {
    let place = Place::new();
    let store = open(&place, None).await;
    arrive(&store, "ann", &["a1", "a2", "a3"]).await;
    let [first, second] = <[_; 2]>::try_from(claim(&store, 2, at(1)).await.runs).unwrap();
    drop(open(&place, CONTINUE).await);
    assert_eq!(settle(&store, ended(second, WELL, at(2))).await, Settled::Done);
    end(&store, &[], WELL).await;
    assert_eq!(settle(&store, ended(first, WELL, at(2))).await, Settled::UnblockedNext);
    assert_eq!(end(&store, &["a3"], WELL).await, [Settled::Done]);
}

#[tokio::test]
async fn all_that_was_held_back_is_due_when_the_order_is_turned_off() {
    let place = Place::new();
    let store = open(&place, STOP).await;
    arrive(&store, "ann", &["a1", "a2", "a3"]).await;
    arrive(&store, "bob", &["b1", "b2"]).await;
    end(&store, &["a1", "b1"], for_good()).await;
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.held_back, counts.stopped_contacts), (3, 2));
    drop(store);

    // A store that is opened without an order changes nothing.
    let store = open(&place, None).await;
    arrive(&store, "cid", &["c1", "c2"]).await;
    end(&store, &["c1"], WELL).await;
    let other = open(&place, EventOrder::Any).await;
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.held_back, counts.stopped_contacts), (0, 0));
    arrive(&store, "ann", &["a4"]).await;
    end(&other, &["a2", "a3", "b2", "c2", "a4"], WELL).await;
}

#[tokio::test]
async fn stopped_contacts_go_on_when_stopping_is_turned_off() {
    let place = Place::new();
    let store = open(&place, STOP).await;
    arrive(&store, "ann", &["a1", "a2"]).await;
    arrive(&store, "bob", &["b1"]).await;
    end(&store, &["a1", "b1"], for_good()).await;
    end(&store, &[], WELL).await;
    let store = open(&place, CONTINUE).await;
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.held_back, counts.stopped_contacts), (0, 0));
    end(&store, &["a2"], for_good()).await;
    arrive(&store, "ann", &["a3"]).await;
    end(&store, &["a3"], WELL).await;
}
