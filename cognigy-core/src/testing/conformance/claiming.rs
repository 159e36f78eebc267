//! The contract of `claim_due` and `renew`.

use std::{collections::HashSet, time::Duration};

use futures_util::future::join_all;

use super::{
    LEASE, at, attempt, claim, claim_for, claim_one, gave_up, give_up, processed, record, sample,
    settle, state_of,
};
use crate::{
    event::{EventKey, SourceName, State},
    store::{AttemptOutcome, DeadLetterEnd, Requeued, RunEnd, Settled, Store},
};

/// A claimed event is `processing` and cannot be claimed again.
pub async fn nothing_is_claimed_twice_within_its_lease(store: &dyn Store) {
    record(store, "a", 0).await;
    let work = claim_one(store, 0).await;
    assert_eq!((work.key, work.run, work.attempt), (sample::key("a"), 1, 1));
    assert_eq!(state_of(store, "a").await, State::Processing);
    let later = claim(store, 10, 59).await;
    assert!(later.is_empty());
    assert!(later.next_due.is_some_and(|due| due <= at(60)), "the lease's end is announced");
}

/// At most `limit` events are claimed, earliest due first, and the rest is announced.
pub async fn claims_respect_the_limit_and_take_the_earliest_first(store: &dyn Store) {
    for (id, seconds) in [("late", 5), ("early", 1), ("middle", 3)] {
        record(store, id, seconds).await;
    }
    let first = claim(store, 2, 10).await;
    let ids: HashSet<_> = first.runs.iter().map(|work| work.key.id.to_string()).collect();
    assert_eq!(ids, HashSet::from(["early".to_owned(), "middle".to_owned()]));
    assert!(first.next_due.is_some_and(|due| due <= at(10)), "there is more now");
    let second = claim(store, 2, 10).await;
    assert_eq!(second.runs.len(), 1);
    assert_eq!(second.runs[0].key, sample::key("late"));
}

/// Another source's events, dead letters, retries and lost leases are neither taken nor announced.
pub async fn a_claim_is_of_one_source(store: &dyn Store) {
    let shop: SourceName = "shop".parse().unwrap();
    let from_shop = |id| sample::incoming_from(&shop, sample::body(id));
    for id in ["a", "b"] {
        store.record(from_shop(id), at(0)).await.unwrap();
    }
    let none = claim(store, 10, 1).await;
    assert!(none.is_empty() && none.next_due.is_none(), "all of it is the shop's");
    record(store, "a", 2).await;
    let ours = claim_one(store, 2).await;
    assert_eq!(ours.key, sample::key("a"), "the same id at the other source waits on");

    let mut theirs = claim_for(store, &shop, [1, 10], 2).await;
    let dead = theirs.runs.remove(0);
    assert_eq!(dead.key, EventKey { source: shop.clone(), id: sample::key("a").id });
    assert!(theirs.next_due.is_some_and(|due| due <= at(2)), "the shop's second event");
    assert_eq!(settle(store, gave_up(dead.claim, 3)).await, Settled::Done);
    assert_eq!(settle(store, processed(ours.claim, 3)).await, Settled::Done);
    let none = claim(store, 10, 4).await;
    assert!(none.is_empty() && none.next_due.is_none(), "a dead letter is its event's source's");

    let theirs = claim_for(store, &shop, [10, 10], 4).await;
    assert_eq!((theirs.runs.len(), theirs.dead_letters.len()), (1, 1));
    assert_eq!(theirs.dead_letters[0].dead_letter.key.source, shop);
    let none = claim(store, 10, 1000).await;
    assert!(none.is_empty() && none.next_due.is_none(), "not even when leases have run out");
    let theirs = claim_for(store, &shop, [10, 10], 1000).await;
    assert_eq!((theirs.runs.len(), theirs.dead_letters.len()), (1, 1));
    for work in theirs.runs {
        assert_eq!(settle(store, processed(work.claim, 1001)).await, Settled::Done);
    }
    for work in theirs.dead_letters {
        let sent = work.claim.settle(DeadLetterEnd::Sent, at(1001));
        assert_eq!(settle(store, sent).await, Settled::Done);
    }

    // Runs that begin again stay with their source.
    let [a, b] = ["a", "b"].map(|id| EventKey { source: shop.clone(), id: sample::key(id).id });
    assert_eq!(store.requeue(&[a], at(1002)).await.unwrap(), [Requeued::Scheduled]);
    let _lost = store.replay(&b, LEASE, at(1002)).await.unwrap();
    assert!(claim(store, 10, 1100).await.is_empty());
    assert_eq!(claim_for(store, &shop, [10, 10], 1100).await.runs.len(), 2);
}

/// An event that is due later is not claimed, and its time is announced.
pub async fn nothing_is_claimed_before_its_time(store: &dyn Store) {
    record(store, "a", 0).await;
    let work = claim_one(store, 0).await;
    let failed = attempt(1, 1, 0, AttemptOutcome::FailedTransient);
    let retry = work.claim.settle(RunEnd::Retry { due: at(30) }, Some(failed), at(1));
    assert_eq!(settle(store, retry).await, Settled::Done);
    let early = claim(store, 10, 29).await;
    assert!(early.is_empty());
    assert_eq!(early.next_due, Some(at(30)));
    assert_eq!(claim(store, 10, 30).await.runs.len(), 1);
}

/// Another worker claims the event, with the lost attempt in its history.
pub async fn an_expired_lease_is_taken_over_and_recorded(store: &dyn Store) {
    record(store, "a", 0).await;
    let lost = claim_one(store, 0).await;
    let taken = claim_one(store, 60).await;
    assert_eq!((taken.run, taken.attempt), (1, 2));
    assert_eq!((lost.lost, lost.took_over), (0, false));
    assert_eq!((taken.lost, taken.took_over), (1, true));
    assert_ne!(taken.claim.token(), lost.claim.token());
    let history = store.attempts(&sample::key("a")).await.unwrap();
    assert_eq!(history.len(), 1);
    assert_eq!(history[0].outcome, AttemptOutcome::LeaseExpired);
    assert_eq!((history[0].run, history[0].number), (1, 1));
    assert_eq!((history[0].started_at, history[0].duration), (at(0), LEASE));
    assert_eq!(history[0].error.as_deref(), Some("the worker's lease ran out"));
}

/// Lost attempts are counted apart from failed ones, run by run.
pub async fn lost_leases_of_a_run_are_counted(store: &dyn Store) {
    record(store, "a", 0).await;
    let first = claim_one(store, 0).await;
    let failed = attempt(1, 1, 0, AttemptOutcome::FailedTransient);
    let retry = first.claim.settle(RunEnd::Retry { due: at(1) }, Some(failed), at(1));
    assert_eq!(settle(store, retry).await, Settled::Done);
    for (number, seconds, lost) in [(2, 1, 0), (3, 61, 1), (4, 121, 2)] {
        let work = claim_one(store, seconds).await;
        assert_eq!((work.attempt, work.lost, work.took_over), (number, lost, lost > 0));
    }
    let last = claim_one(store, 181).await;
    let failed = attempt(1, 5, 181, AttemptOutcome::FailedTransient);
    let retry = last.claim.settle(RunEnd::Retry { due: at(190) }, Some(failed), at(182));
    assert_eq!(settle(store, retry).await, Settled::Done);
    let after = claim_one(store, 190).await;
    assert_eq!((after.attempt, after.lost, after.took_over), (6, 3, false));
    assert_eq!(settle(store, gave_up(after.claim, 191)).await, Settled::Done);
    assert_eq!(store.requeue(&[sample::key("a")], at(200)).await.unwrap(), [Requeued::Scheduled]);
    let mut batch = claim(store, 10, 200).await;
    let anew = batch.runs.pop().expect("it is due again");
    assert_eq!((anew.run, anew.attempt, anew.lost, anew.took_over), (2, 1, 0, false));
}

/// Renewing moves the end of the lease; a token that is not the latest grant moves nothing.
pub async fn a_renewed_lease_lasts_longer(store: &dyn Store) {
    record(store, "a", 0).await;
    let work = claim_one(store, 0).await;
    let token = work.claim.token();
    let renewed = store.renew(&[token], LEASE, at(50)).await.unwrap();
    assert_eq!(renewed, [Settled::Done]);
    assert!(claim(store, 10, 109).await.is_empty());
    let taken = claim_one(store, 110).await;
    let answers = store.renew(&[token, taken.claim.token()], LEASE, at(115)).await.unwrap();
    assert_eq!(answers, [Settled::LeaseLost, Settled::Done]);
    let _ = settle(store, processed(work.claim, 116)).await;
    assert!(claim(store, 10, 174).await.is_empty(), "the loser shortened nothing");
}

/// A renewal overtaken by a later one leaves the longer lease alone, for runs and dead letters.
pub async fn a_renewal_that_comes_late_shortens_nothing(store: &dyn Store) {
    give_up(store, "dead", 0).await;
    record(store, "a", 0).await;
    let batch = claim(store, 10, 0).await;
    let runs = batch.runs.iter().map(|work| work.claim.token());
    let dead_letters = batch.dead_letters.iter().map(|work| work.claim.token());
    let tokens: Vec<_> = runs.chain(dead_letters).collect();
    assert_eq!(tokens.len(), 2);
    for seconds in [50, 20] {
        let renewed = store.renew(&tokens, LEASE, at(seconds)).await.unwrap();
        assert_eq!(renewed, [Settled::Done, Settled::Done]);
    }
    assert!(claim(store, 10, 109).await.is_empty(), "leased until 110");
    assert_eq!(claim(store, 10, 110).await.len(), 2);
}

/// Any number of concurrent claims share the work without overlap, and leave no event unclaimed.
pub async fn concurrent_claims_never_share_an_event(store: &dyn Store) {
    for number in 0..100 {
        record(store, &format!("e{number}"), 0).await;
    }
    let mut claimed = HashSet::new();
    let mut left = 100;
    for _ in 0..50 {
        let batches = join_all((0..8).map(|_| claim(store, 3, 0))).await;
        for work in batches.into_iter().flat_map(|batch| batch.runs) {
            assert!(claimed.insert(work.key), "claimed twice");
            left -= 1;
        }
        if left == 0 {
            break;
        }
    }
    assert_eq!(claimed.len(), 100);
    assert!(store.renew(&[], Duration::ZERO, at(0)).await.unwrap().is_empty());
}
