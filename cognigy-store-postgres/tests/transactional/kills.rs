//! `kill -9`: at every message of a transaction, and at random under load.
//!
//! The processes that die are this test's own program, run again as [`child_works`]. The same test
//! with a plain handler shows that the audit finds effects that happen twice.

use std::{
    env,
    process::{Child, Command, Stdio},
    time::Duration,
};

use cognigy_core::{Stop, TokioClock, Worker};
use cognigy_store_postgres::{PostgresStore, TransactionOptions};

use crate::{
    balance::Transfers,
    bank::{Bank, Separately, few_at_once, pipeline},
    common::eventually,
    wire::{Blow, Moment, Wire},
};

const DATABASE: &str = "TRANSACTIONAL_DATABASE";
const KIND: &str = "TRANSACTIONAL_KIND";

/// The child: works until it is killed.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "plays the child of the tests here"]
async fn child_works() {
    let Ok(url) = env::var(DATABASE) else { return };
    let store = PostgresStore::open(&url).await.unwrap();
    // Short, because a claim that was on its way when the process died may still be granted, and no
    // worker then holds it.
    let lease = Duration::from_secs(2);
    let pipeline = pipeline(&store, |pipeline| match env::var(KIND).unwrap().as_str() {
        "plain" => pipeline.handler(Separately::new(&url)).lease(lease),
        _ => {
            let idle_timeout = Duration::from_secs(1);
            let options = TransactionOptions { idle_timeout, ..TransactionOptions::default() };
            let handler = store.transactional_with(Transfers, options).unwrap();
            pipeline.settling_handler(handler).lease(lease)
        }
    });
    Worker::new(pipeline, TokioClock::new()).options(few_at_once(16)).run(Stop::new()).await;
}

pub(crate) fn child(url: &str, kind: &str) -> Child {
    Command::new(env::current_exe().unwrap())
        .args(["kills::child_works", "--exact", "--ignored", "--nocapture"])
        .env(DATABASE, url)
        .env(KIND, kind)
        // libtest captures the output; this child prints only when it fails.
        .stdout(Stdio::null())
        .spawn()
        .unwrap()
}

/// Kills a child at every message that it sends or receives in a transaction, and lets this process
/// take over. Returns which message was struck, and what the audit found.
async fn kill_at_every_message(kind: &str) -> (Vec<String>, Vec<String>) {
    let bank = Bank::open().await;
    let wire = Wire::start(bank.place.cluster.port()).await;
    let url = wire.url(&bank.place.database);
    let (mut struck, mut found) = (Vec::new(), Vec::new());
    let mut ordered = 0;
    let moments: [fn(u32) -> Moment; 2] = [Moment::Request, Moment::Answer];
    for at in moments {
        for number in 1.. {
            assert!(number < 100, "it comes to an end");
            ordered += 1;
            bank.order(&format!("e{ordered}")).await;
            wire.strike(at(number), Blow::Kill(child(&url, kind)));
            eventually("the child is killed, or has done its work", async || {
                let is_done = bank.place.sql("SELECT count(*) FROM cognigy_queue") == "0";
                (wire.struck().is_some() || is_done).then_some(())
            })
            .await;
            // The child is dead already, or is killed now.
            let mut child = wire.child().unwrap();
            child.kill().unwrap();
            child.wait().unwrap();
            bank.quiet().await;
            if kind == "exact" {
                bank.books_are_right();
            }
            bank.end_leases();
            match kind {
                "plain" => {
                    let plain = Separately::new(&bank.place.url());
                    bank.finish_with(pipeline(&bank.store, |it| it.handler(plain))).await;
                }
                _ => bank.finish().await,
            }
            found = bank.audit();
            let Some(words) = wire.struck() else { break };
            struck.push(words);
        }
    }
    assert!(bank.moved() >= ordered, "all have moved");
    (struck, found)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_may_be_killed_at_every_message() {
    let (struck, found) = kill_at_every_message("exact").await;
    for words in [
        "before START TRANSACTION ISOLATION LEVEL READ",
        "before SELECT name, cents FROM accounts",
        "after INSERT INTO transfers VALUES ($1,",
        "before SELECT coalesce(current_setting('cognigy.claim', true), '') =",
        "before WITH verdict AS MATERIALIZED (",
        "after WITH verdict AS MATERIALIZED (",
        "before COMMIT",
        "after COMMIT",
    ] {
        assert!(struck.iter().any(|struck| struck == words), "{words} in {struck:#?}");
    }
    assert_eq!(found, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handler_of_the_plain_kind_moves_some_twice_and_that_is_found() {
    let (struck, found) = kill_at_every_message("plain").await;
    assert!(struck.iter().any(|struck| struck == "after COMMIT"), "{struck:#?}");
    assert!(found.iter().any(|finding| finding.contains("moved 2 times")), "{found:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_may_be_killed_at_random_under_load() {
    const EVENTS: usize = 600;
    const KILLS: u64 = 15;
    let bank = Bank::open().await;
    for number in 0..EVENTS {
        bank.order(&format!("e{number}")).await;
    }
    let mut kills = 0;
    let mut random = 1_u64;
    while kills < KILLS && bank.moved() < EVENTS {
        let before = bank.moved();
        let mut child = child(&bank.place.url(), "exact");
        eventually("it has begun", async || (bank.moved() > before).then_some(())).await;
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        tokio::time::sleep(Duration::from_millis(random >> 59)).await;
        child.kill().unwrap();
        child.wait().unwrap();
        kills += 1;
        bank.books_are_right();
        bank.end_leases();
    }
    println!("killed {kills} times");
    assert!(kills >= 3, "it was killed {kills} times");
    let lost =
        bank.place.sql("SELECT count(*) FROM cognigy_attempts WHERE outcome = 'lease_expired'");
    bank.finish().await;
    bank.books_are_right();
    // An event whose worker vanished too often is given up without a transfer.
    let given_up =
        bank.place.sql("SELECT count(*) FROM cognigy_events WHERE state = 'dead_lettered'");
    assert_eq!(bank.moved() + given_up.parse::<usize>().unwrap(), EVENTS);
    assert_ne!(lost, "0", "it was killed while it held some");
}
