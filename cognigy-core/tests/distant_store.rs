//! A store that hangs, breaks or answers late: nothing runs twice at the same time, and no worker
//! is lost to a call that never comes back.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod scenario;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use cognigy_core::{
    AttemptOutcome, ClaimRequest, Clock, Contact, Event, EventArchive, EventStore, Observation,
    Observer, ReplayOutcome, SourceName, State, Timestamp, WorkerOptions,
    testing::{CrmAnswer, ManualClock, sample},
};
use futures_executor::block_on;
use scenario::{
    Operations, Scenario,
    store::{DistantStore, Line},
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// Counts how many attempts run in the handler at the same time.
#[derive(Clone, Default)]
struct Crowd {
    now: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    all: Arc<AtomicUsize>,
}

struct Inside(Arc<AtomicUsize>);

/// Observes the store calls that failed.
struct Heard(Arc<Mutex<Vec<String>>>);

impl Observer for Heard {
    fn observe(&self, observation: &Observation<'_>) {
        if let Observation::StoreError { operation, error } = observation {
            self.0.lock().unwrap().push(format!("{operation}: {error}"));
        }
    }
}

impl Crowd {
    fn enter(&self) -> Inside {
        self.all.fetch_add(1, Ordering::Relaxed);
        let inside = self.now.fetch_add(1, Ordering::Relaxed) + 1;
        self.most.fetch_max(inside, Ordering::Relaxed);
        Inside(Arc::clone(&self.now))
    }

    fn now(&self) -> usize {
        self.now.load(Ordering::Relaxed)
    }

    fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    fn all(&self) -> usize {
        self.all.load(Ordering::Relaxed)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The failures that a lease survives: how many renewals meet which line.
const TROUBLED_RENEWALS: [(Line, usize); 4] = [
    (Line::Breaks, 0),
    (Line::Slow(Duration::from_secs(15)), 100),
    (Line::Breaks, 3),
    (Line::Hangs, 1),
];

/// Another worker, whose clock is a minute ahead, claims the one event that is leased.
fn take_over(store: &DistantStore, now: Timestamp) {
    let taken = block_on(store.near().claim_due(ClaimRequest {
        source: SourceName::default(),
        runs: 1,
        dead_letters: 0,
        lease: MINUTE,
        now: now + MINUTE,
    }));
    assert_eq!(taken.unwrap().runs.len(), 1);
}

/// A world whose handler takes `time`, and whose store is behind a line.
fn world(time: Duration) -> (Scenario, DistantStore, Crowd) {
    let crowd = Crowd::default();
    let clock = ManualClock::new(sample::start());
    let store = DistantStore::new(clock.clone());
    let (seen, wall) = (crowd.clone(), clock.clone());
    let handler = move |_: Arc<Event>, _: Option<Contact>| {
        let (inside, done) = (seen.enter(), wall.sleep_until(wall.now() + time));
        async move {
            done.await;
            drop(inside);
            Ok(())
        }
    };
    (Scenario::with_parts(clock, store.clone(), handler), store, crowd)
}

#[test]
fn a_store_call_that_hangs_does_not_hang_the_worker() {
    for operation in ["claim", "renew", "settle"] {
        let (mut world, store, _) = world(SECOND * 30);
        store.then(operation, Line::Hangs);
        world.start_worker();
        world.pass(SECOND);
        world.deliver("a");
        world.pass(MINUTE * 3);
        assert_eq!(store.left(), 0, "{operation} hung");
        assert_eq!(world.state("a"), State::Processed, "{operation} hung once");
        world.deliver("b");
        world.pass(MINUTE * 3);
        assert_eq!(world.state("b"), State::Processed, "and the worker goes on");
    }
}

#[test]
fn a_claim_goes_out_beside_a_settlement_and_only_one() {
    let (mut world, store, crowd) = world(Duration::ZERO);
    (0..20).for_each(|n| drop(world.deliver(&n.to_string())));
    store.then("settle", Line::Slow(SECOND * 10));
    let options = WorkerOptions { concurrency: 4, batch: 4, ..WorkerOptions::default() };
    world.start_worker_with(options);
    world.pass(SECOND * 9);
    assert_eq!(
        crowd.all(),
        8,
        "four are being settled, as many more are done; no further are held"
    );
    world.pass(SECOND * 2);
    assert_eq!((crowd.all(), world.counts().of(State::Processed)), (20, 20));
}

#[test]
fn an_attempt_ends_with_its_lease_when_renewing_fails() {
    let (mut world, store, crowd) = world(SECOND * 100);
    (0..100).for_each(|_| store.then("renew", Line::Breaks));
    world.start_worker();
    world.start_worker();
    world.deliver("a");
    world.pass(SECOND * 59);
    assert_eq!(crowd.all(), 1, "leased");
    world.pass(MINUTE * 20);
    assert!(crowd.all() > 1, "taken over");
    assert_eq!(crowd.most(), 1, "but never run twice at the same time");
    assert_eq!(world.attempts("a")[0].outcome, AttemptOutcome::LeaseExpired);
}

#[test]
fn only_the_attempt_whose_lease_ran_out_ends() {
    let (mut world, store, crowd) = world(SECOND * 100);
    (0..100).for_each(|_| store.then("renew", Line::Breaks));
    world.start_worker();
    world.deliver("a");
    world.pass(SECOND * 30);
    world.deliver("b");
    world.pass(SECOND * 28);
    assert_eq!((crowd.all(), crowd.now()), (2, 1), "the first is abandoned");
    world.pass(SECOND * 28);
    assert_eq!(world.attempts("b"), [], "leased for thirty seconds longer");
}

#[test]
fn who_slept_through_a_lease_drops_what_was_begun_under_it() {
    let (mut world, _, crowd) = world(SECOND * 100);
    world.start_worker();
    world.deliver("a");
    world.pass(SECOND);
    world.pause(SECOND * 70);
    assert_eq!((crowd.all(), crowd.most()), (2, 1), "begun again, once the first was dropped");
    assert_eq!(world.attempts("a")[0].outcome, AttemptOutcome::LeaseExpired);
}

#[test]
fn a_renewal_that_fails_is_repeated_while_there_is_time() {
    for (line, times) in TROUBLED_RENEWALS {
        let (mut world, store, crowd) = world(SECOND * 110);
        (0..times).for_each(|_| store.then("renew", line));
        world.start_worker();
        world.start_worker();
        world.deliver("a");
        world.pass(SECOND * 111);
        assert_eq!((world.state("a"), crowd.all()), (State::Processed, 1), "{line:?}");
    }
}

#[test]
fn an_attempt_whose_event_was_taken_over_stops_at_its_next_renewal() {
    let (mut world, store, crowd) = world(SECOND * 100);
    world.start_worker();
    world.deliver("a");
    world.pass(SECOND);
    take_over(&store, world.clock.now());
    assert_eq!(crowd.now(), 1);
    world.pass(SECOND * 20);
    assert_eq!((crowd.now(), crowd.all()), (0, 1));
}

#[test]
fn what_waited_for_a_place_longer_than_its_lease_is_left_alone() {
    let (mut world, store, crowd) = world(SECOND * 57);
    (0..100).for_each(|_| store.then("renew", Line::Breaks));
    let options = WorkerOptions { concurrency: 1, batch: 2, ..WorkerOptions::default() };
    world.start_worker_with(options);
    world.deliver("a");
    world.deliver("b");
    world.pass(SECOND * 58);
    assert_eq!(crowd.all(), 1, "the second is not begun when its lease ends");
    world.stop();
    assert_eq!(world.ended(), 1, "and not held");
}

#[test]
fn a_dead_letter_that_waited_longer_than_its_lease_is_not_sent_twice() {
    let (mut world, store, _) = world(Duration::ZERO);
    world.crm.set_default(CrmAnswer::Permanent("no".into()));
    (0..50).for_each(|number| drop(world.deliver(&number.to_string())));
    world.sink.set_hanging(true);
    (0..2).for_each(|_| store.then("renew", Line::Hangs));
    world.start_worker();
    world.pass(SECOND * 59);
    assert_eq!(world.sink.hung(), 40, "ten wait in the worker, and their leases have ended");
    world.pass(SECOND * 60);
    world.sink.set_hanging(false);
    world.pass(SECOND * 5);
    assert_eq!((world.dead_letters().len(), world.counts().of(State::DeadLettered)), (50, 50));
}

#[test]
fn a_lease_counts_from_when_the_claim_was_asked_for() {
    let (mut world, store, crowd) = world(SECOND * 50);
    store.then("claim", Line::Slow(SECOND * 50));
    world.start_worker();
    world.deliver("a");
    world.pass(SECOND * 50);
    assert_eq!(crowd.all(), 1, "ten seconds of its lease are left");
    world.start_worker();
    (0..20).for_each(|_| store.then("renew", Line::Breaks));
    world.pass(MINUTE * 5);
    assert_eq!(world.state("a"), State::Processed);
    assert_eq!((crowd.all(), crowd.most()), (2, 1), "taken over, not run twice at the same time");
}

#[test]
fn claims_that_are_answered_after_their_lease_are_not_worked_on() {
    let (mut world, store, crowd) = world(SECOND * 30);
    store.then("claim", Line::Slow(SECOND * 61));
    world.start_worker();
    world.deliver("a");
    world.pass(SECOND * 50);
    world.start_worker();
    world.pass(MINUTE * 5);
    assert_eq!(world.state("a"), State::Processed);
    assert_eq!((crowd.all(), crowd.most()), (1, 1), "only the worker that took it over ran it");
}

#[test]
fn a_replay_ends_with_its_lease_when_renewing_hangs() {
    let (mut world, store, crowd) = world(SECOND * 100);
    world.deliver("a");
    (0..20).for_each(|_| store.then("renew", Line::Hangs));
    let replay = world.begin_replay("a");
    world.pass(SECOND);
    assert_eq!(crowd.all(), 1, "the replay runs");
    world.start_worker();
    world.pass(SECOND * 58);
    assert_eq!(crowd.all(), 1, "leased");
    world.pass(SECOND * 2);
    assert!(replay.lock().unwrap().take().expect("it ended").is_err(), "its operator is told");
    assert_eq!((crowd.all(), crowd.most()), (2, 1), "a worker carries it on alone");
}

#[test]
fn a_replay_goes_on_while_a_renewal_is_slow() {
    let (mut world, store, crowd) = world(SECOND * 30);
    world.deliver("a");
    store.then("renew", Line::Slow(SECOND * 19));
    let replay = world.begin_replay("a");
    world.pass(SECOND * 30);
    assert!(replay.lock().unwrap().take().expect("on time").is_ok());
    assert_eq!((world.state("a"), crowd.all()), (State::Processed, 1));
}

#[test]
fn a_replay_that_outlasts_its_lease_renews_it_through_breaks_hangs_and_slow_answers() {
    for (line, times) in TROUBLED_RENEWALS {
        let (mut world, store, crowd) = world(SECOND * 110);
        world.deliver("a");
        (0..times).for_each(|_| store.then("renew", line));
        let replay = world.begin_replay("a");
        world.start_worker();
        world.pass(SECOND * 110);
        let outcome = replay.lock().unwrap().take().expect("on time").expect("renewed");
        assert!(matches!(outcome, ReplayOutcome::Replayed(_)), "{line:?}: {outcome:?}");
        assert_eq!(crowd.all(), 1, "{line:?}: no other worker took it over");
    }
}

#[test]
fn a_replay_whose_event_was_taken_over_stops_at_its_next_renewal() {
    let (mut world, store, crowd) = world(SECOND * 100);
    world.deliver("a");
    let replay = world.begin_replay("a");
    world.pass(SECOND);
    assert_eq!(crowd.all(), 1, "the replay runs");
    take_over(&store, world.clock.now());
    world.pass(SECOND * 20);
    let outcome = replay.lock().unwrap().take().expect("stopped long before its handler is done");
    assert!(matches!(outcome, Ok(ReplayOutcome::Busy)), "{outcome:?}");
}

#[test]
fn a_shared_store_is_no_readier_than_it_is() {
    let store = DistantStore::new(ManualClock::new(sample::start()));
    store.then("ready", Line::Breaks);
    let shared = Arc::new(store);
    assert!(block_on(shared.ready()).is_err());
    assert!(block_on(shared.ready()).is_ok());
}

#[test]
fn what_the_store_could_not_do_is_told() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let clock = ManualClock::new(sample::start());
    let store = DistantStore::new(clock.clone());
    for operation in ["claim", "settle", "renew"] {
        store.then(operation, Line::Breaks);
    }
    let observer = Heard(Arc::clone(&told));
    let mut world = Scenario::built(clock, store, |pipeline| pipeline.observer(observer));
    world.crm.then([CrmAnswer::Hang]);
    world.start_worker();
    world.deliver("hangs until its time is up, and has its lease renewed");
    world.deliver("b");
    world.pass(MINUTE * 5);
    let no_line = |operation| format!("{operation}: the event store is unavailable: no line");
    let mut told = told.lock().unwrap().clone();
    told.sort_unstable();
    assert_eq!(told, ["claim", "renew", "settle"].map(no_line));
}

#[test]
fn an_announcement_during_a_claim_is_not_forgotten() {
    let (mut world, store, crowd) = world(SECOND * 2);
    let poll_interval = MINUTE * 60;
    world.start_worker_with(WorkerOptions { poll_interval, ..WorkerOptions::default() });
    world.deliver("a");
    world.pass(SECOND);
    store.then("claim", Line::Slow(SECOND * 5));
    world.deliver("b");
    world.pass(SECOND / 2);
    world.deliver("c");
    // "a" ends meanwhile, and the worker looks up from its claim.
    world.pass(SECOND * 8);
    assert_eq!(crowd.all(), 3);
    assert_eq!(world.state("c"), State::Processed, "without waiting an hour");
}
