//! A lease that is lost in the middle of a transaction.

use std::sync::Arc;

use async_trait::async_trait;
use cognigy_core::{Contact, Event, EventStore, RunEnd, Settled, State, TokioClock, Worker};
use cognigy_store_postgres::{
    PostgresStore, Rollback, Transaction, TransactionOptions, TransactionalHandler,
};
use tokio::sync::Semaphore;

use crate::{
    balance::Transfers,
    bank::{Bank, Ear, few_at_once, pipeline},
    common::{self, claim_one, event, eventually, now, settle},
    kills::child,
    wire::{Blow, Moment, Wire, send_signal},
};

/// Does its work, then waits at a gate.
pub(crate) struct Gated {
    pub(crate) arrived: Arc<Semaphore>,
    pub(crate) gate: Arc<Semaphore>,
}

impl Gated {
    pub(crate) fn new() -> (Self, Arc<Semaphore>, Arc<Semaphore>) {
        let (arrived, gate) = (Arc::new(Semaphore::new(0)), Arc::new(Semaphore::new(0)));
        (Self { arrived: Arc::clone(&arrived), gate: Arc::clone(&gate) }, arrived, gate)
    }
}

#[async_trait]
impl TransactionalHandler for Gated {
    async fn handle(
        &self,
        transaction: &mut Transaction<'_>,
        event: Arc<Event>,
        contact: Option<Contact>,
    ) -> Result<(), Rollback> {
        Transfers.handle(transaction, event, contact).await?;
        self.arrived.add_permits(1);
        self.gate.acquire().await.unwrap().forget();
        Ok(())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_done_under_a_lease_that_somebody_else_has_is_undone() {
    let bank = Bank::open().await;
    bank.order("e1").await;
    let (gated, arrived, gate) = Gated::new();
    let ear = Ear::default();
    let handler = bank.store.transactional(gated).unwrap();
    let pipeline = pipeline(&bank.store, |it| it.settling_handler(handler).observer(ear.clone()));
    // The worker holds its full number of claims, so that it does not claim the event itself.
    let worker = Worker::spawn_with(pipeline, TokioClock::new(), few_at_once(1));
    arrived.acquire().await.unwrap().forget();
    bank.end_leases();
    let taken_over = claim_one(&bank.store).await;
    assert_eq!(taken_over.attempt, 2);
    gate.add_permits(1);
    eventually("it is told", async || (ear.heard() == ["lease_lost"]).then_some(())).await;
    assert_eq!(bank.moved(), 0, "nothing of it stands");
    bank.books_are_right();
    // The other worker releases the event, and it is processed after all.
    let verdict = RunEnd::Release;
    assert_eq!(settle(&bank.store, common::ended(taken_over, verdict)).await, Settled::Done);
    gate.add_permits(1);
    bank.at_rest().await;
    worker.shutdown().await;
    assert_eq!(bank.moved(), 1);
}

/// A waiting transaction delays neither renewals nor the store's other calls, however many attempts
/// wait for the same connection.
#[tokio::test(flavor = "multi_thread")]
async fn attempts_that_wait_for_a_connection_starve_nobody() {
    let bank = Bank::open().await;
    for number in 0..40 {
        bank.order(&format!("e{number}")).await;
    }
    let (gated, arrived, gate) = Gated::new();
    let options = TransactionOptions { connections: 2, ..TransactionOptions::default() };
    let handler = bank.store.transactional_with(gated, options).unwrap();
    let pipeline = bank.pipeline(handler);
    let worker = Worker::spawn_with(pipeline, TokioClock::new(), few_at_once(40));
    arrived.acquire().await.unwrap().forget();
    let held = "SELECT count(*) FROM cognigy_queue WHERE held_until IS NOT NULL";
    assert_eq!(bank.place.sql(held), "40", "all are claimed, and one is in its transaction");
    bank.store.record(event("other"), now()).await.unwrap();
    let other = claim_one(&bank.store).await;
    let tokens: Vec<_> = [other.claim.token()].into();
    assert_eq!(bank.store.renew(&tokens, common::LEASE, now()).await.unwrap(), [Settled::Done]);
    assert_eq!(settle(&bank.store, common::processed(other)).await, Settled::Done);
    gate.add_permits(100);
    bank.at_rest().await;
    worker.shutdown().await;
    assert_eq!(bank.moved(), 40);
    let failed = "SELECT count(*) FROM cognigy_attempts WHERE outcome <> 'succeeded'";
    assert_eq!(bank.place.sql(failed), "0", "no attempt gave up waiting");
    let open = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()
                AND application_name = 'cognigy'";
    assert!(bank.place.sql(open).parse::<u32>().unwrap() <= 8 + 2);
}

/// A process that is stopped in the middle of its transaction, past its lease, and goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_slept_through_its_lease_moves_nothing_when_it_wakes() {
    let bank = Bank::open().await;
    let wire = Wire::start(bank.place.cluster.port()).await;
    let mut moments = 0;
    for number in 1.. {
        let id = format!("e{number}");
        bank.order(&id).await;
        let mut sleeper = child(&wire.url(&bank.place.database), "exact");
        wire.strike(Moment::Answer(number), Blow::Signal(sleeper.id(), "STOP"));
        eventually("it sleeps, or has done its work", async || {
            let is_done = bank.place.sql("SELECT count(*) FROM cognigy_queue") == "0";
            (wire.struck().is_some() || is_done).then_some(())
        })
        .await;
        let words = wire.struck();
        if words.is_some() {
            moments += 1;
            // Its transaction is idle until the server ends it.
            bank.quiet().await;
            bank.end_leases();
            bank.finish().await;
            send_signal(sleeper.id(), "CONT");
            // The process goes on working, so it has recovered from the pause.
            bank.order(&format!("{id}-after")).await;
            bank.at_rest().await;
            assert_eq!(bank.state(&id).await, State::Processed);
        }
        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        bank.books_are_right();
        if words.is_none_or(|words| words == "after COMMIT") {
            break;
        }
    }
    assert!(moments >= 5, "it slept at {moments} moments");
}

/// A second store on the same cluster, whose ids are the same numbers.
#[tokio::test]
async fn a_handler_of_another_database_completes_nothing_there() {
    let (bank, other) = (Bank::open().await, Bank::open().await);
    bank.order("ours").await;
    other.order("theirs").await;
    let theirs = claim_one(&other.store).await;
    // Both stores draw the same fences, so that only the event's identity tells them apart.
    let handler = other.store.transactional(Transfers).unwrap();
    let ours: &PostgresStore = &bank.store;
    bank.finish_with(pipeline(ours, |it| it.settling_handler(handler))).await;
    assert_eq!(bank.state("ours").await, State::DeadLettered);
    let error = bank.attempts("ours").await[0].error.clone().unwrap();
    assert_eq!(error, "the event is not in the database of the transaction");
    assert_eq!((bank.moved(), other.moved()), (0, 0));
    assert_eq!(settle(&other.store, common::processed(theirs)).await, Settled::Done);
}
