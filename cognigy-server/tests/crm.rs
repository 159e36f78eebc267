//! How often the CRM is asked, counted by the CRM itself.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::Duration;

use common::{Server, Site, crm::Crm, event, eventually};

fn site_with(crm: &Crm) -> Site {
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url());
    site
}

fn updated(id: &str, contact: &str) -> Vec<u8> {
    let event = String::from_utf8(event(id, contact)).unwrap();
    event
        .replace("USER_INPUT_RECEIVED", "PROFILE_UPDATED")
        .replace(r#""input""#, r#""profile""#)
        .into_bytes()
}

/// A counter of `/metrics`.
fn counted(server: &Server, series: &str) -> u64 {
    let metrics = server.request("GET", "/metrics", &[], b"").body;
    let value = metrics.lines().find_map(|line| line.strip_prefix(series));
    value.unwrap_or_else(|| panic!("no {series} in {metrics}")).trim().parse().unwrap()
}

/// The event's CRM context once it is processed.
fn context(server: &Server, id: &str) -> String {
    server.wait_for(id, "processed")["crm_context"]["id"].as_str().unwrap().to_owned()
}

#[test]
fn a_hundred_events_of_one_contact_ask_a_slow_crm_a_few_times() {
    let crm = Crm::start();
    crm.delay(Duration::from_secs(1));
    let mut site = site_with(&crm);
    // All events are stored before the first attempt begins, so that the CRM's delay of a second is
    // long enough.
    site.set("COGNIGY_WORKER", "off");
    let mut intake = site.serve();
    for number in 0..100 {
        assert_eq!(intake.deliver(&event(&format!("e{number}"), "c1")).status, 200);
    }
    intake.terminate();
    site.set("COGNIGY_WORKER", "on");
    let server = site.serve();
    for number in 0..100 {
        assert_eq!(context(&server, &format!("e{number}")), "crm-1");
    }
    // 64 attempts run at once; the other 36 follow as those end.
    let asked = crm.requests().len() as u64;
    assert!((1..=10).contains(&asked), "asked {asked} times");
    let spared =
        counted(&server, r#"cognigy_crm_requests_spared_total{by="coalescing",source="cognigy"}"#);
    assert_eq!(asked + spared, 100);
    assert_eq!(
        counted(&server, r#"cognigy_crm_requests_total{outcome="found",source="cognigy"}"#),
        100
    );
    assert_eq!(
        counted(&server, r#"cognigy_crm_requests_spared_total{by="cache",source="cognigy"}"#),
        0
    );
}

#[test]
fn a_failure_is_shared_and_each_event_retries_for_itself() {
    let crm = Crm::start();
    crm.answer(503, "busy");
    crm.delay(Duration::from_millis(500));
    let mut site = site_with(&crm);
    // More attempts than half a second of errors can use up.
    site.set("COGNIGY_RETRY_MAX_ATTEMPTS", "50");
    let server = site.serve();
    let ids: Vec<_> = (0..20).map(|number| format!("e{number}")).collect();
    for id in &ids {
        server.deliver(&event(id, "c1"));
    }
    eventually("a failed attempt of each", || {
        let failed = r#"cognigy_crm_requests_total{outcome="transient",source="cognigy"}"#;
        (counted(&server, failed) >= 20).then_some(())
    });
    let asked = crm.requests().len();
    assert!(asked < 20, "asked {asked} times");
    crm.answer(200, r#"{"id":"crm-1"}"#);
    for id in &ids {
        assert_eq!(context(&server, id), "crm-1");
    }
}

#[test]
fn a_contact_is_remembered_until_its_profile_is_updated() {
    let crm = Crm::start();
    let mut site = site_with(&crm);
    site.set("CRM_CACHE", "1h");
    let server = site.serve();
    crm.answer(200, r#"{"id":"old"}"#);
    server.deliver(&event("e1", "c1"));
    assert_eq!(context(&server, "e1"), "old");

    crm.answer(200, r#"{"id":"new"}"#);
    server.deliver(&event("e2", "c1"));
    assert_eq!(context(&server, "e2"), "old", "remembered");
    assert_eq!(crm.requests().len(), 1);
    server.deliver(&updated("e3", "c1"));
    assert_eq!(context(&server, "e3"), "new", "asked again");
    server.deliver(&event("e4", "c1"));
    assert_eq!(context(&server, "e4"), "new", "and remembered again");
    assert_eq!(crm.requests().len(), 2);
    assert_eq!(
        counted(&server, r#"cognigy_crm_requests_spared_total{by="cache",source="cognigy"}"#),
        2
    );

    crm.answer(200, r#"{"id":"newer"}"#);
    let replayed = server.operate("POST", "/webhooks/replay/e1", b"").json();
    assert_eq!(replayed["crm_context"]["id"], "newer", "a replay asks, too");

    crm.answer(404, "");
    for id in ["s1", "s2"] {
        server.deliver(&event(id, "stranger"));
        assert!(server.wait_for(id, "processed")["crm_context"].is_null());
    }
    assert_eq!(crm.requests().len(), 5, "strangers are asked for each time");
}

#[test]
fn an_answer_from_before_the_update_is_not_remembered_after_it() {
    let crm = Crm::start();
    let mut site = site_with(&crm);
    site.set("CRM_CACHE", "1h");
    let server = site.serve();
    crm.answer(200, r#"{"id":"old"}"#);
    crm.delay(Duration::from_secs(4));
    server.deliver(&event("e1", "c1"));
    eventually("the CRM is asked", || (crm.requests().len() == 1).then_some(()));

    // The slow answer to it arrives after the quick answer to the update.
    crm.answer(200, r#"{"id":"new"}"#);
    crm.delay(Duration::ZERO);
    server.deliver(&updated("e2", "c1"));
    assert_eq!(context(&server, "e2"), "new", "did not join");
    assert_eq!(server.event("e1")["status"], "processing");
    assert_eq!(context(&server, "e1"), "old");
    server.deliver(&event("e3", "c1"));
    assert_eq!(context(&server, "e3"), "new");
    assert_eq!(crm.requests().len(), 2);
}

#[test]
fn without_a_setting_nothing_is_remembered() {
    let crm = Crm::start();
    let site = site_with(&crm);
    let server = site.serve();
    for (id, asked) in [("e1", 1), ("e2", 2)] {
        server.deliver(&event(id, "c1"));
        assert_eq!(context(&server, id), "crm-1");
        assert_eq!(crm.requests().len(), asked);
    }
}
