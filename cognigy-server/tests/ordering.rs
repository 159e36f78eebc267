//! `COGNIGY_ORDERING=per_contact`, as senders, operators and the CRM see it.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Server, Site, crm::Crm, event, eventually, stderr, stdout};

/// A site that keeps the order, and its CRM.
fn site() -> (Site, Crm) {
    let crm = Crm::start();
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url())
        .set("COGNIGY_RETRY_MAX_ATTEMPTS", "100")
        .set("COGNIGY_RETRY_MAX_DELAY", "50ms")
        .set("COGNIGY_ORDERING", "per_contact");
    (site, crm)
}

fn deliver(server: &Server, contact: &str, ids: &[&str]) {
    for id in ids {
        assert_eq!(server.deliver(&event(id, contact)).status, 200);
    }
}

/// The events in the order of their attempts, each once however many attempts it needed.
fn tried(server: &Server, ids: &[&str]) -> Vec<String> {
    let mut attempts = Vec::new();
    for id in ids {
        let event = server.event(id);
        let starts = event["attempts"].as_array().unwrap().iter();
        attempts.extend(starts.map(|attempt| (attempt["started_at"].to_string(), *id)));
    }
    attempts.sort();
    attempts.dedup_by_key(|(_, id)| *id);
    attempts.into_iter().map(|(_, id)| id.to_owned()).collect()
}

fn metric(server: &Server, name: &str) -> String {
    let metrics = server.request("GET", "/metrics", &[], b"").body;
    let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("{name} ")));
    line.unwrap_or_else(|| panic!("{name} is not there")).to_owned()
}

#[test]
fn an_event_that_fails_holds_back_those_of_its_contact_and_no_others() {
    let (site, crm) = site();
    crm.refuse("external_id=ann", 503);
    let server = site.serve();
    deliver(&server, "ann", &["a1", "a2", "a3"]);
    deliver(&server, "bob", &["b1", "b2", "b3"]);
    server.wait_for("b3", "processed");
    eventually("it has failed twice", || {
        let attempts = server.event("a1")["attempts"].as_array().map(Vec::len);
        (attempts >= Some(2)).then_some(())
    });
    assert_eq!(server.event("a2")["status"], "pending");
    let stats = server.stats();
    assert_eq!((&stats["held_back"], &stats["events"]["waiting"]), (&2.into(), &3.into()));
    assert_eq!(metric(&server, "cognigy_events_held_back"), "2");
    // A command beside the server follows the order that the server keeps.
    assert!(stdout(&site.run(&["list", "--status", "pending"])).contains("a2"));
    server.operate("POST", "/webhooks/replay/a2", b"").problem(409);

    crm.refuse_nobody();
    server.wait_for("a3", "processed");
    let ids = ["b3", "b2", "b1", "a3", "a2", "a1"];
    let order = tried(&server, &ids);
    let of = |contact: char| -> Vec<_> {
        order.iter().filter(|id| id.starts_with(contact)).cloned().collect()
    };
    let mut ann = of('a');
    // Bob's attempts stand between two of hers.
    ann.dedup();
    assert_eq!(ann, ["a1", "a2", "a3"]);
    assert_eq!(of('b'), ["b1", "b2", "b3"]);
    assert!(server.event("a1")["attempts"].as_array().unwrap().len() > 2);
    assert_eq!(metric(&server, "cognigy_events_held_back"), "0");
}

#[test]
fn a_contact_that_is_to_stop_waits_for_the_replay_of_what_was_given_up() {
    let (mut site, crm) = site();
    site.set("COGNIGY_ORDERING_ON_DEAD_LETTER", "stop");
    crm.refuse("external_id=ann", 400);
    let mut server = site.serve();
    deliver(&server, "ann", &["a1", "a2"]);
    deliver(&server, "bob", &["b1", "b2"]);
    server.wait_for("b2", "processed");
    server.wait_for("a1", "dead_lettered");
    assert_eq!(server.event("a2")["status"], "pending");
    assert_eq!(metric(&server, "cognigy_contacts_stopped"), "1");
    assert_eq!(server.stats()["stopped_contacts"], 1);
    // The contact stays stopped when the server is started again.
    assert_eq!(server.terminate(), Some(0));
    let mut server = site.serve();
    assert_eq!(metric(&server, "cognigy_contacts_stopped"), "1");
    crm.refuse_nobody();
    assert_eq!(server.operate("POST", "/webhooks/replay/a1", b"").status, 200);
    server.wait_for("a2", "processed");
    assert_eq!(metric(&server, "cognigy_contacts_stopped"), "0");

    // With the order off, no event waits any more.
    crm.refuse("external_id=ann", 400);
    deliver(&server, "ann", &["a3", "a4"]);
    server.wait_for("a3", "dead_lettered");
    assert_eq!(metric(&server, "cognigy_contacts_stopped"), "1");
    assert_eq!(server.terminate(), Some(0));
    crm.refuse_nobody();
    site.set("COGNIGY_ORDERING", "none");
    let server = site.serve();
    server.wait_for("a4", "processed");
    assert_eq!(metric(&server, "cognigy_contacts_stopped"), "0");
}

#[test]
fn a_setting_that_is_wrong_stops_the_start() {
    for (name, value, expected) in [
        ("COGNIGY_ORDERING", "per-contact", "none or per_contact"),
        ("COGNIGY_ORDERING_ON_DEAD_LETTER", "halt", "continue or stop"),
    ] {
        let (mut site, _crm) = site();
        site.set(name, value);
        let output = site.run(&["serve"]);
        assert_eq!(output.status.code(), Some(2));
        let said = stderr(&output);
        assert!(said.contains(name) && said.contains(expected), "{said}");
    }
}
