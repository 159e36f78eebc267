//! The handler in a pipeline: what stays the same over attempts and replays, and that a receiver which
//! looks at the id handles each event once.
#![allow(clippy::unwrap_used)]

mod common;

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use cognigy_core::{
    Clock, EventArchive, Jitter, Pipeline, ReplayOutcome, RetryPolicy, State, TokioClock, Worker,
    memory::MemoryStore,
    testing::{CrmAnswer, ScriptedCrm, sample},
};
use serde_json::json;

use common::{
    assert_signed, handler, read,
    stand_in::{Act, StandIn, answer},
};

/// Short waits, and more attempts than bad luck uses up.
const PATIENT: RetryPolicy = RetryPolicy {
    max_attempts: 50,
    base_delay: Duration::from_millis(1),
    max_delay: Duration::from_millis(20),
    jitter: Jitter::Equal,
};

/// Waits until all events are finished, and says how many there are of each state.
async fn finished(store: &MemoryStore) -> BTreeMap<State, u64> {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let counts = store.counts().await.unwrap().by_state;
        if counts.iter().all(|(state, count)| state.is_final() || *count == 0) {
            return counts.into_iter().filter(|(_, count)| *count > 0).collect();
        }
        assert!(Instant::now() < deadline, "{counts:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test]
async fn attempts_of_a_run_have_one_id_and_a_replay_has_another() {
    let server = StandIn::start(|n, _| match n {
        0 => Act::Say(answer("503 x", "", "")),
        1 => Act::Reset,
        _ => Act::Say(answer("200 OK", "", "")),
    })
    .await;
    let (store, clock) = (Arc::new(MemoryStore::new()), TokioClock::new());
    let crm = ScriptedCrm::answering(CrmAnswer::Found("{\"id\": 7.50}".to_owned()));
    let pipeline = Pipeline::builder(sample::verifier())
        .store(Arc::clone(&store))
        .crm(crm.clone())
        .handler(handler(&server))
        .retry(PATIENT)
        .build()
        .unwrap();
    let worker = Worker::spawn(pipeline.clone(), clock);
    pipeline.ingest(sample::delivery(sample::body("e")), clock.now()).await;
    assert_eq!(finished(&store).await, BTreeMap::from([(State::Processed, 1)]));
    crm.set_default(CrmAnswer::Nobody);
    let outcome = pipeline.replay(&sample::key("e"), &clock).await.unwrap();
    assert!(matches!(outcome, ReplayOutcome::Replayed(None)), "{outcome:?}");
    worker.shutdown().await;

    let seen = server.seen();
    let told: Vec<_> = seen
        .iter()
        .map(|seen| {
            assert_signed(seen);
            let data = &read(seen)["data"];
            json!([data["run"], data["attempt"], data["correlation"], data["contact"]])
        })
        .collect();
    let matched = |attempt| json!([1, attempt, "matched", { "id": 7.5 }]);
    assert_eq!(told, [matched(1), matched(2), matched(3), json!([2, 1, "none", null])]);
    let ids: Vec<_> = seen.iter().map(|seen| seen.header("webhook-id")).collect();
    assert!(ids[0] == ids[1] && ids[1] == ids[2] && ids[2] != ids[3], "{ids:?}");
}

/// What the receiver has done, and the ids that it knows.
#[derive(Default)]
struct Handled {
    ids: HashSet<String>,
    events: Vec<String>,
    repeated: usize,
}

/// The receiver fails one request in ten before it handles the message, and loses one answer in twenty after
/// that.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_receiver_that_looks_at_the_id_handles_each_of_ten_thousand_events_once() {
    const EVENTS: usize = 10_000;
    let handled = Arc::new(Mutex::new(Handled::default()));
    let (receiver, random) = (Arc::clone(&handled), Mutex::new(fastrand::Rng::with_seed(17)));
    let server = StandIn::start(move |_, seen| {
        let fate = random.lock().unwrap().u32(0..100);
        match fate {
            0..5 => return Act::Say(answer("500 x", "", "")),
            5..10 => return Act::Reset,
            _ => {}
        }
        let mut handled = receiver.lock().unwrap();
        if handled.ids.insert(seen.header("webhook-id").unwrap().to_owned()) {
            handled.events.push(read(seen)["data"]["event_id"].as_str().unwrap().to_owned());
        } else {
            handled.repeated += 1;
        }
        if fate < 15 { Act::Reset } else { Act::Say(answer("204 No Content", "", "")) }
    })
    .await;

    let (store, clock) = (Arc::new(MemoryStore::new()), TokioClock::new());
    let pipeline = Pipeline::builder(sample::verifier())
        .store(Arc::clone(&store))
        .handler(handler(&server))
        .retry(PATIENT)
        .build()
        .unwrap();
    let worker = Worker::spawn(pipeline.clone(), clock);
    for n in 0..EVENTS {
        let delivery = sample::delivery(sample::body(&format!("evt.{n}")));
        assert_eq!(pipeline.ingest(delivery, clock.now()).await.status(), 200);
    }
    assert_eq!(finished(&store).await, BTreeMap::from([(State::Processed, EVENTS as u64)]));
    worker.shutdown().await;

    let handled = handled.lock().unwrap();
    let different: HashSet<_> = handled.events.iter().collect();
    assert_eq!((handled.events.len(), different.len()), (EVENTS, EVENTS));
    assert!(handled.repeated > EVENTS / 50, "{} came again", handled.repeated);
}
