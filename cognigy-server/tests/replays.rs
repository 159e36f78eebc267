//! `replay` beside a server and without one: which process runs the events, what is printed, and
//! what an interrupt leaves.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use common::{Server, Site, crm::Crm, event, eventually, stderr, stdout};
use serde_json::{Value, json};

const ALL: [&str; 4] = ["replay", "--status", "dead_lettered", "--json"];

fn site_with(crm: &Crm) -> Site {
    let mut site = Site::new();
    // A run in the command's process would appear in its log.
    site.set("CRM_BASE_URL", crm.url()).set("COGNIGY_LOG", "info");
    site
}

/// A server whose store holds `count` dead-lettered events, each of a contact of its own.
fn given_up(site: &Site, crm: &Crm, count: usize) -> Server {
    crm.answer(400, "");
    let server = site.serve();
    for number in 0..count {
        let body = event(&format!("e{number}"), &format!("c{number}"));
        assert_eq!(server.deliver(&body).status, 200);
    }
    eventually("all are given up", || {
        (server.stats()["by_status"]["dead_lettered"] == count).then_some(())
    });
    crm.answer(200, r#"{"id":"crm-1"}"#);
    server
}

/// The number of attempts of a server that succeeded.
fn succeeded(server: &Server) -> String {
    let series = r#"cognigy_processing_total{outcome="succeeded",source="cognigy"} "#;
    let metrics = server.request("GET", "/metrics", &[], b"").body;
    metrics.lines().find_map(|line| line.strip_prefix(series)).unwrap().to_owned()
}

fn lines(output: &Output) -> Vec<Value> {
    stdout(output).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn begin(site: &Site, arguments: &[&str]) -> Child {
    let mut command = site.command(arguments);
    command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

fn interrupt(child: &Child) {
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &id]).status().unwrap().success());
}

#[test]
fn a_bulk_is_handed_to_the_workers_of_the_server() {
    let crm = Crm::start();
    let mut site = site_with(&crm);
    let server = given_up(&site, &crm, 150);
    crm.delay(Duration::from_millis(300));
    let started = Instant::now();
    let replayed = site.run(&ALL);
    // One by one the runs take three quarters of a minute.
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
    assert_eq!(replayed.status.code(), Some(0), "{replayed:?}");
    let lines = lines(&replayed);
    let first = lines.iter().find(|line| line["event_id"] == "e0").unwrap();
    assert_eq!(first, &json!({"event_id": "e0", "status": "replayed", "detail": null}));
    assert_eq!((lines.len(), succeeded(&server).as_str()), (150, "150"), "the server ran them");

    // The command waits by default, and does not with `--no-wait`.
    crm.delay(Duration::from_secs(2));
    let arguments = ["replay", "--status", "processed", "--no-wait"];
    let handed_over = site.run(&arguments);
    assert_eq!(handed_over.status.code(), Some(0), "{handed_over:?}");
    assert!(stdout(&handed_over).ends_with("150 handed over, 0 not\n"), "{handed_over:?}");
    assert!(stdout(&handed_over).contains("e7: handed_over\n"), "{handed_over:?}");
    crm.delay(Duration::ZERO);
    eventually("all have run again", || (succeeded(&server) == "300").then_some(()));

    // Events run here with `--here`, and if they are named by id.
    for arguments in
        [&["replay", "--user", "user-1", "--from", "1h", "--here"][..], &["replay", "e1"]]
    {
        let here = site.run(arguments);
        assert_eq!(here.status.code(), Some(0), "{here:?}");
    }
    assert_eq!((succeeded(&server).as_str(), crm.requests().len()), ("300", 150 + 300 + 151));

    // A server without workers runs no event, so the command hands none over to it.
    drop(server);
    site.set("COGNIGY_WORKER", "off");
    let server = site.serve();
    let here = site.run(&["replay", "--external-id", "c1"]);
    assert!(stdout(&here).ends_with("1 replayed, 0 not\n"), "{here:?}");
    assert_eq!(succeeded(&server), "0");
}

#[test]
fn what_fails_at_the_server_is_told_once_with_its_reason() {
    let crm = Crm::start();
    let mut site = site_with(&crm);
    site.set("COGNIGY_RETRY_MAX_ATTEMPTS", "2");
    let _server = given_up(&site, &crm, 3);
    crm.answer(503, "");
    let failed = site.run(&["replay", "--status", "dead_lettered"]);
    assert_eq!(failed.status.code(), Some(1));
    let told = stdout(&failed);
    assert!(told.starts_with("3 handed to the workers of the server"), "{told}");
    assert!(told.ends_with("0 replayed, 3 not\n"), "{told}");
    let line = told.lines().find(|line| line.starts_with("e1: failed: ")).expect("a line");
    assert!(line.contains("503"), "{line}");
    let all = told.clone() + &stderr(&failed);
    assert_eq!(all.matches("e1").count(), 1, "{all}");
}

#[test]
fn without_a_server_a_bulk_runs_here_many_at_a_time_and_failures_are_told_once() {
    let crm = Crm::start();
    let site = site_with(&crm);
    let mut server = given_up(&site, &crm, 100);
    assert_eq!(server.terminate(), Some(0));
    crm.delay(Duration::from_millis(300));
    crm.refuse("external_id=c7 ", 422);
    let started = Instant::now();
    let replayed = site.run(&ALL);
    assert!(started.elapsed() < Duration::from_secs(12), "{:?}", started.elapsed());
    assert_eq!(replayed.status.code(), Some(1), "{replayed:?}");
    let lines = lines(&replayed);
    let failed: Vec<_> = lines.iter().filter(|line| line["status"] == "failed").collect();
    assert_eq!((lines.len(), failed.len(), &failed[0]["event_id"]), (100, 1, &json!("e7")));
    assert!(failed[0]["detail"].as_str().unwrap().contains("422"), "{failed:?}");
    let all = stdout(&replayed) + &stderr(&replayed);
    assert_eq!(all.matches("\"e7\"").count(), 1, "{all}");
    let table = if site.postgres.is_some() { "cognigy_audit" } else { "audit" };
    let recorded = site.sql(&format!(
        "SELECT CAST(count AS TEXT), outcome FROM {table} WHERE target IS NULL ORDER BY id DESC"
    ));
    assert_eq!(recorded, "100|done: 99 replayed, 1 not");
}

#[test]
fn the_events_of_a_contact_run_one_after_the_other_where_that_order_is_kept() {
    let crm = Crm::start();
    let mut site = site_with(&crm);
    site.set("COGNIGY_ORDERING", "per_contact");
    crm.answer(400, "");
    let mut server = site.serve();
    for number in 0..4 {
        server.deliver(&event(&format!("e{number}"), "c1"));
        server.wait_for(&format!("e{number}"), "dead_lettered");
    }
    server.terminate();
    crm.answer(200, r#"{"id":"crm-1"}"#);
    crm.delay(Duration::from_millis(100));
    let replayed = site.run(&ALL);
    assert_eq!(replayed.status.code(), Some(0), "{replayed:?}");
    let order: Vec<_> = lines(&replayed).iter().map(|line| line["event_id"].clone()).collect();
    assert_eq!(order.len(), 4, "{order:?}");
}

#[test]
fn an_interrupt_gives_back_what_is_under_way() {
    let crm = Crm::start();
    let site = site_with(&crm);
    let mut server = given_up(&site, &crm, 70);
    server.terminate();
    crm.delay(Duration::from_secs(20));
    let asked = crm.requests().len();
    let child = begin(&site, &ALL);
    eventually("runs are under way", || (crm.requests().len() == asked + 64).then_some(()));
    let started = Instant::now();
    interrupt(&child);
    let ended = child.wait_with_output().unwrap();
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    assert_eq!(ended.status.code(), Some(130), "{ended:?}");
    let complaint = stderr(&ended);
    assert!(complaint.contains("64 were under way and are given back"), "{complaint}");
    assert!(complaint.contains("6 not begun"), "{complaint}");
    let given_back = lines(&ended);
    assert!(given_back.len() == 64 && given_back.iter().all(|it| it["status"] == "given_back"));

    // No event waits for the end of a lease of a minute: a server runs at once what was given back.
    assert!(lines(&site.run(&["list", "--status", "processing", "--json"])).is_empty());
    crm.delay(Duration::ZERO);
    let server = site.serve();
    let by_status = eventually("what was given back has run", || {
        let by_status = server.stats()["by_status"].clone();
        (by_status["processed"] == 64).then_some(by_status)
    });
    assert_eq!(by_status["dead_lettered"], 6, "what was not begun is as it was");
    let id = given_back[0]["event_id"].as_str().unwrap();
    let attempts = server.event(id)["attempts"].clone();
    assert_eq!((attempts.as_array().unwrap().len(), &attempts[1]["number"]), (2, &json!(1)));
}

#[test]
fn an_interrupt_while_waiting_leaves_the_events_with_the_workers() {
    let crm = Crm::start();
    let site = site_with(&crm);
    let server = given_up(&site, &crm, 3);
    crm.delay(Duration::from_secs(3));
    let asked = crm.requests().len();
    let child = begin(&site, &ALL);
    eventually("the server runs them", || (crm.requests().len() == asked + 3).then_some(()));
    interrupt(&child);
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(130), "{ended:?}");
    assert!(stderr(&ended).contains("3 were handed over; 0 have ended, 3 stay"), "{ended:?}");
    for number in 0..3 {
        server.wait_for(&format!("e{number}"), "processed");
    }
    assert_eq!(crm.requests().len(), asked + 3, "each has run once");
}
