//! A worker as a task of a tokio runtime, with the machine's clock.

#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{sync::Arc, time::Duration};

use cognigy_core::{
    Clock, Contact, Event, EventArchive, Pipeline, State, TokioClock, Worker, memory::MemoryStore,
    testing::sample,
};
use tokio::sync::Notify;

#[tokio::test]
async fn a_shutdown_waits_for_what_was_begun_and_begins_nothing_more() {
    let store = Arc::new(MemoryStore::new());
    let begun = Arc::new(Notify::new());
    let (begins, clock) = (Arc::clone(&begun), TokioClock::new());
    let pipeline = Pipeline::builder(sample::verifier())
        .store(Arc::clone(&store))
        .handler(move |_: Arc<Event>, _: Option<Contact>| {
            begins.notify_one();
            async move {
                clock.sleep_until(clock.now() + Duration::from_millis(50)).await;
                Ok(())
            }
        })
        .build()
        .unwrap();
    let worker = Worker::spawn(pipeline.clone(), clock);
    let deliver = async |id| {
        pipeline.ingest(sample::delivery(sample::body(id)), clock.now()).await;
    };
    let state = async |id| store.find(&sample::key(id)).await.unwrap().unwrap().state;

    deliver("a").await;
    begun.notified().await;
    assert_eq!(state("a").await, State::Processing);
    worker.shutdown().await;
    assert_eq!(state("a").await, State::Processed);
    deliver("b").await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert_eq!(state("b").await, State::Pending, "no worker runs any more");
}
