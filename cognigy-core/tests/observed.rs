//! The observer hears the whole journey of an event.
#![allow(clippy::unwrap_used)]

use std::sync::{Arc, Mutex};

use cognigy_core::{
    EventArchive, Failure, GaveUp, Intake, Observation, Observer, Pipeline, RawDelivery,
    RetryPolicy, Stage, State, Worker, WorkerOptions,
    memory::MemoryStore,
    testing::{ManualClock, sample},
};

/// What was heard, a line each.
#[derive(Clone, Default)]
struct Heard(Arc<Mutex<Vec<String>>>);

impl Observer for Heard {
    fn observe(&self, observation: &Observation<'_>) {
        let line = match observation {
            Observation::Delivery { intake, peer, .. } => {
                format!("delivery {} from {peer:?}", intake.as_str())
            }
            Observation::AttemptBegun { key, run, number } => {
                format!("{} {run}.{number} begins", key.id)
            }
            Observation::Attempt { key, outcome, stage, gave_up, .. } => {
                let why = gave_up.map(GaveUp::as_str).unwrap_or_default();
                let stage = stage.map(Stage::as_str).unwrap_or_default();
                format!("{} {} at the {stage}, given up: {why}", key.id, outcome.as_str())
            }
            Observation::DeadLetterKept { key } => format!("{} kept", key.id),
            Observation::Replay { key, outcome } => format!("{} replay {outcome}", key.id),
            _ => return,
        };
        self.0.lock().unwrap().push(line);
    }
}

#[tokio::test]
async fn every_step_from_the_delivery_to_the_replay_is_told_in_order() {
    let (heard, store) = (Heard::default(), Arc::new(MemoryStore::new()));
    let clock = ManualClock::new(sample::start());
    let pipeline = Pipeline::builder(sample::verifier())
        .store(Arc::clone(&store))
        .handler(|_, _| async { Err(Failure::permanent("no")) })
        .retry(RetryPolicy::default())
        .observer(heard.clone())
        .build()
        .unwrap();
    let peer = "192.0.2.7".parse().unwrap();
    let delivery = sample::delivery(sample::body("a")).peer(peer);
    assert_eq!(pipeline.ingest(delivery, sample::start()).await.status(), 200);
    let forged = RawDelivery::new([("X-Cognigy-Signature", "AAAA")], sample::body("a"));
    pipeline.ingest(forged, sample::start()).await;
    // What a server refuses by itself it tells itself.
    pipeline.observe_delivery(&Intake::TimedOut, None, None);

    let (stop, options) = (cognigy_core::Stop::new(), WorkerOptions::default());
    let worker = Worker::new(pipeline.clone(), clock.clone()).options(options).run(stop.clone());
    let ended = async {
        while store.counts().await.unwrap().of(State::DeadLettered) == 0 {
            tokio::task::yield_now().await;
        }
        stop.stop();
    };
    tokio::join!(worker, ended);
    pipeline.replay(&sample::key("a"), &clock).await.unwrap();
    pipeline.replay(&sample::key("unknown"), &clock).await.unwrap();
    let expected = [
        "delivery accepted from Some(192.0.2.7)",
        "delivery unsigned from None",
        "delivery timed_out from None",
        "a 1.1 begins",
        "a failed_permanent at the handler, given up: permanent",
        "a kept",
        "a 2.1 begins",
        "a failed_permanent at the handler, given up: replay",
        "a replay failed",
        "unknown replay not_found",
    ];
    assert_eq!(*heard.0.lock().unwrap(), expected);
}

#[test]
fn every_outcome_of_a_delivery_has_its_name_in_the_list() {
    for intake in [Intake::Encoded, Intake::TooLarge, Intake::Closed, Intake::HeadersTooLarge] {
        assert!(Intake::NAMES.contains(&intake.as_str()));
    }
}
