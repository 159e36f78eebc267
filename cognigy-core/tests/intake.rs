//! What a sender is answered, and what is kept of its delivery.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod scenario;

use std::time::Duration;

use bytes::Bytes;
use cognigy_core::{
    Clock, DeliveryContext, Intake, MatchedSecret, PageRequest, QuarantineEntry, QuarantineLimits,
    QuarantineReason, QuarantineRetry, RawDelivery, SourceName, State, testing::sample,
};
use futures_executor::block_on;
use scenario::Scenario;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_pipeline_shows_its_source_and_no_secret() {
    let shown = format!("{:?}", Scenario::new().pipeline);
    assert_eq!(shown, r#"Pipeline { source: Source { name: SourceName("cognigy"), .. }, .. }"#);
}

#[test]
fn duplicates_and_conflicts_are_told_and_change_nothing() {
    let mut world = Scenario::new();
    world.start_worker();
    world.deliver("a");
    let duplicate = br#"{"status":"accepted","duplicate":true}"#;
    assert_eq!(world.deliver("a").body().as_ref(), duplicate);
    let text = String::from_utf8(sample::body("a").to_vec()).unwrap();
    let ingest =
        |body: String| block_on(world.pipeline.ingest(sample::delivery(body), world.clock.now()));
    assert_eq!(ingest(text.replace("\":", "\" : ")).body().as_ref(), duplicate, "equal JSON");
    let conflict = ingest(text.replace("hello", "bye"));
    assert_eq!(
        (conflict.status(), conflict.body().as_ref()),
        (200, br#"{"status":"accepted","duplicate":true,"conflict":true}"#.as_slice())
    );
    world.pass(SECOND);
    assert_eq!(world.find("a").event.body(), &sample::body("a"));
    assert_eq!(world.crm.queries().len(), 1, "one run");
    assert_eq!(world.counts().quarantined, 1);
}

#[test]
fn what_is_not_signed_is_forgotten_and_what_is_invalid_is_kept() {
    let world = Scenario::new();
    let now = world.clock.now();
    let forged = RawDelivery::new([("X-Cognigy-Signature", "AAAA")], sample::body("a"));
    let reply = block_on(world.pipeline.ingest(forged, now));
    assert_eq!(reply.status(), 401);
    assert!(reply.headers().any(|header| header.1 == "application/problem+json"));
    // Before that, the body is not examined: neither its kind, nor whether it is JSON.
    for body in ["", "no JSON", "{\"eventId\":\"a\"}"] {
        let forged = RawDelivery::new([("X-Cognigy-Signature", "AAAA")], body);
        assert_eq!(block_on(world.pipeline.ingest(forged, now)).body(), reply.body(), "{body:?}");
    }

    let body = r#"{"eventId":"a","timestamp":1,"type":"PROFILE_UPDATED","payload":{}}"#;
    let reply = block_on(world.pipeline.ingest(sample::delivery(body), now));
    let answer: serde_json::Value = serde_json::from_slice(reply.body()).unwrap();
    assert_eq!((reply.status(), &answer["status"]), (400, &400.into()));
    assert_eq!(answer["errors"][0]["field"], "payload.profile");
    assert!(answer["detail"].as_str().unwrap().starts_with("Payload validation failed: "));
    assert_eq!((world.counts().quarantined, world.counts().by_state.len()), (1, 0));

    let item = block_on(world.pipeline.store().quarantined(PageRequest { limit: 1, after: None }));
    let id = item.unwrap().items[0].id;
    let retry = block_on(world.pipeline.retry_quarantined(id, now)).unwrap();
    assert!(matches!(retry, QuarantineRetry::Invalid(_)), "{retry:?}");
    assert_eq!(world.counts().quarantined, 1);
}

#[test]
fn what_was_in_quarantine_is_taken_in_or_told_why_not() {
    let world = Scenario::new();
    let now = world.clock.now();
    world.deliver("known");
    let store = world.pipeline.store();
    let retry = |reason, body: Bytes| {
        let entry = QuarantineEntry {
            source: SourceName::default(),
            reason,
            event_id: None,
            detail: "an earlier version could not read it".to_owned(),
            body,
            context: DeliveryContext::default(),
        };
        block_on(store.quarantine(entry, QuarantineLimits::default(), now)).unwrap();
        let page = PageRequest { limit: 10, after: None };
        let id = block_on(store.quarantined(page)).unwrap().items[0].id;
        let outcome = block_on(world.pipeline.retry_quarantined(id, now)).unwrap();
        let left = block_on(store.quarantined(page)).unwrap().items;
        (outcome, left.into_iter().map(|item| (item.id == id, item.reason)).collect::<Vec<_>>())
    };
    use QuarantineReason::{Conflict, Invalid};
    let (outcome, left) = retry(Invalid, sample::body("new"));
    assert!(matches!(outcome, QuarantineRetry::Accepted(key) if key == sample::key("new")));
    assert_eq!((left, world.state("new")), (vec![], State::Pending));
    let (outcome, left) = retry(Invalid, sample::body("known"));
    assert!(matches!(outcome, QuarantineRetry::Duplicate(_)), "{outcome:?}");
    assert_eq!(left, []);
    let other = || sample::body_from("another sender", "known");
    let (outcome, left) = retry(Invalid, other());
    assert!(matches!(outcome, QuarantineRetry::Conflict(_)), "{outcome:?}");
    assert_eq!(left, [(false, Conflict)], "kept as what it is now");
    let (outcome, left) = retry(Conflict, other());
    assert!(matches!(outcome, QuarantineRetry::Conflict(_)), "{outcome:?}");
    assert_eq!(left, [(true, Conflict)], "stays");
    let unknown = block_on(world.pipeline.retry_quarantined(i64::MAX, now)).unwrap();
    assert!(matches!(unknown, QuarantineRetry::NotFound), "{unknown:?}");
}

#[test]
fn encoded_and_oversize_bodies_are_refused_before_they_are_looked_at() {
    let world = Scenario::new();
    let now = world.clock.now();
    let gzip = RawDelivery::new([("content-encoding", "gzip")], sample::body("a"));
    assert_eq!(block_on(world.pipeline.ingest(gzip, now)).status(), 415);
    let identity = RawDelivery::new([("content-encoding", "Identity")], sample::body("a"));
    assert_eq!(block_on(world.pipeline.ingest(identity, now)).status(), 401);
    let large = sample::delivery(vec![b' '; 1024 * 1024 + 1]);
    let refused = block_on(world.pipeline.ingest(large, now));
    assert_eq!((refused.status(), refused.closes_connection()), (413, true));
    assert!(!world.deliver("b").closes_connection());
    let largest = sample::delivery(vec![b' '; 1024 * 1024]);
    assert_eq!(block_on(world.pipeline.ingest(largest, now)).status(), 400, "the limit is 1 MiB");

    let by_head = |headers: [(&str, &str); 1]| world.pipeline.refuse_by_head(headers);
    assert!(matches!(by_head([("content-encoding", "gzip")]), Some(Intake::Encoded)));
    assert!(by_head([("content-encoding", "identity")]).is_none());
}

#[test]
fn what_became_of_a_delivery_has_a_name_and_the_secret_it_was_signed_with() {
    let world = Scenario::new();
    let receive = |body: Bytes| {
        let intake = block_on(world.pipeline.receive(sample::delivery(body), world.clock.now()));
        (intake.as_str(), intake.matched())
    };
    let current = Some(MatchedSecret::Current);
    assert_eq!(receive(sample::body("a")), ("accepted", current));
    assert_eq!(receive(sample::body("a")), ("duplicate", current));
    let other = String::from_utf8(sample::body("a").to_vec()).unwrap().replace("hello", "bye");
    assert_eq!(receive(other.into()), ("conflict", current));
    assert_eq!(receive(Bytes::from_static(b"{")), ("invalid", None));
    let forged = RawDelivery::new([("X-Cognigy-Signature", "AAAA")], sample::body("b"));
    let forged = block_on(world.pipeline.receive(forged, world.clock.now()));
    assert_eq!((forged.as_str(), forged.matched()), ("unsigned", None));
}
