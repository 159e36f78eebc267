//! The contract of `record`.

use futures_util::future::join_all;

use super::{LEASE, at, claim, claim_for, claim_one, gave_up, record, sample, settle, state_of};
use crate::{
    event::{SourceName, State},
    store::{EventFilter, PageRequest, Recorded, ReplayClaim, Settled, Store},
};

/// `New` once; after that `Identical`, or `Differs` with the first body.
pub async fn the_first_delivery_is_new_and_later_ones_change_nothing(store: &dyn Store) {
    let first = sample::incoming(sample::body("a"));
    let other = sample::incoming(format!("{} ", std::str::from_utf8(&first.body).unwrap()));
    assert_eq!(store.record(first.clone(), at(0)).await.unwrap(), Recorded::New);
    assert_eq!(store.record(first.clone(), at(1)).await.unwrap(), Recorded::Identical);
    let differs = Recorded::Differs { stored: first.body.clone() };
    assert_eq!(store.record(other, at(2)).await.unwrap(), differs);

    let stored = store.find(&first.key).await.unwrap().unwrap();
    assert_eq!(stored.event.body(), &first.body);
    assert_eq!(stored.event.received_at(), at(0));
    assert_eq!(stored.state, State::Pending);
    assert_eq!(claim(store, 10, 3).await.runs.len(), 1, "one row, due at once");
}

/// Every parsed field and the exact bytes are returned.
pub async fn a_body_comes_back_byte_for_byte(store: &dyn Store) {
    let body = "{\"eventId\":\"\\u00e9 '; DROP TABLE events; -- 😀\", \"timestamp\" : 1767225600.5,\n\
        \"type\":\"PROFILE_UPDATED\",\"payload\":{\"profile\":null,\"n\":1e400,\"z\":\"\\u0000\\ud800\"},\
        \"externalId\":\"\",\"userId\":\"u\\u0000\"}";
    let event = sample::incoming(body);
    store.record(event.clone(), at(0)).await.unwrap();

    let stored = store.find(&event.key).await.unwrap().unwrap().event;
    assert_eq!(stored.body(), body);
    assert_eq!(stored.kind(), &event.parts.kind);
    assert_eq!(stored.time(), &event.parts.time);
    assert_eq!(stored.external_id(), Some(""));
    assert_eq!(stored.user_id(), Some("u\0"));

    let mut batch = claim(store, 1, 0).await;
    let claimed = batch.runs.pop().unwrap().event.unwrap();
    assert_eq!(claimed.body(), body);
    assert_eq!(claimed.key(), &event.key);
    assert_eq!(claimed.contact_key(), Some("u\0"));
}

/// Kept headers and the conversation come back wherever the body does.
pub async fn what_was_kept_with_a_body_stays_with_it(store: &dyn Store) {
    let context =
        sample::context(&[("ce-id", "é \u{0} \\ '"), ("traceparent", ""), ("ce-id", "b")]);
    let conversation = Some("u\u{0}/s-1");
    let event = sample::incoming_in(sample::body("a"), context.clone(), conversation);
    store.record(event.clone(), at(0)).await.unwrap();
    let stored = store.find(&event.key).await.unwrap().unwrap().event;
    assert_eq!((stored.context(), stored.conversation()), (&context, conversation));
    let page = PageRequest { limit: 10, after: None };
    let listed = store.list(&EventFilter::default(), page).await.unwrap();
    assert_eq!(listed.events[0].conversation.as_deref(), conversation);
    // Another delivery of the event changes nothing of it.
    let again = sample::incoming_in(event.body.clone(), sample::context(&[("a", "b")]), None);
    assert_eq!(store.record(again, at(1)).await.unwrap(), Recorded::Identical);

    let work = claim_one(store, 1).await;
    let claimed = work.event.unwrap();
    assert_eq!((claimed.context(), claimed.conversation()), (&context, conversation));
    assert_eq!(settle(store, gave_up(work.claim, 1)).await, Settled::Done);
    let dead_letter = claim(store, 10, 2).await.dead_letters.pop().unwrap().dead_letter;
    assert_eq!(dead_letter.context, context);
    let ReplayClaim::Claimed(work) = store.replay(&event.key, LEASE, at(3)).await.unwrap() else {
        panic!("nothing holds it");
    };
    assert_eq!(work.event.unwrap().context(), &context);
}

/// Each event has its answer, those of one delivery among themselves too, and is due at once.
pub async fn the_events_of_one_delivery_are_recorded_together(store: &dyn Store) {
    record(store, "known", 0).await;
    let event = |id: &str| sample::incoming(sample::body(id));
    let other = |id: &str| {
        let body = format!("{} ", std::str::from_utf8(&sample::body(id)).unwrap());
        sample::incoming(body)
    };
    let delivery = vec![event("a"), event("b"), event("known"), event("a"), other("b")];
    let expected = [
        Recorded::New,
        Recorded::New,
        Recorded::Identical,
        Recorded::Identical,
        Recorded::Differs { stored: sample::body("b") },
    ];
    assert_eq!(store.record_all(delivery.clone(), at(1)).await.unwrap(), expected);
    let again = store.record_all(delivery[..2].to_vec(), at(2)).await.unwrap();
    assert_eq!(again, [Recorded::Identical, Recorded::Identical]);
    assert_eq!(store.record_all(Vec::new(), at(2)).await.unwrap(), []);
    let claimed = claim(store, 10, 3).await.runs;
    let mut ids: Vec<_> = claimed.iter().map(|run| run.key.id.to_string()).collect();
    ids.sort();
    assert_eq!(ids, ["a", "b", "known"]);
    let stored = store.find(&sample::key("b")).await.unwrap().unwrap();
    assert_eq!((stored.event.body(), stored.event.received_at()), (&sample::body("b"), at(1)));
    assert_eq!(store.counts().await.unwrap().of(State::Processing), 3);
}

/// Exactly one `New`, however many calls race.
pub async fn concurrent_deliveries_of_one_event_make_one_row(store: &dyn Store) {
    let event = sample::incoming(sample::body("race"));
    let answers = join_all((0..50).map(|_| store.record(event.clone(), at(0)))).await;
    let new = answers.into_iter().filter(|answer| matches!(answer, Ok(Recorded::New))).count();
    assert_eq!(new, 1);
    assert_eq!(claim(store, 10, 0).await.len(), 1);
}

/// An id belongs to its source.
pub async fn the_same_id_at_two_sources_is_two_events(store: &dyn Store) {
    let elsewhere: SourceName = "elsewhere".parse().unwrap();
    let one = sample::incoming(sample::body("a"));
    let other = sample::incoming_from(&elsewhere, sample::body("a"));
    assert_eq!(store.record(one, at(0)).await.unwrap(), Recorded::New);
    assert_eq!(store.record(other, at(0)).await.unwrap(), Recorded::New);
    assert_eq!(claim(store, 10, 0).await.len(), 1);
    assert_eq!(claim_for(store, &elsewhere, [10, 10], 0).await.len(), 1);
    assert_eq!(state_of(store, "a").await, State::Processing);
}
