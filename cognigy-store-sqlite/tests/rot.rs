//! Damaged files: pages of zeros, a log that was cut off, shared memory that was wiped. Data that
//! cannot be read is reported as such; no error is hidden.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;
mod crash;

use std::{collections::BTreeMap, fs, path::Path};

use cognigy_core::{EventArchive, EventFilter, EventStore, PageRequest, Recorded};
use cognigy_store_sqlite::SqliteStore;
use common::{at, key, request};
use crash::{audit::audit, calls, ledger::Ledger, load, workplace};
use rusqlite::Connection;

const DATABASE: &str = "webhooks.db";

/// What each page holds: the table or index, and whether it is the rest of a long row.
fn pages(path: &Path) -> BTreeMap<usize, (String, bool)> {
    let connection = Connection::open(path).unwrap();
    let mut select = connection.prepare("SELECT pageno, name, pagetype FROM dbstat").unwrap();
    let rows = select.query_map([], |row| {
        let is_rest = row.get::<_, String>(2)? == "overflow";
        Ok((usize::try_from(row.get::<_, i64>(0)?).unwrap(), (row.get(1)?, is_rest)))
    });
    rows.unwrap().map(Result::unwrap).collect()
}

#[tokio::test]
async fn a_page_that_cannot_be_read_is_never_passed_over() {
    const PAGE: usize = 4096;
    let place = workplace();
    let path = place.path().join(DATABASE);
    calls::make_world(&path).await;
    let store = SqliteStore::open(&path).await.unwrap();
    for number in 0..60 {
        store.record(load::event(&format!("e{number}")), at(3)).await.unwrap();
    }
    let events = 67;
    drop(store);
    let (whole, pages) = (fs::read(&path).unwrap(), pages(&path));
    let (mut refused, mut noticed, mut unharmed) = (0, 0, 0);
    for (page, (name, is_rest)) in &pages {
        for filling in [0, 0xff] {
            let what = format!("page {page} of {name} filled with {filling}");
            let folder = workplace();
            let path = folder.path().join(DATABASE);
            let mut rotten = whole.clone();
            rotten[(page - 1) * PAGE..page * PAGE].fill(filling);
            fs::write(&path, &rotten).unwrap();
            let Ok(store) = SqliteStore::open(&path).await else {
                assert_eq!(fs::read(&path).unwrap(), rotten, "{what}: refused and left as it is");
                refused += 1;
                continue;
            };
            let mut errors = 0;
            for id in ["done", "dead", "a", "e1", "e30", "e59"] {
                match store.record(load::event(id), at(11)).await {
                    Ok(Recorded::New) => panic!("{what}: {id} was there"),
                    Ok(_) => {}
                    Err(_) => errors += 1,
                }
                match store.find(&key(id)).await {
                    Ok(found) => {
                        let found = found.unwrap_or_else(|| panic!("{what}: {id} is there"));
                        let is_whole = found.event.body() == load::body(id).as_bytes();
                        // SQLite keeps no checksums, so it does not notice damage in the rest of a
                        // long body.
                        assert!(is_whole || *is_rest && name == "bodies", "{what}: {id}");
                    }
                    Err(_) => errors += 1,
                }
            }
            match store.list(&EventFilter::default(), PageRequest { limit: 500, after: None }).await
            {
                Ok(page) => assert_eq!(page.events.len(), events, "{what}: the list is whole"),
                Err(_) => errors += 1,
            }
            match store.record(load::event("fresh"), at(11)).await {
                Ok(recorded) => {
                    assert_eq!(recorded, Recorded::New, "{what}");
                    // Another table that is needed to show the event may be the damaged one.
                    match store.find(&key("fresh")).await {
                        Ok(found) => {
                            let body = load::body("fresh");
                            assert_eq!(found.unwrap().event.body(), body.as_bytes(), "{what}");
                        }
                        Err(_) => errors += 1,
                    }
                }
                Err(_) => errors += 1,
            }
            // The worker goes on with the readable events, or gets an error.
            let request = request(500, at(12));
            match store.claim_due(request).await {
                Ok(batch) => errors += batch.runs.iter().filter(|run| run.event.is_err()).count(),
                Err(_) => errors += 1,
            }
            if errors > 0 {
                noticed += 1;
            } else {
                unharmed += 1;
            }
        }
    }
    println!("of {} pages: {refused} refused, {noticed} noticed, {unharmed} not", pages.len());
    assert!(refused > 0 && noticed > pages.len() / 2, "{refused} {noticed} {unharmed}");
}

#[tokio::test]
async fn a_log_that_was_cut_off_keeps_what_came_before() {
    let place = workplace();
    let path = place.path().join(DATABASE);
    let store = SqliteStore::open(&path).await.unwrap();
    for number in 0..60 {
        store.record(load::event(&format!("e{number:02}")), at(0)).await.unwrap();
    }
    let wal = fs::read(place.path().join("webhooks.db-wal")).unwrap();
    let database = fs::read(&path).unwrap();
    let mut lengths = std::collections::BTreeSet::new();
    for part in 0..=40 {
        let folder = workplace();
        let path = folder.path().join(DATABASE);
        let length = wal.len() * part / 40;
        fs::write(&path, &database).unwrap();
        fs::write(folder.path().join("webhooks.db-wal"), &wal[..length]).unwrap();
        let store = SqliteStore::open(&path).await.unwrap();
        audit(&path, &Ledger::default()).unwrap();
        let page = PageRequest { limit: 100, after: None };
        let listed = store.list(&EventFilter::default(), page).await.unwrap();
        let ids: Vec<_> = listed.events.iter().rev().map(|event| event.id.as_str()).collect();
        let first: Vec<_> = (0..ids.len()).map(|number| format!("e{number:02}")).collect();
        assert_eq!(ids, first, "{length} of {} bytes: the first ones, and whole", wal.len());
        assert_eq!(store.record(load::event("new"), at(1)).await.unwrap(), Recorded::New);
        lengths.insert(ids.len());
    }
    assert!(lengths.len() > 10 && lengths.contains(&60), "{lengths:?}");
}

#[tokio::test]
async fn shared_memory_that_was_wiped_is_made_again() {
    for filling in [0, 0xff, 0x5a] {
        let place = workplace();
        let path = place.path().join(DATABASE);
        let store = SqliteStore::open(&path).await.unwrap();
        let mut ledger = Ledger::default();
        for number in 0..20 {
            let id = format!("e{number}");
            store.record(load::event(&id), at(0)).await.unwrap();
            ledger.recorded.insert(id);
        }
        // The files after a crash, with later damage.
        let folder = workplace();
        for name in [DATABASE, "webhooks.db-wal", "webhooks.db-shm"] {
            let mut content = fs::read(place.path().join(name)).unwrap();
            if name.ends_with("-shm") {
                content.fill(filling);
            }
            fs::write(folder.path().join(name), content).unwrap();
        }
        let path = folder.path().join(DATABASE);
        let store = SqliteStore::open(&path).await.unwrap();
        audit(&path, &ledger).unwrap();
        assert_eq!(store.record(load::event("new"), at(1)).await.unwrap(), Recorded::New);
    }
}
