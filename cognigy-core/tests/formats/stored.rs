//! What becomes of events that formats read, in a store: several in one delivery, repetitions,
//! conflicts, and what comes back from the quarantine or from a queue of dead letters.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use cognigy_core::{
    Counts, DeadLetter, DeadLetterSource, EventArchive, EventKey, Failure, FormatOptions,
    PageRequest, Pipeline, Quarantine, QuarantineRetry, ReceivedDeadLetter, StoredEvent,
    memory::MemoryStore,
    testing::{ManualClock, sample::start},
};
use futures_executor::block_on;

use crate::{Headers, MINUTE, request, source_with};

struct World {
    store: Arc<MemoryStore>,
    pipeline: Pipeline,
}

impl World {
    fn new(preset: &str, derived_id_window: Duration) -> Self {
        let options = FormatOptions { derived_id_window, ..FormatOptions::default() };
        let store = Arc::new(MemoryStore::new());
        let pipeline = Pipeline::builder(source_with(preset, options))
            .store(Arc::clone(&store))
            .build()
            .unwrap();
        Self { store, pipeline }
    }

    fn deliver_at(&self, headers: Headers<'_>, body: &str, after: Duration) -> (u16, String) {
        let reply =
            block_on(self.pipeline.ingest(request(headers, body.as_bytes()), start() + after));
        (reply.status(), String::from_utf8(reply.body().to_vec()).unwrap())
    }

    fn deliver(&self, headers: Headers<'_>, body: &str) -> (u16, String) {
        self.deliver_at(headers, body, Duration::ZERO)
    }

    fn count(&self) -> u64 {
        let counts: Counts = block_on(self.store.counts()).unwrap();
        cognigy_core::State::ALL.iter().map(|state| counts.of(*state)).sum()
    }

    fn event(&self, id: &str) -> StoredEvent {
        let key = EventKey { source: "partner".parse().unwrap(), id: id.parse().unwrap() };
        block_on(self.store.find(&key)).unwrap().unwrap()
    }

    fn quarantined(&self) -> Vec<i64> {
        let page = PageRequest { limit: 10, after: None };
        block_on(self.store.quarantined(page)).unwrap().items.iter().map(|item| item.id).collect()
    }
}

const BATCH: Headers<'_> = &[("content-type", b"application/cloudevents-batch+json")];
const BINARY: Headers<'_> = &[
    ("ce-specversion", b"1.0"),
    ("ce-id", b"9"),
    ("ce-source", b"/s"),
    ("ce-type", b"t"),
    ("content-type", b"application/json"),
];

fn event(id: &str, n: u32) -> String {
    format!(r#"{{"specversion":"1.0","source":"/s","id":"{id}","type":"t","data":{{"n":{n}}}}}"#)
}

#[test]
fn a_batch_is_taken_together_and_answered_202() {
    let world = World::new("cloudevents", Duration::ZERO);
    let accepted = (202, r#"{"status":"accepted"}"#.to_owned());
    let batch = format!("[{},{}]", event("1", 1), event("2", 2));
    assert_eq!(world.deliver(BATCH, &batch), accepted);
    assert_eq!(world.deliver(BATCH, "[]"), accepted);
    assert_eq!(world.deliver(BATCH, &batch).1, r#"{"status":"accepted","duplicate":true}"#);
    let (status, answer) = world.deliver(BATCH, &format!("[{},{{}}]", event("3", 3)));
    assert!(status == 400 && answer.contains("body[1].id is required"), "{status} {answer}");
    assert_eq!(world.count(), 2);
    // Twice in one batch is once.
    assert_eq!(world.deliver(BATCH, &format!("[{0},{0}]", event("4", 4))).0, 202);
    assert_eq!(world.count(), 3);
    let (status, answer) = world.deliver(BATCH, &format!("[{},{}]", event("5", 5), event("1", 7)));
    assert!(status == 202 && answer.contains("conflict"), "{status} {answer}");
    assert_eq!(&world.event("/s|1").event.body()[..], event("1", 1).as_bytes());
    let unsupported = world.deliver(&[("content-type", b"application/cloudevents+avro")], "x");
    assert_eq!((unsupported.0, world.quarantined().len()), (415, 2));
}

/// A queue with one message.
struct Queue(String);

#[async_trait]
impl DeadLetterSource for Queue {
    async fn receive(&self, _: usize) -> Result<Vec<ReceivedDeadLetter>, Failure> {
        let (id, receipt) = ("message".to_owned(), "receipt".to_owned());
        Ok(vec![ReceivedDeadLetter { id, body: self.0.clone(), receipt }])
    }

    async fn release(&self, receipts: &[String]) -> Vec<Result<(), Failure>> {
        receipts.iter().map(|_| Ok(())).collect()
    }

    async fn acknowledge(&self, receipts: &[String]) -> Vec<Result<(), Failure>> {
        receipts.iter().map(|_| Ok(())).collect()
    }
}

#[test]
fn a_dead_letter_comes_back_as_the_event_that_it_was() {
    let batch = format!("[{},{}]", event("1", 1), event("2", 2));
    let callback = r#"{"userId":"u","sessionId":"s"}"#;
    let cases: [(&str, Headers<'_>, &str); 5] = [
        ("cloudevents", BATCH, &batch),
        ("cloudevents", BINARY, r#"{"n":1}"#),
        ("standard-webhooks", &[("webhook-id", b"msg_1")], r#"{"type":"t"}"#),
        ("cognigy-callback", &[], callback),
        ("json", &[], "[7]"),
    ];
    for (preset, headers, body) in cases {
        let world = World::new(preset, Duration::ZERO);
        assert!(matches!(world.deliver(headers, body).0, 200 | 202));
        let source = source_with(preset, FormatOptions::default());
        let delivery = source.verify(request(headers, body.as_bytes()), start()).unwrap();
        let last = source.read(&delivery).unwrap().pop().unwrap();
        let letter = DeadLetter {
            key: last.key.clone(),
            run: 1,
            kind: last.parts.kind.clone(),
            time: last.parts.time,
            error_message: "gave up".into(),
            attempts: 4,
            first_received_at: start(),
            raw_payload: last.body.clone(),
            context: last.context,
        };
        // The store of today has forgotten it.
        let world = World::new(preset, Duration::ZERO);
        let (queue, clock) = (Queue(letter.to_message(false)), ManualClock::new(start()));
        let report = block_on(world.pipeline.redrive(&queue, Some(1), &clock, |_| ())).unwrap();
        assert_eq!(report.stored, 1, "{preset} {report:?}");
        let stored = world.event(last.key.id.as_str());
        assert_eq!(stored.event.kind(), &last.parts.kind, "{preset}");
        assert_eq!(stored.event.body(), &last.body, "{preset}");
    }
}

#[test]
fn a_quarantined_delivery_is_taken_once_when_its_format_is_mended() {
    let world = World::new("json", Duration::ZERO);
    // As it was when the id was to be found by a pointer.
    let options =
        FormatOptions { id_pointer: Some("/id".parse().unwrap()), ..FormatOptions::default() };
    let strict = Pipeline::builder(source_with("json", options))
        .store(Arc::clone(&world.store))
        .build()
        .unwrap();
    let refused = block_on(strict.ingest(request(&[], br#"{"n":1}"#), start()));
    assert_eq!(refused.status(), 400);
    let [id] = world.quarantined()[..] else { panic!("one item") };
    let retry = |pipeline: &Pipeline| block_on(pipeline.retry_quarantined(id, start())).unwrap();
    assert!(matches!(retry(&strict), QuarantineRetry::Invalid(_)));
    assert!(matches!(retry(&world.pipeline), QuarantineRetry::Accepted(_)));
    assert!(matches!(retry(&world.pipeline), QuarantineRetry::NotFound));
    assert_eq!(world.count(), 1);
}

#[test]
fn repetitions_are_told_within_the_window_only() {
    let body = r#"{"userId":"u","sessionId":"s","AIOutput":{"text":"yes"}}"#;
    let world = World::new("cognigy-callback", MINUTE);
    assert!(!world.deliver(&[], body).1.contains("duplicate"));
    assert!(world.deliver_at(&[], body, MINUTE / 2).1.contains("duplicate"));
    assert!(!world.deliver_at(&[], body, MINUTE * 3).1.contains("duplicate"));
    assert_eq!(world.count(), 2);
    let world = World::new("cognigy-callback", Duration::ZERO);
    for _ in 0..3 {
        assert!(!world.deliver(&[], body).1.contains("duplicate"));
    }
    assert_eq!(world.count(), 3, "without a window nothing is taken for a repetition");
}
