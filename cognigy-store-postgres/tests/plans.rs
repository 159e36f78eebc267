//! The server runs the store's statements by key, even while its statistics say that a table is
//! empty.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeSet;

use cognigy_core::{
    AfterDeadLetter, DeadLetterEnd, EventArchive, EventOrder, EventStore, RunEnd, Settled,
    testing::sample,
};
use cognigy_store_postgres::PostgresOptions;
use cognigy_test_postgres::Cluster;
use common::{LEASE, Place, claim, ended, event, key, now, process};

/// Scans of our tables that read more than was asked for: a whole table, or an index from end to
/// end. Partitions have their own names, which begin with their table's.
fn greedy_scans(log: &str) -> BTreeSet<String> {
    let lines: Vec<_> =
        log.lines().map(|line| line.trim_start_matches([' ', '\t', '-', '>'])).collect();
    let mut greedy = BTreeSet::new();
    for (number, line) in lines.iter().enumerate() {
        let scan = line.split("  (cost").next().unwrap_or_default();
        let grows = ["events", "queue", "lanes", "bodies", "attempts", "contexts", "outbox"]
            .iter()
            .any(|table| scan.contains(&format!(" on cognigy_{table}")));
        let by_key = lines.get(number + 1).is_some_and(|next| next.starts_with("Index Cond: "));
        let is_scan = ["Seq Scan", "Index Scan", "Index Only Scan", "Bitmap Heap Scan", "Parallel"]
            .iter()
            .any(|kind| scan.starts_with(kind));
        if is_scan && grows && !by_key {
            greedy.insert(scan.to_owned());
        }
    }
    greedy
}

#[tokio::test]
async fn no_statement_of_the_hot_path_reads_a_whole_table() {
    look_at_plans(EventOrder::Any).await;
}

#[tokio::test]
async fn nor_does_one_that_keeps_the_order_of_each_contact() {
    for after in [AfterDeadLetter::Continue, AfterDeadLetter::Stop] {
        look_at_plans(EventOrder::PerContact(after)).await;
    }
}

async fn look_at_plans(order: EventOrder) {
    let cluster = Cluster::start_with(&[
        ("fsync", "off"),
        ("shared_preload_libraries", "auto_explain"),
        ("auto_explain.log_min_duration", "0"),
    ]);
    let place = Place::in_cluster(&cluster);
    let options = PostgresOptions { order: Some(order), ..PostgresOptions::default() };
    let store = place.open_with(options).await;
    process(&store, "warm-up").await;
    // The statistics now say that the tables are almost empty, which is when plans go wrong.
    place.sql("VACUUM ANALYZE");
    let store = place.open().await;
    // Turning the order on has read every event.
    let before = cluster.log().len();
    // The next event of a contact that has one waiting event, and of a contact that has many.
    for (contact, id) in [("ann", "a1"), ("ann", "a2"), ("ann", "a3")] {
        store.record(sample::incoming(sample::body_from(contact, id)), now()).await.unwrap();
    }
    for run in claim(&store, 10).await.runs {
        store.settle(&[ended(run, RunEnd::Processed { contact: None })]).await.unwrap();
    }
    for run in claim(&store, 10).await.runs {
        let gave_up = RunEnd::GiveUp { reason: "no".to_owned(), attempts: 1 };
        store.settle(&[ended(run, gave_up)]).await.unwrap();
    }
    store.requeue(&[key("a1")], now()).await.unwrap();
    for id in ["a", "b", "c", "d"] {
        store.record(event(id), now()).await.unwrap();
        store.record(event(id), now()).await.unwrap();
    }
    let runs = claim(&store, 10).await.runs;
    let tokens: Vec<_> = runs.iter().map(|run| run.claim.token()).collect();
    store.renew(&tokens, LEASE, now()).await.unwrap();
    let verdicts = [
        RunEnd::Processed { contact: None },
        RunEnd::Retry { due: now() },
        RunEnd::GiveUp { reason: "no".to_owned(), attempts: 1 },
        RunEnd::Release,
    ];
    let ends: Vec<_> =
        runs.into_iter().zip(verdicts).map(|(run, verdict)| ended(run, verdict)).collect();
    store.settle(&ends).await.unwrap();
    store.requeue(&[key("a")], now()).await.unwrap();
    store.replay(&key("warm-up"), LEASE, now()).await.unwrap();
    let dead_letters = claim(&store, 10).await.dead_letters;
    let sent = dead_letters.into_iter().map(|work| work.claim.settle(DeadLetterEnd::Sent, now()));
    let answers = store.settle(&sent.collect::<Vec<_>>()).await.unwrap();
    assert!(!answers.is_empty() && answers.iter().all(|answer| *answer == Settled::Done));
    store.find(&key("a")).await.unwrap();
    store.attempts(&key("a")).await.unwrap();

    let log = cluster.log().split_off(before);

    assert!(log.contains("Update on cognigy_queue") && log.contains("Insert on cognigy_events"));
    let greedy = greedy_scans(&log);
    assert!(greedy.is_empty(), "{greedy:#?}");
}
