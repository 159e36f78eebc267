//! The dead-letter sink and the queue behind it.

use std::sync::Arc;

use async_trait::async_trait;
use cognigy_core::{DeadLetter, DeadLetterSink, DeadLetterSource, Failure, ReceivedDeadLetter};

use super::panic_quietly;
use crate::{
    body::number, fault::Fault, history::Happened, plan::SECOND, planted::Bug, world::World,
};

/// The slowest answer of a sink that answers.
const SLOWEST: u64 = 15 * SECOND;

/// How long a message that was received stays hidden from others.
const VISIBILITY: u64 = 30 * SECOND;

/// A dead letter in the queue.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    receipt: String,
    body: String,
    visible_at: u64,
}

/// One process's client for the sink.
pub(crate) struct SimSink {
    pub(crate) world: Arc<World>,
    pub(crate) process: usize,
}

impl SimSink {
    fn take(&self, dead_letter: &DeadLetter) {
        let world = &self.world;
        let mut state = world.state();
        state.messages += 1;
        let receipt = state.messages.to_string();
        let body = dead_letter.to_message(false);
        state.queue.push(Message { receipt, body, visible_at: 0 });
        drop(state);
        world.log(
            Some(self.process),
            Happened::SinkTook {
                event: number(&dead_letter.key),
                run: dead_letter.run,
                attempts: dead_letter.attempts,
                reason: dead_letter.error_message.clone(),
                payload: dead_letter.raw_payload.clone(),
            },
        );
    }

    fn refuse(&self, dead_letter: &DeadLetter) {
        let (event, run) = (number(&dead_letter.key), dead_letter.run);
        self.world.log(Some(self.process), Happened::SinkRefused { event, run });
    }

    async fn send_batch(&self, batch: &[DeadLetter]) -> Vec<Result<(), Failure>> {
        let world = &self.world;
        let passing = world.pass(("sink", self.process));
        let about = || format!("{} dead letters", batch.len());
        let strikes = |fault| world.strikes(fault, passing, Some(self.process), &about);
        world.handle.sleep(world.delay(world.plan.settings.sink, passing).min(SLOWEST)).await;

        let refuse_all = |failure: &dyn Fn() -> Failure| -> Vec<Result<(), Failure>> {
            batch.iter().for_each(|dead_letter| self.refuse(dead_letter));
            batch.iter().map(|_| Err(failure())).collect()
        };
        if world.state().sink_back_at > world.handle.now() {
            return refuse_all(&|| Failure::transient("the queue is down"));
        }
        if strikes(Fault::SinkStuck) {
            return std::future::pending().await;
        }
        if strikes(Fault::SinkPanic) {
            panic_quietly("the sink panics");
        }
        if strikes(Fault::SinkPermanent) {
            return refuse_all(&|| Failure::permanent("no such queue"));
        }
        if strikes(Fault::SinkErrorAfter) {
            batch.iter().for_each(|dead_letter| self.take(dead_letter));
            let lost = || Err(Failure::transient("the answer was lost"));
            return batch.iter().map(|_| lost()).collect();
        }
        if strikes(Fault::SinkStuckAfter) {
            batch.iter().for_each(|dead_letter| self.take(dead_letter));
            return std::future::pending().await;
        }
        if strikes(Fault::CrashAfterSink) {
            batch.iter().for_each(|dead_letter| self.take(dead_letter));
            world.doom(self.process);
            return std::future::pending().await;
        }
        let send_one = |dead_letter: &DeadLetter| {
            let passing = world.pass(("sink entry", number(&dead_letter.key), dead_letter.run));
            let about = || format!("the dead letter of event {}", number(&dead_letter.key));
            if world.strikes(Fault::SinkPartial, passing, Some(self.process), &about) {
                self.refuse(dead_letter);
                return Err(Failure::transient("InternalError"));
            }
            self.take(dead_letter);
            Ok(())
        };
        let mut answers: Vec<_> = batch.iter().map(send_one).collect();
        if strikes(Fault::SinkShort) {
            answers.truncate(batch.len() / 2);
        }
        answers
    }
}

#[async_trait]
impl DeadLetterSink for SimSink {
    async fn send(&self, batch: &[DeadLetter]) -> Vec<Result<(), Failure>> {
        let answers = self.send_batch(batch).await;
        if self.world.has(Bug::SinkFailureSwallowed) {
            return batch.iter().map(|_| Ok(())).collect();
        }
        answers
    }
}

/// The queue, as a redrive sees it.
pub(crate) struct SimQueue {
    pub(crate) world: Arc<World>,
    pub(crate) process: usize,
}

#[async_trait]
impl DeadLetterSource for SimQueue {
    async fn receive(&self, max: usize) -> Result<Vec<ReceivedDeadLetter>, Failure> {
        let world = &self.world;
        let passing = world.pass(("receive", self.process));
        world.handle.sleep(world.delay(world.plan.settings.sink, passing).min(SLOWEST)).await;
        let about = String::new;
        if world.strikes(Fault::QueueReceive, passing, Some(self.process), &about) {
            return Err(Failure::transient("the queue is down"));
        }
        let now = world.handle.now();
        let mut state = world.state();
        let visible = state.queue.iter_mut().filter(|message| message.visible_at <= now).take(max);
        Ok(visible
            .map(|message| {
                message.visible_at = now + VISIBILITY;
                let (body, receipt) = (message.body.clone(), message.receipt.clone());
                ReceivedDeadLetter { id: receipt.clone(), body, receipt }
            })
            .collect())
    }

    async fn acknowledge(&self, receipts: &[String]) -> Vec<Result<(), Failure>> {
        let world = &self.world;
        let delete = |receipt: &String| {
            let passing = world.pass(("delete", receipt));
            let about = || format!("message {receipt}");
            if world.strikes(Fault::QueueDelete, passing, Some(self.process), &about) {
                return Err(Failure::transient("not deleted"));
            }
            world.state().queue.retain(|message| message.receipt != *receipt);
            Ok(())
        };
        receipts.iter().map(delete).collect()
    }
}
