//! What becomes of an accepted event: its attempts, retries, leases and dead letters, and how a worker
//! stops. Each test is told as an operator would see it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod scenario;

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use cognigy_core::{
    AttemptOutcome, Clock, Contact, DeadLetter, DeadLetterSink, Event, EventType, Failure,
    NoHandler, Observation, Observer, ReplayOutcome, State, WorkerOptions,
    memory::MemoryStore,
    testing::{CrmAnswer, ManualClock, ScriptedSink, sample},
};
use futures_executor::block_on;
use scenario::{Scenario, store::DistantStore};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_secs(60);
const DOWN: fn() -> CrmAnswer = || CrmAnswer::Transient("CRM answered 503".into());

/// Observes how each look-up ended.
struct LookUps(Arc<Mutex<Vec<&'static str>>>);

impl Observer for LookUps {
    fn observe(&self, observation: &Observation<'_>) {
        if let Observation::CrmRequest { outcome, .. } = observation {
            self.0.lock().unwrap().push(outcome.as_str());
        }
    }
}

#[test]
fn an_accepted_event_is_processed_with_its_contact() {
    let mut world = Scenario::new();
    world.start_worker();
    assert_eq!(world.deliver("a").body().as_ref(), br#"{"status":"accepted"}"#);
    world.pass(Duration::ZERO);
    let stored = world.find("a");
    assert_eq!(stored.state, State::Processed);
    let contact = stored.contact.unwrap();
    assert_eq!(contact.as_json(), r#"{"name":"Ada"}"#);
    assert_eq!(contact.to_string(), contact.as_json());
    assert_eq!(world.crm.queries()[0].contact_key, "c-a");
}

#[test]
fn a_handler_sees_all_that_was_sent() {
    let events = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&events);
    let mut world = Scenario::with_handler(move |event: Arc<Event>, _: Option<Contact>| {
        seen.lock().unwrap().push(event);
        async { Ok(()) }
    });
    world.start_worker();
    world.deliver("a");
    world.pass(Duration::ZERO);
    let event = events.lock().unwrap().pop().unwrap();
    assert_eq!((event.key(), event.id()), (&sample::key("a"), "a"));
    assert_eq!(event.kind(), &EventType::UserInputReceived);
    assert_eq!(event.time().as_json(), r#""2026-01-01T00:00:00Z""#);
    assert_eq!((event.external_id(), event.user_id()), (Some("c-a"), Some("u-a")));
    assert_eq!(event.contact_key(), Some("c-a"));
    assert_eq!((event.received_at(), event.run()), (world.clock.now(), 1));
    assert_eq!(event.body(), &sample::body("a"));
    let payload: serde_json::Value = event.payload().unwrap();
    assert_eq!(payload, serde_json::json!({ "input": "hello" }));
}

#[test]
fn without_a_contact_key_the_crm_is_not_asked() {
    let mut world = Scenario::new();
    world.start_worker();
    let body = r#"{"eventId":"a","timestamp":1,"type":"DIALOG_ENDED","payload":{},"externalId":"","userId":null}"#;
    block_on(world.pipeline.ingest(sample::delivery(body), world.clock.now()));
    world.pass(SECOND);
    assert_eq!((world.state("a"), world.find("a").contact), (State::Processed, None));
    assert!(world.crm.queries().is_empty());
}

#[test]
fn how_each_look_up_ended_is_told() {
    let told = Arc::new(Mutex::new(Vec::new()));
    let clock = ManualClock::new(sample::start());
    let observer = LookUps(Arc::clone(&told));
    let mut world =
        Scenario::built(clock, MemoryStore::new(), |pipeline| pipeline.observer(observer));
    let found = CrmAnswer::Found("{}".into());
    world.crm.then([found, CrmAnswer::Nobody, DOWN(), CrmAnswer::Permanent("no".into())]);
    world.start_worker();
    for id in ["a", "b", "c", "d"] {
        world.deliver(id);
        world.pass(Duration::ZERO);
    }
    assert_eq!(*told.lock().unwrap(), ["found", "not_found", "transient", "permanent"]);
}

#[test]
fn a_crm_that_recovers_costs_retries_and_nothing_else() {
    let mut world = Scenario::new();
    world.crm.then([DOWN(), DOWN()]);
    world.start_worker();
    world.deliver("a");
    world.pass(SECOND * 10);
    assert_eq!(world.state("a"), State::Processed);
    let outcomes: Vec<_> = world.attempts("a").iter().map(|attempt| attempt.outcome).collect();
    use AttemptOutcome::{FailedTransient, Succeeded};
    assert_eq!(outcomes, [FailedTransient, FailedTransient, Succeeded]);
    let keys: Vec<_> = world.crm.queries().into_iter().map(|query| query.idempotency_key).collect();
    assert_eq!(keys, vec!["cognigy/a/1"; 3], "one stable key");
}

#[test]
fn a_crm_that_stays_down_means_four_attempts_and_one_dead_letter() {
    let mut world = Scenario::new();
    world.crm.set_default(DOWN());
    world.start_worker();
    world.deliver("a");
    world.pass(SECOND * 3600);
    assert_eq!(world.crm.queries().len(), 4);
    assert_eq!(world.state("a"), State::DeadLettered);
    let dead_letters = world.dead_letters();
    assert_eq!(dead_letters.len(), 1);
    assert_eq!(dead_letters[0].error_message, "gave up after 4 attempts: CRM answered 503");
    assert_eq!((dead_letters[0].attempts, dead_letters[0].run), (4, 1));
    assert_eq!(dead_letters[0].raw_payload, sample::body("a"));
    let starts: Vec<_> = world.attempts("a").iter().map(|attempt| attempt.started_at).collect();
    for (pair, delay) in starts.windows(2).zip([2.0, 4.0, 8.0]) {
        let waited = (pair[1] - pair[0]).to_std().unwrap().as_secs_f64();
        assert!((delay / 2.0..=delay + 0.001).contains(&waited), "{waited} of {delay}");
    }
}

#[test]
fn a_permanent_failure_is_dead_lettered_at_once() {
    let mut world = Scenario::new();
    world.crm.set_default(CrmAnswer::Permanent("CRM answered 403".into()));
    world.start_worker();
    world.deliver("a");
    world.pass(SECOND);
    assert_eq!(world.crm.queries().len(), 1);
    assert_eq!(world.dead_letters()[0].error_message, "gave up after 1 attempt: CRM answered 403");
}

#[test]
fn a_sink_that_is_down_is_tried_until_it_is_up() {
    let mut world = Scenario::new();
    world.crm.set_default(CrmAnswer::Permanent("no".into()));
    world.sink.set_down(true);
    world.start_worker();
    world.deliver("a");
    world.pass(SECOND * 3600);
    assert_eq!(world.state("a"), State::DeadLettering);
    let tries = world.sink.refused();
    assert!((60..200).contains(&tries), "{tries} tries in an hour, at most a minute apart");
    world.sink.set_down(false);
    world.pass(SECOND * 61);
    assert_eq!((world.state("a"), world.dead_letters().len()), (State::DeadLettered, 1));
}

#[test]
fn a_sink_that_hangs_takes_no_event_s_place() {
    let mut world = Scenario::new();
    world.crm.set_default(CrmAnswer::Permanent("no".into()));
    world.sink.set_hanging(true);
    world.start_worker();
    for number in 0..1000 {
        world.deliver(&format!("dead{number}"));
    }
    world.pass(SECOND);
    assert_eq!(world.counts().unsent_dead_letters, 1000);
    assert!(world.sink.hung() > 0, "the sink was asked");
    world.crm.set_default(CrmAnswer::Nobody);
    for number in 0..1000 {
        world.deliver(&format!("new{number}"));
    }
    world.pass(Duration::ZERO);
    assert_eq!(world.counts().of(State::Processed), 1000, "none waited for the sink");

    world.sink.set_hanging(false);
    world.pass(MINUTE * 10);
    assert_eq!(world.counts().of(State::DeadLettered), 1000);
    assert_eq!(world.dead_letters().len(), 1000);
}

/// A sink that accepts everything and takes a second for each call.
struct SlowSink(ScriptedSink, ManualClock);

#[async_trait]
impl DeadLetterSink for SlowSink {
    async fn send(&self, batch: &[DeadLetter]) -> Vec<Result<(), Failure>> {
        let answer = self.0.send(batch).await;
        self.1.sleep_until(self.1.now() + SECOND).await;
        answer
    }
}

/// The world, and the sink behind the slow one.
fn a_hundred_letters_for_a_slow_sink() -> (Scenario, ScriptedSink) {
    let clock = ManualClock::new(sample::start());
    let taken = ScriptedSink::new();
    let sink = SlowSink(taken.clone(), clock.clone());
    let mut world =
        Scenario::built(clock, MemoryStore::new(), |pipeline| pipeline.dead_letters(sink));
    world.crm.set_default(CrmAnswer::Permanent("no".into()));
    world.start_worker();
    for number in 0..100 {
        world.deliver(&format!("dead{number}"));
    }
    (world, taken)
}

#[test]
fn a_crash_repeats_only_the_letters_that_were_on_their_way() {
    let (mut world, taken) = a_hundred_letters_for_a_slow_sink();
    world.pass(SECOND * 3 / 2);
    assert_eq!(world.counts().of(State::DeadLettered), 40, "they are settled as they go");
    assert_eq!(taken.received().len(), 80);
    world.crash();
    world.start_worker();
    world.pass(MINUTE * 2);
    assert_eq!(world.counts().of(State::DeadLettered), 100);
    assert_eq!(taken.received().len(), 140);
}

#[test]
fn a_stop_gives_letters_back_that_were_not_sent() {
    let (mut world, taken) = a_hundred_letters_for_a_slow_sink();
    world.pass(SECOND / 2);
    world.stop();
    world.pass(SECOND);
    assert_eq!(world.counts().of(State::DeadLettered), 40, "those on their way arrive");
    world.start_worker();
    world.pass(SECOND * 2);
    assert_eq!(world.counts().of(State::DeadLettered), 100, "no event waits for a lease to end");
    assert_eq!(taken.received().len(), 100);
}

#[test]
fn a_crm_that_hangs_takes_no_dead_letter_s_place() {
    let mut world = Scenario::new();
    world.crm.set_default(CrmAnswer::Permanent("no".into()));
    world.sink.set_down(true);
    world.start_worker();
    for number in 0..1000 {
        world.deliver(&format!("dead{number}"));
    }
    world.pass(SECOND);
    world.crm.set_default(CrmAnswer::Hang);
    for number in 0..2000 {
        world.deliver(&format!("stuck{number}"));
    }
    world.pass(SECOND);
    assert_eq!(world.counts().of(State::Processing), 1024, "every place for runs is taken");
    world.sink.set_down(false);
    world.pass(MINUTE);
    assert_eq!(world.dead_letters().len(), 1000);
}

#[test]
fn a_replay_runs_once_now_and_keeps_the_history() {
    let mut world = Scenario::new();
    world.crm.set_default(DOWN());
    world.start_worker();
    world.deliver("a");
    world.pass(SECOND * 60);

    let failed = world.replay("a");
    assert!(matches!(failed, ReplayOutcome::Failed(reason) if reason == "CRM answered 503"));
    world.pass(SECOND);
    let dead_letters = world.dead_letters();
    assert_eq!(dead_letters.len(), 2, "a failed replay is a dead letter of its own");
    assert_eq!(dead_letters[1].error_message, "Replay failed: CRM answered 503");
    assert_eq!(dead_letters[1].run, 2);

    world.crm.set_default(CrmAnswer::Nobody);
    assert!(matches!(world.replay("a"), ReplayOutcome::Replayed(None)));
    assert_eq!(world.state("a"), State::Processed);
    let runs: Vec<_> = world.attempts("a").iter().map(|a| (a.run, a.number)).collect();
    assert_eq!(runs, [(1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (3, 1)]);
    assert!(matches!(world.replay("unknown"), ReplayOutcome::NotFound));
}

#[test]
fn an_updated_profile_and_a_replay_ask_for_a_fresh_answer() {
    let mut world = Scenario::new();
    world.start_worker();
    world.deliver("a");
    let updated = String::from_utf8(sample::body("b").to_vec())
        .unwrap()
        .replace("USER_INPUT_RECEIVED", "PROFILE_UPDATED")
        .replace("\"input\"", "\"profile\"");
    let delivery = sample::delivery(updated);
    assert_eq!(block_on(world.pipeline.ingest(delivery, world.clock.now())).status(), 200);
    world.pass(Duration::ZERO);
    world.replay("a");
    let asked: Vec<_> = world
        .crm
        .queries()
        .into_iter()
        .map(|query| (query.idempotency_key.replace("cognigy/", ""), query.fresh))
        .collect();
    let expected = [("a/1", false), ("b/1", true), ("a/2", true)];
    assert_eq!(asked, expected.map(|(key, fresh)| (key.to_owned(), fresh)));
}

#[test]
fn a_crash_loses_nothing_and_the_lease_gives_the_event_back() {
    let mut world = Scenario::new();
    world.crm.then([CrmAnswer::Hang]);
    world.start_worker();
    world.deliver("a");
    world.pass(SECOND);
    assert_eq!(world.state("a"), State::Processing);
    world.crash();
    world.start_worker();
    world.pass(SECOND * 58);
    assert_eq!(world.state("a"), State::Processing, "leased");
    world.pass(SECOND * 2);
    assert_eq!(world.state("a"), State::Processed);
    assert_eq!(world.attempts("a")[0].outcome, AttemptOutcome::LeaseExpired);
}

#[test]
fn an_event_that_kills_its_worker_every_time_is_given_up() {
    let mut world = Scenario::new();
    world.crm.set_default(CrmAnswer::Hang);
    world.deliver("a");
    for _ in 0..10 {
        world.start_worker();
        world.pass(SECOND);
        world.crash();
        world.pass(SECOND * 60);
    }
    world.start_worker();
    world.pass(SECOND);
    assert_eq!(world.crm.queries().len(), 10, "and no call more");
    assert_eq!(world.state("a"), State::DeadLettered);
    let dead_letter = &world.dead_letters()[0];
    assert_eq!(dead_letter.attempts, 0, "none of them ended");
    assert!(dead_letter.error_message.contains("lost 10 times"), "{}", dead_letter.error_message);
}

#[test]
fn nodes_that_die_use_up_no_attempt_of_an_event() {
    let mut world = Scenario::new();
    world.crm.then(std::iter::repeat_n(CrmAnswer::Hang, 6));
    world.deliver("a");
    for _ in 0..6 {
        world.start_worker();
        world.pass(SECOND);
        world.crash();
        world.pass(SECOND * 60);
    }
    world.crm.then([DOWN(), DOWN(), DOWN()]);
    world.start_worker();
    world.pass(SECOND * 60);
    assert_eq!(world.state("a"), State::Processed, "four attempts of its own are left to it");
    let outcomes: Vec<_> = world.attempts("a").iter().map(|attempt| attempt.outcome).collect();
    assert_eq!(outcomes[..6], [AttemptOutcome::LeaseExpired; 6]);
    assert_eq!(outcomes[6..9], [AttemptOutcome::FailedTransient; 3]);
    assert_eq!(outcomes[9..], [AttemptOutcome::Succeeded]);
}

#[test]
fn leases_are_renewed_while_work_lasts() {
    let mut world = Scenario::new();
    world.crm.then([CrmAnswer::Hang]);
    world.start_worker();
    world.start_worker();
    world.deliver("a");
    world.pass(SECOND * 119);
    assert_eq!(world.crm.queries().len(), 1, "no other worker took it for two leases");
    world.pass(SECOND * 10);
    assert_eq!(world.attempts("a")[0].outcome, AttemptOutcome::FailedTransient);
    assert_eq!(world.state("a"), State::Processed, "the hung attempt timed out and was retried");
}

#[test]
fn a_slow_event_does_not_hold_up_the_others() {
    let mut world = Scenario::new();
    world.crm.then([CrmAnswer::Hang]);
    world.start_worker();
    for number in 0..1000 {
        world.deliver(&format!("e{number}"));
    }
    world.pass(SECOND);
    assert_eq!(world.counts().of(State::Processed), 999);
}

#[test]
fn a_panic_harms_its_own_event_only() {
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&calls);
    let mut world = Scenario::with_handler(move |event: Arc<Event>, _: Option<Contact>| {
        let seen = Arc::clone(&seen);
        async move {
            seen.fetch_add(1, Ordering::Relaxed);
            assert_ne!(event.id(), "poison", "the handler was told to panic");
            Ok(())
        }
    });
    world.start_worker();
    for id in ["a", "poison", "b"] {
        world.deliver(id);
    }
    world.pass(SECOND * 60);
    assert_eq!((world.state("a"), world.state("b")), (State::Processed, State::Processed));
    assert_eq!(world.state("poison"), State::DeadLettered);
    assert_eq!(calls.load(Ordering::Relaxed), 2 + 4);
    let message = &world.dead_letters()[0].error_message;
    assert_eq!(message, "gave up after 4 attempts: the attempt panicked");
}

#[test]
fn a_handler_s_failures_are_retried_or_not_as_it_says() {
    let mut world = Scenario::with_handler(|event: Arc<Event>, _: Option<Contact>| async move {
        match event.payload::<serde_json::Value>() {
            Ok(_) if event.id() == "later" => {
                Err(Failure::transient("busy").retry_after(SECOND * 100))
            }
            _ => Err(Failure::permanent("never")),
        }
    });
    world.start_worker();
    world.deliver("later");
    world.deliver("never");
    world.pass(SECOND * 99);
    assert_eq!(world.attempts("later").len(), 1, "not before the time it named");
    assert_eq!(world.state("never"), State::DeadLettered);
    world.pass(SECOND * 4);
    assert_eq!(world.attempts("later").len(), 2);
}

#[test]
fn a_stop_gives_back_what_was_not_begun_and_waits_for_the_rest() {
    let mut world = Scenario::new();
    world.crm.set_default(CrmAnswer::Hang);
    let options = WorkerOptions { concurrency: 2, batch: 8, ..WorkerOptions::default() };
    world.start_worker_with(options);
    for number in 0..5 {
        world.deliver(&format!("e{number}"));
    }
    world.pass(SECOND);
    assert_eq!(world.counts().of(State::Processing), 5);
    world.stop();
    assert_eq!(world.counts().of(State::Processing), 2, "begun attempts go on");
    assert_eq!(world.counts().of(State::Pending), 3);
    world.deliver("after");
    world.pass(SECOND * 30);
    assert_eq!(world.state("after"), State::Pending, "a stopped worker claims nothing");
}

#[test]
fn a_worker_that_has_nothing_to_end_stops_at_once() {
    let mut world = Scenario::new();
    world.start_worker();
    world.deliver("a");
    world.pass(SECOND);
    assert_eq!(world.ended(), 0);
    world.stop();
    assert_eq!((world.ended(), world.state("a")), (1, State::Processed));
}

#[test]
fn an_idle_worker_looks_twice_a_second_and_a_delivery_wakes_it() {
    let clock = ManualClock::new(sample::start());
    let store = DistantStore::new(clock.clone());
    let mut world = Scenario::with_parts(clock, store.clone(), NoHandler);
    world.start_worker();
    world.pass(SECOND * 10);
    let idle = store.calls("claim");
    assert!((20..=21).contains(&idle), "{idle} claims in ten seconds");
    assert_eq!((store.calls("settle"), store.calls("renew")), (0, 0));
    world.deliver("a");
    world.pass(Duration::from_millis(1));
    assert_eq!(world.state("a"), State::Processed);
}
