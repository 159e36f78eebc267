//! A database that is moved away, replaced or linked to: no event is lost, and no other database
//! grows in its place.
#![cfg(unix)]
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
};

use cognigy_core::{EventArchive, EventStore, PageRequest, Recorded};
use cognigy_store_sqlite::{SqliteAccess, SqliteOptions, SqliteStore};
use common::{Place, at, event, key};

const EVENTS: usize = 20;

async fn with_events(place: &Place) -> SqliteStore {
    let store = place.open().await;
    for number in 0..EVENTS {
        store.record(event(&format!("e{number}")), at(0)).await.unwrap();
    }
    store
}

async fn count(store: &SqliteStore) -> usize {
    let page = PageRequest { limit: 100, after: None };
    store.list(&Default::default(), page).await.unwrap().events.len()
}

fn contents(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let named = |path: &Path| path.file_name().unwrap().to_string_lossy().into_owned();
    files.map(|path| (named(&path), fs::read(&path).unwrap())).collect()
}

fn accessing(access: SqliteAccess) -> SqliteOptions {
    SqliteOptions { access, ..SqliteOptions::default() }
}

#[tokio::test]
async fn nothing_is_created_where_a_database_was_moved_away() {
    let place = Place::new();
    let store = with_events(&place).await;
    let aside = place.folder.path().join("aside.db");
    fs::rename(place.path(), &aside).unwrap();
    let before = contents(place.folder.path());
    for access in [SqliteAccess::Create, SqliteAccess::Write, SqliteAccess::Read] {
        let opened = SqliteStore::open_with(place.path(), accessing(access)).await;
        let error = cognigy_core::Failure::from(opened.expect_err("it is not there")).report();
        assert!(error.contains("webhooks.db-wal and webhooks.db-shm"), "{error}");
    }
    assert_eq!(contents(place.folder.path()), before, "what is left must stay as it is");
    store.ready().await.expect_err("the store has noticed");
    store.record(event("late"), at(1)).await.expect_err("nothing would keep it");

    fs::rename(&aside, place.path()).unwrap();
    store.ready().await.unwrap();
    assert_eq!(count(&store).await, EVENTS);
    assert_eq!(store.record(event("e0"), at(2)).await.unwrap(), Recorded::Identical);
    assert_eq!(store.record(event("late"), at(2)).await.unwrap(), Recorded::New);
}

#[tokio::test]
async fn a_store_that_is_closed_while_its_database_is_elsewhere_leaves_the_log() {
    for noticed in [false, true] {
        let place = Place::new();
        let store = with_events(&place).await;
        let aside = place.folder.path().join("aside.db");
        fs::rename(place.path(), &aside).unwrap();
        if noticed {
            store.ready().await.expect_err("it is not there");
        }
        drop(store);
        assert!(!place.path().exists());
        fs::rename(&aside, place.path()).unwrap();
        assert_eq!(count(&place.open().await).await, EVENTS, "noticed: {noticed}");
    }
}

#[tokio::test]
async fn a_copy_in_the_database_s_place_is_noticed_and_not_written_to() {
    let place = Place::new();
    let store = with_events(&place).await;
    let aside = place.folder.path().join("aside.db");
    fs::rename(place.path(), &aside).unwrap();
    fs::copy(&aside, place.path()).unwrap();
    let copied = fs::read(place.path()).unwrap();
    for _ in 0..3 {
        store.ready().await.expect_err("it is another file");
        store.record(event("late"), at(1)).await.expect_err("it is another file");
        assert!(store.find(&key("e0")).await.is_err());
    }
    assert_eq!(fs::read(place.path()).unwrap(), copied);

    fs::rename(&aside, place.path()).unwrap();
    store.ready().await.unwrap();
    assert_eq!(count(&store).await, EVENTS);
}

#[tokio::test]
async fn a_file_that_takes_a_deleted_database_s_inode_is_noticed() {
    let place = Place::new();
    let store = with_events(&place).await;
    let copy = fs::read(place.path()).unwrap();
    fs::remove_file(place.path()).unwrap();
    store.ready().await.expect_err("it is deleted");
    // Every connection has closed the file, so that its inode number can be used again.
    fs::write(place.path(), copy).unwrap();
    store.ready().await.expect_err("a copy of the database alone lacks what was in the log");
}

#[tokio::test]
async fn only_creating_creates() {
    let place = Place::new();
    for access in [SqliteAccess::Write, SqliteAccess::Read] {
        for empty in [false, true] {
            if empty {
                fs::write(place.path(), "").unwrap();
            }
            let before = contents(place.folder.path());
            let opened = SqliteStore::open_with(place.path(), accessing(access)).await;
            let error = cognigy_core::Failure::from(opened.expect_err("there is none")).report();
            let path = place.path().display().to_string();
            assert!(error.contains(&format!("no database at {path}")), "{error}");
            assert_eq!(contents(place.folder.path()), before);
            let _ = fs::remove_file(place.path());
        }
    }
}

#[tokio::test]
async fn the_files_are_their_owner_s_alone() {
    let place = Place::new();
    let _store = with_events(&place).await;
    for file in ["webhooks.db", "webhooks.db-wal", "webhooks.db-shm"] {
        let mode = fs::metadata(place.folder.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
}

#[tokio::test]
async fn a_symbolic_link_to_a_database_works() {
    for exists in [false, true] {
        let place = Place::new();
        if exists {
            drop(place.open().await);
        }
        let links = tempfile::tempdir().unwrap();
        let link = links.path().join("link.db");
        symlink(place.path(), &link).unwrap();
        let store = SqliteStore::open(&link).await.unwrap();
        store.record(event("e1"), at(0)).await.unwrap();
        store.ready().await.unwrap();
        assert!(store.find(&key("e1")).await.unwrap().is_some());
        assert_eq!(contents(links.path()).len(), 1, "nothing is kept beside the link");
        assert!(place.path().exists());

        // The link now leads to another file.
        let other = Place::new();
        drop(other.open().await);
        fs::remove_file(&link).unwrap();
        symlink(other.path(), &link).unwrap();
        store.ready().await.expect_err("the link leads to another file");
        fs::remove_file(&link).unwrap();
        symlink(place.path(), &link).unwrap();
        store.ready().await.unwrap();
        assert!(store.find(&key("e1")).await.unwrap().is_some());
    }
}
