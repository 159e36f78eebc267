//! Events that another system received are taken over in the state in which it left them.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod scenario;

use std::time::Duration;

use cognigy_core::{
    AttemptOutcome, Import, Imported, ImportedEnd, State,
    testing::{CrmAnswer, sample},
};
use futures_executor::block_on;
use scenario::Scenario;

const SECOND: Duration = Duration::from_secs(1);

fn import(world: &Scenario, id: &str, end: ImportedEnd) -> Imported {
    let import = Import { key: sample::key(id), body: sample::body(id), end };
    block_on(world.pipeline.import(import, &world.clock)).unwrap()
}

#[test]
fn imported_events_are_as_they_were_left_and_only_those_that_wait_run() {
    let mut world = Scenario::new();
    let earlier = sample::start() - SECOND;
    let given_up = || ImportedEnd::GivenUp(None, "it was left as failed".to_owned());
    for id in ["done", "dead", "waits"] {
        let end = match id {
            "done" => ImportedEnd::Processed(Some(earlier)),
            "dead" => given_up(),
            _ => ImportedEnd::Pending,
        };
        let again = end.clone();
        let of = Import { key: sample::key(id), body: sample::body(id), end: end.clone() };
        let planned = block_on(world.pipeline.would_import(&of, &world.clock)).unwrap();
        assert!(matches!(planned, Imported::Done), "{planned:?}");
        assert!(matches!(import(&world, id, end), Imported::Done));
        let planned = block_on(world.pipeline.would_import(&of, &world.clock)).unwrap();
        assert!(matches!(planned, Imported::Known), "{planned:?}");
        assert!(matches!(import(&world, id, again), Imported::Known), "a second time");
    }
    let states = ["done", "dead", "waits"].map(|id| world.state(id));
    assert_eq!(states, [State::Processed, State::DeadLettering, State::Pending]);
    let attempts = world.attempts("done");
    assert_eq!((attempts.len(), attempts[0].outcome), (1, AttemptOutcome::Imported));
    assert_eq!(attempts[0].started_at, earlier);
    assert_eq!(world.find("done").event.body(), &sample::body("done"), "byte for byte");

    world.start_worker();
    world.pass(SECOND);
    let states = ["done", "dead", "waits"].map(|id| world.state(id));
    assert_eq!(states, [State::Processed, State::DeadLettered, State::Processed]);
    assert_eq!((world.attempts("done").len(), world.attempts("dead").len()), (1, 1));
    let letters = world.dead_letters();
    assert_eq!((letters.len(), letters[0].error_message.as_str()), (1, "it was left as failed"));
    // What was run here stays as it is.
    assert!(matches!(import(&world, "waits", given_up()), Imported::Known));
    assert_eq!(world.state("waits"), State::Processed);
}

#[test]
fn an_import_that_broke_off_is_ended_by_the_next_and_what_is_not_the_event_is_left_out() {
    let mut world = Scenario::new();
    world.crm.set_default(CrmAnswer::Permanent("no".into()));
    // Recorded, and not ended: as after a crash between the two.
    world.deliver("half");
    assert!(matches!(import(&world, "half", ImportedEnd::Processed(None)), Imported::Known));
    assert_eq!(world.state("half"), State::Processed);
    // An event that was tried here is this store's own.
    world.deliver("tried");
    world.start_worker();
    world.pass(SECOND);
    assert!(matches!(import(&world, "tried", ImportedEnd::Processed(None)), Imported::Known));
    assert_eq!(world.state("tried"), State::DeadLettered);

    for (id, body) in
        [("other", sample::body("half")), ("broken", "{".into()), ("empty", "".into())]
    {
        let import = Import { key: sample::key(id), body, end: ImportedEnd::Pending };
        let planned = block_on(world.pipeline.would_import(&import, &world.clock)).unwrap();
        assert!(matches!(planned, Imported::Invalid(_)), "{id}: {planned:?}");
        let imported = block_on(world.pipeline.import(import, &world.clock)).unwrap();
        assert!(matches!(imported, Imported::Invalid(_)), "{id}: {imported:?}");
    }
    let body = sample::body_from("another contact", "half");
    let import = Import { key: sample::key("half"), body, end: ImportedEnd::Pending };
    let imported = block_on(world.pipeline.import(import, &world.clock)).unwrap();
    assert!(matches!(imported, Imported::Conflict), "{imported:?}");
}
