//! A world of its own for each test: a store, a CRM, a sink, a clock, and workers on one thread.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

pub mod store;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use cognigy_core::{
    Clock, DeadLetterSource, Failure, ReceivedDeadLetter, RedriveReport, ReplayError,
    ReplayOutcome,
    testing::{ManualClock, sample},
};

pub use cognigy_core::testing::World as Scenario;

/// The outcome of a replay, once it has ended.
pub type Replay = Arc<Mutex<Option<Result<ReplayOutcome, ReplayError>>>>;

/// The report of a redrive, once it has ended.
pub type Redrive = Arc<Mutex<Option<Result<RedriveReport, Failure>>>>;

/// A slow queue, so that an event can fail again before the redrive ends.
struct Unhurried<S> {
    source: S,
    clock: ManualClock,
}

#[async_trait]
impl<S: DeadLetterSource> DeadLetterSource for Unhurried<S> {
    async fn receive(&self, max: usize) -> Result<Vec<ReceivedDeadLetter>, Failure> {
        self.clock.sleep_until(self.clock.now() + Duration::from_millis(100)).await;
        self.source.receive(max).await
    }

    async fn acknowledge(&self, receipts: &[String]) -> Vec<Result<(), Failure>> {
        self.source.acknowledge(receipts).await
    }

    async fn release(&self, receipts: &[String]) -> Vec<Result<(), Failure>> {
        self.source.release(receipts).await
    }

    fn holds_back(&self) -> bool {
        self.source.holds_back()
    }
}

/// What only these tests ask of a world.
pub trait Operations {
    /// Begins a replay; its outcome is there once it has ended.
    fn begin_replay(&self, id: &str) -> Replay;

    /// Begins to take dead letters back, a tenth of a second for each batch; the report is there
    /// once it has ended.
    fn redrive(&self, source: impl DeadLetterSource) -> Redrive;
}

impl Operations for Scenario {
    fn begin_replay(&self, id: &str) -> Replay {
        let (pipeline, clock) = (self.pipeline.clone(), self.clock.clone());
        let key = sample::key(id);
        let outcome = Replay::default();
        let told = Arc::clone(&outcome);
        self.spawn(async move {
            let ended = pipeline.replay(&key, &clock).await;
            *told.lock().unwrap() = Some(ended);
        });
        outcome
    }

    fn redrive(&self, source: impl DeadLetterSource) -> Redrive {
        let (pipeline, clock) = (self.pipeline.clone(), self.clock.clone());
        let source = Unhurried { source, clock: clock.clone() };
        let report = Redrive::default();
        let told = Arc::clone(&report);
        self.spawn(async move {
            let ended = pipeline.redrive(&source, None, &clock, |_| {}).await;
            *told.lock().unwrap() = Some(ended);
        });
        report
    }
}
