//! The server runs the store's statements by key, even while its statistics say that a table is
//! empty.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::collections::BTreeSet;

use cognigy_core::{
    Administration, AfterDeadLetter, DeadLetterEnd, EventArchive, EventFilter, EventOrder,
    EventStore, PageRequest, RunEnd, Settled, State, search_index::IndexRequest, testing::sample,
};
use cognigy_store_postgres::{PostgresOptions, PostgresStore};
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

#[tokio::test]
async fn the_events_of_a_contact_are_found_by_an_index_and_a_walk_ends() {
    let cluster = Cluster::start_with(&[
        ("fsync", "off"),
        ("shared_preload_libraries", "auto_explain"),
        ("auto_explain.log_min_duration", "0"),
    ]);
    let place = Place::in_cluster(&cluster);
    let store = place.open().await;
    // Every 30,000th event is of a rare type, and its contact and conversation have no other.
    place.sql(
        "INSERT INTO cognigy_events (received_at, processed_at, state, source, event_id, type,
                                     timestamp_json, external_id, user_id, conversation)
         SELECT to_timestamp(n), to_timestamp(n), 'processed', 'cognigy', n,
                CASE WHEN n % 30000 = 0 THEN 'DIALOG_STARTED' ELSE 'DIALOG_ENDED' END, '0',
                'x' || n / 30000, 'u' || n / 30000, 'c' || n / 30000
         FROM generate_series(1, 100000) AS n",
    );
    // Dead letters of events that were run again, two of each.
    place.sql(
        "INSERT INTO cognigy_outbox (source, event, run, reason, attempts, created_at, sent_at)
         SELECT source, id, n, 'gave up', 1, received_at, received_at
         FROM cognigy_events CROSS JOIN generate_series(1, 2) AS n WHERE id % 10 = 0",
    );
    place.sql("VACUUM ANALYZE");
    let text = || Some("x1".to_owned());
    let filters = [
        EventFilter { external_id: text(), ..EventFilter::default() },
        EventFilter { user_id: text(), ..EventFilter::default() },
        EventFilter { conversation: text(), ..EventFilter::default() },
    ];
    let request = IndexRequest::at(chrono::Utc::now());
    while store.index(&request).await.unwrap() {}
    let states = State::ALL.map(Some);
    for filter in filters {
        for state in states.into_iter().chain([None]) {
            let filter = EventFilter { state, ..filter.clone() };
            let before = cluster.log().len();
            store.list(&filter, PageRequest { limit: 100, after: None }).await.unwrap();
            let log = cluster.log().split_off(before);
            assert!(log.contains("cognigy_search_parts_pkey"), "{filter:?}: {log}");
            assert!(!log.contains("Seq Scan on cognigy_search"), "{filter:?}: {log}");
            assert!(!log.contains("Sort Key: events.id"), "{filter:?}: {log}");
        }
    }
    let rare = EventFilter {
        kind: Some(cognigy_core::EventType::DialogStarted),
        ..EventFilter::default()
    };
    assert_eq!(
        all(&store, &rare).await,
        (["90000", "60000", "30000"].map(str::to_owned).to_vec(), 5)
    );
    let discarded = EventFilter { state: Some(State::Discarded), ..EventFilter::default() };
    assert_eq!(all(&store, &discarded).await, (vec![], 4), "20,000 dead letters, 5,000 a page");
    place.sql("UPDATE cognigy_events SET state = 'discarded' WHERE id IN (10, 50000, 100000)");
    assert_eq!(all(&store, &discarded).await.0, ["100000", "50000", "10"]);
}

/// The ids of all events that match, and on how many pages they came.
async fn all(store: &PostgresStore, filter: &EventFilter) -> (Vec<String>, u64) {
    let (mut page, mut found, mut pages) = (PageRequest { limit: 2, after: None }, vec![], 0);
    loop {
        let events = store.list(filter, page).await.unwrap();
        found.extend(events.events.iter().map(|event| event.id.to_string()));
        pages += 1;
        page.after = events.next;
        if page.after.is_none() {
            return (found, pages);
        }
    }
}
