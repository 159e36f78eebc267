//! A replay that is stopped releases its event: no lease holds it, and no attempt counts.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod scenario;

use std::time::Duration;

use cognigy_core::{
    ReplayOutcome, State, Stop,
    testing::{CrmAnswer, sample},
};
use futures_executor::block_on;
use futures_util::future::join;
use scenario::Scenario;

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_replay_that_is_stopped_gives_its_event_back() {
    let mut world = Scenario::new();
    world.crm.set_default(CrmAnswer::Permanent("no".into()));
    world.start_worker();
    world.deliver("a");
    world.pass(SECOND);
    assert_eq!(world.state("a"), State::DeadLettered);
    world.stop();
    world.pass(SECOND);

    world.crm.set_default(CrmAnswer::Hang);
    let (stop, key) = (Stop::new(), sample::key("a"));
    let replay = world.pipeline.replay_until(&key, &world.clock, stop.stopped());
    let stopping = async {
        let stored = world.pipeline.store().find(&key).await.unwrap().unwrap();
        assert_eq!(stored.state, State::Processing, "the run is under way");
        stop.stop();
    };
    let (outcome, ()) = block_on(join(replay, stopping));
    assert!(matches!(outcome, Ok(ReplayOutcome::Stopped)), "{outcome:?}");
    assert_eq!((world.state("a"), world.attempts("a").len()), (State::Pending, 1));
    assert_eq!(world.dead_letters().len(), 1, "it has not failed");

    // At once, and not only when a lease ends.
    world.crm.set_default(CrmAnswer::Nobody);
    world.start_worker();
    world.pass(SECOND);
    let attempts = world.attempts("a");
    assert_eq!(world.state("a"), State::Processed);
    assert_eq!((attempts[1].run, attempts[1].number), (2, 1), "{attempts:?}");
}
