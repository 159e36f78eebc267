//! Acknowledged events are stored after a restart, and with several processes on one file.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use cognigy_core::{
    Contact, DeliveryContext, EventArchive, EventStore, PageRequest, PurgeRequest, Quarantine,
    QuarantineEntry, QuarantineLimits, QuarantineReason, Recorded, RunEnd, Settled, SourceName,
    State,
};
use cognigy_store_sqlite::SqliteOptions;
use common::{Place, at, claim, claim_one, ended, event, event_saying, give_up, key, settle};

#[tokio::test]
async fn reopening_finds_everything_byte_for_byte() {
    let place = Place::new();
    let first = event("e1");
    {
        let store = place.open().await;
        assert_eq!(store.record(first.clone(), at(0)).await.unwrap(), Recorded::New);
        let run = claim_one(&store, at(1)).await;
        let contact = Contact::from_json(r#"{"name": "Ada"}"#).unwrap();
        let verdict = RunEnd::Processed { contact: Some(contact) };
        assert_eq!(settle(&store, ended(run, verdict, at(2))).await, Settled::Done);
        give_up(&store, &["e2"], at(3)).await;
        store.record(event("e3"), at(4)).await.unwrap();
        let body = &b"\x00\xff not JSON"[..];
        let entry = QuarantineEntry {
            source: SourceName::default(),
            reason: QuarantineReason::Invalid,
            event_id: None,
            detail: "is not JSON".to_owned(),
            body: body.into(),
            context: DeliveryContext::default(),
        };
        store.quarantine(entry, QuarantineLimits::default(), at(5)).await.unwrap();
    }
    assert_eq!(std::fs::read_dir(place.folder.path()).unwrap().count(), 1, "the WAL is put away");

    let store = place.open().await;
    let found = store.find(&key("e1")).await.unwrap().unwrap();
    assert_eq!(found.event.body(), &first.body);
    assert_eq!(found.event.key(), &first.key);
    assert_eq!(found.event.time(), &first.parts.time);
    assert_eq!(found.event.kind(), &first.parts.kind);
    assert_eq!(found.event.external_id(), Some("crm-e1"));
    assert_eq!(found.event.user_id(), Some("user-e1"));
    assert_eq!(found.event.received_at(), at(0));
    assert_eq!((found.state, found.processed_at), (State::Processed, Some(at(2))));
    assert_eq!(found.contact.unwrap().as_json(), r#"{"name": "Ada"}"#);
    assert_eq!(store.attempts(&key("e1")).await.unwrap().len(), 1);
    assert_eq!(store.record(first, at(6)).await.unwrap(), Recorded::Identical);

    let page = store.quarantined(PageRequest { limit: 9, after: None }).await.unwrap();
    assert_eq!(&page.items[0].excerpt[..], b"\x00\xff not JSON");
    let work = claim(&store, 10, at(6)).await;
    assert_eq!(work.dead_letters[0].dead_letter.key, key("e2"));
    assert_eq!(work.dead_letters[0].dead_letter.error_message, "no use");
    assert_eq!(work.dead_letters[0].dead_letter.raw_payload, event("e2").body);
    assert_eq!(work.runs[0].key, key("e3"));
    assert_eq!(work.runs[0].event.as_ref().unwrap().body(), &event("e3").body);
}

#[tokio::test]
async fn a_store_that_is_dropped_has_closed_everything() {
    let place = Place::new();
    let everything_at_once = SqliteOptions { checkpoint_pages: 0, ..SqliteOptions::default() };
    let store = place.open_with(everything_at_once).await;
    for id in ["e1", "e2"] {
        store.record(event(id), at(0)).await.unwrap();
        store.find(&key(id)).await.unwrap().unwrap();
    }
    drop(store);
    let files = std::fs::read_dir(place.folder.path()).unwrap().map(|file| file.unwrap().path());
    assert_eq!(files.collect::<Vec<_>>(), [place.path()], "also what readers and write-backs open");
}

#[tokio::test(flavor = "multi_thread")]
async fn two_stores_on_one_file_agree_on_who_was_first() {
    let place = Place::new();
    let stores = [place.open().await, place.open().await];
    let mut deliveries = Vec::new();
    for store in &stores {
        for id in 0..200 {
            let store = store.clone();
            deliveries.push(tokio::spawn(async move {
                (id, store.record(event(&format!("e{id}")), at(0)).await.unwrap())
            }));
        }
    }
    let mut first = vec![0; 200];
    for delivery in deliveries {
        let (id, recorded) = delivery.await.unwrap();
        assert!(matches!(recorded, Recorded::New | Recorded::Identical));
        first[id] += usize::from(recorded == Recorded::New);
    }
    assert!(first.iter().all(|news| *news == 1), "each event is new exactly once");

    // Each process claims half of the events; no event is claimed twice.
    let (one, other) = tokio::join!(claim(&stores[0], 100, at(1)), claim(&stores[1], 100, at(1)));
    let mut claimed: Vec<_> = one.runs.iter().chain(&other.runs).map(|run| &run.key).collect();
    claimed.sort();
    claimed.dedup();
    assert_eq!(claimed.len(), 200);
    for store in stores {
        assert_eq!(store.counts().await.unwrap().of(State::Processing), 200);
    }
}

#[tokio::test]
async fn a_worker_that_comes_too_late_changes_nothing() {
    let place = Place::new();
    let store = place.open().await;
    store.record(event("e1"), at(0)).await.unwrap();
    let late = claim_one(&store, at(0)).await;
    assert!(claim(&store, 1, at(59)).await.is_empty(), "the lease still runs");
    let other = place.open().await;
    let run = claim_one(&other, at(60)).await;
    assert_eq!((run.run, run.attempt), (1, 2));

    let failed = RunEnd::GiveUp { reason: "late".to_owned(), attempts: 1 };
    assert_eq!(settle(&store, ended(late, failed, at(61))).await, Settled::LeaseLost);
    let processed = RunEnd::Processed { contact: None };
    assert_eq!(settle(&other, ended(run, processed, at(62))).await, Settled::Done);

    let found = store.find(&key("e1")).await.unwrap().unwrap();
    assert_eq!(found.state, State::Processed);
    let history = store.attempts(&key("e1")).await.unwrap();
    let outcomes: Vec<_> = history.iter().map(|attempt| attempt.outcome.as_str()).collect();
    assert_eq!(outcomes, ["lease_expired", "succeeded"]);
    assert_eq!((history[0].started_at, history[0].duration), (at(0), common::LEASE));
    assert_eq!(store.counts().await.unwrap().unsent_dead_letters, 0);
}

#[tokio::test]
async fn an_id_is_not_used_again_after_a_purge() {
    let place = Place::new();
    let store = place.open().await;
    store.record(event("e1"), at(0)).await.unwrap();
    let stale = claim_one(&store, at(0)).await;
    let run = claim_one(&store, at(60)).await;
    settle(&store, ended(run, RunEnd::Processed { contact: None }, at(61))).await;
    assert_eq!(
        store.purge(PurgeRequest::all_before(at(100), 10)).await.unwrap().purged.total_events(),
        1
    );

    store.record(event("e2"), at(200)).await.unwrap();
    let fresh = claim_one(&store, at(200)).await;
    assert_ne!(stale.claim.token(), fresh.claim.token());
    let verdict = RunEnd::Processed { contact: None };
    assert_eq!(settle(&store, ended(stale, verdict, at(201))).await, Settled::LeaseLost);
}

#[tokio::test]
async fn the_first_body_is_never_overwritten() {
    let place = Place::new();
    let store = place.open().await;
    let first = event_saying("e1", "first");
    store.record(first.clone(), at(0)).await.unwrap();
    let recorded = store.record(event_saying("e1", "second"), at(1)).await.unwrap();
    assert_eq!(recorded, Recorded::Differs { stored: first.body.clone() });
    assert_eq!(store.find(&key("e1")).await.unwrap().unwrap().event.body(), &first.body);
}
