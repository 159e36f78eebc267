//! Handlers by type of event, as an application writes them, and what becomes of an event that they fail.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use bytes::Bytes;
use cognigy_core::{
    BuildError, Clock, DialogEnded, DialogStarted, Event, EventArchive, EventPayload, Failure,
    FormatOptions, FormatPreset, HandlerContext, Handlers, OrFail, PayloadHandler, Pipeline,
    PipelineBuilder, ProfileUpdated, RetryPolicy, Source, SourceName, State, StoredEvent,
    TokioClock, UserInput, Worker, WorkerOptions,
    memory::MemoryStore,
    testing::{CrmAnswer, ScriptedCrm, ScriptedSink, World, sample},
};
use serde::Deserialize;

#[derive(Debug, Deserialize)]
struct MyProfile {
    email: String,
}

/// A payload type of the application's own.
#[derive(Debug, Deserialize)]
struct Contact {
    name: String,
}

struct Log(Mutex<Vec<String>>);

impl Log {
    fn line(&self, line: String) {
        self.0.lock().unwrap().push(line);
    }
}

struct Ends;

#[async_trait]
impl PayloadHandler<DialogEnded, Log> for Ends {
    async fn handle(&self, ended: DialogEnded, cx: HandlerContext<Log>) -> Result<(), Failure> {
        cx.state().line(format!("ended {}", ended.0.len()));
        Ok(())
    }
}

fn body(id: &str, kind: &str, payload: &str) -> String {
    format!(
        r#"{{"eventId":"{id}","timestamp":"2026-03-01T12:00:00Z","type":"{kind}","externalId":"c1","payload":{payload}}}"#
    )
}

/// Delivers the bodies one after the other and waits until each event has ended.
async fn run(
    handlers: Handlers<impl Send + Sync + 'static>,
    and: impl FnOnce(PipelineBuilder) -> PipelineBuilder,
    bodies: &[String],
) -> (Vec<StoredEvent>, Arc<MemoryStore>) {
    let store = Arc::new(MemoryStore::new());
    let clock = TokioClock::new();
    let pipeline = Pipeline::builder(sample::verifier())
        .store(Arc::clone(&store))
        .crm(ScriptedCrm::answering(CrmAnswer::Found(r#"{"name":"Ada"}"#.to_owned())))
        .handler(handlers);
    let pipeline = and(pipeline).build().unwrap();
    let options = WorkerOptions { concurrency: 1, ..WorkerOptions::default() };
    let worker = Worker::spawn_with(pipeline.clone(), clock, options);
    let mut ended = Vec::new();
    for (number, body) in bodies.iter().enumerate() {
        let reply = pipeline.ingest(sample::delivery(body.clone()), clock.now()).await;
        assert_eq!(reply.status(), 200, "{body}");
        let key = sample::key(&number.to_string());
        ended.push(loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            let event = store.find(&key).await.unwrap().unwrap();
            if matches!(event.state, State::Processed | State::DeadLettered) {
                break event;
            }
        });
    }
    worker.shutdown().await;
    (ended, store)
}

fn states(events: &[StoredEvent]) -> Vec<State> {
    events.iter().map(|event| event.state).collect()
}

#[tokio::test(start_paused = true)]
async fn each_type_of_event_goes_to_its_handler_with_its_payload() {
    let log = Arc::new(Log(Mutex::default()));
    let handlers = Handlers::with_state(Arc::clone(&log))
        .on(|said: UserInput<String>, cx| async move {
            let known: Option<Contact> = cx.contact_as()?;
            cx.state().line(format!("{} said {}", known.unwrap().name, said.input));
            Ok(())
        })
        .on(|update: ProfileUpdated<MyProfile>, cx| async move {
            let at = update.profile.email.find('@').ok_or("no @").or_permanent("no address")?;
            cx.state().line(format!("{at} {}", cx.idempotency_key()));
            Ok(())
        })
        .on(|started: DialogStarted<HashMap<String, u32>>, cx| async move {
            cx.state().line(format!("started {:?}", started.0));
            Ok(())
        });
    let bodies = [
        body("0", "USER_INPUT_RECEIVED", r#"{"input":"hello","more":1}"#),
        body("1", "PROFILE_UPDATED", r#"{"profile":{"email":"ada@example.com","age":36}}"#),
        body("2", "DIALOG_STARTED", r#"{"a":1}"#),
        // No handler: nothing to do.
        body("3", "DIALOG_ENDED", "{}"),
    ];
    let (events, _) = run(handlers, |it| it, &bodies).await;
    assert_eq!(states(&events), [State::Processed; 4]);
    let lines = log.0.lock().unwrap().clone();
    assert_eq!(lines, ["Ada said hello", "3 cognigy/1/1", r#"started {"a": 1}"#]);
}

#[tokio::test(start_paused = true)]
async fn a_type_of_ones_own_handles_events_and_the_rest_goes_elsewhere() {
    let others = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&others);
    let log = Log(Mutex::default());
    let handlers = Handlers::with_state(log).on_type(Ends).otherwise(move |cx| {
        assert_eq!(cx.event().kind().as_str(), "DIALOG_STARTED");
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            assert_eq!(cx.state().0.lock().unwrap().as_slice(), ["ended 2"]);
            Ok(())
        }
    });
    let bodies = [body("0", "DIALOG_ENDED", r#"{"a":1,"b":2}"#), body("1", "DIALOG_STARTED", "{}")];
    let (events, _) = run(handlers, |it| it, &bodies).await;
    assert_eq!(states(&events), [State::Processed; 2]);
    assert_eq!(others.load(Ordering::Relaxed), 1);
}

#[tokio::test(start_paused = true)]
async fn a_payload_that_does_not_fit_is_dead_lettered_and_quoted_nowhere() {
    let handlers = Handlers::new()
        .on(|_: UserInput<u32>, _| async { panic!("the payload does not fit") })
        .on(|_: ProfileUpdated, cx| async move {
            // The same holds where a handler reads JSON by itself, and for the contact.
            if cx.event().id() == "1" {
                cx.event().payload::<Vec<u8>>().map(drop)?;
            }
            if cx.event().id() == "2" {
                cx.event().body_as::<Vec<u8>>().map(drop)?;
            }
            cx.contact_as::<u32>().map(drop)?;
            Ok(())
        });
    let marked = r#""my card is 4111 1111""#;
    let update = format!(r#"{{"profile":{{"marked-key":{marked}}}}}"#);
    let bodies = [
        body("0", "USER_INPUT_RECEIVED", &format!(r#"{{"input":{marked}}}"#)),
        body("1", "PROFILE_UPDATED", &update),
        body("2", "PROFILE_UPDATED", &update),
        body("3", "PROFILE_UPDATED", &update),
    ];
    let sink = ScriptedSink::new();
    let (events, store) = run(handlers, |it| it.dead_letters(sink.clone()), &bodies).await;
    assert_eq!(states(&events), [State::DeadLettered; 4]);
    let reasons: Vec<_> = sink.received().iter().map(|it| it.error_message.clone()).collect();
    let form = "does not have the expected form";
    assert_eq!(
        reasons,
        [
            format!("gave up after 1 attempt: the payload {form} (line 1, column 138)"),
            format!("gave up after 1 attempt: the payload {form} (line 1, column 103)"),
            format!("gave up after 1 attempt: the body {form} (line 1, column 0)"),
            format!("gave up after 1 attempt: the contact {form} (line 1, column 0)"),
        ]
    );
    for number in 0..4 {
        let attempts = store.attempts(&sample::key(&number.to_string())).await.unwrap();
        let told = format!("{attempts:?}");
        assert!(!["4111", "marked", "Ada"].iter().any(|part| told.contains(part)), "{told}");
    }
}

#[tokio::test(start_paused = true)]
async fn each_type_has_a_retry_policy_of_its_own_and_hours_pass_in_an_instant() {
    let patient = RetryPolicy { max_attempts: 7, ..RetryPolicy::default() };
    let handlers = Handlers::new()
        .on(|_: UserInput, _| async { Err(Failure::transient("not yet")) })
        .retry(patient)
        .on(|_: DialogStarted, _| async { Err("closed").or_transient("the shop") });
    let pipeline_s = RetryPolicy {
        max_attempts: 2,
        base_delay: Duration::from_secs(3600),
        max_delay: Duration::from_secs(7200),
        ..RetryPolicy::default()
    };
    let bodies =
        [body("0", "USER_INPUT_RECEIVED", r#"{"input":1}"#), body("1", "DIALOG_STARTED", "{}")];
    let began = std::time::Instant::now();
    let (_, store) = run(handlers, |it| it.retry(pipeline_s), &bodies).await;
    // With a clock that does not follow tokio's, the worker would ask for the time over and over.
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    for (id, expected) in [("0", 7), ("1", 2)] {
        let attempts = store.attempts(&sample::key(id)).await.unwrap();
        assert_eq!(attempts.len(), expected, "{id}: {attempts:?}");
    }
    let error = store.attempts(&sample::key("1")).await.unwrap()[0].error.clone();
    assert_eq!(error.as_deref(), Some("the shop: closed"));
}

#[test]
#[should_panic(expected = "two handlers for events of the type DIALOG_ENDED")]
fn two_handlers_for_one_type_are_a_mistake_of_the_program() {
    let _ = Handlers::new()
        .on(|_: DialogEnded, _| async { Ok(()) })
        .on(|_: DialogEnded<Event2>, _| async { Ok(()) });
}

#[derive(Deserialize)]
struct Event2 {}

#[test]
#[should_panic(expected = "`retry` follows the `on`")]
fn a_retry_policy_without_a_type_is_a_mistake_of_the_program() {
    let _ = Handlers::new().otherwise(|_| async { Ok(()) }).retry(RetryPolicy::default());
}

#[test]
fn a_payload_type_can_read_the_whole_body() {
    #[derive(Deserialize)]
    struct Call {
        call_status: String,
    }
    impl EventPayload for Call {
        const TYPE: &'static str = "voice.call.completed";

        fn read(event: &Event) -> Result<Self, cognigy_core::DecodeError> {
            event.body_as()
        }
    }
    let known = sample::incoming(sample::body("e1"));
    let body = Bytes::from(r#"{"call_status":"completed"}"#);
    let event = Event::restore(known.key, known.parts, body, sample::start(), 1);
    assert_eq!(Call::read(&event).unwrap().call_status, "completed");
    assert_eq!(Call::kind().as_str(), "voice.call.completed");
}

/// An event type that the contract does not know, from the HTTP Request node.
#[derive(Deserialize)]
struct OrderPlaced {
    order: u64,
}

impl EventPayload for OrderPlaced {
    const TYPE: &'static str = "ORDER_PLACED";
}

#[test]
fn a_world_has_events_of_other_sources_and_of_types_of_ones_own() {
    let format = FormatPreset::CognigyHttpNode.format(FormatOptions::default()).unwrap();
    let source = Source::new(SourceName::default(), sample::verifier(), format);
    let handlers = Handlers::new().on(|placed: OrderPlaced, _| async move {
        if placed.order == 7 { Ok(()) } else { Err(Failure::permanent("another order")) }
    });
    let mut world = World::of_source(source, handlers);
    let marked = r#"{"order":"4111"}"#;
    for (id, payload) in [
        ("0", r#""payload":{"order":7}"#.to_owned()),
        ("1", r#""data":{"order":7}"#.to_owned()),
        ("2", format!(r#""data":{marked}"#)),
        ("3", format!(r#""payload":{marked}"#)),
    ] {
        let body = format!(
            r#"{{"eventId":"{id}","timestamp":"2026-03-01T12:00:00Z","type":"ORDER_PLACED",{payload}}}"#
        );
        assert_eq!(world.deliver_body(body).status(), 200, "{id}");
    }
    world.pass(Duration::from_secs(10));
    let states: Vec<_> = (0..4).map(|id| world.state(&id.to_string())).collect();
    use State::{DeadLettered, Processed};
    assert_eq!(states, [Processed, Processed, DeadLettered, DeadLettered]);
    for entry in world.dead_letters() {
        assert!(
            entry.error_message.contains("the payload does not have the expected form (line 1")
        );
    }
}

#[test]
fn a_secret_is_only_itself() {
    let secret = sample::secret();
    assert!(secret.is(sample::SECRET.as_bytes()));
    for other in [&b""[..], b"sample", &[sample::SECRET.as_bytes(), b"x"].concat()] {
        assert!(!secret.is(other));
    }
}

#[test]
fn settings_with_which_nothing_could_be_processed_are_refused_by_name() {
    type Set = fn(PipelineBuilder) -> PipelineBuilder;
    let build =
        |and: Set| and(Pipeline::builder(sample::verifier()).store(MemoryStore::new())).build();
    assert!(build(|it| it).is_ok());
    let refused: [(Set, &str); 7] = [
        (|it| it.retry(RetryPolicy { max_attempts: 0, ..RetryPolicy::default() }), "`retry`"),
        (
            |it| {
                let max_delay = Duration::from_secs(1);
                it.retry(RetryPolicy { max_delay, ..RetryPolicy::default() })
            },
            "the `base_delay` of `retry`, 2s, is longer than its `max_delay`, 1s",
        ),
        (
            |it| {
                let max_delay = Duration::from_secs(1);
                it.dead_letter_retry(RetryPolicy { max_delay, ..RetryPolicy::default() })
            },
            "the `base_delay` of `dead_letter_retry`",
        ),
        (|it| it.lease(Duration::ZERO), "`lease` is zero"),
        (|it| it.attempt_timeout(Duration::ZERO), "`attempt_timeout` is zero"),
        (|it| it.max_body_bytes(0), "`max_body_bytes` is 0"),
        (|it| it.max_lost_leases(0), "`max_lost_leases` is 0"),
    ];
    for (and, expected) in refused {
        let error = build(and).err().map(|error: BuildError| error.to_string()).unwrap();
        assert!(error.starts_with(expected), "{error}");
    }
    // An attempt may be longer than a lease, which its worker renews.
    assert!(
        build(|it| it.lease(Duration::from_secs(1)).attempt_timeout(Duration::from_secs(9)))
            .is_ok()
    );
}
