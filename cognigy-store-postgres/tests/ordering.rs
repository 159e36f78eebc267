//! Several nodes keep the order of each contact's events, and agree on whether they do.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Arc, Mutex},
    time::Duration,
};

use cognigy_core::{
    AfterDeadLetter, EventArchive, EventOrder, EventStore, RunEnd, Settled, State, testing::sample,
};
use cognigy_store_postgres::{PostgresOptions, PostgresStore};
use common::{Place, claim, ended, now, request, settle};

const CONTINUE: EventOrder = EventOrder::PerContact(AfterDeadLetter::Continue);
const STOP: EventOrder = EventOrder::PerContact(AfterDeadLetter::Stop);
const WELL: RunEnd = RunEnd::Processed { contact: None };

async fn open(place: &Place<'_>, order: impl Into<Option<EventOrder>>) -> PostgresStore {
    place.open_with(PostgresOptions { order: order.into(), ..PostgresOptions::default() }).await
}

async fn arrive(store: &PostgresStore, contact: &str, ids: &[&str]) {
    for id in ids {
        store.record(sample::incoming(sample::body_from(contact, id)), now()).await.unwrap();
    }
}

/// Claims the due events, which must be `ids`, and ends them with `verdict`.
async fn end(store: &PostgresStore, ids: &[&str], verdict: RunEnd) -> BTreeSet<String> {
    let runs = claim(store, 100).await.runs;
    let found: BTreeSet<_> = runs.iter().map(|run| run.key.id.as_str().to_owned()).collect();
    assert_eq!(found, ids.iter().map(|id| (*id).to_owned()).collect());
    let mut unblocked_next = BTreeSet::new();
    for run in runs {
        let id = run.key.id.as_str().to_owned();
        let settled = settle(store, ended(run, verdict.clone())).await;
        assert!(settled.took_effect());
        unblocked_next.extend((settled == Settled::UnblockedNext).then_some(id));
    }
    unblocked_next
}

fn for_good() -> RunEnd {
    RunEnd::GiveUp { reason: "no use".to_owned(), attempts: 1 }
}

#[tokio::test]
async fn a_backlog_gets_its_order_when_that_is_turned_on() {
    let place = Place::new();
    let old = open(&place, None).await;
    arrive(&old, "ann", &["a1", "a2", "a3"]).await;
    arrive(&old, "bob", &["b1", "b2"]).await;
    arrive(&old, "", &["alone"]).await;
    // Ann's second event is the one that was begun. It waits for its next attempt.
    let mut begun = old.claim_due(request(2, now())).await.unwrap().runs;
    let second = begun.pop().unwrap();
    let later = now() + Duration::from_millis(1);
    settle(&old, ended(second, RunEnd::Retry { due: later })).await;
    let released = begun.pop().unwrap().claim.settle(RunEnd::Release, None, now());
    settle(&old, released).await;

    let new = open(&place, CONTINUE).await;

    let counts = new.counts().await.unwrap();
    assert_eq!((counts.held_back, counts.of(State::Pending)), (3, 6));
    // The node that was already running keeps the order too.
    arrive(&old, "ann", &["a4"]).await;
    tokio::time::sleep(Duration::from_millis(10)).await;
    let unblocked_next = end(&old, &["a2", "b1", "alone"], WELL).await;
    assert_eq!(unblocked_next, ["a2", "b1"].map(str::to_owned).into());
    end(&new, &["a1", "b2"], WELL).await;
    end(&old, &["a3"], for_good()).await;
    end(&new, &["a4"], WELL).await;
    assert_eq!(new.counts().await.unwrap().held_back, 0);
    assert_eq!(place.sql("SELECT count(*) FROM cognigy_lanes"), "0");
}

#[tokio::test]
async fn what_was_in_hand_when_the_order_was_turned_on_ends_as_it_began() {
    let place = Place::new();
    let old = open(&place, None).await;
    arrive(&old, "ann", &["a1", "a2", "a3"]).await;
    let mut runs = old.claim_due(request(2, now())).await.unwrap().runs;
    let new = open(&place, CONTINUE).await;
    end(&new, &[], WELL).await;
    let (second, first) = (runs.pop().unwrap(), runs.pop().unwrap());
    assert_eq!(settle(&old, ended(second, WELL)).await, Settled::Done);
    end(&new, &[], WELL).await;
    assert_eq!(settle(&old, ended(first, WELL)).await, Settled::UnblockedNext);
    end(&new, &["a3"], WELL).await;
}

#[tokio::test]
async fn all_that_was_held_back_is_due_when_the_order_is_turned_off() {
    let place = Place::new();
    let node = open(&place, STOP).await;
    arrive(&node, "ann", &["a1", "a2", "a3"]).await;
    arrive(&node, "bob", &["b1", "b2"]).await;
    end(&node, &["a1", "b1"], for_good()).await;
    let counts = node.counts().await.unwrap();
    assert_eq!((counts.held_back, counts.stopped_contacts), (3, 2));

    // A store that is opened without an order changes nothing.
    let other = open(&place, None).await;
    arrive(&other, "cid", &["c1", "c2"]).await;
    end(&other, &["c1"], WELL).await;
    let third = open(&place, EventOrder::Any).await;
    let counts = node.counts().await.unwrap();
    assert_eq!((counts.held_back, counts.stopped_contacts), (0, 0));
    arrive(&node, "ann", &["a4"]).await;
    end(&third, &["a2", "a3", "b2", "c2", "a4"], WELL).await;
    assert_eq!(place.sql("SELECT count(*) FROM cognigy_lanes"), "0");
}

#[tokio::test]
async fn stopped_contacts_go_on_when_stopping_is_turned_off() {
    let place = Place::new();
    let node = open(&place, STOP).await;
    arrive(&node, "ann", &["a1", "a2"]).await;
    arrive(&node, "bob", &["b1"]).await;
    end(&node, &["a1", "b1"], for_good()).await;
    end(&node, &[], WELL).await;
    let node = open(&place, CONTINUE).await;
    let counts = node.counts().await.unwrap();
    assert_eq!((counts.held_back, counts.stopped_contacts), (0, 0));
    end(&node, &["a2"], for_good()).await;
    arrive(&node, "ann", &["a3"]).await;
    end(&node, &["a3"], WELL).await;
    assert_eq!(place.sql("SELECT count(*) FROM cognigy_lanes"), "0");
}

const CONTACTS: usize = 3;
const EVENTS: usize = 150;

/// Sends events of a few contacts to one node or the other, each contact's events in order.
fn have_arrive(nodes: &[PostgresStore; 2]) -> Vec<tokio::task::JoinHandle<()>> {
    let arrive = |contact: usize| {
        let nodes = nodes.clone();
        tokio::spawn(async move {
            for number in 0..EVENTS {
                let id = format!("{contact}-{number}");
                let body = sample::body_from(&format!("c{contact}"), &id);
                let node = &nodes[(number / 3) % 2];
                // A call may fail while the order is being changed; it is then repeated.
                let event = || sample::incoming(body.clone());
                while node.record(event(), now()).await.is_err() {}
            }
        })
    };
    (0..CONTACTS).map(arrive).collect()
}

/// What workers see: which contacts have a running event, and which events have ended.
#[derive(Default)]
struct Log {
    at_work: BTreeSet<String>,
    ended: BTreeMap<String, Vec<usize>>,
    violations: Vec<String>,
}

impl Log {
    fn enter(&mut self, contact: &str, number: usize) {
        if !self.at_work.insert(contact.to_owned()) {
            self.violations.push(format!("{contact}-{number} beside another"));
        }
        let ended = self.ended.entry(contact.to_owned()).or_default();
        if ended.len() != number {
            self.violations.push(format!("{contact}-{number} after {ended:?}"));
        }
    }

    /// Called before the end is stored: no worker can have begun the next one yet.
    fn leave(&mut self, contact: String, number: usize, verdict: &RunEnd) {
        self.at_work.remove(&contact);
        if !matches!(verdict, RunEnd::Retry { .. }) {
            self.ended.entry(contact).or_default().push(number);
        }
    }

    fn total(&self) -> usize {
        self.ended.values().map(Vec::len).sum()
    }
}

/// Runs workers of both nodes until every event has ended.
fn have_worked(
    nodes: &[PostgresStore; 2],
    log: &Arc<Mutex<Log>>,
) -> Vec<tokio::task::JoinHandle<()>> {
    let work = |worker: usize| {
        let (node, log) = (nodes[worker % 2].clone(), Arc::clone(log));
        tokio::spawn(async move {
            while log.lock().unwrap().total() < CONTACTS * EVENTS {
                let Ok(batch) = node.claim_due(request(2, now())).await else { continue };
                let mut ends = Vec::new();
                for run in batch.runs {
                    let id = run.key.id.as_str().to_owned();
                    let (contact, number) = id.split_once('-').unwrap();
                    let number: usize = number.parse().unwrap();
                    log.lock().unwrap().enter(contact, number);
                    let verdict = match number % 7 {
                        0 if run.attempt == 1 => RunEnd::Retry { due: now() },
                        1 => for_good(),
                        _ => WELL,
                    };
                    ends.push((contact.to_owned(), number, ended(run, verdict)));
                }
                tokio::task::yield_now().await;
                for (contact, number, end) in ends {
                    log.lock().unwrap().leave(contact, number, end.run_end().unwrap());
                    while node.settle(std::slice::from_ref(&end)).await.is_err() {}
                }
            }
        })
    };
    (0..4).map(work).collect()
}

async fn finish(tasks: Vec<tokio::task::JoinHandle<()>>) {
    for task in tasks {
        tokio::time::timeout(Duration::from_secs(120), task).await.expect("none is left").unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn two_nodes_keep_the_order_and_leave_nothing_behind() {
    let place = Place::new();
    let nodes = [open(&place, CONTINUE).await, open(&place, None).await];
    let log = Arc::default();
    let (arrivals, workers) = (have_arrive(&nodes), have_worked(&nodes, &log));
    finish(arrivals).await;
    finish(workers).await;
    let log = log.lock().unwrap();
    assert_eq!(log.violations, Vec::<String>::new());
    assert_eq!(place.sql("SELECT count(*) FROM cognigy_queue"), "0");
    assert_eq!(place.sql("SELECT count(*) FROM cognigy_lanes"), "0");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn nothing_is_left_behind_while_the_order_is_turned_on_and_off() {
    let place = Place::new();
    let nodes = [open(&place, None).await, open(&place, None).await];
    let log = Arc::default();
    let (arrivals, workers) = (have_arrive(&nodes), have_worked(&nodes, &log));
    let mut changes = 0;
    while workers.iter().any(|worker| !worker.is_finished()) && changes < 1000 {
        let order = [CONTINUE, EventOrder::Any][changes % 2];
        let options =
            PostgresOptions { order: Some(order), writers: 1, ..PostgresOptions::default() };
        // The change may lose a race against another call; it has then changed nothing.
        if PostgresStore::open_with(&place.url(), options).await.is_ok() {
            changes += 1;
        }
    }
    finish(arrivals).await;
    finish(workers).await;
    assert!(changes > 3, "it was changed {changes} times");
    assert_eq!(place.sql("SELECT count(*) FROM cognigy_queue"), "0");
    let node = open(&place, EventOrder::Any).await;
    let counts = node.counts().await.unwrap();
    assert_eq!((counts.held_back, counts.of(State::Pending)), (0, 0));
    assert_eq!(place.sql("SELECT count(*) FROM cognigy_lanes"), "0");
}
