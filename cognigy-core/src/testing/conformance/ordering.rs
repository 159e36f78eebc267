//! The contract of a store that keeps the order of each contact's events.

use std::collections::HashMap;

use futures_util::future::{join, join_all};

use super::{
    LEASE, at, attempt, claim, claim_for, claim_one, gave_up, processed, sample, settle, state_of,
};
use crate::{
    event::{SourceName, State},
    store::{
        AttemptOutcome, ClaimedRun, DeadLetterEnd, Discarded, EventFilter, PageRequest, Person,
        PurgeRequest, Recorded, ReplayClaim, Requeued, RunEnd, Settled, Store,
    },
};

/// Runs the suite for stores that keep the order of each contact's events: one test for each promise.
///
/// Takes the attribute that makes an async test, and an async function from an
/// [`EventOrder`](crate::EventOrder) to an empty store that keeps it and a value to keep for as
/// long as the store is used.
///
/// ```
/// use cognigy_core::{EventOrder, memory::MemoryStore};
///
/// async fn empty_store(order: EventOrder) -> (MemoryStore, ()) {
///     (MemoryStore::keeping(order), ())
/// }
///
/// cognigy_core::ordered_store_conformance!(#[tokio::test], empty_store);
/// ```
#[macro_export]
macro_rules! ordered_store_conformance {
    (#[$attribute:meta], $fresh:path) => {
        $crate::ordered_store_conformance! { @cases #[$attribute], $fresh, Continue:
            events_of_one_contact_come_one_at_a_time_in_order_of_arrival
            a_retry_holds_back_only_its_own_contact
            a_contact_is_one_sources
            the_user_counts_where_the_contact_is_not_known
            a_dead_letter_lets_the_next_event_go
            an_expired_lease_leaves_the_event_in_its_place
            what_is_given_back_keeps_its_place
            a_duplicate_takes_no_second_place
            a_replay_takes_its_turn
            a_requeued_event_goes_before_those_that_came_later
            a_requeued_event_displaces_none_that_was_begun
            a_requeued_event_displaces_one_that_was_given_back
            what_waits_is_pending
            what_waited_is_due_since_it_came
            concurrent_workers_keep_the_order
            an_arrival_that_meets_an_end_is_not_left_behind
            an_erased_event_lets_the_next_event_go
        }
        $crate::ordered_store_conformance! { @cases #[$attribute], $fresh, Stop:
            a_stopped_contact_waits_for_a_replay
            a_stopped_contact_goes_on_when_a_requeued_run_succeeds
            a_purge_spares_what_stops_a_contact
            a_contact_goes_on_once_what_stopped_it_is_discarded
        }
    };
    (@cases #[$attribute:meta], $fresh:path, $after:ident: $($case:ident)+) => {
        $(
            #[$attribute]
            async fn $case() {
                let order = $crate::EventOrder::PerContact($crate::AfterDeadLetter::$after);
                let (store, _kept) = $fresh(order).await;
                $crate::testing::conformance::$case(&store).await;
            }
        )+
    };
}

async fn record(store: &dyn Store, contact: &str, id: &str, seconds: i64) -> Recorded {
    let event = sample::incoming(sample::body_from(contact, id));
    store.record(event, at(seconds)).await.unwrap()
}

async fn ids(store: &dyn Store, seconds: i64) -> (Vec<ClaimedRun>, Vec<String>) {
    let runs = claim(store, 100, seconds).await.runs;
    let ids = runs.iter().map(|run| run.key.id.as_str().to_owned()).collect();
    (runs, ids)
}

/// Claims the one run that is due, which has to be `id`.
async fn claim_only(store: &dyn Store, id: &str, seconds: i64) -> ClaimedRun {
    let (mut runs, ids) = ids(store, seconds).await;
    assert_eq!(ids, [id]);
    runs.remove(0)
}

/// Claims the one run that is due, which has to be `id`, and processes it.
async fn process_only(store: &dyn Store, id: &str, seconds: i64) -> Settled {
    let work = claim_only(store, id, seconds).await;
    settle(store, processed(work.claim, seconds)).await
}

async fn nothing_is_due(store: &dyn Store, seconds: i64) {
    assert_eq!(ids(store, seconds).await.1, [""; 0]);
}

async fn replay(store: &dyn Store, id: &str, seconds: i64) -> ReplayClaim {
    store.replay(&sample::key(id), LEASE, at(seconds)).await.unwrap()
}

async fn replay_now(store: &dyn Store, id: &str, seconds: i64) -> ClaimedRun {
    match replay(store, id, seconds).await {
        ReplayClaim::Claimed(work) => *work,
        other => panic!("{other:?}"),
    }
}

async fn requeue(store: &dyn Store, wanted: &[&str], seconds: i64) -> Vec<Requeued> {
    let keys: Vec<_> = wanted.iter().map(|id| sample::key(id)).collect();
    store.requeue(&keys, at(seconds)).await.unwrap()
}

/// An event becomes due at the moment at which the event before it ends.
pub async fn events_of_one_contact_come_one_at_a_time_in_order_of_arrival(store: &dyn Store) {
    for id in ["z", "y", "x"] {
        assert_eq!(record(store, "ann", id, 0).await, Recorded::New);
    }
    let first = claim_only(store, "z", 0).await;
    nothing_is_due(store, 1).await;
    assert_eq!(settle(store, processed(first.claim, 2)).await, Settled::UnblockedNext);
    assert_eq!(process_only(store, "y", 2).await, Settled::UnblockedNext);
    assert_eq!(process_only(store, "x", 3).await, Settled::Done);
    record(store, "ann", "w", 4).await;
    assert_eq!(process_only(store, "w", 4).await, Settled::Done);
}

/// Events of other contacts can be claimed meanwhile. The next event of this contact can be claimed after
/// the last attempt.
pub async fn a_retry_holds_back_only_its_own_contact(store: &dyn Store) {
    for (contact, id) in [("ann", "a1"), ("ann", "a2"), ("bob", "b1"), ("bob", "b2")] {
        record(store, contact, id, 0).await;
    }
    let (mut runs, claimed) = ids(store, 0).await;
    assert_eq!(claimed, ["a1", "b1"]);
    let (bob, ann) = (runs.pop().unwrap(), runs.pop().unwrap());
    let failed = attempt(1, 1, 0, AttemptOutcome::FailedTransient);
    let retry = ann.claim.settle(RunEnd::Retry { due: at(30) }, Some(failed), at(1));
    assert_eq!(settle(store, retry).await, Settled::Done);
    assert_eq!(settle(store, processed(bob.claim, 1)).await, Settled::UnblockedNext);
    record(store, "ann", "a3", 2).await;
    assert_eq!(process_only(store, "b2", 29).await, Settled::Done);
    assert_eq!(process_only(store, "a1", 30).await, Settled::UnblockedNext);
    assert_eq!(process_only(store, "a2", 30).await, Settled::UnblockedNext);
    assert_eq!(process_only(store, "a3", 30).await, Settled::Done);
}

/// The same key at two sources is two contacts.
pub async fn a_contact_is_one_sources(store: &dyn Store) {
    let other: SourceName = "other".parse().unwrap();
    record(store, "ann", "here", 0).await;
    let event = sample::incoming_from(&other, sample::body_from("ann", "there"));
    store.record(event, at(1)).await.unwrap();
    let (here, there) = (ids(store, 1).await.1, claim_for(store, &other, [10, 10], 1).await.runs);
    assert_eq!(here, ["here"]);
    assert_eq!(there.len(), 1);
    assert_eq!(there[0].key.id.as_str(), "there");
}

/// An empty `externalId` counts as missing; an event with neither id never waits.
pub async fn the_user_counts_where_the_contact_is_not_known(store: &dyn Store) {
    let body = |id: &str, external: &str, user: &str| {
        let body = sample::body(id);
        let body = str::from_utf8(&body).unwrap();
        body.replace(&format!("c-{id}"), external).replace(&format!("u-{id}"), user)
    };
    for (id, external, user) in
        [("a", "", "ann"), ("b", "", ""), ("c", "", ""), ("d", "ann", "x"), ("e", "bob", "ann")]
    {
        store.record(sample::incoming(body(id, external, user)), at(0)).await.unwrap();
    }
    assert_eq!(ids(store, 0).await.1, ["a", "b", "c", "e"]);
}

/// When an event is given up, the next one becomes due at once, whether or not the sink has taken the dead
/// letter.
pub async fn a_dead_letter_lets_the_next_event_go(store: &dyn Store) {
    record(store, "ann", "a1", 0).await;
    record(store, "ann", "a2", 0).await;
    let first = claim_only(store, "a1", 0).await;
    assert_eq!(settle(store, gave_up(first.claim, 1)).await, Settled::UnblockedNext);
    assert_eq!(state_of(store, "a1").await, State::DeadLettering);
    assert_eq!(process_only(store, "a2", 1).await, Settled::Done);
    assert_eq!(store.counts().await.unwrap().stopped_contacts, 0);
}

/// A crash does not change the order, and the lost worker's settlement does not count.
pub async fn an_expired_lease_leaves_the_event_in_its_place(store: &dyn Store) {
    record(store, "ann", "a1", 0).await;
    record(store, "ann", "a2", 0).await;
    let lost = claim_only(store, "a1", 0).await;
    nothing_is_due(store, 59).await;
    let taken_over = claim_only(store, "a1", 60).await;
    assert_eq!(settle(store, processed(lost.claim, 61)).await, Settled::LeaseLost);
    nothing_is_due(store, 61).await;
    assert_eq!(settle(store, processed(taken_over.claim, 62)).await, Settled::UnblockedNext);
    assert_eq!(process_only(store, "a2", 62).await, Settled::Done);
}

/// A worker that stops does not let later events pass.
pub async fn what_is_given_back_keeps_its_place(store: &dyn Store) {
    record(store, "ann", "a1", 0).await;
    record(store, "ann", "a2", 0).await;
    let work = claim_only(store, "a1", 0).await;
    let released = work.claim.settle(RunEnd::Release, None, at(1));
    assert_eq!(settle(store, released).await, Settled::Done);
    assert_eq!(process_only(store, "a1", 1).await, Settled::UnblockedNext);
    assert_eq!(process_only(store, "a2", 1).await, Settled::Done);
}

/// A duplicate of a waiting, a claimed or a finished event changes nothing in the order.
pub async fn a_duplicate_takes_no_second_place(store: &dyn Store) {
    for id in ["a1", "a2", "a1", "a2"] {
        record(store, "ann", id, 0).await;
    }
    assert_eq!(process_only(store, "a1", 0).await, Settled::UnblockedNext);
    assert_eq!(record(store, "ann", "a1", 1).await, Recorded::Identical);
    let different = record(store, "bob", "a1", 1).await;
    assert!(matches!(different, Recorded::Differs { .. }));
    assert_eq!(process_only(store, "a2", 1).await, Settled::Done);
    assert_eq!(record(store, "ann", "a1", 2).await, Recorded::Identical);
    nothing_is_due(store, 2).await;
    // An event that was not recorded blocks neither contact.
    record(store, "ann", "a3", 3).await;
    record(store, "bob", "b1", 3).await;
    assert_eq!(ids(store, 3).await.1, ["a3", "b1"]);
}

/// No replay runs beside another event of its contact, and events that arrive later wait for the replay.
pub async fn a_replay_takes_its_turn(store: &dyn Store) {
    record(store, "ann", "a1", 0).await;
    process_only(store, "a1", 0).await;
    record(store, "ann", "a2", 1).await;
    record(store, "ann", "a3", 1).await;
    let busy = async |id| matches!(replay(store, id, 1).await, ReplayClaim::Busy);
    assert!(busy("a1").await && busy("a3").await);
    let second = claim_only(store, "a2", 2).await;
    assert!(busy("a1").await);
    let failed = attempt(1, 1, 2, AttemptOutcome::FailedTransient);
    let retry = second.claim.settle(RunEnd::Retry { due: at(90) }, Some(failed), at(2));
    settle(store, retry).await;
    assert!(busy("a1").await && busy("a3").await);
    // That event is next, and an operator need not wait until it is due.
    let second = replay_now(store, "a2", 3).await;
    assert_eq!(settle(store, processed(second.claim, 3)).await, Settled::UnblockedNext);
    assert_eq!(process_only(store, "a3", 3).await, Settled::Done);

    let again = replay_now(store, "a1", 4).await;
    record(store, "ann", "a4", 5).await;
    nothing_is_due(store, 5).await;
    assert_eq!(settle(store, processed(again.claim, 6)).await, Settled::UnblockedNext);
    assert_eq!(process_only(store, "a4", 6).await, Settled::Done);
}

/// The order in which an operator names the events does not matter.
pub async fn a_requeued_event_goes_before_those_that_came_later(store: &dyn Store) {
    for id in ["a1", "a2", "a3"] {
        record(store, "ann", id, 0).await;
        process_only(store, id, 0).await;
    }
    record(store, "ann", "a4", 1).await;
    let scheduled = vec![Requeued::Scheduled; 3];
    assert_eq!(requeue(store, &["a3", "a1", "a2"], 2).await, scheduled);
    let waiting = vec![Requeued::Waiting; 2];
    assert_eq!(requeue(store, &["a4", "a3"], 3).await, waiting);
    for (id, made_way) in [("a1", true), ("a2", true), ("a3", true), ("a4", false)] {
        let settled = process_only(store, id, 3).await;
        assert_eq!(settled == Settled::UnblockedNext, made_way, "{id}");
    }
}

/// An event that was begun stays the next one of its contact, while it runs and between its attempts.
pub async fn a_requeued_event_displaces_none_that_was_begun(store: &dyn Store) {
    for id in ["a1", "a2"] {
        record(store, "ann", id, 0).await;
        process_only(store, id, 0).await;
    }
    record(store, "ann", "a3", 1).await;
    record(store, "ann", "a4", 1).await;
    let begun = claim_only(store, "a3", 1).await;
    assert_eq!(requeue(store, &["a2", "a3"], 2).await, [Requeued::Scheduled, Requeued::Busy]);
    nothing_is_due(store, 2).await;
    let failed = attempt(1, 1, 2, AttemptOutcome::FailedTransient);
    let retry = begun.claim.settle(RunEnd::Retry { due: at(30) }, Some(failed), at(2));
    assert_eq!(settle(store, retry).await, Settled::Done);
    // Nor does an event overtake the begun one that is replayed while it waits for its next
    // attempt.
    assert_eq!(requeue(store, &["a1", "a2"], 3).await, [Requeued::Scheduled, Requeued::Waiting]);
    nothing_is_due(store, 29).await;
    for id in ["a3", "a1", "a2"] {
        assert_eq!(process_only(store, id, 30).await, Settled::UnblockedNext);
    }
    assert_eq!(process_only(store, "a4", 30).await, Settled::Done);
}

/// An event that was given back before its attempt began counts as not begun.
pub async fn a_requeued_event_displaces_one_that_was_given_back(store: &dyn Store) {
    record(store, "ann", "a1", 0).await;
    process_only(store, "a1", 0).await;
    record(store, "ann", "a2", 1).await;
    let unbegun = claim_only(store, "a2", 1).await;
    let given_back = unbegun.claim.settle(RunEnd::Release, None, at(50));
    assert_eq!(settle(store, given_back).await, Settled::Done);
    assert_eq!(requeue(store, &["a1"], 2).await, [Requeued::Scheduled]);
    assert_eq!(process_only(store, "a1", 2).await, Settled::UnblockedNext);
    // When it is next, whatever the time of the release was.
    assert_eq!(process_only(store, "a2", 2).await, Settled::Done);
}

/// Events that wait for another event are listed and counted as pending. They do not bring the time of the
/// next claim forward.
pub async fn what_waits_is_pending(store: &dyn Store) {
    for (contact, id, seconds) in [("ann", "a1", 0), ("ann", "a2", 1), ("bob", "b1", 2)] {
        record(store, contact, id, seconds).await;
    }
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.of(State::Pending), counts.held_back), (3, 1));
    assert_eq!(counts.oldest_pending, Some(at(0)));
    assert_eq!(store.backlog().await.unwrap()[&SourceName::default()].events, 3);
    let batch = claim(store, 10, 10).await;
    assert_eq!(batch.runs.len(), 2);
    assert!(batch.next_due.is_none_or(|due| due >= at(10) + LEASE), "{:?}", batch.next_due);
    assert_eq!(state_of(store, "a2").await, State::Pending);
    let pending = EventFilter { state: Some(State::Pending), ..EventFilter::default() };
    let page = PageRequest { limit: 10, after: None };
    let page = store.list(&pending, page).await.unwrap();
    assert_eq!(page.events.iter().map(|event| event.id.as_str()).collect::<Vec<_>>(), ["a2"]);
    for work in batch.runs {
        settle(store, processed(work.claim, 11)).await;
    }
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.of(State::Pending), counts.held_back), (1, 0));
    assert_eq!(counts.oldest_pending, Some(at(1)), "it has waited since it came");
    process_only(store, "a2", 12).await;
    assert_eq!(store.counts().await.unwrap().oldest_pending, None);
}

/// Several at once, with retries, releases, dead letters and lost leases: each contact's runs come
/// one at a time and in order, and all of them end.
pub async fn concurrent_workers_keep_the_order(store: &dyn Store) {
    const EVENTS: usize = 60;
    let contact = |number: usize| ["ann", "bob"][usize::from(number.is_multiple_of(5))];
    let arrive = async |number: usize| {
        record(store, contact(number), &format!("e{number}"), 0).await;
    };
    for number in 0..EVENTS / 2 {
        arrive(number).await;
    }
    let mut arriving = EVENTS / 2;
    let mut ended: HashMap<&str, Vec<usize>> = HashMap::new();
    let mut now = 0;
    for round in 0_usize.. {
        assert!(round < 50 * EVENTS, "only these have ended: {ended:?}");
        now += 1;
        let batches = join_all((0..4).map(|_| claim(store, 2, now))).await;
        let works: Vec<_> = batches.into_iter().flat_map(|batch| batch.runs).collect();
        let mut settlements = Vec::new();
        let mut contacts = Vec::new();
        for work in works {
            let id: usize = work.key.id.as_str()[1..].parse().unwrap();
            assert!(!contacts.contains(&contact(id)), "two of one contact at once");
            contacts.push(contact(id));
            let so_far = ended.entry(contact(id)).or_default();
            assert!(so_far.last().is_none_or(|last| *last < id), "{id} after {so_far:?}");
            let verdict = match (round + id) % 5 {
                // Its worker vanishes.
                0 if work.attempt < 3 => {
                    now += 60;
                    continue;
                }
                1 if work.attempt < 3 => RunEnd::Retry { due: at(now + 1) },
                2 if round % 2 == 0 => RunEnd::Release,
                3 => RunEnd::GiveUp { reason: "no use".to_owned(), attempts: work.attempt },
                _ => RunEnd::Processed { contact: None },
            };
            if matches!(verdict, RunEnd::GiveUp { .. } | RunEnd::Processed { .. }) {
                so_far.push(id);
            }
            settlements.push(work.claim.settle(verdict, None, at(now)));
        }
        // Each run is settled alone, while other events arrive.
        let settled =
            join_all(settlements.iter().map(|one| store.settle(std::slice::from_ref(one))));
        let arrivals = (arriving..EVENTS.min(arriving + 2)).map(arrive);
        arriving = EVENTS.min(arriving + 2);
        let (answers, _) = join(settled, join_all(arrivals)).await;
        assert!(answers.into_iter().all(|answer| answer.unwrap()[0].took_effect()));
        if ended.values().map(Vec::len).sum::<usize>() == EVENTS {
            break;
        }
    }
    assert_eq!(store.counts().await.unwrap().held_back, 0);
}

/// Whichever of the two comes first, every event that arrived can be claimed when both are done.
pub async fn an_arrival_that_meets_an_end_is_not_left_behind(store: &dyn Store) {
    record(store, "ann", "first", 0).await;
    let mut head = claim_one(store, 0).await;
    for round in 1..100 {
        let id = |number: usize| format!("e{round}-{number}");
        let arrive = async |numbers: std::ops::Range<usize>| {
            join_all(numbers.map(async |number| record(store, "ann", &id(number), round).await))
                .await
        };
        let end = processed(head.claim, round);
        // Some are asked for before the end, some after it; some in the same batch.
        let arriving = usize::try_from(round % 4).unwrap();
        let end = settle(store, end);
        let ((before, settled), after) = join(join(arrive(0..arriving), end), arrive(4..5)).await;
        assert!(settled.took_effect());
        let arrived = before.len() + after.len();
        for left in (1..arrived).rev() {
            let work = claim_one(store, round).await;
            let settled = settle(store, processed(work.claim, round)).await;
            assert_eq!(settled, Settled::UnblockedNext, "{left} of round {round} wait");
        }
        head = claim_one(store, round).await;
    }
    assert_eq!(settle(store, processed(head.claim, 100)).await, Settled::Done);
    assert_eq!(store.counts().await.unwrap().held_back, 0);
}

/// Events of other contacts can be claimed. The event that stopped the contact may fail again. When it
/// succeeds, the next event of the contact becomes due.
pub async fn a_stopped_contact_waits_for_a_replay(store: &dyn Store) {
    for (contact, id) in [("ann", "a0"), ("ann", "a1"), ("ann", "a2"), ("bob", "b1")] {
        record(store, contact, id, 0).await;
    }
    let (mut runs, _) = ids(store, 0).await;
    settle(store, processed(runs.pop().unwrap().claim, 1)).await;
    settle(store, processed(runs.pop().unwrap().claim, 1)).await;
    let work = claim_only(store, "a1", 1).await;
    assert_eq!(settle(store, gave_up(work.claim, 1)).await, Settled::Done);
    record(store, "ann", "a3", 2).await;
    record(store, "bob", "b2", 2).await;
    let batch = claim(store, 10, 1000).await;
    assert_eq!((batch.runs.len(), batch.dead_letters.len()), (1, 1), "bob, and the dead letter");
    for claimed in batch.dead_letters {
        settle(store, claimed.claim.settle(DeadLetterEnd::Sent, at(1001))).await;
    }
    assert_eq!(state_of(store, "a1").await, State::DeadLettered);
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.held_back, counts.stopped_contacts), (2, 1));
    // Events that came before or after it have to wait as well.
    for id in ["a0", "a2"] {
        assert!(matches!(replay(store, id, 1002).await, ReplayClaim::Busy), "{id}");
    }
    let again = replay_now(store, "a1", 1002).await;
    assert_eq!(store.counts().await.unwrap().stopped_contacts, 0, "it is on its way again");
    assert_eq!(settle(store, gave_up(again.claim, 1003)).await, Settled::Done);
    assert_eq!(store.counts().await.unwrap().stopped_contacts, 1);
    let again = replay_now(store, "a1", 1004).await;
    assert_eq!(settle(store, processed(again.claim, 1005)).await, Settled::UnblockedNext);
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.held_back, counts.stopped_contacts), (1, 0));
    assert_eq!(process_only(store, "a2", 1005).await, Settled::UnblockedNext);
    assert_eq!(process_only(store, "a3", 1005).await, Settled::Done);
}

/// A bulk replay works too, and other events of the bulk replay wait for it.
pub async fn a_stopped_contact_goes_on_when_a_requeued_run_succeeds(store: &dyn Store) {
    for id in ["a1", "a2", "a3"] {
        record(store, "ann", id, 0).await;
    }
    process_only(store, "a1", 0).await;
    let work = claim_only(store, "a2", 0).await;
    settle(store, gave_up(work.claim, 1)).await;
    assert_eq!(requeue(store, &["a1"], 2).await, [Requeued::Scheduled]);
    nothing_is_due(store, 2).await;
    assert_eq!(requeue(store, &["a2"], 3).await, [Requeued::Scheduled]);
    let counts = store.counts().await.unwrap();
    assert_eq!((counts.held_back, counts.stopped_contacts), (2, 0));
    assert_eq!(process_only(store, "a2", 3).await, Settled::UnblockedNext);
    assert_eq!(process_only(store, "a1", 3).await, Settled::UnblockedNext);
    assert_eq!(process_only(store, "a3", 3).await, Settled::Done);
}

/// An unblocked event in its first run counts as due since it was received, so it does not wait
/// again behind other contacts' events. An event that runs again counts as due since it was
/// unblocked.
pub async fn what_waited_is_due_since_it_came(store: &dyn Store) {
    record(store, "ann", "a1", 0).await;
    record(store, "ann", "a2", 1).await;
    let head = claim_only(store, "a1", 1).await;
    record(store, "bob", "b1", 5).await;
    assert_eq!(settle(store, processed(head.claim, 20)).await, Settled::UnblockedNext);
    let head = claim_first(store, "a2", 20).await;
    assert_eq!(requeue(store, &["a1"], 21).await, [Requeued::Scheduled]);
    assert_eq!(settle(store, processed(head.claim, 22)).await, Settled::UnblockedNext);
    for id in ["b1", "a1"] {
        let work = claim_first(store, id, 22).await;
        assert_eq!(settle(store, processed(work.claim, 22)).await, Settled::Done);
    }
}

/// Claims one run, which has to be `id`; others may be due.
async fn claim_first(store: &dyn Store, id: &str, seconds: i64) -> ClaimedRun {
    let mut runs = claim(store, 1, seconds).await.runs;
    assert_eq!(runs.iter().map(|run| run.key.id.as_str()).collect::<Vec<_>>(), [id]);
    runs.remove(0)
}

/// If the dead-lettered event were purged, no call could unblock the events behind it.
pub async fn a_purge_spares_what_stops_a_contact(store: &dyn Store) {
    record(store, "ann", "a0", 0).await;
    process_only(store, "a0", 0).await;
    for (contact, id) in [("ann", "a1"), ("ann", "a2"), ("bob", "b1")] {
        record(store, contact, id, 0).await;
    }
    for work in ids(store, 0).await.0 {
        settle(store, gave_up(work.claim, 1)).await;
    }
    for claimed in claim(store, 10, 2).await.dead_letters {
        settle(store, claimed.claim.settle(DeadLetterEnd::Sent, at(2))).await;
    }
    assert_eq!(
        store.purge(PurgeRequest::all_before(at(1000), 10)).await.unwrap().purged.total_events(),
        1
    );
    assert!(store.find(&sample::key("a0")).await.unwrap().is_none(), "it was none of those");
    for id in ["a1", "b1"] {
        let again = replay_now(store, id, 3).await;
        settle(store, processed(again.claim, 3)).await;
    }
    assert_eq!(
        store.purge(PurgeRequest::all_before(at(1000), 10)).await.unwrap().purged.total_events(),
        2
    );
    assert_eq!(process_only(store, "a2", 4).await, Settled::Done);
    // Once it is purged, it blocks no other event.
    assert_eq!(record(store, "bob", "b1", 5).await, Recorded::New);
    assert_eq!(process_only(store, "b1", 5).await, Settled::Done);
}

/// A waiting event leaves its place, and one that is held makes way for the next.
pub async fn an_erased_event_lets_the_next_event_go(store: &dyn Store) {
    for id in ["a1", "a2", "a3"] {
        record(store, "ann", id, 0).await;
    }
    let held = claim_only(store, "a1", 0).await;
    let erase = async |id: &str| {
        let person = Person::UserId(format!("u-{id}"));
        store.erase(&person, "admin", at(1)).await.unwrap()
    };
    assert_eq!(erase("a2").await.events, 1);
    assert_eq!(store.counts().await.unwrap().held_back, 1);
    nothing_is_due(store, 1).await;
    assert_eq!(erase("a1").await.events, 1);
    assert_eq!(settle(store, processed(held.claim, 1)).await, Settled::LeaseLost);
    assert_eq!(process_only(store, "a3", 1).await, Settled::Done);
    assert_eq!(store.counts().await.unwrap().held_back, 0);
    record(store, "ann", "a4", 2).await;
    assert_eq!(process_only(store, "a4", 2).await, Settled::Done);
    assert_eq!(state_of(store, "a2").await, State::Discarded);
}

/// Discarding and erasing both end the stop.
pub async fn a_contact_goes_on_once_what_stopped_it_is_discarded(store: &dyn Store) {
    for id in ["a1", "a2", "a3"] {
        record(store, "ann", id, 0).await;
    }
    for (id, next) in [("a1", "a2"), ("a2", "a3")] {
        let work = claim_only(store, id, 1).await;
        assert_eq!(settle(store, gave_up(work.claim, 1)).await, Settled::Done);
        assert_eq!(store.counts().await.unwrap().stopped_contacts, 1);
        nothing_is_due(store, 2).await;
        if id == "a1" {
            let answers = store.discard(&[sample::key(id)], at(2)).await.unwrap();
            assert_eq!(answers, [Discarded::Done]);
        } else {
            let person = Person::UserId(format!("u-{id}"));
            assert_eq!(store.erase(&person, "admin", at(2)).await.unwrap().events, 1);
        }
        let counts = store.counts().await.unwrap();
        assert_eq!((counts.stopped_contacts, counts.unsent_dead_letters), (0, 0), "{next} is next");
    }
    assert_eq!(process_only(store, "a3", 2).await, Settled::Done);
}
