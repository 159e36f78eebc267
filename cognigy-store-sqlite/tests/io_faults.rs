//! SQLite's own loop: the first, second, third … operation on the files fails, until the call under
//! test ends without meeting the fault; for every call of the store.
//!
//! Each time the call fails as unavailable, or it has done what it says, which a fresh process
//! checks. Nothing is half done. Once the fault is gone, the same store object goes on by itself.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod crash;

use std::{env, fs, path::Path, time::Duration};

use cognigy_core::StoreErrorKind;
use cognigy_fault_disk::{Effect, Fault, FileKind, Injector, Operation};
use cognigy_store_sqlite::{SqliteOptions, SqliteStore};
use crash::{
    audit::audit,
    calls::{self, Call},
    child,
    ledger::Ledger,
    rounds, seed, workplace,
};
use rusqlite::Connection;

const CALL: &str = "IO_CALL";
const WAY: &str = "IO_WAY";
const FOLDER: &str = "IO_FOLDER";
const DATABASE: &str = "webhooks.db";

/// A name, and the fault at the operation of that number.
type Way = (&'static str, fn(u64) -> Fault);

/// How calls fail.
const WAYS: [Way; 5] = [
    ("an I/O error, once", |nth| Fault::once(Operation::ANY, FileKind::ANY, Fault::EIO, nth)),
    ("no space from then on", |nth| Fault {
        for_ever: true,
        ..Fault::once(Operation::CHANGE, FileKind::ANY, Fault::ENOSPC, nth)
    }),
    // With a lock that fails for ever SQLite waits ten seconds each time.
    ("an I/O error from then on", |nth| Fault {
        for_ever: true,
        ..Fault::once(Operation::INPUT_OUTPUT, FileKind::ANY, Fault::EIO, nth)
    }),
    ("no space, once", |nth| Fault::once(Operation::CHANGE, FileKind::ANY, Fault::ENOSPC, nth)),
    ("no space in the middle of a write, once", |nth| Fault {
        effect: Effect::Tear,
        ..Fault::once(Operation::WRITE, FileKind::ANY, Fault::ENOSPC, nth)
    }),
];

const EVERYTHING_FAILS: usize = 2;

fn options() -> SqliteOptions {
    // SQLite waits for a lock that it cannot take; the wait would only make this test slow.
    SqliteOptions { busy_timeout: Duration::from_millis(100), ..SqliteOptions::default() }
}

/// The child: one call, failing in one way at every operation.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "plays the child of the tests here"]
async fn child_whose_operations_fail() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let call = calls::by_name(&env::var(CALL).unwrap());
    let fault = WAYS[env::var(WAY).unwrap().parse::<usize>().unwrap()].1;
    let injector = Injector::open(&folder.join("control")).unwrap();
    let mut results = String::new();
    for nth in call.places() {
        let case = folder.join("watched").join(nth.to_string());
        copy(&folder.join("world"), &case);
        let path = case.join(DATABASE);
        let mut hands = calls::Hands::default();
        if !call.opens {
            let store = SqliteStore::open_with(&path, options()).await.unwrap();
            (call.prepare)(&mut hands, &store).await;
            hands.store = Some(store);
        }
        injector.arm(fault(nth)).unwrap();
        let outcome = perform(call, &mut hands, &path, false).await;
        injector.disarm().unwrap();
        let (fired, struck) = (injector.fired().unwrap(), injector.struck().unwrap());
        // A copy of the files at this moment, for another process to read.
        copy(&case, &folder.join("seen").join(nth.to_string()));
        let again = perform(call, &mut hands, &path, true).await;
        drop(hands.store.take());
        results.push_str(&format!("{nth}\t{fired}\t{struck}\t{outcome}\t{again}\n"));
        // Written each time, so that a child that is killed leaves its findings.
        fs::write(folder.join("results"), &results).unwrap();
        if fired == 0 {
            break;
        }
    }
}

async fn perform(call: &Call, hands: &mut calls::Hands, path: &Path, again: bool) -> String {
    let work = async {
        if call.opens && hands.store.is_none() {
            hands.store = Some(SqliteStore::open_with(path, options()).await?);
        }
        (call.perform)(hands, again).await
    };
    match tokio::time::timeout(Duration::from_secs(20), work).await {
        Ok(Ok(())) => "done".to_owned(),
        Ok(Err(error)) => format!("{:?} {error:?}", error.kind()),
        Err(_) => "it hangs".to_owned(),
    }
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        // The shared memory of a process that still runs is not another process's.
        if !entry.file_name().to_string_lossy().ends_with("-shm") {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
}

/// Whether a fresh process sees the effect. The database must be consistent in any case.
fn shows(folder: &Path, call: &Call, what: &str) -> bool {
    let path = folder.join(DATABASE);
    if call.from_nothing && fs::metadata(&path).map_or(0, |file| file.len()) == 0 {
        return false;
    }
    let connection = Connection::open(&path).unwrap();
    let check: String = connection
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap_or_else(|error| panic!("{what}: {error}"));
    assert_eq!(check, "ok", "{what}");
    let count = "SELECT count(*) FROM sqlite_schema";
    let tables: i64 = connection.query_row(count, [], |row| row.get(0)).unwrap();
    if call.from_nothing && tables == 0 {
        return false;
    }
    audit(&path, &Ledger::default()).unwrap_or_else(|finding| panic!("{what}: {finding}"));
    let effect = format!("SELECT coalesce(({}), FALSE)", call.effect);
    connection.query_row(&effect, [], |row| row.get(0)).unwrap()
}

/// Runs one call with one kind of failure at each of its operations. Returns how many times a fault
/// fired.
fn run_through(call: &Call, way: usize, world: &Path) -> u64 {
    let place = workplace();
    let folder = place.path();
    let injector = Injector::new(&folder.join("control")).unwrap();
    if call.from_nothing {
        fs::create_dir(folder.join("world")).unwrap();
    } else {
        copy(world, &folder.join("world"));
    }
    let watched = folder.join("watched");
    fs::create_dir(&watched).unwrap();
    let mut command = child("child_whose_operations_fail");
    injector.attach(&mut command, &watched);
    let command = command.env(CALL, call.name).env(WAY, way.to_string()).env(FOLDER, folder);
    let status = command.status().unwrap();
    assert!(status.success(), "{}, {}: {status}", call.name, WAYS[way].0);

    let (mut faults, mut failures, mut last) = (0, 0, 1);
    for line in fs::read_to_string(folder.join("results")).unwrap().lines() {
        let fields: Vec<_> = line.split('\t').collect();
        let [nth, fired, struck, outcome, again] = fields[..] else { panic!("{line}") };
        let what = format!("{}, {}, operation {nth}, {struck}: {outcome}", call.name, WAYS[way].0);
        let seen = shows(&folder.join("seen").join(nth), call, &what);
        if outcome == "done" {
            assert!(seen, "{what}, but it is not on the disk");
        } else {
            // SQLite reports a database that cannot be read as damaged.
            let is_read = struck == "read of database" || way == EVERYTHING_FAILS;
            let fits = |kind: StoreErrorKind| outcome.starts_with(&format!("{kind:?}"));
            let unavailable = fits(StoreErrorKind::Unavailable);
            assert!(unavailable || is_read && fits(StoreErrorKind::Corrupt), "{what}");
            failures += 1;
        }
        assert_eq!(again, "done", "{what}; once the fault is gone");
        assert!(shows(&watched.join(nth), call, &what), "{what}; and afterwards");
        last = fired.parse().unwrap();
        faults += last;
    }
    assert!(call.is_sampled || last == 0, "{}: it ends by not meeting the fault", call.name);
    assert!(failures > 0 || call.may_always_succeed, "{}: nothing failed at all", call.name);
    faults
}

#[tokio::test(flavor = "multi_thread")]
async fn every_call_fails_honestly_and_recovers_by_itself() {
    let world = workplace();
    calls::make_world(&world.path().join(DATABASE)).await;
    // The long form fails every call in all ways; the short form in two ways per call, different
    // ones each time.
    let ways = rounds(2).min(WAYS.len());
    let first = usize::try_from(seed()).unwrap();
    let mut faults = 0;
    for (number, call) in calls::ALL.iter().enumerate() {
        for way in 0..ways {
            // A call that only reads meets no operation that writes.
            let way = if call.only_reads { [0, 2][way % 2] } else { (first + number + way) % 5 };
            faults += run_through(call, way, world.path());
        }
    }
    println!("{} calls, {faults} faults", calls::ALL.len());
    assert!(faults > 500, "{faults} faults are fewer than there are places");
}
