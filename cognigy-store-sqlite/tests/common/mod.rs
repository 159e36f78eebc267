//! What the tests share: events, times, a store in a folder of its own, an SQL prompt.
#![allow(dead_code, clippy::unwrap_used, clippy::expect_used)]

use std::{path::PathBuf, time::Duration};

use cognigy_core::{
    Attempt, AttemptOutcome, ClaimBatch, ClaimRequest, ClaimedRun, EventKey, EventStore,
    IncomingEvent, RawDelivery, RunEnd, Secret, Settled, Settlement, SignatureScheme,
    SignatureVerifier, Source, SourceName, Timestamp, sign,
};
use cognigy_store_sqlite::{SqliteOptions, SqliteStore};
use rusqlite::Connection;
use tempfile::TempDir;

pub(crate) const LEASE: Duration = Duration::from_secs(60);

/// A folder with a database in it, both gone at the end.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
}

impl Place {
    pub(crate) fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    pub(crate) fn path(&self) -> PathBuf {
        self.folder.path().join("webhooks.db")
    }

    pub(crate) async fn open(&self) -> SqliteStore {
        SqliteStore::open(self.path()).await.unwrap()
    }

    pub(crate) async fn open_with(&self, options: SqliteOptions) -> SqliteStore {
        SqliteStore::open_with(self.path(), options).await.unwrap()
    }

    /// A connection of another program to the database.
    pub(crate) fn sql(&self) -> Connection {
        Connection::open(self.path()).unwrap()
    }
}

/// Options that wait for a lock only briefly.
pub(crate) fn impatient() -> SqliteOptions {
    SqliteOptions { busy_timeout: Duration::from_millis(200), ..SqliteOptions::default() }
}

/// `seconds` into the tests' time.
pub(crate) fn at(seconds: i64) -> Timestamp {
    Timestamp::from_timestamp(1_772_366_400 + seconds, 250_000_000).unwrap()
}

pub(crate) fn key(id: &str) -> EventKey {
    EventKey::cognigy(id.parse().unwrap())
}

/// The body of an event with this text in its payload.
pub(crate) fn body_saying(id: &str, text: &str) -> String {
    format!(
        r#"{{ "eventId":"{id}", "timestamp":"2026-03-01T12:00:00+00:00", "type":"USER_INPUT_RECEIVED",
  "payload":{{"input":"{text}","amount":1e400}}, "externalId":"crm-{id}", "userId":"user-{id}" }}"#
    )
}

/// A signed and verified event with this text in its payload.
pub(crate) fn event_saying(id: &str, text: &str) -> IncomingEvent {
    verified(body_saying(id, text))
}

/// An event of a contact that may have others.
pub(crate) fn event_from(contact: &str, id: &str, text: &str) -> IncomingEvent {
    verified(body_saying(id, text).replace(&format!("crm-{id}"), contact))
}

fn verified(body: String) -> IncomingEvent {
    let secret = Secret::new("a webhook secret").unwrap();
    let signature = sign(&secret, SignatureScheme::Base64, body.as_bytes());
    let raw = RawDelivery::new([("X-Cognigy-Signature", signature.as_str())], body);
    let source = Source::cognigy(SignatureVerifier::new(&secret));
    let delivery = source.verify(raw, Timestamp::UNIX_EPOCH).unwrap();
    source.read(&delivery).unwrap().remove(0)
}

pub(crate) fn event(id: &str) -> IncomingEvent {
    event_saying(id, "hello")
}

pub(crate) async fn claim(store: &SqliteStore, limit: usize, now: Timestamp) -> ClaimBatch {
    store.claim_due(request(limit, now)).await.unwrap()
}

/// For at most `limit` pieces of each kind of work at the default source.
pub(crate) fn request(limit: usize, now: Timestamp) -> ClaimRequest {
    let source = SourceName::default();
    ClaimRequest { source, runs: limit, dead_letters: limit, lease: LEASE, now }
}

pub(crate) async fn claim_one(store: &SqliteStore, now: Timestamp) -> ClaimedRun {
    let mut batch = claim(store, 1, now).await;
    assert_eq!(batch.runs.len(), 1, "one run is due");
    batch.runs.remove(0)
}

/// Ends a run that was claimed, with an attempt in its history.
pub(crate) fn ended(run: ClaimedRun, verdict: RunEnd, now: Timestamp) -> Settlement {
    let attempt = Attempt {
        number: run.attempt,
        run: run.run,
        started_at: now,
        duration: Duration::from_millis(5),
        outcome: AttemptOutcome::Succeeded,
        error: None,
    };
    run.claim.settle(verdict, Some(attempt), now)
}

pub(crate) async fn settle(store: &SqliteStore, settlement: Settlement) -> Settled {
    store.settle(&[settlement]).await.unwrap()[0]
}

pub(crate) async fn process(store: &SqliteStore, id: &str, now: Timestamp) {
    store.record(event(id), now).await.unwrap();
    let run = claim_one(store, now).await;
    assert_eq!(run.key, key(id));
    let settled = settle(store, ended(run, RunEnd::Processed { contact: None }, now)).await;
    assert_eq!(settled, Settled::Done);
}

/// Records events, claims them and gives them up.
pub(crate) async fn give_up(store: &SqliteStore, ids: &[&str], now: Timestamp) {
    for id in ids {
        store.record(event(id), now).await.unwrap();
    }
    let batch = claim(store, ids.len(), now).await;
    assert_eq!(batch.runs.len(), ids.len(), "all of them are due, and nothing else");
    for run in batch.runs {
        let verdict = RunEnd::GiveUp { reason: "no use".to_owned(), attempts: run.attempt };
        assert_eq!(settle(store, ended(run, verdict, now)).await, Settled::Done);
    }
}
