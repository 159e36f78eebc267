//! Databases that earlier versions left behind.
//!
//! Each store keeps a recording of one, written by the server of that version under
//! `per_contact` order with dead letters that stop their contact. [`goes_on`] takes a store that
//! was opened on it and demands that nothing is lost and everything continues.

use std::time::Duration;

use super::sample::{self, key};
use crate::{
    event::{SourceName, State, Timestamp},
    store::{
        AttemptOutcome, ClaimRequest, EventFilter, PageRequest, QuarantineReason, Recorded,
        ReplayClaim, Requeued, RunEnd, Settled, Store,
    },
};

/// What the recording holds: id, state, contact, and attempts so far.
const EVENTS: [(&str, State, &str, usize); 9] = [
    ("done-0", State::Processed, "ann-0", 1),
    ("done-1", State::Processed, "ann-1", 1),
    ("done-2", State::Processed, "ann-2", 2),
    ("nobody", State::Processed, "none-1", 1),
    ("dead-1", State::DeadLettered, "down-1", 2),
    ("behind-dead-1", State::Pending, "down-1", 0),
    ("waiting-1", State::Pending, "bob", 0),
    ("waiting-2", State::Pending, "bob", 0),
    ("waiting-3", State::Pending, "eve", 0),
];

/// Panics where the store has lost something of the recording, or does not go on with it.
pub async fn goes_on(store: &dyn Store, now: Timestamp) {
    for (id, state, contact, attempts) in EVENTS {
        let stored = store.find(&key(id)).await.unwrap().expect(id);
        assert_eq!((stored.state, stored.event.external_id()), (state, Some(contact)), "{id}");
        assert!(stored.event.context().is_empty() && stored.event.conversation().is_none());
        let body: serde_json::Value = serde_json::from_slice(stored.event.body()).unwrap();
        assert_eq!((&body["eventId"], &body["payload"]["input"]), (&id.into(), &"hello".into()));
        let known = matches!(id, "done-0" | "done-1" | "done-2");
        assert_eq!(stored.contact.is_some_and(|it| it.as_json().contains("Ann")), known, "{id}");
        let history = store.attempts(&key(id)).await.unwrap();
        assert_eq!(history.len(), attempts, "{id}");
        let failed = history.iter().filter(|it| it.outcome != AttemptOutcome::Succeeded).count();
        assert_eq!(failed, if id == "dead-1" { 2 } else { 0 }, "{id}");
        assert_eq!(stored.event.run(), if id == "done-2" { 2 } else { 1 }, "{id}");
    }
    let all = PageRequest { limit: 100, after: None };
    assert_eq!(store.list(&EventFilter::default(), all).await.unwrap().events.len(), 9);
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.of(State::Processed), counts.of(State::Pending)), (4, 4));
    assert_eq!((counts.held_back, counts.stopped_contacts, counts.quarantined), (2, 1, 2));
    quarantine_is_there(store).await;

    // Only the first of each contact that is not stopped is due.
    let ids = process_all(store, now).await;
    assert_eq!(ids, ["waiting-1", "waiting-3", "waiting-2"]);
    // A replay of the dead letter lets the event behind it go.
    assert_eq!(store.requeue(&[key("dead-1")], now).await.unwrap(), [Requeued::Scheduled]);
    assert_eq!(process_all(store, now).await, ["dead-1", "behind-dead-1"]);

    // What comes now has what the recording's version did not know.
    let again = store.find(&key("done-0")).await.unwrap().unwrap().event.body().clone();
    let context = sample::context(&[("ce-id", "1")]);
    let again = sample::incoming_in(again, context.clone(), Some("s-1"));
    assert_eq!(store.record(again, now).await.unwrap(), Recorded::Identical);
    let event = sample::incoming_in(sample::body("new"), context.clone(), Some("s-1"));
    assert_eq!(store.record_all(vec![event], now).await.unwrap(), [Recorded::New]);
    let stored = store.find(&key("new")).await.unwrap().unwrap().event;
    assert_eq!((stored.context(), stored.conversation()), (&context, Some("s-1")));
    let replay = store.replay(&key("done-1"), Duration::from_secs(60), now).await.unwrap();
    assert!(matches!(replay, ReplayClaim::Claimed(_)), "{replay:?}");
}

async fn quarantine_is_there(store: &dyn Store) {
    let page = store.quarantined(PageRequest { limit: 10, after: None }).await.unwrap();
    let mut reasons = Vec::new();
    for item in page.items {
        let whole = store.quarantined_item(item.id).await.unwrap().unwrap();
        assert!(whole.context.is_empty() && !whole.body.is_empty());
        reasons.push((item.reason, item.event_id));
    }
    let expected = [
        (QuarantineReason::Invalid, Some("bad".to_owned())),
        (QuarantineReason::Conflict, Some("done-1".to_owned())),
    ];
    assert_eq!(reasons, expected);
}

/// Processes whatever is due until nothing is; the ids, in the order in which they were claimed.
async fn process_all(store: &dyn Store, now: Timestamp) -> Vec<String> {
    let mut ids = Vec::new();
    loop {
        let request = ClaimRequest {
            source: SourceName::default(),
            runs: 10,
            dead_letters: 10,
            lease: Duration::from_secs(60),
            now,
        };
        let batch = store.claim_due(request).await.unwrap();
        assert!(batch.dead_letters.is_empty(), "its dead letter was sent");
        if batch.runs.is_empty() {
            return ids;
        }
        let mut ended = Vec::new();
        let mut claimed: Vec<_> = batch.runs.into_iter().collect();
        claimed.sort_by(|one, other| one.key.cmp(&other.key));
        for run in claimed {
            assert!(run.event.is_ok(), "{:?}", run.event);
            ids.push(run.key.id.to_string());
            ended.push(run.claim.settle(RunEnd::Processed { contact: None }, None, now));
        }
        let answers = store.settle(&ended).await.unwrap();
        assert!(answers.into_iter().all(Settled::took_effect));
    }
}
