//! The contract of `settle`.

use super::{
    LEASE, at, attempt, claim, claim_for, claim_one, gave_up, give_up, processed, record, sample,
    settle, state_of,
};
use crate::{
    event::{Correlation, SourceName, State},
    ports::Contact,
    store::{
        AttemptOutcome, ClaimedDeadLetter, DeadLetterEnd, EventFilter, PageRequest, ReplayClaim,
        Requeued, RunEnd, Settled, Store,
    },
};

/// A processed event is not due again, and the CRM's answer is kept.
pub async fn a_processed_event_is_final_and_keeps_its_contact(store: &dyn Store) {
    record(store, "a", 0).await;
    let work = claim_one(store, 0).await;
    let contact = Contact::from_json(r#"{"id": 7, "vip":1.0}"#).unwrap();
    let done = attempt(1, 1, 0, AttemptOutcome::Succeeded);
    let verdict = RunEnd::Processed { contact: Some(contact.clone()) };
    let settlement = work.claim.settle(verdict, Some(done.clone()), at(2));
    assert_eq!(settle(store, settlement).await, Settled::Done);

    let stored = store.find(&sample::key("a")).await.unwrap().unwrap();
    assert_eq!(stored.state, State::Processed);
    assert_eq!(stored.processed_at, Some(at(2)));
    assert_eq!(stored.contact, Some(contact));
    assert_eq!(store.attempts(&sample::key("a")).await.unwrap(), [done]);
    let later = claim(store, 10, 1_000_000).await;
    assert!(later.is_empty() && later.next_due.is_none());
}

/// A retry is due at its time, as the next attempt of the same run.
pub async fn a_retry_waits_and_counts(store: &dyn Store) {
    record(store, "a", 0).await;
    for number in 1..=3 {
        let seconds = i64::from(number) * 10;
        let work = claim_one(store, seconds).await;
        assert_eq!((work.run, work.attempt), (1, number));
        let failed = attempt(1, number, seconds, AttemptOutcome::FailedTransient);
        let verdict = RunEnd::Retry { due: at(seconds + 10) };
        let settlement = work.claim.settle(verdict, Some(failed), at(seconds));
        assert_eq!(settle(store, settlement).await, Settled::Done);
        let stored = store.find(&sample::key("a")).await.unwrap().unwrap();
        assert_eq!((stored.state, stored.due), (State::Pending, Some(at(seconds + 10))));
    }
    let history = store.attempts(&sample::key("a")).await.unwrap();
    let numbers: Vec<_> = history.iter().map(|attempt| attempt.number).collect();
    assert_eq!(numbers, [1, 2, 3]);
    assert_eq!(history[0], attempt(1, 1, 10, AttemptOutcome::FailedTransient));
}

/// A run that is released before it began is due at once, with the same attempt number.
pub async fn a_release_does_not_count(store: &dyn Store) {
    record(store, "a", 0).await;
    let work = claim_one(store, 0).await;
    assert_eq!(settle(store, work.claim.settle(RunEnd::Release, None, at(1))).await, Settled::Done);
    assert_eq!(state_of(store, "a").await, State::Pending);
    assert_eq!(claim_one(store, 1).await.attempt, 1);
    assert!(store.attempts(&sample::key("a")).await.unwrap().is_empty());
}

/// An attempt that says nothing about its event is due at its time, with the same attempt number.
pub async fn an_attempt_that_is_put_off_does_not_count(store: &dyn Store) {
    record(store, "a", 0).await;
    let work = claim_one(store, 0).await;
    let put_off = RunEnd::PutOff { due: at(20) };
    assert_eq!(settle(store, work.claim.settle(put_off, None, at(1))).await, Settled::Done);
    assert_eq!(state_of(store, "a").await, State::Pending);
    assert!(claim(store, 10, 19).await.is_empty());
    assert_eq!(claim_one(store, 20).await.attempt, 1);
    assert!(store.attempts(&sample::key("a")).await.unwrap().is_empty());
}

/// It is kept with the event, shown, and filtered by, until a later run says something else.
pub async fn what_asking_the_crm_came_to_is_kept(store: &dyn Store) {
    let of = async |id| {
        let stored = store.find(&sample::key(id)).await.unwrap().unwrap();
        let filter =
            EventFilter { correlation: Some(stored.correlation), ..EventFilter::default() };
        let page = PageRequest { limit: 10, after: None };
        let listed = store.list(&filter, page).await.unwrap().events;
        let listed = listed.into_iter().find(|event| event.id.as_str() == id).unwrap();
        assert_eq!(listed.correlation, stored.correlation);
        stored.correlation
    };
    record(store, "a", 0).await;
    assert_eq!(of("a").await, Correlation::NotAsked);
    let work = claim_one(store, 0).await;
    let retry = work.claim.settle(RunEnd::Retry { due: at(5) }, None, at(1));
    settle(store, retry).await;
    assert_eq!(of("a").await, Correlation::NotAsked, "a settlement that says nothing");
    let work = claim_one(store, 5).await;
    settle(store, gave_up(work.claim, 6).correlated(Correlation::Ambiguous)).await;
    assert_eq!(of("a").await, Correlation::Ambiguous);
    assert_eq!(store.requeue(&[sample::key("a")], at(7)).await.unwrap(), [Requeued::Scheduled]);
    assert_eq!(of("a").await, Correlation::Ambiguous);
    let mut batch = claim(store, 10, 7).await;
    let work = batch.runs.pop().unwrap();
    settle(store, processed(work.claim, 8).correlated(Correlation::None)).await;
    assert_eq!(of("a").await, Correlation::None);
    let ReplayClaim::Claimed(work) = store.replay(&sample::key("a"), LEASE, at(9)).await.unwrap()
    else {
        panic!("not claimed");
    };
    settle(store, processed(work.claim, 9).correlated(Correlation::NotAsked)).await;
    assert_eq!(of("a").await, Correlation::NotAsked);
}

/// The second settlement of one claim is lost.
pub async fn a_claim_settles_once(store: &dyn Store) {
    record(store, "a", 0).await;
    let work = claim_one(store, 0).await;
    let settlement = processed(work.claim, 1);
    assert_eq!(settle(store, settlement.clone()).await, Settled::Done);
    assert_eq!(settle(store, settlement).await, Settled::LeaseLost);
    assert_eq!(store.attempts(&sample::key("a")).await.unwrap().len(), 1);
}

/// Not even once the work is claimed anew: by then it belongs to another claim.
pub async fn a_settlement_that_comes_again_changes_nothing(store: &dyn Store) {
    record(store, "a", 0).await;
    let work = claim_one(store, 0).await;
    let failed = attempt(1, 1, 0, AttemptOutcome::FailedTransient);
    let retry = work.claim.settle(RunEnd::Retry { due: at(10) }, Some(failed), at(1));
    assert_eq!(settle(store, retry.clone()).await, Settled::Done);
    assert_eq!(settle(store, retry.clone()).await, Settled::LeaseLost);
    let work = claim_one(store, 10).await;
    assert_eq!(settle(store, retry).await, Settled::LeaseLost);
    assert_eq!(store.attempts(&sample::key("a")).await.unwrap().len(), 1);

    assert_eq!(settle(store, gave_up(work.claim, 11)).await, Settled::Done);
    let claimed = claim_dead_letter(store, 11).await;
    let retry = claimed.claim.settle(DeadLetterEnd::Retry { due: at(20) }, at(12));
    assert_eq!(settle(store, retry.clone()).await, Settled::Done);
    assert_eq!(settle(store, retry.clone()).await, Settled::LeaseLost);
    let claimed = claim_dead_letter(store, 20).await;
    assert_eq!(settle(store, retry).await, Settled::LeaseLost);
    let sent = claimed.claim.settle(DeadLetterEnd::Sent, at(21));
    assert_eq!(settle(store, sent).await, Settled::Done);
}

/// A claim that lost its lease changes neither state nor history nor outbox.
pub async fn a_late_settlement_changes_nothing(store: &dyn Store) {
    record(store, "a", 0).await;
    let late = claim_one(store, 0).await;
    let current = claim_one(store, 60).await;
    assert_eq!(settle(store, gave_up(late.claim, 61)).await, Settled::LeaseLost);
    assert_eq!(state_of(store, "a").await, State::Processing);
    assert_eq!(store.attempts(&sample::key("a")).await.unwrap().len(), 1, "the lost lease only");
    assert_eq!(store.counts().await.unwrap().unsent_dead_letters, 0);
    assert_eq!(settle(store, processed(current.claim, 62)).await, Settled::Done);
    assert_eq!(state_of(store, "a").await, State::Processed);
}

/// The work was done and no other claim began it: the result counts.
pub async fn a_lease_that_ran_out_unclaimed_can_still_be_settled(store: &dyn Store) {
    record(store, "a", 0).await;
    let work = claim_one(store, 0).await;
    assert_eq!(settle(store, processed(work.claim, 300)).await, Settled::Done);
    assert_eq!(state_of(store, "a").await, State::Processed);
}

/// Each settlement gets one answer, in order; the valid ones take effect.
pub async fn lost_settlements_do_not_hold_back_others(store: &dyn Store) {
    record(store, "a", 0).await;
    let stale = claim_one(store, 0).await;
    let _ = claim_one(store, 60).await;
    record(store, "b", 61).await;
    let good = claim_one(store, 61).await;
    let answers =
        store.settle(&[processed(stale.claim, 62), processed(good.claim, 62)]).await.unwrap();
    assert_eq!(answers, [Settled::LeaseLost, Settled::Done]);
    assert_eq!(state_of(store, "a").await, State::Processing);
    assert_eq!(state_of(store, "b").await, State::Processed);
}

async fn claim_dead_letter(store: &dyn Store, seconds: i64) -> ClaimedDeadLetter {
    let mut batch = claim(store, 10, seconds).await;
    assert_eq!((batch.runs.len(), batch.dead_letters.len()), (0, 1), "one dead letter is due");
    batch.dead_letters.pop().unwrap()
}

/// The dead letter is due at once and complete, and sending it ends the event.
pub async fn giving_up_puts_a_dead_letter_in_the_outbox(store: &dyn Store) {
    give_up(store, "a", 5).await;
    assert_eq!(state_of(store, "a").await, State::DeadLettering);
    assert_eq!(store.counts().await.unwrap().unsent_dead_letters, 1);

    let work = claim_dead_letter(store, 5).await;
    let dead_letter = &work.dead_letter;
    assert_eq!(
        (&dead_letter.key, dead_letter.run, dead_letter.attempts),
        (&sample::key("a"), 1, 1)
    );
    assert_eq!(dead_letter.error_message, "the CRM refused");
    assert_eq!(dead_letter.raw_payload, sample::body("a"));
    assert_eq!(dead_letter.kind.as_str(), "USER_INPUT_RECEIVED");
    assert_eq!(dead_letter.time.as_json(), "\"2026-01-01T00:00:00Z\"");
    assert_eq!(dead_letter.first_received_at, at(5));
    assert!(claim(store, 10, 6).await.is_empty(), "it is leased");

    let settlement = work.claim.settle(DeadLetterEnd::Sent, at(7));
    assert_eq!(settle(store, settlement.clone()).await, Settled::Done);
    assert_eq!(state_of(store, "a").await, State::DeadLettered);
    assert_eq!(store.counts().await.unwrap().unsent_dead_letters, 0);
    assert_eq!(settle(store, settlement).await, Settled::LeaseLost);
    assert!(claim(store, 10, 1_000_000).await.is_empty());
}

/// A refused dead letter can be claimed again when it is due, and after a lost lease by another
/// worker.
pub async fn a_dead_letter_is_tried_until_it_is_sent(store: &dyn Store) {
    give_up(store, "a", 0).await;
    let refused = claim_dead_letter(store, 0).await;
    assert_eq!(refused.attempt, 1);
    let retry = refused.claim.settle(DeadLetterEnd::Retry { due: at(10) }, at(1));
    assert_eq!(settle(store, retry).await, Settled::Done);
    assert_eq!(claim(store, 10, 9).await.next_due, Some(at(10)));

    let lost = claim_dead_letter(store, 10).await;
    assert_eq!(lost.attempt, 2);
    assert_eq!(store.renew(&[lost.claim.token()], LEASE, at(20)).await.unwrap(), [Settled::Done]);
    assert!(claim(store, 10, 79).await.is_empty());
    let current = claim_dead_letter(store, 80).await;
    let late = lost.claim.settle(DeadLetterEnd::Sent, at(81));
    assert_eq!(settle(store, late).await, Settled::LeaseLost);
    assert_eq!(state_of(store, "a").await, State::DeadLettering);
    let sent = current.claim.settle(DeadLetterEnd::Sent, at(82));
    assert_eq!(settle(store, sent).await, Settled::Done);
    assert_eq!(state_of(store, "a").await, State::DeadLettered);
}

/// However many dead letters wait, and however many events, each kind has its own limit.
pub async fn neither_kind_of_work_takes_the_other_s_places(store: &dyn Store) {
    for number in 0..10 {
        give_up_one_of_many(store, number).await;
    }
    for number in 0..10 {
        record(store, &format!("new-{number}"), 2).await;
    }
    let ours = SourceName::default();
    let taken = async |limits| {
        let batch = claim_for(store, &ours, limits, 3).await;
        ([batch.runs.len(), batch.dead_letters.len()], batch.next_due)
    };
    let (both, next) = taken([3, 2]).await;
    assert_eq!(both, [3, 2]);
    assert!(next.is_some_and(|due| due <= at(3)), "there is more of both");
    let (events, next) = taken([8, 0]).await;
    assert_eq!(events, [7, 0]);
    assert!(
        next.is_none_or(|due| due > at(3)),
        "no dead letters were asked for, so none are announced"
    );
    assert_eq!(taken([0, 5]).await.0, [0, 5]);
    assert_eq!(taken([0, 5]).await.0, [0, 3]);
    assert_eq!(taken([0, 0]).await, ([0, 0], None));
}

async fn give_up_one_of_many(store: &dyn Store, number: u32) {
    let id = format!("old-{number}");
    record(store, &id, 0).await;
    let batch = claim(store, 40, 0).await;
    for work in batch.runs {
        assert_eq!(settle(store, gave_up(work.claim, 0)).await, Settled::Done);
    }
    for work in batch.dead_letters {
        let retry = work.claim.settle(DeadLetterEnd::Retry { due: at(1) }, at(0));
        assert_eq!(settle(store, retry).await, Settled::Done);
    }
}
