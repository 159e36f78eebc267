//! Retention: rows are removed within the limit, bytes by the day.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeMap;

use cognigy_core::{
    ClaimRequest, Contact, DeadLetterEnd, EventArchive, EventStore, PurgeRequest, RunEnd, Settled,
    SourceName, Timestamp, testing::sample,
};
use cognigy_store_postgres::{PostgresOptions, PostgresStore, TimeSource};
use common::{LEASE, Place, event, key, request};

/// Noon of a day of the tests' own time.
fn day(number: i64) -> Timestamp {
    sample::start() + chrono::Duration::days(number) + chrono::Duration::hours(12)
}

async fn store(place: &Place<'_>) -> PostgresStore {
    place
        .open_with(PostgresOptions { time: TimeSource::Caller, ..PostgresOptions::default() })
        .await
}

async fn end(store: &PostgresStore, id: &str, at: Timestamp, verdict: RunEnd) {
    store.record(event(id), at).await.unwrap();
    // Room for a dead letter that is due beside it.
    let request = ClaimRequest {
        source: SourceName::default(),
        runs: 2,
        dead_letters: 2,
        lease: LEASE,
        now: at,
    };
    let run = store.claim_due(request).await.unwrap().runs.remove(0);
    assert_eq!(run.key, key(id));
    let settlement = common::ended_at(run, verdict, common::now(), at);
    assert_eq!(store.settle(&[settlement]).await.unwrap(), [Settled::Done]);
}

async fn process(store: &PostgresStore, id: &str, at: Timestamp) {
    let contact = Contact::from_json("{}").unwrap();
    end(store, id, at, RunEnd::Processed { contact: Some(contact) }).await;
}

/// Purges until nothing is left to purge, as the server does.
async fn purge(store: &PostgresStore, before: Timestamp) -> u64 {
    let mut total = 0;
    loop {
        match store.purge(PurgeRequest::all_before(before, 2)).await.unwrap().purged.total_events()
        {
            0 => return total,
            gone => total += gone,
        }
    }
}

fn days(place: &Place<'_>) -> Vec<String> {
    let names = place.sql(
        "SELECT relname FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
         WHERE relname ~ '[0-9]{8}$' AND relkind = 'r' ORDER BY 1",
    );
    names.lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn a_day_that_retention_has_emptied_is_dropped_as_a_whole() {
    let place = Place::new();
    let store = store(&place).await;
    for number in 0..3 {
        for id in ["a", "b", "c"] {
            process(&store, &format!("{id}{number}"), day(number)).await;
        }
    }
    assert_eq!(days(&place).len(), 9, "three tables, three days");

    assert_eq!(purge(&store, day(1)).await, 3, "the first day's, and none of the second's noon");
    let left = days(&place);
    assert_eq!(left.len(), 6, "{left:?}");
    assert!(left.iter().all(|name| !name.ends_with("20260101")), "{left:?}");
    for (table, rows) in [("bodies", "6"), ("attempts", "6"), ("contexts", "6"), ("events", "6")] {
        assert_eq!(place.sql(&format!("SELECT count(*) FROM cognigy_{table}")), rows, "{table}");
    }
    process(&store, "late", day(0)).await;
    assert_eq!(days(&place).len(), 9, "a day that is needed again is made again");
}

#[tokio::test]
async fn a_day_with_an_unfinished_event_stays_and_the_others_bytes_go() {
    let place = Place::new();
    let store = store(&place).await;
    end(&store, "unsent", day(0), RunEnd::GiveUp { reason: "no".to_owned(), attempts: 1 }).await;
    for id in ["a", "b", "c", "d", "e"] {
        process(&store, id, day(0)).await;
    }
    assert_eq!(purge(&store, day(2)).await, 5);
    // Each further call removes as many rows as it may.
    for _ in 0..3 {
        assert_eq!(
            store.purge(PurgeRequest::all_before(day(2), 2)).await.unwrap().purged.total_events(),
            0
        );
    }
    assert_eq!(days(&place).len(), 3);
    assert_eq!(place.sql("SELECT count(*) FROM cognigy_bodies"), "1");
    let claimed = store.claim_due(request(2, day(2))).await.unwrap().dead_letters.remove(0);
    assert_eq!(claimed.dead_letter.raw_payload, sample::body("unsent"), "its own body stays");
}

#[tokio::test]
async fn a_drop_waits_for_nobody_for_long() {
    let place = Place::new();
    let store = store(&place).await;
    process(&store, "a", day(0)).await;
    // A backup reads the table.
    let url = place.url();
    let (reader, connection) = tokio_postgres::connect(&url, tokio_postgres::NoTls).await.unwrap();
    let connection = tokio::spawn(connection);
    reader.batch_execute("BEGIN; SELECT count(*) FROM cognigy_bodies").await.unwrap();
    assert_eq!(purge(&store, day(2)).await, 1);
    assert_eq!(days(&place).len(), 3, "the backup blocked the drop");
    process(&store, "b", day(2)).await;
    reader.batch_execute("COMMIT").await.unwrap();
    assert_eq!(
        store.purge(PurgeRequest::all_before(day(2), 10)).await.unwrap().purged.total_events(),
        0
    );
    assert!(
        days(&place).iter().all(|name| name.ends_with("20260103")),
        "the next purge dropped the day"
    );
    connection.abort();
}

#[tokio::test]
async fn the_tallies_follow_every_move_and_are_the_same_when_added_up() {
    let place = Place::new();
    let store = store(&place).await;
    let other = self::store(&place).await;
    for id in ["a", "b", "c"] {
        process(&store, id, day(0)).await;
    }
    for id in ["d", "e"] {
        end(&other, id, day(0), RunEnd::GiveUp { reason: "no".to_owned(), attempts: 1 }).await;
    }
    let claimed = store.claim_due(request(1, day(0))).await.unwrap().dead_letters.remove(0);
    let sent = claimed.claim.settle(DeadLetterEnd::Sent, day(0));
    assert_eq!(store.settle(&[sent]).await.unwrap(), [Settled::Done]);
    store.requeue(&[key("a"), key("d"), key("a")], day(0)).await.unwrap();
    store.replay(&key("b"), LEASE, day(0)).await.unwrap();
    other.claim_due(request(1, day(1))).await.unwrap(); // an expired lease: processing to processing
    store.record(event("f"), day(0)).await.unwrap();
    store.record(event("f"), day(0)).await.unwrap();
    assert_eq!(purge(&store, day(1)).await, 2, "c and e have ended");

    let counted = |column: &str| -> BTreeMap<String, u64> {
        let rows = place.sql(&format!("SELECT {column}, count(*) FROM {SEEN} GROUP BY 1"));
        let row = |row: &str| {
            let (name, count) = row.split_once('|').unwrap();
            (name.to_owned(), count.parse().unwrap())
        };
        rows.lines().map(row).collect()
    };
    let summed = "WITH parts AS (DELETE FROM cognigy_tallies RETURNING *)
                  INSERT INTO cognigy_tallies SELECT dimension, name, sum(count) FROM parts GROUP BY 1, 2";
    for _ in 0..2 {
        let counts = other.counts().await.unwrap();
        let by_state: BTreeMap<_, _> =
            counts.by_state.iter().map(|(state, count)| (state.to_string(), *count)).collect();
        assert_eq!(by_state, counted("status"));
        assert_eq!(counts.by_type, counted("type"));
        place.sql(summed);
    }
}

const SEEN: &str =
    "(SELECT status, type FROM webhook_events JOIN cognigy_events USING (event_id)) AS seen";
