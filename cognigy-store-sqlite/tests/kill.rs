//! `kill -9` at any moment, round after round on one database: nothing that was answered is lost,
//! nothing is half done, nothing gets stuck.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod crash;

use std::{
    env,
    os::unix::process::ExitStatusExt,
    path::Path,
    process::{Child, Command},
    thread,
    time::Duration,
};

use cognigy_core::{EventArchive, PurgeRequest, State};
use cognigy_fault_disk::{Dice, Effect, Fault, FileKind, Injector, Operation};
use cognigy_store_sqlite::SqliteStore;
use common::at;
use crash::{
    audit::{Found, audit},
    child, ledger,
    ledger::Ledger,
    load::{self, Load},
    rounds, seed,
};

const FOLDER: &str = "KILL_FOLDER";
const ROUND: &str = "KILL_ROUND";
const EVENTS: &str = "KILL_EVENTS";
const DATABASE: &str = "webhooks.db";

/// The child.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "plays the child of the tests here"]
async fn child_under_load() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let number = |name| env::var(name).ok().map(|text| text.parse::<usize>().unwrap());
    let store = SqliteStore::open_with(folder.join(DATABASE), load::options()).await.unwrap();
    let mut load = Load::new(store, folder, number(ROUND).unwrap());
    load.events_each = number(EVENTS).unwrap_or(usize::MAX);
    load.run().await;
}

fn command(folder: &Path, round: usize) -> Command {
    let mut command = child("child_under_load");
    command.env(FOLDER, folder).env(ROUND, round.to_string());
    command
}

/// Restarts the store: all acknowledged events are there, and all of them end.
async fn restart(folder: &Path, round: usize) -> Found {
    let path = folder.join(DATABASE);
    let ledger = Ledger::read(folder);
    let store = SqliteStore::open_with(&path, load::options()).await;
    let store = store.unwrap_or_else(|error| panic!("round {round}: it opens: {error:?}"));
    audit(&path, &ledger).unwrap_or_else(|finding| panic!("round {round}: {finding}"));
    // Later than any lease of this round, before the next one.
    let later = at(i64::try_from(round).unwrap() * 1000 + 500);
    load::finish_everything(&store, later).await;
    let found = audit(&path, &ledger).unwrap_or_else(|finding| panic!("round {round}: {finding}"));
    let ended: usize =
        ["processed", "dead_lettered"].iter().filter_map(|state| found.by_state.get(*state)).sum();
    assert_eq!(ended, found.events, "round {round}: nothing is stuck: {found:?}");
    found
}

/// Purges the ended events, so that the audit stays short over many rounds. The ledger no longer
/// expects purged events.
async fn forget_all(folder: &Path, round: usize) {
    let store = SqliteStore::open_with(folder.join(DATABASE), load::options()).await.unwrap();
    let later = at(i64::try_from(round).unwrap() * 1000 + 600);
    while store.purge(PurgeRequest::all_before(later, 2000)).await.unwrap().purged.total_events()
        > 0
    {}
    let counts = store.counts().await.unwrap();
    assert!(State::ALL.iter().all(|state| counts.of(*state) == 0), "{counts:?}");
    std::fs::remove_file(folder.join(ledger::NAME)).unwrap();
}

fn wait_for_first_answer(folder: &Path, child: &mut Child) {
    let before = Ledger::read(folder).len();
    while Ledger::read(folder).len() == before {
        assert!(child.try_wait().unwrap().is_none(), "the child ended by itself");
        thread::sleep(Duration::from_millis(2));
    }
}

#[tokio::test]
async fn kill_9_at_random_moments_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let mut dice = Dice::new(seed());
    let (rounds, mut answers, mut events) = (rounds(20), 0, 0);
    for round in 1..=rounds {
        let before = Ledger::read(folder).len();
        let mut child = command(folder, round).spawn().unwrap();
        // In every fourth round the kill comes while the store opens.
        if round % 4 != 0 {
            wait_for_first_answer(folder, &mut child);
        }
        thread::sleep(Duration::from_millis(u64::try_from(dice.roll(250)).unwrap()));
        child.kill().unwrap();
        let status = child.wait().unwrap();
        assert_eq!(status.signal(), Some(9), "it was at work until it was killed");
        answers += Ledger::read(folder).len() - before;
        let found = restart(folder, round).await;
        if round % 10 == 0 {
            events += found.events;
            forget_all(folder, round).await;
        }
    }
    println!("{rounds} kills, {answers} answers, {events} events");
    assert!(answers > rounds * 10, "{answers} answers are too few to say anything");
}

#[tokio::test]
async fn death_at_any_operation_of_a_store_s_first_start_is_survived() {
    let place = tempfile::tempdir().unwrap();
    let mut deaths = 0;
    for effect in [Effect::DieBefore, Effect::DieAfter] {
        for nth in 1.. {
            let folder = place.path().join(format!("{effect:?}-{nth}"));
            std::fs::create_dir(&folder).unwrap();
            let injector = Injector::new(&place.path().join(format!("{effect:?}-{nth}.control")));
            let injector = injector.unwrap();
            let fault = Fault::once(Operation::CHANGE, FileKind::ANY, 0, nth);
            injector.arm(Fault { effect, ..fault }).unwrap();
            let mut command = command(&folder, 1);
            injector.attach(command.env(EVENTS, "1"), &folder);
            let status = command.status().unwrap();
            restart(&folder, 1).await;
            if injector.fired().unwrap() == 0 {
                assert!(status.success(), "without the fault it works: {status}");
                break;
            }
            assert_eq!(status.signal(), Some(9), "it died where it was told to");
            deaths += 1;
        }
    }
    println!("died at {deaths} operations");
    assert!(deaths > 60, "{deaths} operations are fewer than a start has");
}

#[tokio::test]
async fn death_at_any_operation_under_load_is_survived() {
    let folder = tempfile::tempdir().unwrap();
    let watched = folder.path().join("watched");
    std::fs::create_dir(&watched).unwrap();
    let mut dice = Dice::new(seed());
    let rounds = rounds(20);
    for round in 1..=rounds {
        let control = folder.path().join(format!("control-{round}"));
        let injector = Injector::new(&control).unwrap();
        // One of these positions is between the sync of a commit and its answer.
        let operations = if round % 2 == 0 { Operation::SYNC } else { Operation::CHANGE };
        let nth = u64::try_from(1 + dice.roll(if round % 2 == 0 { 60 } else { 600 })).unwrap();
        let effect = if dice.roll(2) == 0 { Effect::DieBefore } else { Effect::DieAfter };
        let fault = Fault { effect, ..Fault::once(operations, FileKind::ANY, 0, nth) };
        injector.arm(fault).unwrap();
        let mut command = command(&watched, round);
        injector.attach(&mut command, &watched);
        let status = command.status().unwrap();
        assert_eq!((injector.fired().unwrap(), status.signal()), (1, Some(9)), "{fault:?}");
        restart(&watched, round).await;
        if round % 10 == 0 {
            forget_all(&watched, round).await;
        }
    }
    println!("{rounds} deaths in the middle of an operation");
}
