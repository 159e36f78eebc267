//! A pipeline that is paused begins no attempts.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use cognigy_core::{
    Clock, Contact, Event, EventArchive, EventStore, Pipeline, State, TokioClock, Worker,
    memory::MemoryStore, testing::sample,
};

#[tokio::test]
async fn a_paused_pipeline_runs_no_event_until_it_is_resumed() {
    let store = Arc::new(MemoryStore::new());
    let runs = Arc::new(AtomicU32::new(0));
    let counted = Arc::clone(&runs);
    let pipeline = Pipeline::builder(sample::verifier())
        .store(Arc::clone(&store))
        .handler(move |_: Arc<Event>, _: Option<Contact>| {
            counted.fetch_add(1, Ordering::Relaxed);
            std::future::ready(Ok(()))
        })
        .build()
        .unwrap();
    pipeline.pause();
    assert!(pipeline.is_paused());
    let worker = Worker::spawn(pipeline.clone(), TokioClock::new());
    let record = async |id| {
        let event = sample::incoming(sample::body(id));
        store.record(event, TokioClock::new().now()).await.unwrap();
    };
    record("e1").await;
    record("e2").await;
    // Longer than the worker waits before it looks for work by itself.
    tokio::time::sleep(Duration::from_millis(800)).await;
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.of(State::Pending), runs.load(Ordering::Relaxed)), (2, 0));

    pipeline.resume();
    let processed = async |count: u64| {
        for _ in 0..500 {
            if store.counts().await.unwrap().of(State::Processed) == count {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        false
    };
    assert!(processed(2).await, "resuming wakes the worker");
    pipeline.pause();
    record("e3").await;
    tokio::time::sleep(Duration::from_millis(800)).await;
    assert_eq!(store.counts().await.unwrap().of(State::Pending), 1, "paused while it works");
    pipeline.resume();
    assert!(processed(3).await);
    worker.shutdown().await;
}
