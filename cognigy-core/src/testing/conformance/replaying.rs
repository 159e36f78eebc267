//! The contract of `replay` and `requeue`.

use super::{
    LEASE, at, claim, claim_one, give_up, process, processed, record, sample, settle, state_of,
};
use crate::{
    event::State,
    store::{
        AttemptOutcome, ClaimedRun, DeadLetterEnd, ReplayClaim, Requeued, RunEnd, Settled, Store,
    },
};

async fn replay(store: &dyn Store, id: &str, seconds: i64) -> ClaimedRun {
    match store.replay(&sample::key(id), LEASE, at(seconds)).await.unwrap() {
        ReplayClaim::Claimed(work) => *work,
        other => panic!("{other:?}"),
    }
}

/// A replay begins the next run, at attempt 1, with the stored bytes.
pub async fn a_replay_is_a_run_of_its_own(store: &dyn Store) {
    process(store, "a", 0).await;
    let work = replay(store, "a", 10).await;
    assert_eq!((work.run, work.attempt), (2, 1));
    let event = work.event.unwrap();
    assert_eq!((event.run(), event.body()), (2, &sample::body("a")));
    assert_eq!(state_of(store, "a").await, State::Processing);
    assert_eq!(settle(store, processed(work.claim, 11)).await, Settled::Done);
    assert_eq!(state_of(store, "a").await, State::Processed);
    assert_eq!(replay(store, "a", 12).await.run, 3);
    let unknown = store.replay(&sample::key("b"), LEASE, at(0)).await.unwrap();
    assert!(matches!(unknown, ReplayClaim::NotFound));
}

/// A replay disturbs neither a worker's run nor another replay.
pub async fn a_replay_is_refused_while_a_run_holds_the_event(store: &dyn Store) {
    record(store, "a", 0).await;
    let work = claim_one(store, 0).await;
    let busy = |seconds| store_replay(store, seconds);
    assert!(matches!(busy(1).await, ReplayClaim::Busy));
    assert_eq!(settle(store, processed(work.claim, 2)).await, Settled::Done);
    let _running = replay(store, "a", 3).await;
    assert!(matches!(busy(4).await, ReplayClaim::Busy));
}

async fn store_replay(store: &dyn Store, seconds: i64) -> ReplayClaim {
    store.replay(&sample::key("a"), LEASE, at(seconds)).await.unwrap()
}

/// The first run's dead letter is sent, and does not change the result of the replay.
pub async fn a_replay_does_not_lose_an_unsent_dead_letter(store: &dyn Store) {
    give_up(store, "a", 0).await;
    let work = replay(store, "a", 1).await;
    assert_eq!(settle(store, processed(work.claim, 2)).await, Settled::Done);
    let mut batch = claim(store, 10, 3).await;
    let claimed = batch.dead_letters.pop().expect("the dead letter of the first run is still due");
    assert_eq!(claimed.dead_letter.run, 1);
    let sent = claimed.claim.settle(DeadLetterEnd::Sent, at(4));
    assert_eq!(settle(store, sent).await, Settled::Done);
    assert_eq!(state_of(store, "a").await, State::Processed);
    assert_eq!(store.counts().await.unwrap().unsent_dead_letters, 0);
}

/// A run whose lease ran out does not block a replay; its late settlement is lost.
pub async fn a_replay_of_an_abandoned_run_takes_over(store: &dyn Store) {
    record(store, "a", 0).await;
    let abandoned = claim_one(store, 0).await;
    let work = replay(store, "a", 60).await;
    assert_eq!((work.run, work.attempt), (2, 1));
    assert_eq!((work.lost, work.took_over), (0, true), "in the run before");
    assert_eq!(settle(store, processed(abandoned.claim, 61)).await, Settled::LeaseLost);
    let history = store.attempts(&sample::key("a")).await.unwrap();
    let abandoned: Vec<_> = history.iter().map(|a| (a.run, a.number, a.outcome)).collect();
    assert_eq!(abandoned, [(1, 1, AttemptOutcome::LeaseExpired)]);
    assert_eq!(settle(store, processed(work.claim, 62)).await, Settled::Done);
}

/// Repeating a requeue adds nothing; an event that waits for a retry becomes due at once.
pub async fn a_requeue_schedules_once(store: &dyn Store) {
    process(store, "done", 0).await;
    record(store, "held", 0).await;
    let held = claim_one(store, 0).await;
    let keys = ["done", "held", "unknown"].map(sample::key);
    let answers = store.requeue(&keys, at(10)).await.unwrap();
    assert_eq!(answers, [Requeued::Scheduled, Requeued::Busy, Requeued::NotFound]);
    let again = store.requeue(&keys[..1], at(11)).await.unwrap();
    assert_eq!(again, [Requeued::Waiting]);

    let work = claim_one(store, 11).await;
    assert_eq!((work.key, work.run, work.attempt), (sample::key("done"), 2, 1));
    let retry = held.claim.settle(RunEnd::Retry { due: at(1000) }, None, at(12));
    assert_eq!(settle(store, retry).await, Settled::Done);
    assert_eq!(store.requeue(&keys[1..2], at(13)).await.unwrap(), [Requeued::Waiting]);
    let hastened = claim_one(store, 13).await;
    assert_eq!((hastened.key, hastened.run, hastened.attempt), (sample::key("held"), 1, 2));

    // Its lease has run out, and no worker has taken it over yet.
    assert_eq!(store.requeue(&keys[1..2], at(200)).await.unwrap(), [Requeued::Busy]);
    let taken = claim(store, 10, 200).await;
    let taken = taken.runs.iter().find(|work| work.key == sample::key("held")).expect("it is due");
    assert_eq!((taken.run, taken.attempt, taken.took_over), (1, 3, true));
}
