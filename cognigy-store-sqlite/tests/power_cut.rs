//! A power cut at any moment takes nothing that was answered for.
//!
//! A child puts load on a store while every write and sync is recorded. Then, for many points in
//! the recording, the files are built as a power cut there may leave them, and the store has to
//! open them, hold everything it had answered for, and go on.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod crash;

use std::{env, fs, path::Path, process::ExitStatus, time::Duration};

use cognigy_core::{EventArchive, EventStore, Recorded};
use cognigy_fault_disk::{
    Dice, Disk, Entry, Fault, FileKind, Files, Injector, Loss, Operation, Recorder, Recording,
};
use cognigy_store_sqlite::SqliteStore;
use common::{at, key};
use crash::{
    audit::audit,
    child,
    ledger::{self, Ledger},
    load::{self, Load},
    rounds, seed, workplace,
};
use rusqlite::Connection;

const FOLDER: &str = "POWER_CUT_FOLDER";
const PATIENT: &str = "POWER_CUT_PATIENT";
const DATABASE: &str = "webhooks.db";

/// The child. A first life with checkpoints of all kinds, a clean end, a second life.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "plays the child of the tests here"]
async fn child_whose_disk_is_recorded() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let folder = Path::new(&folder);
    let is_patient = env::var_os(PATIENT).is_some();
    for round in 0..2 {
        let mut options = load::options();
        if is_patient {
            options.checkpoint_pages = 60;
        }
        let store = SqliteStore::open_with(folder.join(DATABASE), options).await.unwrap();
        let mut load = Load::new(store, folder, round);
        load.events_each = 30;
        load.is_patient = is_patient;
        let load = tokio::spawn(load.run());
        if is_patient {
            // What a sync that failed should have kept is the store's to mend, so nobody else writes
            // anything back.
            load.await.unwrap();
            continue;
        }
        // A checkpoint moves the WAL into the database; by itself it would not come to that here.
        let operator = Connection::open(folder.join(DATABASE)).unwrap();
        for kind in ["PASSIVE", "FULL", "RESTART", "TRUNCATE"].iter().cycle() {
            tokio::time::sleep(Duration::from_millis(15)).await;
            if load.is_finished() {
                break;
            }
            let checkpoint = format!("PRAGMA wal_checkpoint({kind})");
            // Held up by a writer, it does what it can.
            let _ = operator.query_row(&checkpoint, [], |_| Ok(()));
        }
        load.await.unwrap();
    }
}

struct Story {
    recording: Recording,
    /// What the disk held in the end.
    files: Files,
}

/// Records the child; with `failing`, something of it fails.
fn record(with: impl FnOnce(Recorder) -> Recorder, failing: Option<Fault>) -> Story {
    let folder = tempfile::tempdir().unwrap();
    let watched = folder.path().join("watched");
    fs::create_dir(&watched).unwrap();
    let recorder = with(Recorder::new(&folder.path().join("log")));
    let mut command = child("child_whose_disk_is_recorded");
    recorder.attach(command.env(FOLDER, &watched), &watched);
    let injector = Injector::new(&folder.path().join("control")).unwrap();
    if let Some(fault) = failing {
        injector.attach(command.env(PATIENT, "yes"), &watched);
        injector.arm(fault).unwrap();
    }
    let status: ExitStatus = command.status().unwrap();
    assert!(status.success(), "the child: {status}");
    let read = |entry: fs::DirEntry| {
        (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())
    };
    let files = fs::read_dir(&watched).unwrap().map(|entry| read(entry.unwrap())).collect();
    Story { recording: recorder.finish().unwrap(), files }
}

/// A disk on its way through a recording.
struct Replay<'s> {
    entries: &'s [Entry],
    done: usize,
    disk: Disk,
    ledger: Ledger,
    ledger_file: i32,
}

impl<'s> Replay<'s> {
    fn of(story: &'s Story) -> Self {
        let entries = &story.recording.entries;
        let ledger_file = entries.iter().find_map(|entry| match entry {
            Entry::Opened { file, name, .. } if name == ledger::NAME => Some(*file),
            _ => None,
        });
        Self {
            entries,
            done: 0,
            disk: Disk::default(),
            ledger: Ledger::default(),
            ledger_file: ledger_file.expect("the child kept a ledger"),
        }
    }

    /// On to just before the entry `at`.
    fn advance(&mut self, at: usize) {
        for entry in &self.entries[self.done..at] {
            match entry {
                Entry::Wrote { file, data, .. } if *file == self.ledger_file => {
                    self.ledger.add(data);
                }
                _ => self.disk.apply(entry),
            }
        }
        self.done = at;
    }
}

/// Turns the machine on again: what the store makes of these files, or what is wrong.
async fn power_on(files: &Files, ledger: &Ledger) -> Result<(), String> {
    let folder = workplace();
    for (name, content) in files.iter().filter(|(name, _)| *name != ledger::NAME) {
        fs::write(folder.path().join(name), content).unwrap();
    }
    let path = folder.path().join(DATABASE);
    let store = SqliteStore::open(&path).await.map_err(|error| format!("it opens: {error:?}"))?;
    audit(&path, ledger)?;
    let recorded = store.record(load::event("afterwards"), at(9000)).await;
    let recorded = recorded.map_err(|error| format!("it takes an event: {error:?}"))?;
    if recorded != Recorded::New {
        return Err(format!("a new event is {recorded:?}"));
    }
    match store.find(&key("afterwards")).await {
        Ok(Some(_)) => Ok(()),
        other => Err(format!("the new event is found: {other:?}")),
    }
}

/// When and how much.
type Cut = (usize, Loss);

/// `count` cuts anywhere in the story.
fn anywhere(story: &Story, count: usize) -> Vec<Cut> {
    let mut dice = Dice::new(seed());
    let end = story.recording.entries.len();
    (0..count).map(|number| (dice.roll(end + 1), Loss::ALL[number % 4])).collect()
}

/// What the cuts bring to light.
async fn cut_power(story: &Story, mut points: Vec<Cut>) -> Vec<(Cut, String)> {
    let mut dice = Dice::new(seed());
    points.sort_by_key(|(point, _)| *point);
    let mut replay = Replay::of(story);
    let mut findings = Vec::new();
    for (point, loss) in points {
        replay.advance(point);
        let files = replay.disk.cut(loss, &mut dice);
        if let Err(finding) = power_on(&files, &replay.ledger).await {
            findings.push(((point, loss), finding));
        }
    }
    findings
}

#[tokio::test]
async fn nothing_that_was_answered_for_is_lost() {
    let story = record(|recorder| recorder, None);
    let entries = &story.recording.entries;

    // The recording is complete: played back whole, it makes the files that are there.
    let mut replay = Replay::of(&story);
    replay.advance(entries.len());
    let mut played = replay.disk.cut(Loss::Nothing, &mut Dice::new(0));
    let mut real = story.files.clone();
    played.remove(ledger::NAME);
    real.remove(ledger::NAME);
    assert!(played == real, "{:?} and {:?}", played.keys(), real.keys());

    // And it has in it what it is for.
    let count = |wanted: fn(&Entry) -> bool| entries.iter().filter(|entry| wanted(entry)).count();
    let syncs = count(|entry| matches!(entry, Entry::Synced { .. }));
    let folder_syncs = count(|entry| matches!(entry, Entry::FolderSynced));
    let removals = count(|entry| matches!(entry, Entry::Unlinked { .. }));
    assert!(syncs > 50, "{syncs} syncs");
    assert!(folder_syncs >= 2, "{folder_syncs} syncs of the folder: one for each WAL");
    assert!(removals >= 2, "{removals} files removed: a journal, and a WAL at the clean end");
    let promises = replay.ledger.len();
    assert!(promises > 1000, "{promises} answers");

    let cuts = rounds(300);
    let findings = cut_power(&story, anywhere(&story, cuts)).await;
    println!("{cuts} power cuts among {} operations, {promises} answers", entries.len());
    assert!(findings.is_empty(), "{} of {cuts}: {:#?}", findings.len(), findings.first());
}

#[tokio::test]
async fn a_database_that_was_being_made_opens() {
    let story = record(|recorder| recorder, None);
    let mut replay = Replay::of(&story);
    let answered = (0..story.recording.entries.len()).find(|point| {
        replay.advance(*point);
        replay.ledger.len() > 0
    });
    // Every point before the first answer, in several ways each.
    let points = 0..answered.expect("there are answers");
    let losses = Loss::ALL.iter().chain([&Loss::AfterAPoint, &Loss::AnySectors]);
    let cuts: Vec<Cut> =
        points.flat_map(|point| losses.clone().map(move |loss| (point, *loss))).collect();
    let count = cuts.len();
    assert!(count > 200, "{count} cuts while it is made");
    let findings = cut_power(&story, cuts).await;
    assert!(findings.is_empty(), "{} of {count}: {:#?}", findings.len(), findings.first());
}

/// Cuts the power after a sync that failed, above all soon afterwards; how often.
async fn cut_after_failed_sync(files: FileKind, nth: u64) -> usize {
    let story =
        record(|recorder| recorder, Some(Fault::once(Operation::SYNC, files, Fault::EIO, nth)));
    let failed = |entry: &Entry| matches!(entry, Entry::SyncFailed { .. });
    let point = story.recording.entries.iter().position(failed).expect("a sync failed");
    let end = story.recording.entries.len();
    let cuts: Vec<Cut> = (0..24)
        .map(|number| (point + (end - point) * number * number / (24 * 24), Loss::ALL[number % 4]))
        .collect();
    let tried = cuts.len();
    let findings = cut_power(&story, cuts).await;
    assert!(findings.is_empty(), "sync {nth}: {}, {:#?}", findings.len(), findings.first());
    tried
}

#[tokio::test]
async fn after_a_sync_that_failed_nothing_counts_on_what_it_should_have_kept() {
    let mut tried = 0;
    for round in 0..rounds(8) {
        // While the database is made all the syncs are needed for it to open; the load's come later.
        let nth = 12 + u64::try_from(round * 7 % 90).unwrap();
        tried += cut_after_failed_sync(FileKind::ANY, nth).await;
    }
    // The database's own are few: one each time that the WAL has been written back.
    for round in 0..rounds(8) {
        tried +=
            cut_after_failed_sync(FileKind::DATABASE, 2 + u64::try_from(round % 4).unwrap()).await;
    }
    println!("{tried} power cuts after a failed sync");
}

#[tokio::test]
async fn a_sync_that_is_missing_is_found() {
    // As with `synchronous=NORMAL`, and as with `synchronous=OFF`.
    for (what, forget) in [
        ("of the WAL", Recorder::forgetting_wal_syncs as fn(Recorder) -> Recorder),
        ("of all files", Recorder::forgetting_all_syncs),
    ] {
        let story = record(forget, None);
        let findings = cut_power(&story, anywhere(&story, 40)).await;
        let lost = findings.iter().filter(|(_, finding)| finding.contains("answered for"));
        println!("without syncs {what}: {} of 40 cuts lose something", findings.len());
        assert!(lost.count() >= 5, "a missing sync {what} must show: {findings:#?}");
    }
}
