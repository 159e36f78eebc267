//! Rows that cannot be read back do not affect other rows.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use cognigy_core::{
    ClaimRequest, EventArchive, EventStore, Recorded, ReplayClaim, RunEnd, Settled, State,
    StoreErrorKind,
};
use common::{LEASE, Place, at, claim, ended, event, give_up, key, request, settle};

#[tokio::test]
async fn a_lost_body_or_field_is_the_reason_in_place_of_the_event() {
    let place = Place::new();
    let store = place.open().await;
    for id in ["whole", "bodiless", "timeless", "ageless"] {
        store.record(event(id), at(0)).await.unwrap();
    }
    place
        .sql()
        .execute_batch(
            "DELETE FROM bodies WHERE event = (SELECT id FROM events WHERE event_id = 'bodiless');
             UPDATE events SET timestamp_json = 'noon' WHERE event_id = 'timeless';
             UPDATE events SET received_at = 9223372036854775807 WHERE event_id = 'ageless'",
        )
        .unwrap();
    let batch = claim(&store, 10, at(1)).await;
    let reason = |id: &str| {
        let run = batch.runs.iter().find(|run| run.key == key(id)).expect("it is claimed");
        run.event.as_ref().err().cloned()
    };
    assert_eq!(reason("whole"), None);
    assert_eq!(reason("bodiless").as_deref(), Some("the body is missing"));
    assert!(reason("timeless").unwrap().contains("timestamp"));
    assert!(reason("ageless").unwrap().contains("time"));

    // They end as dead letters, which still hold the readable data.
    for run in batch.runs {
        let verdict = RunEnd::GiveUp { reason: "unreadable".to_owned(), attempts: 1 };
        assert_eq!(settle(&store, ended(run, verdict, at(2))).await, Settled::Done);
    }
    let dead_letters = claim(&store, 10, at(3)).await.dead_letters;
    let payload = |id: &str| {
        let claimed = dead_letters.iter().find(|claimed| claimed.dead_letter.key == key(id));
        claimed.map(|claimed| claimed.dead_letter.raw_payload.clone())
    };
    assert_eq!(payload("whole"), Some(event("whole").body));
    assert_eq!(payload("timeless"), Some(event("timeless").body));
    assert_eq!(payload("bodiless"), Some(Default::default()));
}

#[tokio::test]
async fn a_lost_identity_is_put_off_and_stays_visible() {
    let place = Place::new();
    let store = place.open().await;
    for id in ["nameless", "stateless", "whole"] {
        store.record(event(id), at(0)).await.unwrap();
    }
    place
        .sql()
        .execute_batch(
            "UPDATE events SET event_id = '' WHERE event_id = 'nameless';
             UPDATE events SET state = 'lost' WHERE event_id = 'stateless'",
        )
        .unwrap();
    let batch = claim(&store, 3, at(1)).await;
    assert_eq!(batch.runs.len(), 1);
    assert_eq!(batch.runs[0].key, key("whole"));
    store.record(event("later"), at(2)).await.unwrap();
    let batch = claim(&store, 1, at(2)).await;
    assert_eq!(batch.runs[0].key, key("later"), "the damaged ones are not in the way");
    assert_eq!(store.counts().await.unwrap().of(State::Pending), 2);

    let mend = "UPDATE events SET event_id = 'nameless' WHERE event_id = ''";
    place.sql().execute_batch(mend).unwrap();
    assert_eq!(claim(&store, 1, at(1) + LEASE).await.runs[0].key, key("nameless"));
}

#[tokio::test]
async fn a_dead_letter_without_its_event_is_put_off() {
    let place = Place::new();
    let store = place.open().await;
    give_up(&store, &["e1", "e2"], at(0)).await;
    place.sql().execute_batch("UPDATE outbox SET event = 77 WHERE event = 1").unwrap();
    let batch = claim(&store, 10, at(1)).await;
    assert_eq!(batch.dead_letters.len(), 1);
    assert_eq!(batch.dead_letters[0].dead_letter.key, key("e2"));
    assert_eq!(store.counts().await.unwrap().unsent_dead_letters, 2);
}

#[tokio::test]
async fn a_lost_body_can_be_recorded_against_found_and_replayed() {
    let place = Place::new();
    let store = place.open().await;
    store.record(event("e1"), at(0)).await.unwrap();
    place.sql().execute_batch("DELETE FROM bodies").unwrap();
    let recorded = store.record(event("e1"), at(1)).await.unwrap();
    assert_eq!(recorded, Recorded::Differs { stored: Default::default() });
    assert!(store.find(&key("e1")).await.unwrap().unwrap().event.body().is_empty());
    let ReplayClaim::Claimed(run) = store.replay(&key("e1"), LEASE, at(2)).await.unwrap() else {
        panic!("it is free to be replayed")
    };
    assert!(run.event.is_err());
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_damage_and_a_table_that_is_gone_is_a_failure() {
    let place = Place::new();
    let store = place.open().await;
    give_up(&store, &["e1"], at(0)).await;
    store.record(event("e2"), at(0)).await.unwrap();
    place.sql().execute_batch("ALTER TABLE bodies RENAME TO elsewhere").unwrap();
    for (runs, dead_letters) in [(1, 0), (0, 1)] {
        let one = ClaimRequest { runs, dead_letters, ..request(1, at(1)) };
        let error = store.claim_due(one).await.expect_err("nothing is given away half");
        assert_eq!(error.kind(), StoreErrorKind::Corrupt);
    }
    let numbers = "CREATE TABLE bodies (event INTEGER PRIMARY KEY, body);
                   INSERT INTO bodies SELECT event, 5 FROM elsewhere";
    place.sql().execute_batch(numbers).unwrap();
    let batch = claim(&store, 10, at(1)).await;
    assert!(batch.runs[0].event.as_ref().unwrap_err().contains("SQLite failed"));
    assert!(batch.dead_letters[0].dead_letter.raw_payload.is_empty());
}
