//! Handlers that settle their events themselves, in one step with their effects: the worker does
//! not settle them again, and everything else is the same as for any handler.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod scenario;

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use cognigy_core::{
    AttemptOutcome, Clock, Completion, Contact, Event, EventStore, Failure, Observation, Observer,
    ReplayOutcome, Settled, SettlingHandler, State,
    memory::MemoryStore,
    testing::{ManualClock, sample},
};
use scenario::{
    Operations, Scenario,
    store::{DistantStore, Line},
};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);

/// What happens in an attempt.
#[derive(Clone, Copy)]
enum Turn {
    /// The handler takes this long before it settles.
    Before(Duration),
    /// The answer to the settlement takes this long.
    After(Duration),
    Fails,
    Panics,
    /// The settlement takes effect, and its answer is lost.
    AnswerLost,
}

/// A book in which each entry takes effect together with the settlement.
#[derive(Clone)]
struct Book {
    store: Arc<MemoryStore>,
    clock: ManualClock,
    turns: Arc<Mutex<VecDeque<Turn>>>,
    entries: Arc<Mutex<Vec<String>>>,
}

impl Book {
    async fn enter(&self, event: &Event, completion: &Completion<'_>) -> Settled {
        // The text is logged, and must not name the contact.
        let shown = format!("{completion:?}");
        assert!(shown.starts_with("Completion { token: ") && !shown.contains("Ada"), "{shown}");
        let settled = self.store.settle(&[completion.settlement()]).await.unwrap()[0];
        if settled == Settled::Done {
            self.entries.lock().unwrap().push(event.idempotency_key());
        }
        settled
    }

    fn entries(&self) -> usize {
        self.entries.lock().unwrap().len()
    }

    async fn pass(&self, time: Duration) {
        self.clock.sleep_until(self.clock.now() + time).await;
    }
}

#[async_trait]
impl SettlingHandler for Book {
    async fn handle(
        &self,
        event: Arc<Event>,
        _contact: Option<Contact>,
        completion: Completion<'_>,
    ) -> Result<Settled, Failure> {
        let turn = self.turns.lock().unwrap().pop_front();
        match turn.unwrap_or(Turn::Before(Duration::ZERO)) {
            Turn::Before(time) => self.pass(time).await,
            Turn::After(time) => {
                let settled = self.enter(&event, &completion).await;
                self.pass(time).await;
                return Ok(settled);
            }
            Turn::Fails => return Err(Failure::transient("not now")),
            Turn::Panics => panic!("the handler was told to panic"),
            Turn::AnswerLost => {
                self.enter(&event, &completion).await;
                return Err(Failure::transient("no answer"));
            }
        }
        Ok(self.enter(&event, &completion).await)
    }
}

/// The attempts and leases that an observer is told of.
#[derive(Clone, Default)]
struct Ear(Arc<Mutex<Vec<&'static str>>>);

impl Observer for Ear {
    fn observe(&self, observation: &Observation<'_>) {
        let word = match observation {
            Observation::Attempt { outcome, .. } => outcome.as_str(),
            Observation::LeaseLost { .. } => "lease_lost",
            _ => return,
        };
        self.0.lock().unwrap().push(word);
    }
}

impl Ear {
    fn heard(&self) -> Vec<&'static str> {
        std::mem::take(&mut self.0.lock().unwrap())
    }
}

fn world(turns: impl IntoIterator<Item = Turn>) -> (Scenario, DistantStore, Book, Ear) {
    let clock = ManualClock::new(sample::start());
    let store = DistantStore::new(clock.clone());
    let turns = Arc::new(Mutex::new(turns.into_iter().collect()));
    let book = Book { store: store.near(), clock: clock.clone(), turns, entries: Arc::default() };
    let ear = Ear::default();
    let world = Scenario::built(clock, store.clone(), |pipeline| {
        pipeline.settling_handler(book.clone()).observer(ear.clone())
    });
    (world, store, book, ear)
}

#[test]
fn what_the_handler_has_settled_the_worker_does_not_settle_again() {
    let (mut world, store, book, ear) = world([]);
    // A call to the store over the worker's line would fail here.
    store.then("settle", Line::Breaks);
    world.start_worker();
    world.deliver("a");
    world.pass(SECOND);
    assert_eq!((world.state("a"), book.entries()), (State::Processed, 1));
    assert_eq!(store.left(), 1, "the worker settled nothing");
    assert_eq!(ear.heard(), ["succeeded"]);
    let stored = world.find("a");
    assert_eq!(stored.contact.unwrap().as_json(), r#"{"name":"Ada"}"#, "as the CRM knew it");
    let attempts = world.attempts("a");
    assert_eq!((attempts.len(), attempts[0].outcome), (1, AttemptOutcome::Succeeded));
    // The worker's capacity is free again: many more events than it holds go through.
    (0..2000).for_each(|n| drop(world.deliver(&format!("e{n}"))));
    world.pass(MINUTE);
    assert_eq!(world.counts().of(State::Processed), 2001);
}

#[test]
fn what_fails_panics_or_takes_too_long_is_retried_and_then_dead_lettered() {
    let (mut world, _, book, _) =
        world([Turn::Fails, Turn::Panics, Turn::Before(MINUTE * 60), Turn::Fails]);
    world.start_worker();
    world.deliver("a");
    world.pass(MINUTE * 30);
    assert_eq!((world.state("a"), book.entries()), (State::DeadLettered, 0));
    let errors: Vec<_> = world.attempts("a").into_iter().map(|one| one.error.unwrap()).collect();
    assert_eq!(
        errors,
        ["not now", "the attempt panicked", "the attempt took longer than 120s", "not now"]
    );
    assert_eq!(world.dead_letters().len(), 1);
}

#[test]
fn a_renewal_that_finds_the_claim_settled_does_not_stop_the_attempt_that_settled_it() {
    let (mut world, _, book, ear) = world([Turn::After(SECOND * 30), Turn::After(SECOND * 30)]);
    world.start_worker();
    world.deliver("a");
    world.pass(MINUTE);
    assert_eq!((world.state("a"), book.entries()), (State::Processed, 1));
    assert_eq!(ear.heard(), ["succeeded"], "no lease was lost");
    // An operator's replay gets the same answer.
    let replay = world.begin_replay("a");
    world.pass(MINUTE);
    let outcome = replay.lock().unwrap().take().expect("it has ended").unwrap();
    assert!(matches!(outcome, ReplayOutcome::Replayed(Some(_))), "{outcome:?}");
    assert_eq!((ear.heard(), book.entries()), (vec!["succeeded"], 2), "a run of its own");
}

#[test]
fn a_settlement_that_comes_too_late_changes_nothing_and_is_not_tried_again() {
    let (mut world, store, book, ear) = world([Turn::Before(SECOND * 10)]);
    world.start_worker();
    world.deliver("a");
    world.pass(SECOND);
    // Another worker has claimed it meanwhile, by a clock of its own.
    let late = world.clock.now() + MINUTE * 2;
    let request = cognigy_core::ClaimRequest {
        source: cognigy_core::SourceName::default(),
        runs: 1,
        dead_letters: 0,
        lease: MINUTE * 60,
        now: late,
    };
    let other = futures_executor::block_on(store.near().claim_due(request)).unwrap();
    assert_eq!(other.runs.len(), 1);
    store.then("settle", Line::Breaks);
    world.pass(SECOND * 15);
    assert_eq!((book.entries(), world.state("a")), (0, State::Processing));
    assert_eq!((ear.heard(), store.left()), (vec!["lease_lost"], 1));
}

#[test]
fn an_attempt_whose_lease_cannot_be_renewed_is_dropped_before_it_settles() {
    let (mut world, store, book, ear) = world([Turn::Before(SECOND * 100)]);
    (0..40).for_each(|_| store.then("renew", Line::Breaks));
    world.start_worker();
    world.deliver("a");
    world.pass(SECOND * 59);
    assert_eq!((ear.heard(), book.entries()), (vec!["lease_lost"], 0));
    world.pass(MINUTE * 5);
    assert_eq!((world.state("a"), book.entries()), (State::Processed, 1), "by a later attempt");
}

#[test]
fn a_settlement_whose_answer_was_lost_makes_the_worker_s_own_void() {
    let (mut world, _, book, ear) = world([Turn::AnswerLost]);
    world.start_worker();
    world.deliver("a");
    world.pass(MINUTE * 5);
    assert_eq!((world.state("a"), book.entries()), (State::Processed, 1));
    assert_eq!(ear.heard(), ["failed_transient", "lease_lost"], "and no second attempt");
    assert_eq!(world.attempts("a").len(), 1);
    assert_eq!(world.attempts("a")[0].outcome, AttemptOutcome::Succeeded);
}
