//! The view, the counts, and the purge.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeMap;

use cognigy_core::{
    AfterDeadLetter, DeadLetterEnd, DeliveryContext, EventArchive, EventOrder, EventStore,
    PageRequest, PurgeRequest, Quarantine, QuarantineEntry, QuarantineLimits, QuarantineReason,
    RunEnd, Settled, SourceName, State,
};
use cognigy_store_sqlite::SqliteOptions;
use common::{
    Place, at, claim, claim_one, ended, event, event_saying, give_up, key, process, settle,
};

#[tokio::test]
async fn the_view_has_the_plain_four_columns() {
    let place = Place::new();
    let store = place.open().await;
    process(&store, "e1", at(0)).await;
    store.record(event("e2"), at(1)).await.unwrap();

    let sql = place.sql();
    let mut select = sql
        .prepare("SELECT event_id, raw_payload, processed_at, status FROM webhook_events")
        .unwrap();
    let rows: Vec<(String, String, Option<String>, String)> = select
        .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    let text = |id: &str| String::from_utf8(event(id).body.to_vec()).unwrap();
    let processed_at = Some("2026-03-01T12:00:00.250000Z".to_owned());
    assert_eq!(rows[0], ("e1".to_owned(), text("e1"), processed_at, "processed".to_owned()));
    assert_eq!(rows[1], ("e2".to_owned(), text("e2"), None, "pending".to_owned()));
    let columns: i64 = sql
        .query_row("SELECT count(*) FROM pragma_table_info('webhook_events')", [], |row| row.get(0))
        .unwrap();
    assert_eq!(columns, 4);
}

/// What `counts` should say, counted row by row.
fn counted(place: &Place, column: &str) -> BTreeMap<String, u64> {
    let sql = place.sql();
    let mut select =
        sql.prepare(&format!("SELECT {column}, count(*) FROM events GROUP BY 1")).unwrap();
    let rows = select.query_map([], |row| Ok((row.get(0)?, row.get::<_, u32>(1)?.into()))).unwrap();
    rows.map(Result::unwrap).collect()
}

#[tokio::test]
async fn the_tallies_follow_every_move() {
    let place = Place::new();
    let store = place.open().await;
    let other = place.open().await;
    for id in ["a", "b", "c"] {
        process(&store, id, at(0)).await;
    }
    give_up(&other, &["d", "e"], at(0)).await;
    let mut letters = claim(&store, 1, at(1)).await.dead_letters;
    let sent = letters.remove(0).claim.settle(DeadLetterEnd::Sent, at(1));
    assert_eq!(settle(&store, sent).await, Settled::Done);
    store.requeue(&[key("a"), key("d")], at(2)).await.unwrap();
    let run = claim(&other, 3, at(2)).await.runs.remove(0);
    settle(&other, ended(run, RunEnd::Retry { due: at(500) }, at(3))).await;
    store.replay(&key("b"), common::LEASE, at(4)).await.unwrap();
    claim(&store, 1, at(100)).await; // an expired lease: processing to processing
    store.record(event("f"), at(5)).await.unwrap();
    store.record(event("f"), at(6)).await.unwrap();
    assert_eq!(
        store.purge(PurgeRequest::all_before(at(90), 100)).await.unwrap().purged.total_events(),
        1,
        "only c has ended"
    );

    for store in [&store, &other] {
        let counts = store.counts().await.unwrap();
        let by_state: BTreeMap<_, _> =
            counts.by_state.iter().map(|(state, count)| (state.to_string(), *count)).collect();
        assert_eq!(by_state, counted(&place, "state"));
        assert_eq!(counts.by_type, counted(&place, "type"));
        assert_eq!(counts.unsent_dead_letters, 1);
        assert_eq!(counts.oldest_pending, Some(at(0)));
    }
}

#[tokio::test]
async fn purging_takes_the_oldest_finished_events_with_all_that_is_theirs() {
    let place = Place::new();
    let store = place.open().await;
    store.record(event("unfinished"), at(0)).await.unwrap();
    let held = claim_one(&store, at(0)).await;
    for second in 1..=5 {
        process(&store, &format!("old{second}"), at(second)).await;
    }
    process(&store, "young", at(50)).await;
    give_up(&store, &["unsent"], at(6)).await;

    assert_eq!(
        store.purge(PurgeRequest::all_before(at(50), 3)).await.unwrap().purged.total_events(),
        3
    );
    assert!(store.find(&key("old3")).await.unwrap().is_none());
    assert!(store.find(&key("old4")).await.unwrap().is_some(), "the oldest go first");
    assert_eq!(
        store.purge(PurgeRequest::all_before(at(50), 3)).await.unwrap().purged.total_events(),
        2
    );
    assert_eq!(
        store.purge(PurgeRequest::all_before(at(50), 3)).await.unwrap().purged.total_events(),
        0
    );
    for id in ["unfinished", "unsent", "young"] {
        assert!(store.find(&key(id)).await.unwrap().is_some(), "{id} stays");
    }
    settle(&store, ended(held, RunEnd::Processed { contact: None }, at(51))).await;

    let claimed = claim(&store, 1, at(51)).await.dead_letters.remove(0);
    settle(&store, claimed.claim.settle(DeadLetterEnd::Sent, at(51))).await;
    assert_eq!(
        store.purge(PurgeRequest::all_before(at(50), 3)).await.unwrap().purged.total_events(),
        2
    );
    assert_eq!(
        store.purge(PurgeRequest::all_before(at(1000), 3)).await.unwrap().purged.total_events(),
        1
    );
    for table in ["events", "bodies", "contexts", "attempts", "outbox"] {
        let rows: i64 = place
            .sql()
            .query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0))
            .unwrap();
        assert_eq!(rows, 0, "{table}");
    }
    process(&store, "old1", at(200)).await;
    assert_eq!(store.find(&key("old1")).await.unwrap().unwrap().state, State::Processed);
}

#[tokio::test]
async fn the_quarantine_is_bounded_and_keeps_a_body_once() {
    let place = Place::new();
    let store = place.open().await;
    let limits = QuarantineLimits { items: 2, ..QuarantineLimits::default() };
    let entry = |body: &str, reason| QuarantineEntry {
        source: SourceName::default(),
        reason,
        event_id: Some("e1".to_owned()),
        detail: "is wrong".to_owned(),
        body: body.to_owned().into(),
        context: DeliveryContext::default(),
    };
    let bodies = async || -> Vec<String> {
        let page = store.quarantined(PageRequest { limit: 10, after: None }).await.unwrap();
        let text = |body: &[u8]| String::from_utf8(body.to_vec()).unwrap();
        page.items.iter().map(|item| text(&item.excerpt)).collect()
    };
    for body in ["a", "b", "a", "c"] {
        store.quarantine(entry(body, QuarantineReason::Invalid), limits, at(0)).await.unwrap();
    }
    assert_eq!(bodies().await, ["c", "b"], "the oldest went");
    store.quarantine(entry("c", QuarantineReason::Conflict), limits, at(50)).await.unwrap();
    assert_eq!(bodies().await, ["c", "c", "b"], "a conflict takes no room of theirs");
    assert_eq!(store.counts().await.unwrap().quarantined, 3);
    assert_eq!(
        store.purge(PurgeRequest::all_before(at(50), 1)).await.unwrap().purged.total_events(),
        0
    );
    assert_eq!(bodies().await, ["c", "c"], "one is old enough and within the limit");
}

#[tokio::test]
async fn an_id_that_was_purged_is_not_used_again() {
    let place = Place::new();
    let store = place.open().await;
    let newest = || -> i64 {
        place.sql().query_row("SELECT max(id) FROM events", [], |row| row.get(0)).unwrap()
    };
    process(&store, "first", at(0)).await;
    process(&store, "second", at(0)).await;
    let before = newest();
    assert_eq!(
        store.purge(PurgeRequest::all_before(at(100), 10)).await.unwrap().purged.total_events(),
        2
    );
    drop(store);

    let store = place.open().await;
    process(&store, "third", at(200)).await;
    assert!(newest() > before, "claims and cursors may still carry the old ids");
}

#[tokio::test]
async fn a_backlog_of_large_events_is_claimed_in_parts() {
    let place = Place::new();
    let store = place.open().await;
    let text = "x".repeat(1024 * 1024);
    for number in 0..40 {
        store.record(event_saying(&format!("e{number}"), &text), at(0)).await.unwrap();
    }
    let mut parts = Vec::new();
    loop {
        let batch = claim(&store, 100, at(1)).await;
        parts.push(batch.runs.len());
        if parts.iter().sum::<usize>() == 40 {
            assert!(batch.next_due.is_some_and(|due| due > at(1)), "when the first lease ends");
            break;
        }
        assert_eq!(batch.next_due, Some(at(0)), "there is more");
    }
    // 16 MiB, of bodies of a little more than one.
    assert_eq!(parts, [16, 16, 8]);
}

#[tokio::test]
async fn readiness_tries_every_table_that_a_delivery_writes() {
    let place = Place::new();
    let order = Some(EventOrder::PerContact(AfterDeadLetter::Continue));
    let store = place.open_with(SqliteOptions { order, ..SqliteOptions::default() }).await;
    store.ready().await.unwrap();
    let sql = place.sql();
    let tables = ["events", "bodies", "quarantine", "tallies", "lanes", "waiting", "heartbeat"];
    let rows = || {
        tables.map(|table| -> i64 {
            sql.query_row(&format!("SELECT count(*) FROM {table}"), [], |row| row.get(0)).unwrap()
        })
    };
    let before = rows();
    for table in tables {
        let veto = format!(
            "CREATE TRIGGER veto BEFORE INSERT ON {table} BEGIN SELECT RAISE(ABORT, 'no'); END"
        );
        sql.execute_batch(&veto).unwrap();
        store.ready().await.expect_err(table);
        sql.execute_batch("DROP TRIGGER veto").unwrap();
        store.ready().await.unwrap();
    }
    assert_eq!(rows(), before, "nothing is left of it");
}
