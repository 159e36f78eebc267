//! The way in for what is not the contract's signed event: another authenticator, and a format with
//! several events in a delivery that needs headers.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use bytes::Bytes;
use cognigy_core::{
    AuthenticationError, Authenticator, CognigyFormat, EventArchive, EventFormat, EventParts,
    InvalidEvent, MAX_EVENTS, MatchedSecret, PageRequest, Pipeline, Quarantine, QuarantineRetry,
    RawDelivery, ReadEvent, Request, Source, State, VerifiedDelivery,
    memory::MemoryStore,
    testing::sample::{self, key, start},
};
use futures_executor::block_on;

/// A static key in a header, and the sender's address; the previous key is taken too.
struct ApiKey;

impl Authenticator for ApiKey {
    fn authenticate(&self, request: &Request<'_>) -> Result<MatchedSecret, AuthenticationError> {
        assert_eq!(request.now(), start());
        if request.target() != "/in?x=1" || request.peer().is_none_or(|peer| !peer.is_loopback()) {
            return Err(AuthenticationError::Mismatch);
        }
        match &request.header("x-api-key")?[..] {
            b"current" => Ok(MatchedSecret::Current),
            b"previous" => Ok(MatchedSecret::Previous),
            b"" => Err(AuthenticationError::Malformed),
            _ => Err(AuthenticationError::Mismatch),
        }
    }
}

/// One event a line, each as the contract writes it; the conversation is in a header. A header may
/// also demand something of every event.
struct Lines;

impl EventFormat for Lines {
    fn read(&self, delivery: &VerifiedDelivery) -> Result<Vec<ReadEvent>, InvalidEvent> {
        let conversation = delivery.context().get("x-conversation").map(ToOwned::to_owned);
        let lines = delivery.body().split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines
            .map(|line| {
                let parts = CognigyFormat.read_body(line)?;
                let parts = EventParts { conversation: conversation.clone(), ..parts };
                if delivery.context().get("x-refuse") == Some(parts.id.as_str()) {
                    return Err(InvalidEvent::new("eventId", "is not wanted"));
                }
                Ok(ReadEvent::new(parts, delivery.body().slice_ref(line)))
            })
            .collect()
    }

    fn context_headers(&self) -> &[&str] {
        &["x-conversation", "X-Refuse*"]
    }
}

struct Door {
    store: Arc<MemoryStore>,
    pipeline: Pipeline,
}

impl Door {
    fn new() -> Self {
        let store = Arc::new(MemoryStore::new());
        let source =
            Source::new("lines".parse().unwrap(), ApiKey, Lines).keep_headers(["traceparent"]);
        let pipeline = Pipeline::builder(source).store(Arc::clone(&store)).build().unwrap();
        Self { store, pipeline }
    }

    fn deliver(&self, headers: &[(&str, &str)], body: impl Into<Bytes>) -> (u16, String) {
        let raw = RawDelivery::new(Headers(headers), body)
            .target("/in?x=1")
            .peer("127.0.0.1".parse().unwrap());
        let reply = block_on(self.pipeline.ingest(raw, start()));
        (reply.status(), String::from_utf8(reply.body().to_vec()).unwrap())
    }

    fn state_of(&self, id: &str) -> Option<State> {
        let key =
            cognigy_core::EventKey { source: "lines".parse().unwrap(), id: id.parse().unwrap() };
        block_on(self.store.find(&key)).unwrap().map(|stored| stored.state)
    }
}

#[derive(Clone, Copy)]
struct Headers<'a>(&'a [(&'a str, &'a str)]);

impl cognigy_core::Headers for Headers<'_> {
    fn for_each(&self, visit: &mut dyn FnMut(&str, &[u8])) {
        self.0.iter().for_each(|(name, value)| visit(name, value.as_bytes()));
    }
}

fn lines(ids: &[&str]) -> String {
    ids.iter()
        .map(|id| format!("{}\n", String::from_utf8(sample::body(id).to_vec()).unwrap()))
        .collect()
}

const ACCEPTED: &str = r#"{"status":"accepted"}"#;
const DUPLICATE: &str = r#"{"status":"accepted","duplicate":true}"#;
const CONFLICT: &str = r#"{"status":"accepted","duplicate":true,"conflict":true}"#;
const KEY: (&str, &str) = ("X-API-Key", "current");

#[test]
fn an_authenticator_decides_who_comes_in() {
    let door = Door::new();
    assert_eq!(door.deliver(&[KEY], lines(&["a"])), (200, ACCEPTED.into()));
    let previous = block_on(
        door.pipeline.receive(
            RawDelivery::new([("x-api-key", "previous")], lines(&["b"]))
                .target("/in?x=1")
                .peer("::1".parse().unwrap()),
            start(),
        ),
    );
    assert_eq!(previous.matched(), Some(MatchedSecret::Previous));
    for headers in [&[][..], &[KEY, KEY], &[("X-API-Key", "")], &[("X-API-Key", "wrong")]] {
        assert_eq!(door.deliver(headers, lines(&["c"])).0, 401);
    }
    let elsewhere = RawDelivery::new([KEY], lines(&["c"])).target("/in?x=1");
    assert_eq!(block_on(door.pipeline.ingest(elsewhere, start())).status(), 401);
    assert_eq!(door.state_of("c"), None);
}

#[test]
fn the_events_of_a_delivery_are_taken_together_or_not_at_all() {
    let door = Door::new();
    assert_eq!(door.deliver(&[KEY], lines(&["a", "b"])), (200, ACCEPTED.into()));
    assert_eq!(door.deliver(&[KEY], lines(&["a", "b"])), (200, DUPLICATE.into()));
    assert_eq!(door.deliver(&[KEY], lines(&["a", "c"])), (200, ACCEPTED.into()));
    assert_eq!(door.deliver(&[KEY], ""), (200, ACCEPTED.into()), "a delivery of no event");
    // One that is known with other content goes into quarantine by itself.
    let other = lines(&["b"]).replace("hello", "bye");
    let delivery = format!("{}{other}{}", lines(&["c"]), lines(&["d"]));
    assert_eq!(door.deliver(&[KEY], delivery), (200, CONFLICT.into()));
    assert_eq!(door.state_of("d"), Some(State::Pending));
    let page = PageRequest { limit: 10, after: None };
    let quarantined = block_on(door.store.quarantined(page)).unwrap().items;
    assert_eq!((quarantined.len(), quarantined[0].event_id.as_deref()), (1, Some("b")));
    assert_eq!(quarantined[0].excerpt, other.trim_end());
    // An invalid one takes the others with it.
    let (status, answer) =
        door.deliver(&[KEY], format!("{}{{}}\n{}", lines(&["e"]), lines(&["f"])));
    assert!(status == 400 && answer.contains("eventId is required"), "{status} {answer}");
    assert_eq!((door.state_of("e"), door.state_of("f")), (None, None));
    let many: Vec<_> = (0..=MAX_EVENTS).map(|number| format!("m{number}")).collect();
    let many: Vec<_> = many.iter().map(String::as_str).collect();
    assert_eq!(door.deliver(&[KEY], lines(&many)).0, 400);
    assert_eq!(door.deliver(&[KEY], lines(&many[1..])).0, 200);
}

#[test]
fn kept_headers_are_there_for_every_later_reading() {
    let door = Door::new();
    let headers = [
        KEY,
        ("X-Conversation", "s-1"),
        ("x-refuse", "b"),
        ("TraceParent", "00-1"),
        ("x-other", "no"),
    ];
    assert_eq!(door.deliver(&headers, lines(&["a", "b"])).0, 400);
    let page = PageRequest { limit: 10, after: None };
    let id = block_on(door.store.quarantined(page)).unwrap().items[0].id;
    let item = block_on(door.store.quarantined_item(id)).unwrap().unwrap();
    let names: Vec<_> = item.context.iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["x-conversation", "x-refuse", "traceparent"], "no credential among them");
    // The reading of today refuses what the first one refused, for the header is there.
    let retried = block_on(door.pipeline.retry_quarantined(id, start())).unwrap();
    assert!(matches!(retried, QuarantineRetry::Invalid(_)), "{retried:?}");
    assert_eq!(door.deliver(&headers[..2], lines(&["a", "b"])).0, 200);
    let key = cognigy_core::EventKey { source: "lines".parse().unwrap(), ..key("b") };
    let event = block_on(door.store.find(&key)).unwrap().unwrap().event;
    assert_eq!(event.conversation(), Some("s-1"));
    assert_eq!(event.context().get("x-conversation"), Some("s-1"));
    assert_eq!(event.body(), lines(&["b"]).trim_end());
    let long = "v".repeat(20_000);
    assert_eq!(door.deliver(&[KEY, ("x-conversation", &long)], lines(&["c"])).0, 431);
    assert_eq!(door.state_of("c"), None);
}

#[test]
fn a_source_without_intake_takes_nothing_and_keeps_what_it_has() {
    let store = Arc::new(MemoryStore::new());
    let name = "lines".parse::<cognigy_core::SourceName>().unwrap();
    let source = Source::without_intake(name, Lines);
    let pipeline = Pipeline::builder(source).store(Arc::clone(&store)).build().unwrap();
    let raw = RawDelivery::new([KEY], lines(&["a"]));
    assert_eq!(block_on(pipeline.ingest(raw, start())).status(), 404);
    assert_eq!(block_on(store.counts()).unwrap().of(State::Pending), 0);
}
