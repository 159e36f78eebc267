//! The whole journey with real systems around the server: SQLite, a CRM over HTTP, an SQS emulator;
//! and what happens when one of them, or the server itself, fails.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::time::Duration;

use common::{SECRET, Server, Site, TOKEN, crm::Crm, event, eventually, moto::Moto, stdout};
use serde_json::{Value, json};

/// A site with this CRM and this dead-letter queue.
fn site_with(crm: &Crm, moto: &Moto, queue: &str) -> Site {
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url());
    moto.configure(&mut site, queue);
    site
}

/// A server whose CRM refused some events, so that their dead letters are in the queue. The CRM knows
/// the contacts now.
struct DeadLetters {
    crm: Crm,
    moto: Moto,
    queue: String,
    site: Site,
    server: Server,
}

impl DeadLetters {
    fn of(ids: &[&str]) -> Self {
        let (crm, moto) = (Crm::start(), Moto::start());
        crm.answer(400, "");
        let queue = moto.queue("dead.fifo");
        let site = site_with(&crm, &moto, &queue);
        let server = site.serve();
        for id in ids {
            server.deliver(&event(id, "c1"));
            server.wait_for(id, "dead_lettered");
        }
        crm.answer(200, r#"{"id":"crm-1"}"#);
        Self { crm, moto, queue, site, server }
    }
}

#[test]
fn a_crm_that_stays_down_means_four_attempts_and_exactly_one_message() {
    let (crm, moto) = (Crm::start(), Moto::start());
    crm.answer(503, "busy");
    let queue = moto.queue("dead.fifo");
    let site = site_with(&crm, &moto, &queue);
    let server = site.serve();
    let body = event("e1", "c1");
    assert_eq!(server.deliver(&body).status, 200);
    let stored = server.wait_for("e1", "dead_lettered");
    assert_eq!(crm.requests().len(), 4);
    let outcomes: Vec<_> =
        stored["attempts"].as_array().unwrap().iter().map(|a| a["outcome"].clone()).collect();
    assert_eq!(outcomes, vec![json!("failed_transient"); 4]);

    let messages = moto.drain(&queue);
    assert_eq!(messages.len(), 1);
    let text = messages[0]["Body"].as_str().unwrap();
    let message: Value = serde_json::from_str(text).unwrap();
    assert_eq!(message["eventId"], "e1");
    assert_eq!(message["type"], "USER_INPUT_RECEIVED");
    assert_eq!(message["timestamp"], "2026-03-01T12:00:00Z");
    assert!(message["errorMessage"].as_str().unwrap().contains("503"));
    assert_eq!(message["rawPayload"], serde_json::from_slice::<Value>(&body).unwrap());
    assert_eq!(message["attempts"], 4);
    assert!(message["firstReceivedAt"].is_string());
    let attributes = &messages[0]["Attributes"];
    assert_eq!(attributes["MessageGroupId"], "cognigy-events");
    assert_eq!(attributes["MessageDeduplicationId"], "e1");

    // A replay that fails within five minutes arrives as a second message.
    server.operate("POST", "/webhooks/replay/e1", b"").problem(500);
    let messages = eventually("the second message", || {
        let messages = moto.drain(&queue);
        (!messages.is_empty()).then_some(messages)
    });
    assert_eq!(messages.len(), 1);
    let message: Value = serde_json::from_str(messages[0]["Body"].as_str().unwrap()).unwrap();
    assert!(message["errorMessage"].as_str().unwrap().starts_with("Replay failed: "));
    assert_ne!(messages[0]["Attributes"]["MessageDeduplicationId"], "e1");
    assert_eq!(crm.requests().len(), 5);
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(moto.count(&queue), 0, "and nothing else");
}

#[test]
fn a_sink_that_is_down_delays_and_loses_nothing() {
    let (crm, moto) = (Crm::start(), Moto::start());
    crm.answer(400, "");
    let queue = moto.queue("dead.fifo");
    let site = site_with(&crm, &moto, &queue);
    let port = moto.port();
    drop(moto);

    let server = site.serve();
    server.deliver(&event("e1", "c1"));
    server.wait_for("e1", "dead_lettering");
    eventually("a try that failed", || {
        let metrics = server.request("GET", "/metrics", &[], b"").body;
        (!metrics.contains(r#"cognigy_dead_letters_total{outcome="failed",source="cognigy"} 0"#))
            .then_some(())
    });
    assert_eq!(server.deliver(&event("e2", "c1")).status, 200, "senders notice nothing");

    let moto = Moto::start_on(port);
    assert_eq!(moto.queue("dead.fifo"), queue);
    server.wait_for("e1", "dead_lettered");
    server.wait_for("e2", "dead_lettered");
    let mut ids: Vec<_> = moto
        .drain(&queue)
        .iter()
        .map(|message| serde_json::from_str::<Value>(message["Body"].as_str().unwrap()).unwrap())
        .map(|message| message["eventId"].as_str().unwrap().to_owned())
        .collect();
    ids.sort();
    assert_eq!(ids, ["e1", "e2"]);
}

#[test]
fn kill_9_between_accept_and_processing_loses_nothing() {
    let crm = Crm::start();
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url()).set("COGNIGY_WORKER", "off");
    let mut server = site.serve();
    for number in 0..50 {
        let body = event(&format!("e{number}"), &format!("c{number}"));
        assert_eq!(server.deliver(&body).status, 200);
    }
    server.kill();
    assert!(crm.requests().is_empty());

    site.set("COGNIGY_WORKER", "on");
    let server = site.serve();
    for number in 0..50 {
        let stored = server.wait_for(&format!("e{number}"), "processed");
        let body = stored["body"].as_str().unwrap().as_bytes();
        let sent = event(&format!("e{number}"), &format!("c{number}"));
        assert_eq!(body, sent, "byte for byte");
    }
    assert_eq!(crm.requests().len(), 50);
}

#[test]
fn kill_9_during_processing_is_taken_over_after_the_lease() {
    let crm = Crm::start();
    crm.delay(Duration::from_secs(60));
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url()).set("COGNIGY_LEASE", "2s");
    let mut server = site.serve();
    server.deliver(&event("e1", "c1"));
    eventually("the CRM is asked", || (crm.requests().len() == 1).then_some(()));
    server.kill();
    crm.delay(Duration::ZERO);
    let server = site.serve();
    let stored = server.wait_for("e1", "processed");
    assert_eq!(stored["attempts"][0]["outcome"], "lease_expired");
    assert_eq!(stored["attempts"][1]["outcome"], "succeeded");
    assert_eq!(crm.requests().len(), 2);
    let key = |request: &String| {
        let line = request.lines().find(|line| line.to_lowercase().starts_with("idempotency-key"));
        line.unwrap().to_owned()
    };
    assert_eq!(key(&crm.requests()[0]), key(&crm.requests()[1]), "one stable key");
}

#[test]
fn a_stop_lets_work_in_hand_finish() {
    let crm = Crm::start();
    crm.delay(Duration::from_secs(2));
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url());
    let mut server = site.serve();
    server.deliver(&event("e1", "c1"));
    eventually("the CRM is asked", || (crm.requests().len() == 1).then_some(()));
    assert_eq!(server.terminate(), Some(0));
    let shown = site.run(&["show", "e1", "--json"]);
    let shown: Value = serde_json::from_slice(&shown.stdout).unwrap();
    assert_eq!(shown["status"], "processed");
}

#[test]
fn a_stop_waits_for_work_in_hand_no_longer_than_it_is_told_to() {
    let crm = Crm::start();
    crm.delay(Duration::from_secs(60));
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url())
        .set("CRM_TIMEOUT", "60s")
        .set("COGNIGY_STOP_GRACE", "500ms");
    let mut server = site.serve();
    server.deliver(&event("e1", "c1"));
    eventually("the CRM is asked", || (crm.requests().len() == 1).then_some(()));
    // A replay is a request that takes as long.
    let mut replay = server.connect();
    let request = format!(
        "POST /webhooks/replay/e2 HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\
         Authorization: Bearer {TOKEN}\r\n\r\n"
    );
    server.deliver(&event("e2", "c2"));
    std::io::Write::write_all(&mut replay, request.as_bytes()).unwrap();
    let started = std::time::Instant::now();
    assert_eq!(server.terminate(), Some(0));
    let waited = started.elapsed();
    assert!(waited > Duration::from_millis(400) && waited < Duration::from_secs(5), "{waited:?}");
}

#[test]
fn a_slow_crm_never_delays_a_sender() {
    let crm = Crm::start();
    crm.delay(Duration::from_secs(5));
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url());
    let server = site.serve();
    let started = std::time::Instant::now();
    for number in 0..200 {
        let body = event(&format!("e{number}"), &format!("c{number}"));
        assert_eq!(server.deliver(&body).status, 200);
    }
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
    eventually("64 look-ups in flight", || (crm.requests().len() >= 64).then_some(()));
    assert_eq!(crm.requests().len(), 64, "and no more");
}

#[test]
fn two_servers_on_one_file_share_the_work() {
    let crm = Crm::start();
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url());
    let (one, other) = (site.serve(), site.serve());
    for number in 0..100 {
        let server = if number % 2 == 0 { &one } else { &other };
        let body = event(&format!("e{number}"), &format!("c{number}"));
        assert_eq!(server.deliver(&body).status, 200);
        let again = if number % 2 == 0 { &other } else { &one };
        assert!(again.deliver(&body).body.contains("duplicate"));
    }
    eventually("all are processed", || (one.stats()["events"]["processed"] == 100).then_some(()));
    assert_eq!(crm.requests().len(), 100, "each was run once");
}

#[test]
fn dead_letters_come_back_by_redrive() {
    let DeadLetters { crm, moto, queue, site, server } = DeadLetters::of(&["e1", "e2", "e3"]);
    let redriven = site.run(&["redrive", "--json"]);
    assert!(redriven.status.success(), "{redriven:?}");
    let report: Value = serde_json::from_str(&stdout(&redriven)).unwrap();
    assert_eq!((&report["requeued"], &report["left"]), (&json!(3), &json!(0)));
    for id in ["e1", "e2", "e3"] {
        assert_eq!(server.wait_for(id, "processed")["attempts"][1]["run"], 2);
    }

    // The database does not have the event: the payload is stored anew.
    crm.answer(400, "");
    server.deliver(&event("e4", "c1"));
    server.wait_for("e4", "dead_lettered");
    let mut elsewhere = site_with(&crm, &moto, &queue);
    // Only a server creates a database.
    assert_eq!(elsewhere.run(&["redrive"]).status.code(), Some(1));
    elsewhere.set("COGNIGY_WORKER", "off");
    elsewhere.serve().terminate();
    let report: Value =
        serde_json::from_str(&stdout(&elsewhere.run(&["redrive", "--json"]))).unwrap();
    assert_eq!(report["stored"], 1);
    let listed = stdout(&elsewhere.run(&["list", "--status", "pending", "--json"]));
    assert!(listed.contains("\"e4\""), "{listed}");
}

#[test]
fn a_redrive_names_each_message_that_it_leaves_and_why() {
    let DeadLetters { crm: _crm, moto, queue, site, server } =
        DeadLetters::of(&["edited", "e1", "e2"]);
    // An operator takes one out, changes its payload, and puts it back in front of the others.
    let letters = moto.drain(&queue);
    let bodies: Vec<_> = letters.iter().map(|letter| letter["Body"].as_str().unwrap()).collect();
    let changed = bodies[0].replace("marked-body", "another text");
    assert!(bodies.len() == 3 && bodies[0].contains("edited") && changed != bodies[0]);
    let edited = moto.put(&queue, &changed);
    let garbage = moto.put(&queue, "no dead letter \u{202e}");
    for body in &bodies[1..] {
        moto.put(&queue, body);
    }

    let redriven = site.run(&["redrive", "--json"]);
    assert_eq!(redriven.status.code(), Some(1), "{redriven:?}");
    let report: Value = serde_json::from_str(&stdout(&redriven)).unwrap();
    assert_eq!((&report["requeued"], &report["left"]), (&json!(2), &json!(2)), "{report}");
    let left = report["left_messages"].as_array().unwrap();
    assert_eq!((&left[0]["message_id"], &left[0]["event_id"]), (&json!(edited), &json!("edited")));
    assert_eq!(left[0]["reason"], "its payload differs from the stored event");
    assert_eq!((&left[1]["message_id"], &left[1]["event_id"]), (&json!(garbage), &Value::Null));
    assert!(left[1]["reason"].is_string(), "{report}");
    for id in ["e1", "e2"] {
        server.wait_for(id, "processed");
    }
    assert_eq!(server.event("edited")["status"], "dead_lettered", "it was not run as stored");

    // A second redrive at once takes no message, and says so.
    let again = site.run(&["redrive"]);
    assert_eq!(again.status.code(), Some(1), "{again:?}");
    let told = stdout(&again);
    for id in [&edited, &garbage] {
        assert!(told.contains(id.as_str()), "{told}");
    }
    assert!(told.contains("(event edited): its payload differs"), "{told}");

    // If another process has received all messages, the redrive says that it saw none.
    assert_eq!(moto.receive(&queue).len(), 2);
    let hidden = site.run(&["redrive"]);
    assert_eq!(hidden.status.code(), Some(1), "{hidden:?}");
    assert!(common::stderr(&hidden).contains("were not handed out"), "{hidden:?}");
}

#[test]
fn log_lines_hold_ids_and_numbers_as_they_are() {
    let crm = Crm::start();
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url());
    let mut server = site.serve();
    server.deliver(&event("good \"id\"", "c1"));
    server.wait_for("good%20%22id%22", "processed");
    crm.answer(400, "");
    server.deliver(&event("bad-1", "c1"));
    server.wait_for("bad-1", "dead_lettered");
    server.deliver(br#"{"eventId":"invalid-1"}"#).problem(400);
    server.deliver(b"[]").problem(400);
    server.deliver(&event("bad-1", "c2"));
    let kept = r#"cognigy_dead_letters_total{outcome="kept",source="cognigy"} 1"#;
    let sent = r#"cognigy_dead_letters_total{outcome="sent",source="cognigy"} 0"#;
    let metrics = server.request("GET", "/metrics", &[], b"").body;
    assert!(metrics.contains(kept) && metrics.contains(sent), "no queue, nothing sent: {metrics}");
    assert_eq!(server.terminate(), Some(0));
    let log: Vec<Value> =
        server.log().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of = |message: &str| -> Vec<&Value> {
        let found: Vec<_> = log.iter().filter(|line| line["message"] == message).collect();
        assert!(!found.is_empty(), "{message}: {log:?}");
        found
    };
    assert_eq!(of("event processed")[0]["event_id"], "good \"id\"");
    assert!(of("event processed")[0]["duration_ms"].is_number());
    assert_eq!(of("event given up")[0]["event_id"], "bad-1");
    assert_eq!(of("dead letter kept in the store")[0]["event_id"], "bad-1");
    assert!(log.iter().all(|line| line["message"] != "dead letter sent"));
    let quarantined = of("delivery quarantined");
    assert_eq!(quarantined[0]["event_id"], "invalid-1");
    assert_eq!(quarantined[1].get("event_id"), None, "an id that is not there is not logged");
    for line in &log {
        for (name, value) in line.as_object().unwrap() {
            let text = value.as_str().unwrap_or_default();
            let wrapped = text.starts_with("Some(") || text.starts_with('"') || text == "None";
            assert!(!wrapped, "{name} of {line}");
        }
    }
}

#[test]
fn no_secret_token_or_body_is_logged_at_any_level() {
    let (crm, moto) = (Crm::start(), Moto::start());
    let queue = moto.queue("dead.fifo");
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url())
        .set("CRM_TOKEN", "marked-crm-token")
        .set("COGNIGY_LOG", "trace");
    moto.configure(&mut site, &queue);
    let mut server = site.serve();
    server.deliver(&event("e1", "marked-contact"));
    server.wait_for("e1", "processed");
    crm.answer(500, "marked-answer");
    server.deliver(&event("e2\u{202e}", "marked-contact"));
    eventually("a dead letter", || (moto.count(&queue) == 1).then_some(()));
    server.deliver(br#"{"eventId":"marked-body","payload":"marked-body"}"#);
    server.post(
        "/webhooks/cognigy",
        &[("X-Cognigy-Signature", "marked-signature")],
        b"marked-body",
    );
    server.request("GET", "/admin/stats", &[("Authorization", "Bearer marked-wrong-token")], b"");
    assert_eq!(server.terminate(), Some(0));
    let log = server.log();
    assert!(log.contains("\"event_id\":\"e2"), "ids are logged");
    for secret in [SECRET, TOKEN, "marked-"] {
        // The id of an invalid event is an id too. It is the only marked text that may appear.
        let log = log.replace(r#""event_id":"marked-body""#, "");
        let line = log.lines().find(|line| line.contains(secret));
        assert_eq!(line, None, "{secret}");
    }
    for line in log.lines() {
        assert!(serde_json::from_str::<Value>(line).is_ok_and(|line| line.is_object()), "{line}");
    }
}
