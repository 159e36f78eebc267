//! A future may be dropped at any `await`: an attempt's alone, or the whole worker's.

use std::{
    future::{Future, poll_fn},
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::Poll,
    time::Duration,
};

use async_trait::async_trait;
use cognigy_core::{
    Completion, Contact, Event, Failure, ReplayOutcome, Settled, SettlingHandler, State, Stop,
    TokioClock, Worker,
};

use crate::{
    bank::{Bank, pipeline},
    common::key,
};

/// Polls `future` at most `polls` times, then drops it.
async fn poll_at_most<T>(polls: usize, future: impl Future<Output = T>) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|context| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        match future.as_mut().poll(context) {
            Poll::Ready(output) => Poll::Ready(Some(output)),
            Poll::Pending if left == 0 => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// Drops its attempts after so many polls.
struct Dropped<H> {
    inner: H,
    polls: usize,
}

#[async_trait]
impl<H: SettlingHandler> SettlingHandler for Dropped<H> {
    async fn handle(
        &self,
        event: Arc<Event>,
        contact: Option<Contact>,
        completion: Completion<'_>,
    ) -> Result<Settled, Failure> {
        let attempt = self.inner.handle(event, contact, completion);
        poll_at_most(self.polls, attempt)
            .await
            .unwrap_or_else(|| Err(Failure::transient("dropped")))
    }
}

#[tokio::test]
async fn an_attempt_may_be_dropped_at_every_await() {
    let bank = Bank::open().await;
    bank.order("e1").await;
    bank.finish().await;
    let clock = TokioClock::new();
    let (mut runs, mut dropped) = (1, 0);
    for polls in 1.. {
        assert!(polls < 500, "it comes to an end");
        // Sessions are kept from one attempt to the next: none may return to the pool inside a
        // transaction.
        let pipeline = bank.pipeline(Dropped { inner: bank.transfers(), polls });
        let outcome = pipeline.replay(&key("e1"), &clock).await.unwrap();
        bank.quiet().await;
        bank.books_are_right();
        match outcome {
            ReplayOutcome::Failed(_) => dropped += 1,
            // The attempt was dropped during its commit, and the commit took effect.
            ReplayOutcome::Busy => runs += 1,
            ReplayOutcome::Replayed(_) => {
                runs += 1;
                break;
            }
            ReplayOutcome::NotFound | ReplayOutcome::Forgotten | ReplayOutcome::Stopped => {
                unreachable!()
            }
        }
    }
    println!("dropped {dropped} times before anything had moved; moved {runs} times");
    assert!(dropped >= 8, "it was dropped {dropped} times");
    assert_eq!(bank.moved(), runs);
    bank.finish().await;
    assert_eq!(bank.state("e1").await, State::Processed);
    bank.books_are_right();
}

/// One pool for all attempts, of a single connection: the next attempt finds what an earlier one
/// left behind.
#[tokio::test]
async fn a_session_never_comes_back_inside_a_transaction() {
    let bank = Bank::open().await;
    let options = cognigy_store_postgres::TransactionOptions {
        connections: 1,
        ..cognigy_store_postgres::TransactionOptions::default()
    };
    let handler = bank.store.transactional_with(crate::balance::Transfers, options).unwrap();
    let handler = Arc::new(handler);
    let clock = TokioClock::new();
    for polls in 1..30 {
        let id = format!("e{polls}");
        bank.order(&id).await;
        let dropped = Dropped { inner: Shared(Arc::clone(&handler)), polls };
        let outcome = bank.pipeline(dropped).replay(&key(&id), &clock).await.unwrap();
        let whole = bank.pipeline(Shared(Arc::clone(&handler)));
        let moved = bank.moved();
        let again = whole.replay(&key(&id), &clock).await.unwrap();
        assert!(matches!(again, ReplayOutcome::Replayed(_)), "{polls}: {outcome:?}, {again:?}");
        assert_eq!(bank.moved(), moved + 1);
        bank.books_are_right();
    }
}

struct Shared<H>(Arc<H>);

#[async_trait]
impl<H: SettlingHandler> SettlingHandler for Shared<H> {
    async fn handle(
        &self,
        event: Arc<Event>,
        contact: Option<Contact>,
        completion: Completion<'_>,
    ) -> Result<Settled, Failure> {
        self.0.handle(event, contact, completion).await
    }
}

/// Tells when an attempt has ended.
struct Telling<H>(H, Arc<AtomicBool>);

#[async_trait]
impl<H: SettlingHandler> SettlingHandler for Telling<H> {
    async fn handle(
        &self,
        event: Arc<Event>,
        contact: Option<Contact>,
        completion: Completion<'_>,
    ) -> Result<Settled, Failure> {
        let settled = self.0.handle(event, contact, completion).await;
        self.1.store(true, Ordering::SeqCst);
        settled
    }
}

#[tokio::test]
async fn a_worker_may_be_dropped_at_every_await() {
    let bank = Bank::open().await;
    let mut survived = 0;
    for polls in 1.. {
        assert!(polls < 500, "it comes to an end");
        let id = format!("e{polls}");
        bank.order(&id).await;
        let has_ended = Arc::new(AtomicBool::new(false));
        let handler = Telling(bank.transfers(), Arc::clone(&has_ended));
        // A claim that was on its way when its future was dropped may still be granted, and no
        // worker then holds it.
        let lease = Duration::from_secs(1);
        let pipeline = pipeline(&bank.store, |it| it.settling_handler(handler).lease(lease));
        let worker = Worker::new(pipeline, TokioClock::new());
        assert!(poll_at_most(polls, worker.run(Stop::new())).await.is_none(), "it does not stop");
        bank.quiet().await;
        bank.books_are_right();
        let moved = bank.moved();
        bank.end_leases();
        bank.finish().await;
        bank.books_are_right();
        assert_eq!(bank.moved(), polls, "all have moved by now");
        survived += usize::from(moved == polls);
        if has_ended.load(Ordering::SeqCst) {
            println!("dropped after 1 to {polls} polls; {survived} transfers stood by then");
            break;
        }
    }
    assert!(survived >= 1, "the last one had done its work");
}
