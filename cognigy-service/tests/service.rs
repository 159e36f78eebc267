//! A whole service: it runs events, forgets what is too old, and says how it is.
#![allow(clippy::unwrap_used)]

use std::{
    convert::Infallible,
    future::Future,
    pin::Pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use cognigy_core::{
    Clock, CognigyFormat, Contact, Event, EventArchive, EventFormat, Failure, InvalidEvent,
    Pipeline, ReadEvent, Source, State, Timestamp, TokioClock, VerifiedDelivery,
    memory::MemoryStore, testing::sample,
};
use cognigy_core::{RetryPolicy, Secret, SignatureScheme, sign};
use cognigy_service::{Happening, Head, Service, ServiceObserver, StartError};

/// The contract's events, as of a sender that asks that they be logged nowhere.
struct Sensitive;

impl EventFormat for Sensitive {
    fn read(&self, delivery: &VerifiedDelivery) -> Result<Vec<ReadEvent>, InvalidEvent> {
        let mut events = CognigyFormat.read(delivery)?;
        events.iter_mut().for_each(|event| event.parts.sensitive = true);
        Ok(events)
    }
}

/// Happenings by name.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Vec<String>>>);

impl ServiceObserver for Told {
    fn happened(&self, happening: &Happening<'_>) {
        let told = match happening {
            Happening::Forgot { purged } => format!("forgot {}", purged.total_events()),
            Happening::WorkerEnded { source } => format!("the worker of {source} ended"),
            Happening::ForgotSensitive { count: 1.. } => "forgot a sensitive body".to_owned(),
            _ => return,
        };
        self.0.lock().unwrap().push(told);
    }
}

/// Fails the events of contact `c-dead`.
async fn handle(event: Arc<Event>, _: Option<Contact>) -> Result<(), Failure> {
    match event.contact_key() {
        Some("c-dead") => Err(Failure::permanent("it is dead")),
        _ => Ok(()),
    }
}

fn pipeline(store: &Arc<MemoryStore>, source: impl Into<Source>) -> Pipeline {
    let retry = RetryPolicy { max_attempts: 1, ..RetryPolicy::default() };
    Pipeline::builder(source).store(Arc::clone(store)).handler(handle).retry(retry).build().unwrap()
}

async fn deliver(service: &Service, id: &str) -> u16 {
    let body = sample::body(id);
    let secret = Secret::new(sample::SECRET).unwrap();
    let signature = sign(&secret, SignatureScheme::Base64, &body);
    let chunks = futures_util::stream::iter([Ok::<Bytes, Infallible>(body)]);
    let head = Head::new([("X-Cognigy-Signature", signature.as_str())]);
    service.receive(head, chunks).await.status()
}

async fn state(store: &Arc<MemoryStore>, id: &str) -> Option<State> {
    store.find(&sample::key(id)).await.unwrap().map(|stored| stored.state)
}

/// Waits until `holds`, in tokio's time.
async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..3000 {
        if holds().await {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("it never happened: {what}");
}

#[tokio::test]
async fn events_are_run_and_forgotten_and_dead_letters_stay_until_told_otherwise() {
    let short = Duration::from_millis(500);
    for (dead_letters, left) in [(None, Some(State::DeadLettered)), (Some(short), None)] {
        let (store, told) = (Arc::new(MemoryStore::new()), Told::default());
        let mut builder = Service::builder(pipeline(&store, sample::verifier()))
            .retention(short)
            .observer(told.clone());
        if let Some(retention) = dead_letters {
            builder = builder.dead_letter_retention(retention);
        }
        let service = builder.start().await.unwrap();
        assert_eq!([deliver(&service, "done").await, deliver(&service, "dead").await], [200, 200]);
        until("both have ended", async || {
            state(&store, "done").await == Some(State::Processed)
                && state(&store, "dead").await == Some(State::DeadLettered)
        })
        .await;
        // The next purge comes ten minutes later. The service's clock goes on meanwhile as ever.
        tokio::time::sleep(short).await;
        tokio::time::pause();
        tokio::time::sleep(Duration::from_secs(601)).await;
        assert_eq!((state(&store, "done").await, state(&store, "dead").await), (None, left));
        assert!(told.0.lock().unwrap()[0].starts_with("forgot "), "{told:?}", told = told.0);
        tokio::time::resume();
        service.shutdown().await;
    }
}

#[tokio::test]
async fn by_default_processed_events_stay_for_a_month_and_sensitive_bodies_go_at_once() {
    let (store, told) = (Arc::new(MemoryStore::new()), Told::default());
    let source = Source::new("cognigy".parse().unwrap(), sample::verifier(), Sensitive);
    let service = Service::builder(pipeline(&store, source)).observer(told.clone());
    let service = service.start().await.unwrap();
    assert_eq!(deliver(&service, "secret").await, 200);
    until("its body is forgotten", async || {
        told.0.lock().unwrap().contains(&"forgot a sensitive body".to_owned())
    })
    .await;
    tokio::time::pause();
    tokio::time::sleep(Duration::from_secs(1300)).await;
    tokio::time::resume();
    let stored = store.find(&sample::key("secret")).await.unwrap().unwrap();
    assert_eq!((stored.state, stored.event.body().len()), (State::Processed, 0));
    service.shutdown().await;
}

/// The clock of the machine, until it breaks: then the worker that waits by it ends.
struct Fragile(TokioClock, Arc<AtomicBool>);

impl Clock for Fragile {
    fn now(&self) -> Timestamp {
        self.0.now()
    }

    fn sleep_until(&self, deadline: Timestamp) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        assert!(!self.1.load(Ordering::Relaxed), "broken");
        self.0.sleep_until(deadline)
    }
}

#[tokio::test]
async fn a_worker_that_has_ended_is_noticed_and_deliveries_are_still_stored() {
    let (store, told, broken) = (Arc::new(MemoryStore::new()), Told::default(), Arc::default());
    let service = Service::builder(pipeline(&store, sample::verifier()))
        .clock(Fragile(TokioClock::new(), Arc::clone(&broken)))
        .observer(told.clone())
        .start()
        .await
        .unwrap();
    let health = service.health().await;
    assert!(health.is_ready() && health.is_alive() && service.liveness().status() == 200);

    broken.store(true, Ordering::Relaxed);
    until("it is noticed", async || !service.health().await.is_alive()).await;
    until("the observer is told", async || !told.0.lock().unwrap().is_empty()).await;
    let health = service.health().await;
    assert_eq!(health.ended_workers, ["cognigy".parse().unwrap()]);
    assert_eq!(service.liveness().status(), 503);
    let detail = String::from_utf8(service.liveness().body().to_vec()).unwrap();
    assert!(detail.contains("cognigy") && detail.contains("Restart"), "{detail}");
    assert!(health.is_ready(), "events can be taken");
    assert_eq!(deliver(&service, "e1").await, 200);
    assert_eq!(*told.0.lock().unwrap(), ["the worker of cognigy ended"], "once");
    service.shutdown().await;
}

#[tokio::test]
async fn a_service_that_stops_is_not_ready_and_ends_what_is_in_flight() {
    let store = Arc::new(MemoryStore::new());
    let ended = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&ended);
    let pipeline = Pipeline::builder(sample::verifier())
        .store(Arc::clone(&store))
        .handler(move |_: Arc<Event>, _: Option<Contact>| {
            let count = Arc::clone(&count);
            async move {
                tokio::time::sleep(Duration::from_millis(200)).await;
                count.fetch_add(1, Ordering::Relaxed);
                Ok(())
            }
        })
        .build()
        .unwrap();
    let service = Service::builder(pipeline).start().await.unwrap();
    assert_eq!(deliver(&service, "e1").await, 200);
    until("it runs", async || state(&store, "e1").await == Some(State::Processing)).await;
    service.announce_stop();
    assert_eq!(service.readiness().await.status(), 503);
    assert!(service.health().await.is_stopping);
    service.shutdown().await;
    assert_eq!(ended.load(Ordering::Relaxed), 1);
    assert_eq!(state(&store, "e1").await, Some(State::Processed));
    assert!(service.health().await.is_alive(), "its worker was asked to end");
    assert_eq!(deliver(&service, "e2").await, 200, "what still comes is stored");
    assert_eq!(state(&store, "e2").await, Some(State::Pending));
    service.shutdown().await;
}

#[tokio::test]
async fn each_source_has_a_receiver_and_a_worker_and_no_name_comes_twice() {
    let store = Arc::new(MemoryStore::new());
    let shop = Source::new("shop".parse().unwrap(), sample::verifier(), CognigyFormat);
    let service = Service::builder(pipeline(&store, sample::verifier()))
        .pipeline(pipeline(&store, shop))
        .start()
        .await
        .unwrap();
    assert_eq!(format!("{service:?}"), r#"Service { sources: ["cognigy", "shop"] }"#);
    let receiver = service.receiver(&"shop".parse().unwrap()).unwrap();
    assert_eq!(receiver.pipeline().source().name().as_str(), "shop");
    assert!(service.receiver(&"other".parse().unwrap()).is_none());
    service.shutdown().await;

    let twice = Service::builder(pipeline(&store, sample::verifier()));
    let twice = twice.pipeline(pipeline(&store, sample::verifier())).start().await;
    assert!(matches!(twice, Err(StartError::SameSource(name)) if name.is_default()));
    let none =
        Service::builder(pipeline(&store, sample::verifier())).max_in_flight(0).start().await;
    assert!(matches!(none, Err(StartError::NoDeliveries)));
}

#[tokio::test]
async fn without_workers_events_are_only_taken_in() {
    let store = Arc::new(MemoryStore::new());
    let service = Service::builder(pipeline(&store, sample::verifier())).without_workers();
    let service = service.start().await.unwrap();
    assert_eq!(deliver(&service, "e1").await, 200);
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(state(&store, "e1").await, Some(State::Pending));
    assert!(service.health().await.is_alive());
    service.shutdown().await;
}
