//! The contract of `record`.

use futures_util::future::join_all;

use super::{at, claim, claim_for, sample, state_of};
use crate::{
    event::State,
    intake::SourceName,
    store::{Recorded, Store},
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
