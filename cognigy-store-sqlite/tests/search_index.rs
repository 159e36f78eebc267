//! The index of words and contacts in the database's file.
#![allow(clippy::unwrap_used, clippy::expect_used)]

use std::{fs, path::Path};

use cognigy_core::{
    Administration, EventArchive, EventFilter, EventStore, PageRequest, Person, PurgeRequest,
    Timestamp, Words, search_index::IndexRequest, testing::sample,
};
use cognigy_store_sqlite::SqliteStore;
use rusqlite::Connection;

fn at(seconds: i64) -> Timestamp {
    sample::start() + chrono::Duration::seconds(seconds)
}

fn words(text: &str) -> EventFilter {
    EventFilter { words: Words::of(text), ..EventFilter::default() }
}

async fn found(store: &SqliteStore, filter: &EventFilter) -> Vec<String> {
    let page = store.list(filter, PageRequest { limit: 100, after: None }).await.unwrap();
    page.events.into_iter().map(|event| event.id.to_string()).collect()
}

/// A word of an event's own. None begins like another, so that the index has it as a whole.
fn marker(n: u8) -> String {
    format!("{}secret", char::from(b'a' + n))
}

/// Twenty events with their markers, described in the index.
async fn indexed(path: &Path) -> SqliteStore {
    let store = SqliteStore::open(path).await.unwrap();
    for n in 0..20 {
        let text = format!(
            r#"{{"eventId":"e{n}","timestamp":1772366400,"type":"USER_INPUT_RECEIVED",
                 "payload":{{"input":"{} yes"}},"externalId":"customer{n}x"}}"#,
            marker(n)
        );
        store.record(sample::incoming(text), at(n.into())).await.unwrap();
    }
    while store.index(&IndexRequest::tiny(at(100))).await.unwrap() {}
    store
}

fn count(path: &Path, sql: &str) -> i64 {
    Connection::open(path).unwrap().query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Whether the bytes of the database or of its log hold the text.
fn is_in_files(path: &Path, text: &str) -> bool {
    let log = path.with_extension("db-wal");
    [path, &log].into_iter().any(|file| {
        let bytes = fs::read(file).unwrap_or_default();
        bytes.windows(text.len()).any(|part| part == text.as_bytes())
    })
}

#[tokio::test]
async fn nothing_of_an_erased_or_purged_event_can_be_read_in_the_index() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("webhooks.db");
    let store = indexed(&path).await;
    let in_parts = |n: u8| {
        let parts = "SELECT count(*) FROM search_parts WHERE instr(entries, CAST('";
        count(&path, &format!("{parts}{}' AS BLOB)) > 0", marker(n)))
    };
    assert_eq!((in_parts(7), in_parts(12)), (1, 1), "the index holds what people wrote");
    let person = Person::ExternalId("customer7x".to_owned());
    store.erase(&person, "admin", at(200)).await.unwrap();
    for text in [marker(7), "customer7x".to_owned()] {
        assert!(!is_in_files(&path, &text), "{text}");
    }
    // Those that are left beside it can still be found.
    assert_eq!(found(&store, &words(&marker(6))).await, ["e6"]);
    assert!(found(&store, &words(&marker(7))).await.is_empty());
    for key in (0..4).map(|n| sample::key(&format!("e{n}"))) {
        store.replay(&key, std::time::Duration::from_secs(60), at(300)).await.unwrap();
    }
    let person = Person::ExternalId("customer12x".to_owned());
    store.erase(&person, "admin", at(301)).await.unwrap();
    let request =
        PurgeRequest { before: at(250), unresolved_before: None, limit: 100, after: None };
    let purged = store.purge(request).await.unwrap();
    assert_eq!(purged.purged.total_events(), 2, "the two erased ones");
    assert!(is_in_files(&path, &marker(11)) && !is_in_files(&path, &marker(12)));
    while store.index(&IndexRequest::tiny(at(9000))).await.unwrap() {}
    assert!(!is_in_files(&path, &marker(7)) && !is_in_files(&path, &marker(12)));
    assert_eq!(found(&store, &words("yes")).await.len(), 18);
}

#[tokio::test]
async fn a_damaged_index_hides_nothing() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("webhooks.db");
    let store = indexed(&path).await;
    let external = EventFilter { external_id: Some("customer5x".to_owned()), ..words("") };
    for damage in [
        "UPDATE search_parts SET entries = x'ff00ff'",
        "UPDATE search_parts SET entries = x''",
        "UPDATE search_segments SET undescribed = x'01'",
        "DELETE FROM search_parts WHERE term = x''",
        "DELETE FROM search_parts",
        "DELETE FROM search_segments",
    ] {
        Connection::open(&path).unwrap().execute(damage, []).unwrap();
        assert_eq!(found(&store, &words("yes")).await.len(), 20, "{damage}");
        assert_eq!(found(&store, &words(&marker(5))).await, ["e5"], "{damage}");
        assert_eq!(found(&store, &external).await, ["e5"], "{damage}");
    }
}

/// A process that ended in the middle leaves a segment that describes nothing yet.
#[tokio::test]
async fn what_a_killed_process_began_is_begun_anew() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("webhooks.db");
    let store = indexed(&path).await;
    let file = Connection::open(&path).unwrap();
    file.execute("UPDATE search_segments SET state = 'begun'", []).unwrap();
    file.execute("DELETE FROM search_parts WHERE term > x'66'", []).unwrap();
    assert_eq!(found(&store, &words(&marker(5))).await, ["e5"]);
    let mut request =
        IndexRequest { rest: std::time::Duration::from_secs(60), ..IndexRequest::tiny(at(120)) };
    assert!(!store.index(&request).await.unwrap(), "its process may be at work");
    request.now = at(170);
    while store.index(&request).await.unwrap() {}
    assert_eq!(count(&path, "SELECT count(*) FROM search_segments WHERE state <> 'built'"), 0);
    assert_eq!(found(&store, &words(&marker(5))).await, ["e5"]);
}
