//! What asking the CRM comes to: the correlation that is kept with each event, ambiguous contacts, and
//! the breaker that holds attempts back while the CRM is out of reach.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod scenario;

use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

use async_trait::async_trait;
use cognigy_core::{
    Contact, ContactQuery, Correlation, CrmClient, Event, Failure, Observation, Observer,
    OnAmbiguous, PipelineBuilder, Recorrelated, Rehearsed, State,
    memory::MemoryStore,
    testing::{CrmAnswer, ManualClock, sample},
};
use futures_executor::block_on;
use scenario::Scenario;

const SECOND: Duration = Duration::from_secs(1);

fn world(and: impl FnOnce(PipelineBuilder) -> PipelineBuilder) -> Scenario {
    let clock = ManualClock::new(sample::start());
    let mut world = Scenario::built(clock, MemoryStore::new(), and);
    world.start_worker();
    world
}

fn breaking() -> Scenario {
    world(|pipeline| pipeline.breaker(true))
}

fn found() -> CrmAnswer {
    CrmAnswer::Found(r#"{"name":"Ada"}"#.into())
}

#[test]
fn what_the_crm_said_is_kept_with_the_event() {
    let mut world = world(|pipeline| pipeline);
    for (id, answer, correlation, state) in [
        ("known", found(), Correlation::Matched, State::Processed),
        ("unknown", CrmAnswer::Nobody, Correlation::None, State::Processed),
        ("several", CrmAnswer::Ambiguous(None), Correlation::Ambiguous, State::DeadLettered),
        ("refused", CrmAnswer::Permanent("403".into()), Correlation::Failed, State::DeadLettered),
    ] {
        world.crm.set_default(answer);
        world.deliver(id);
        assert_eq!(world.find(id).correlation, Correlation::NotAsked);
        world.pass(SECOND);
        let stored = world.find(id);
        assert_eq!((stored.correlation, stored.state), (correlation, state), "{id}");
    }
}

#[test]
fn an_ambiguous_contact_is_dealt_with_as_the_pipeline_says() {
    let first = Some(r#"{"name":"Ada"}"#.to_owned());
    for (policy, answer, contact) in [
        (OnAmbiguous::NoContact, first.clone(), None),
        (OnAmbiguous::First, first, Some("Ada")),
        (OnAmbiguous::First, None, None),
    ] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let told = Arc::clone(&seen);
        let handler = move |event: Arc<Event>, contact: Option<Contact>| {
            told.lock().unwrap().push((event.correlation(), event.attempt(), contact.is_some()));
            async { Ok(()) }
        };
        let mut world = world(|pipeline| pipeline.on_ambiguous(policy).handler(handler));
        world.crm.set_default(CrmAnswer::Ambiguous(answer));
        world.deliver("a");
        world.pass(SECOND);
        let stored = world.find("a");
        assert_eq!((stored.state, stored.correlation), (State::Processed, Correlation::Ambiguous));
        assert_eq!(stored.contact.is_some(), contact.is_some());
        assert_eq!(*seen.lock().unwrap(), [(Correlation::Ambiguous, 1, contact.is_some())]);
    }
}

#[test]
fn while_the_crm_is_down_no_attempt_is_used_up_and_one_at_a_time_is_made() {
    let mut world = breaking();
    world.crm.set_default(CrmAnswer::Down);
    for number in 0..100 {
        world.deliver(&format!("e{number}"));
    }
    world.pass(Duration::ZERO);
    // Those that were begun before the first answer; all others wait.
    let begun = world.crm.queries().len();
    assert!(begun <= 64 && world.pipeline.breaker_is_open(), "{begun}");
    world.pass(Duration::from_secs(3600));
    let probes = world.crm.queries().len() - begun;
    assert!((700..=725).contains(&probes), "one every five seconds: {probes}");
    for number in [0, 50, 99] {
        let stored = world.find(&format!("e{number}"));
        assert_eq!(stored.state, State::Pending);
    }
    assert!(block_on(world.pipeline.store().attempts(&sample::key("e0"))).unwrap().is_empty());

    world.crm.set_default(found());
    world.pass(6 * SECOND);
    assert!(!world.pipeline.breaker_is_open());
    for number in 0..100 {
        assert_eq!(world.state(&format!("e{number}")), State::Processed);
    }
}

/// A CRM that never gets one look-up done, and answers all others.
struct Selective;

#[async_trait]
impl CrmClient for Selective {
    async fn find_contact(&self, query: &ContactQuery) -> Result<Option<Contact>, Failure> {
        match query.contact_key.as_str() {
            "c-poison" => Err(Failure::transient("CRM answered 500")),
            _ => Ok(Contact::from_json("1").ok()),
        }
    }
}

#[test]
fn an_event_whose_look_up_always_fails_is_given_up_and_holds_no_other_up() {
    let mut world = world(|pipeline| pipeline.breaker(true).crm(Selective));
    world.deliver("poison");
    for round in 0..120 {
        world.deliver(&format!("good-{round}"));
        world.pass(SECOND);
    }
    world.pass(10 * SECOND);
    for round in 0..120 {
        assert_eq!(world.state(&format!("good-{round}")), State::Processed);
    }
    // Others are answered, so that its failures are its own.
    assert_eq!(world.state("poison"), State::DeadLettered);
    let attempts = block_on(world.pipeline.store().attempts(&sample::key("poison"))).unwrap();
    assert_eq!(attempts.len(), 4);
    assert!(!world.pipeline.breaker_is_open());
}

#[test]
fn the_observer_hears_of_the_breaker_and_of_what_is_put_off() {
    struct Seen(Arc<Mutex<Vec<String>>>);
    impl Observer for Seen {
        fn observe(&self, observation: &Observation<'_>) {
            let line = match observation {
                Observation::Breaker { open, .. } => format!("breaker {open}"),
                Observation::PutOff { key, error } => format!("{} put off: {error}", key.id),
                Observation::Correlated { key, correlation } => format!("{} {correlation}", key.id),
                _ => return,
            };
            self.0.lock().unwrap().push(line);
        }
    }
    let seen = Arc::new(Mutex::new(Vec::new()));
    let observer = Seen(Arc::clone(&seen));
    let mut world = world(|pipeline| pipeline.breaker(true).observer(observer));
    world.crm.then([CrmAnswer::Down]);
    world.deliver("a");
    world.pass(2 * SECOND);
    let expected = ["breaker true", "a put off: the CRM is down", "breaker false", "a matched"];
    assert_eq!(*seen.lock().unwrap(), expected);
}

#[test]
fn a_processed_event_is_asked_for_again_without_its_handler() {
    let handled = Arc::new(Mutex::new(0));
    let count = Arc::clone(&handled);
    let handler = move |_: Arc<Event>, _: Option<Contact>| {
        *count.lock().unwrap() += 1;
        async { Ok(()) }
    };
    let mut world = world(|pipeline| pipeline.handler(handler));
    world.crm.set_default(CrmAnswer::Nobody);
    world.deliver("a");
    world.pass(SECOND);
    let ask = |world: &Scenario| {
        block_on(world.pipeline.recorrelate(&sample::key("a"), &world.clock)).unwrap()
    };
    assert!(matches!(ask(&world), Recorrelated::Not(Correlation::None)));
    world.crm.set_default(CrmAnswer::Down);
    assert!(matches!(ask(&world), Recorrelated::Failed(_)));
    assert_eq!(world.find("a").correlation, Correlation::None);
    world.crm.set_default(found());
    assert!(matches!(ask(&world), Recorrelated::Matched(_)));
    let stored = world.find("a");
    assert_eq!((stored.state, stored.correlation), (State::Processed, Correlation::Matched));
    assert_eq!((stored.contact.is_some(), *handled.lock().unwrap()), (true, 1));
    let unknown = block_on(world.pipeline.recorrelate(&sample::key("b"), &world.clock)).unwrap();
    assert!(matches!(unknown, Recorrelated::NotFound));
}

#[test]
fn a_rehearsal_says_what_a_replay_would_come_to_and_changes_nothing() {
    let handled = Arc::new(Mutex::new(0));
    let count = Arc::clone(&handled);
    let handler = move |_: Arc<Event>, _: Option<Contact>| {
        *count.lock().unwrap() += 1;
        async { Ok(()) }
    };
    let mut world = world(|pipeline| pipeline.handler(handler));
    world.deliver("processed");
    world.pass(SECOND);
    world.crm.set_default(CrmAnswer::Permanent("403".into()));
    world.deliver("dead");
    world.pass(SECOND);
    let before = [world.find("processed"), world.find("dead")].map(|it| format!("{it:?}"));
    let runs = *handled.lock().unwrap();
    let rehearse = |world: &Scenario, id| {
        let rehearsed = block_on(world.pipeline.rehearse(&sample::key(id), &world.clock)).unwrap();
        match rehearsed {
            Rehearsed::Compared(rehearsal) => {
                let (now, differs) = (rehearsal.now.clone(), rehearsal.differences());
                (now.state, now.correlation, now.error, differs)
            }
            other => panic!("{other:?}"),
        }
    };
    let failed = Some("403".to_owned());
    let (dead, done) = (State::DeadLettered, State::Processed);
    for (answer, id, expected) in [
        (found(), "processed", (done, Correlation::Matched, None, vec![])),
        (
            CrmAnswer::Found(r#"{"name":"Grace"}"#.into()),
            "processed",
            (done, Correlation::Matched, None, vec!["contact"]),
        ),
        (
            found(),
            "dead",
            (done, Correlation::Matched, None, vec!["status", "correlation", "contact"]),
        ),
        (
            CrmAnswer::Permanent("403".into()),
            "dead",
            (dead, Correlation::Failed, failed.clone(), vec![]),
        ),
        (
            CrmAnswer::Permanent("403".into()),
            "processed",
            (dead, Correlation::Failed, failed, vec!["status", "correlation", "contact"]),
        ),
        (CrmAnswer::Nobody, "dead", (done, Correlation::None, None, vec!["status", "correlation"])),
    ] {
        world.crm.set_default(answer);
        assert_eq!(rehearse(&world, id), expected, "{id}");
    }
    world.pass(SECOND);
    let after = [world.find("processed"), world.find("dead")].map(|it| format!("{it:?}"));
    assert_eq!((before, runs), (after, *handled.lock().unwrap()));
    let unknown = block_on(world.pipeline.rehearse(&sample::key("none"), &world.clock)).unwrap();
    assert!(matches!(unknown, Rehearsed::NotFound));
}
