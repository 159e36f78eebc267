//! Other processes on the same database: a query that never ends, a backup, a VACUUM.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod crash;

use std::fs;

use cognigy_core::{EventArchive, EventStore, Recorded, State};
use cognigy_store_sqlite::SqliteStore;
use common::{Place, at, event_saying};
use crash::{
    audit::audit,
    ledger::Ledger,
    load::{self, Load},
};

#[tokio::test]
async fn a_query_that_never_ends_lets_the_wal_grow_and_its_end_shrinks_it_again() {
    let place = Place::new();
    let store = place.open().await;
    let wal = place.folder.path().join("webhooks.db-wal");
    let size = || fs::metadata(&wal).unwrap().len();
    store.record(event_saying("first", ""), at(0)).await.unwrap();
    let reader = place.sql();
    let count = || -> i64 {
        reader.query_row("SELECT count(*) FROM events", [], |row| row.get(0)).unwrap()
    };
    reader.execute_batch("BEGIN").unwrap();
    assert_eq!(count(), 1);
    let long = "x".repeat(1_000_000);
    for number in 0..90 {
        let event = event_saying(&format!("e{number}"), &long);
        assert_eq!(store.record(event, at(1)).await.unwrap(), Recorded::New);
    }
    let grown = size();
    assert!(grown > 80 << 20, "{grown} bytes: nothing could be written back");
    assert_eq!(count(), 1, "the reader sees what it began with");
    reader.execute_batch("COMMIT").unwrap();
    // A checkpoint comes with the next 16 MiB at the latest: it writes all of it back, the log
    // begins anew and is cut to its limit.
    let mut late = 0;
    while size() > 64 << 20 {
        let event = event_saying(&format!("late{late}"), &long);
        assert_eq!(store.record(event, at(2)).await.unwrap(), Recorded::New);
        late += 1;
        assert!(late < 40, "{} bytes after {grown}", size());
    }
    assert_eq!(store.counts().await.unwrap().of(State::Pending), 91 + late);
    let integrity: String =
        reader.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap();
    assert_eq!(integrity, "ok");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_and_a_vacuum_under_load_harm_nothing() {
    let place = Place::new();
    let store = place.open_with(load::options()).await;
    let mut load = Load::new(store.clone(), place.folder.path(), 1);
    load.events_each = 60;
    let load = tokio::spawn(load.run());
    let operator = place.sql();
    operator.busy_timeout(std::time::Duration::from_secs(20)).unwrap();
    let mut backups = Vec::new();
    while !load.is_finished() && backups.len() < 5 {
        tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        let before = Ledger::read(place.folder.path());
        let copy = place.folder.path().join(format!("backup-{}.db", backups.len()));
        operator.execute("VACUUM INTO ?1", [copy.to_str().unwrap()]).unwrap();
        backups.push((copy, before));
        operator.execute_batch("VACUUM").unwrap();
    }
    load.await.unwrap();
    let ledger = Ledger::read(place.folder.path());
    audit(&place.path(), &ledger).unwrap();
    assert!(backups.iter().any(|(_, before)| before.len() > 0), "it was under load");
    for (copy, before) in backups {
        // The backup holds everything that was answered when it began, and opens as a database of
        // its own.
        audit(&copy, &before).unwrap();
        let restored = SqliteStore::open(&copy).await.unwrap();
        load::finish_everything(&restored, at(5000)).await;
        assert_eq!(restored.counts().await.unwrap().of(State::Pending), 0);
        restored.ready().await.unwrap();
    }
}
