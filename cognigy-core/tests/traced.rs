//! The tracer hears of every operation, of where it comes from and how it ended.
#![allow(clippy::unwrap_used)]

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicU8, Ordering},
};

use cognigy_core::{
    DeadLetter, DeadLetterSink, Event, EventArchive, EventId, Failure, Operation, Origin,
    PageRequest, Pipeline, Quarantine, Recording, Scope, Source, Span, SpanEnd, Timestamp,
    TraceParent, Tracer, Worker, WorkerOptions,
    memory::MemoryStore,
    testing::{ManualClock, sample},
};

/// Numbers the spans, and writes a line for each that ends.
#[derive(Clone, Default)]
struct Heard {
    lines: Arc<Mutex<Vec<String>>>,
    count: Arc<AtomicU8>,
}

/// A trace and a span with these numbers.
fn at(trace: u8, span: u8) -> TraceParent {
    TraceParent::new([trace; 16], [span; 8], true).unwrap()
}

fn span_number(it: TraceParent) -> u8 {
    it.span_id()[0]
}

impl Tracer for Heard {
    fn begin(&self, operation: Operation<'_>, origin: Origin, _: Option<Timestamp>) -> Span {
        let number = self.count.fetch_add(1, Ordering::Relaxed) + 1;
        let (span, origin) = match origin {
            Origin::Root => (at(number, number), "a root".to_owned()),
            Origin::Child(parent) => {
                (at(parent.trace_id()[0], number), format!("in {}", span_number(parent)))
            }
            Origin::After(earlier) => {
                (at(number, number), format!("after {:?}", earlier.map(span_number)))
            }
        };
        let name = match operation {
            Operation::Attempt { key, run, number } => format!("attempt {} {run}.{number}", key.id),
            Operation::DeadLetter { key, .. } => format!("dead letter {}", key.id),
            Operation::Delivery { source } => format!("delivery of {source}"),
            other => format!("{other:?}"),
        };
        let what = format!("{number} {name}, {origin}");
        Span::new(span, Some(Box::new(Line { what, lines: Arc::clone(&self.lines) })))
    }
}

struct Line {
    what: String,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Recording for Line {
    fn of_event(&mut self, id: &EventId) {
        self.what.push_str(&format!(", of {id}"));
    }

    fn end(self: Box<Self>, end: SpanEnd, _: Option<Timestamp>) {
        self.lines.lock().unwrap().push(format!("{}: {end:?}", self.what));
    }
}

/// Keeps which spans the dead letters came with.
#[derive(Clone, Default)]
struct Sink(Arc<Mutex<Vec<Option<TraceParent>>>>);

#[async_trait::async_trait]
impl DeadLetterSink for Sink {
    async fn send(&self, batch: &[DeadLetter]) -> Vec<Result<(), Failure>> {
        self.0.lock().unwrap().extend(batch.iter().map(|it| it.context.traceparent()));
        batch.iter().map(|_| Ok(())).collect()
    }
}

#[tokio::test]
async fn each_span_says_where_it_comes_from_and_how_it_ended() {
    let (heard, sink, store) = (Heard::default(), Sink::default(), Arc::new(MemoryStore::new()));
    let clock = ManualClock::new(sample::start());
    let seen = Arc::new(Mutex::new(Vec::new()));
    let handled = Arc::clone(&seen);
    let pipeline = Pipeline::builder(Source::from(sample::verifier()).trust_traceparent(true))
        .store(Arc::clone(&store))
        .handler(move |event: Arc<Event>, _| {
            let scope = Scope::current().unwrap();
            let id = scope.event_id.as_ref().map(ToString::to_string);
            handled.lock().unwrap().push((id, scope.traceparent, event.traceparent()));
            async { Err(Failure::permanent("no")) }
        })
        .tracer(heard.clone())
        .dead_letters(sink.clone())
        .build()
        .unwrap();
    assert_eq!(
        pipeline.ingest(sample::delivery(sample::body("a")), sample::start()).await.status(),
        200
    );
    let (stop, options) = (cognigy_core::Stop::new(), WorkerOptions::default());
    let worker = Worker::new(pipeline, clock).options(options).run(stop.clone());
    let ended = async {
        while sink.0.lock().unwrap().is_empty() {
            tokio::task::yield_now().await;
        }
        stop.stop();
    };
    tokio::join!(worker, ended);
    let expected = [
        r#"2 Commit, in 1: Done("committed")"#,
        r#"1 delivery of cognigy, a root, of a: Done("accepted")"#,
        r#"4 Claim, in 3: Done("claimed")"#,
        r#"5 CrmLookUp, in 3: Done("none")"#,
        r#"6 Handler, in 3: Failed("permanent")"#,
        r#"3 attempt a 1.1, after Some(1): Failed("given_up")"#,
        r#"7 dead letter a, after Some(1): Done("sent")"#,
    ];
    assert_eq!(*heard.lines.lock().unwrap(), expected);
    assert_eq!(*seen.lock().unwrap(), [(Some("a".to_owned()), Some(at(3, 3)), Some(at(3, 6)))]);
    assert_eq!(*sink.0.lock().unwrap(), [Some(at(7, 7))]);
}

#[tokio::test]
async fn an_attempt_that_is_dropped_was_cut_off() {
    let (heard, store) = (Heard::default(), Arc::new(MemoryStore::new()));
    let clock = ManualClock::new(sample::start());
    let pipeline = Pipeline::builder(sample::verifier())
        .store(store)
        .handler(|_, _| std::future::pending())
        .tracer(heard.clone())
        .build()
        .unwrap();
    pipeline.ingest(sample::delivery(sample::body("a")), sample::start()).await;
    let worker = Worker::new(pipeline, clock).run(cognigy_core::Stop::new());
    let begun = async {
        while heard.count.load(Ordering::Relaxed) < 6 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! { _ = worker => {}, () = begun => {} }
    let lines = heard.lines.lock().unwrap().join("\n");
    assert!(lines.contains("6 Handler, in 3: CutOff"), "{lines}");
    assert!(lines.contains("3 attempt a 1.1, after Some(1): CutOff"), "{lines}");
}

#[tokio::test]
async fn what_goes_into_quarantine_again_is_known_whatever_its_trace() {
    let store = Arc::new(MemoryStore::new());
    let pipeline = Pipeline::builder(sample::verifier())
        .store(Arc::clone(&store))
        .tracer(Heard::default())
        .build()
        .unwrap();
    let other = String::from_utf8(sample::body("a").to_vec()).unwrap().replace("hello", "other");
    for body in [&sample::body("a")[..], other.as_bytes(), other.as_bytes(), b"{}", b"{}"] {
        pipeline.ingest(sample::delivery(body.to_vec()), sample::start()).await;
    }
    let page = store.quarantined(PageRequest { limit: 10, after: None }).await.unwrap();
    assert_eq!(page.items.len(), 2, "a conflict and an invalid body: {page:?}");
    let event = store.find(&sample::key("a")).await.unwrap().unwrap().event;
    assert_eq!(event.context().traceparent(), Some(at(1, 1)));
}
