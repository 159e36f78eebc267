//! A power cut at any moment loses nothing that was answered.
//!
//! A child puts load on a store while every write and sync is recorded. Then, for many points in
//! the recording, the files are built as a power cut there may leave them, and the store has to
//! open them, hold everything that it had answered, and go on.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod crash;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus},
    time::Duration,
};

use cognigy_core::{AfterDeadLetter, EventArchive, EventOrder, EventStore, Recorded, StoreError};
use cognigy_fault_disk::{
    Dice, Disk, Entry, Fault, FileKind, Files, Injector, Loss, Operation, Recorder, Recording,
};
use cognigy_store_sqlite::{SqliteOptions, SqliteStore};
use common::{at, key};
use crash::{
    audit::audit,
    child,
    ledger::{self, Ledger, Pen, RECORDED},
    load::{self, Load},
    rounds, seed, workplace,
};
use rusqlite::Connection;
use tokio::task::JoinSet;

const FOLDER: &str = "POWER_CUT_FOLDER";
const PATIENT: &str = "POWER_CUT_PATIENT";
const SCENE: &str = "POWER_CUT_SCENE";
const DATABASE: &str = "webhooks.db";
/// The control page for faults, beside the folder that is recorded.
const CONTROL: &str = "control";

/// The child: a first run with checkpoints of all kinds, a clean end, and a second run.
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
            // The store itself has to repair what a failed sync lost, so no other process writes
            // anything back.
            load.await.unwrap();
            continue;
        }
        // A checkpoint moves the WAL into the database; this load is too small to start one by
        // itself.
        let operator = Connection::open(folder.join(DATABASE)).unwrap();
        for kind in ["PASSIVE", "FULL", "RESTART", "TRUNCATE"].iter().cycle() {
            tokio::time::sleep(Duration::from_millis(15)).await;
            if load.is_finished() {
                break;
            }
            let checkpoint = format!("PRAGMA wal_checkpoint({kind})");
            // If a writer blocks it, the checkpoint does as much as it can.
            let _ = operator.query_row(&checkpoint, [], |_| Ok(()));
        }
        load.await.unwrap();
    }
}

/// A child that records events one after the other, so that a chosen sync can fail.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "plays the child of the tests here"]
async fn child_that_plays_a_scene() {
    let Some(folder) = env::var_os(FOLDER) else { return };
    let mut stage = Stage::set(Path::new(&folder)).await;
    match env::var(SCENE).unwrap().as_str() {
        "a write-back" => stage.sync_of_a_write_back_fails().await,
        "a write-back, restart" => {
            stage.sync_of_a_write_back_fails().await;
            stage.restart().await;
        }
        "a commit" => stage.sync_of_a_commit_fails().await,
        "a commit, restart" => {
            stage.sync_of_a_commit_fails().await;
            stage.restart().await;
        }
        "a commit, a start, restart" => {
            stage.sync_of_a_commit_fails().await;
            stage.sync_of_a_start_fails().await;
            stage.restart().await;
        }
        other => panic!("no scene is called {other}"),
    }
    // More pages than the WAL holds before it is written back and begins anew.
    stage.take(300).await;
}

/// The state of a scene.
struct Stage {
    path: PathBuf,
    pen: Pen,
    injector: Injector,
    store: Option<SqliteStore>,
    events: usize,
}

impl Stage {
    async fn set(folder: &Path) -> Self {
        let mut stage = Self {
            path: folder.join(DATABASE),
            pen: Pen::open(folder),
            injector: Injector::open(&folder.with_file_name(CONTROL)).unwrap(),
            store: None,
            events: 0,
        };
        stage.store = Some(stage.open().await);
        stage
    }

    async fn open(&self) -> SqliteStore {
        let options = SqliteOptions { checkpoint_pages: 200, ..load::options() };
        SqliteStore::open_with(&self.path, options).await.unwrap()
    }

    async fn restart(&mut self) {
        self.store = None;
        self.store = Some(self.open().await);
    }

    /// Records that many events; a refused one is sent again.
    async fn take(&mut self, count: usize) {
        for _ in 0..count {
            let id = format!("e{}", self.events);
            self.events += 1;
            while self.record(&id).await.is_err() {}
        }
    }

    async fn record(&self, id: &str) -> Result<(), StoreError> {
        let store = self.store.as_ref().unwrap();
        store.record(load::event(id), at(0)).await?;
        self.pen.note(RECORDED, id);
        Ok(())
    }

    /// The WAL is written back in two passes, because a reader holds it meanwhile, and the sync
    /// after the second pass fails.
    async fn sync_of_a_write_back_fails(&mut self) {
        self.take(20).await;
        let reader = Connection::open(&self.path).unwrap();
        reader.execute_batch("BEGIN; SELECT count(*) FROM events").unwrap();
        self.take(100).await;
        // Enough for a thread to write some pages.
        tokio::time::sleep(Duration::from_millis(200)).await;
        self.injector.arm(Fault::once(Operation::SYNC, FileKind::DATABASE, Fault::EIO, 1)).unwrap();
        drop(reader);
        while self.injector.fired().unwrap() == 0 {
            self.take(1).await;
        }
    }

    /// A large commit, and SQLite's recovery from it, while no sync of the WAL succeeds. Most of
    /// the database is no longer in the WAL, and no other connection is open.
    async fn sync_of_a_commit_fails(&mut self) {
        self.take(500).await;
        self.restart().await;
        self.take(1).await;
        self.injector.arm(Fault::always(Operation::SYNC, FileKind::WAL, Fault::EIO)).unwrap();
        let mut calls = JoinSet::new();
        for number in 0..40 {
            let store = self.store.clone().unwrap();
            let event = load::event(&format!("unsynced {number}"));
            calls.spawn(async move { store.record(event, at(0)).await });
        }
        let answers = calls.join_all().await;
        assert!(answers.iter().all(Result::is_err), "{answers:?}");
        assert!(self.injector.fired().unwrap() > 0);
        self.injector.disarm().unwrap();
    }

    /// A start that would change something in a database that no other process has open.
    async fn sync_of_a_start_fails(&mut self) {
        self.store = None;
        self.injector.arm(Fault::once(Operation::SYNC, FileKind::WAL, Fault::EIO, 1)).unwrap();
        let order = Some(EventOrder::PerContact(AfterDeadLetter::Continue));
        let options = SqliteOptions { order, ..load::options() };
        SqliteStore::open_with(&self.path, options).await.unwrap_err();
        assert_eq!(self.injector.fired().unwrap(), 1);
    }
}

struct Story {
    recording: Recording,
    /// The files at the end.
    files: Files,
}

/// Records the child; `failing` names the operation that fails.
fn record(with: impl FnOnce(Recorder) -> Recorder, failing: Option<Fault>) -> Story {
    play("child_whose_disk_is_recorded", with, |command, injector| {
        if let Some(fault) = failing {
            command.env(PATIENT, "yes");
            injector.arm(fault).unwrap();
        }
    })
}

/// Records the child of that name.
fn play(
    name: &str,
    with: impl FnOnce(Recorder) -> Recorder,
    prepare: impl FnOnce(&mut Command, &Injector),
) -> Story {
    let folder = tempfile::tempdir().unwrap();
    let watched = folder.path().join("watched");
    fs::create_dir(&watched).unwrap();
    let recorder = with(Recorder::new(&folder.path().join("log")));
    let mut command = child(name);
    recorder.attach(command.env(FOLDER, &watched), &watched);
    let injector = Injector::new(&folder.path().join(CONTROL)).unwrap();
    injector.attach(&mut command, &watched);
    prepare(&mut command, &injector);
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

/// Turns the machine on again. Returns what the store finds in these files, or what is wrong.
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

/// `count` power cuts at any point of the recording.
fn anywhere(story: &Story, count: usize) -> Vec<Cut> {
    let mut dice = Dice::new(seed());
    let end = story.recording.entries.len();
    (0..count).map(|number| (dice.roll(end + 1), Loss::ALL[number % 4])).collect()
}

/// What the cuts reveal.
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

    // The recording is complete: played back as a whole, it produces the existing files.
    let mut replay = Replay::of(&story);
    replay.advance(entries.len());
    let mut played = replay.disk.cut(Loss::Nothing, &mut Dice::new(0));
    let mut real = story.files.clone();
    played.remove(ledger::NAME);
    real.remove(ledger::NAME);
    assert!(played == real, "{:?} and {:?}", played.keys(), real.keys());

    // The recording contains the operations that the test is about.
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

/// Cuts the power after a failed sync: at each of the next `steps` entries, and then at growing
/// intervals. Returns how often.
async fn cut_after_failed_sync(story: &Story, steps: usize, what: &str) -> usize {
    const RARELY: usize = 24;
    let failed = |entry: &Entry| matches!(entry, Entry::SyncFailed { .. });
    let point = story.recording.entries.iter().position(failed).expect("a sync failed");
    let rest = story.recording.entries.len() - point;
    let rarely = (0..RARELY).map(|number| rest * number * number / (RARELY * RARELY));
    let cuts: Vec<Cut> = (0..steps.min(rest))
        .chain(rarely)
        .enumerate()
        .map(|(number, step)| (point + step, Loss::ALL[number % 4]))
        .collect();
    let tried = cuts.len();
    let findings = cut_power(story, cuts).await;
    assert!(findings.is_empty(), "{what}: {}, {:#?}", findings.len(), findings.first());
    tried
}

/// As [`cut_after_failed_sync`], for the child under load whose `nth` sync fails. Returns how
/// often.
async fn cut_after_nth_sync(files: FileKind, nth: u64) -> usize {
    let fault = Fault::once(Operation::SYNC, files, Fault::EIO, nth);
    let story = record(|recorder| recorder, Some(fault));
    cut_after_failed_sync(&story, 0, &format!("sync {nth}")).await
}

#[tokio::test]
async fn a_sync_that_fails_where_it_hurts_takes_nothing() {
    for scene in [
        "a write-back",
        "a write-back, restart",
        "a commit",
        "a commit, restart",
        "a commit, a start, restart",
    ] {
        let story = play(
            "child_that_plays_a_scene",
            |recorder| recorder,
            |command, _| _ = command.env(SCENE, scene),
        );
        cut_after_failed_sync(&story, 100, scene).await;
    }
}

#[tokio::test]
async fn after_a_sync_that_failed_nothing_counts_on_what_it_should_have_kept() {
    let mut tried = 0;
    for round in 0..rounds(8) {
        // While the database is created, opening needs all the syncs; the syncs of the load come
        // later.
        let nth = 20 + u64::try_from(round * 7 % 90).unwrap();
        tried += cut_after_nth_sync(FileKind::ANY, nth).await;
    }
    // The database file is rarely synced: once each time the WAL has been written back.
    for round in 0..rounds(8) {
        let nth = 2 + u64::try_from(round % 4).unwrap();
        tried += cut_after_nth_sync(FileKind::DATABASE, nth).await;
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
