//! Hostile operators' requests are refused, and no output of the server contains a secret, a token
//! or a body.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Command, Stdio},
    time::Duration,
};

use cognigy_core::{Secret, SignatureScheme, sign};
use common::{Answer, Server, Site, TOKEN, crm::Crm, event, eventually, moto::Moto, post_signed};
use serde_json::{Value, json};

/// The mark in secrets, tokens, bodies, contacts and answers of other systems. It must not appear
/// elsewhere.
const MARK: &str = "marked-";
const SHOP_SECRET: &str = "marked-secret-of-shop";

fn shows_nothing(what: &str, text: &str) {
    let line = text.lines().find(|line| line.contains(MARK));
    assert_eq!(line, None, "{what}");
}

#[test]
fn nothing_planted_shows_whatever_goes_wrong() {
    let (crm, moto) = (Crm::start(), Moto::start());
    let queue = moto.queue("dead.fifo");
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url())
        .set("CRM_TOKEN", "marked-crm-token")
        .set("CRM_TIMEOUT", "500ms")
        .set("COGNIGY_WEBHOOK_SECRET_PREVIOUS", "marked-previous-secret")
        .set("COGNIGY_SOURCES", "shop")
        .set("COGNIGY_SOURCE_SHOP_WEBHOOK_SECRET", SHOP_SECRET)
        .set("COGNIGY_SOURCE_SHOP_WEBHOOK_SECRET_PREVIOUS", "marked-secret-of-shop-before")
        .set("COGNIGY_SOURCE_SHOP_CRM_BASE_URL", crm.url())
        .set("COGNIGY_SOURCE_SHOP_CRM_TOKEN", "marked-crm-token-of-shop")
        // The variable belongs to no source, so there is a warning. It may hold a secret all the
        // same.
        .set("COGNIGY_SOURCE_SHOPP_WEBHOOK_SECRET", "marked-secret-of-nobody")
        .set("COGNIGY_RETRY_MAX_ATTEMPTS", "2")
        .set("COGNIGY_LOG", "trace");
    moto.configure(&mut site, &queue);
    let mut server = site.serve();
    let mut answers = String::new();

    // The CRM fails in every way, with a mark in each of its bodies.
    let failures = [
        (302, "marked-answer"),
        (400, r#"{"error":"marked-answer"}"#),
        (401, "marked-answer"),
        (429, "marked-answer"),
        (500, "<p>marked-answer</p>"),
        (200, "marked-answer, not JSON"),
        (200, r#"{"marked-answer":"#),
        (999, "marked-answer"),
    ];
    for (number, (status, body)) in failures.into_iter().enumerate() {
        crm.answer(status, body);
        let id = format!("crm-{number}");
        assert_eq!(server.deliver(&event(&id, "marked-contact")).status, 200);
        let stored = server.wait_for(&id, "dead_lettered");
        assert!(!stored["attempts"][0]["error"].as_str().unwrap().is_empty(), "{stored}");
        answers.push_str(&stored["attempts"].to_string());
        answers.push('\n');
        let body = event(&id, "marked-contact");
        let signature = sign(&Secret::new(SHOP_SECRET).unwrap(), SignatureScheme::Base64, &body);
        let headers = [("X-Cognigy-Signature", signature.as_str())];
        assert_eq!(server.post("/webhooks/cognigy/shop", &headers, &body).status, 200);
        let stored = eventually("the shop's is given up, too", || {
            let stored = server.get(&format!("/admin/events/{id}?source=shop")).json();
            (stored["status"] == "dead_lettered").then_some(stored)
        });
        answers.push_str(&stored["attempts"].to_string());
        answers.push('\n');
    }
    assert!(crm.requests().iter().any(|request| request.contains("marked-crm-token-of-shop")));
    crm.delay(Duration::from_secs(1));
    server.deliver(&event("slow", "marked-contact"));
    answers.push_str(&server.wait_for("slow", "dead_lettered")["attempts"].to_string());
    answers.push('\n');
    crm.delay(Duration::ZERO);

    // Deliveries and operators' requests that are refused.
    let bearer = format!("Bearer {TOKEN}-marked-more");
    for (headers, body) in [
        (vec![("X-Cognigy-Signature", "marked-signature")], &b"marked-body"[..]),
        (vec![("X-Cognigy-Signature", "marked-1"), ("X-Cognigy-Signature", "marked-2")], b"{}"),
        (vec![("Content-Encoding", "marked-gzip")], b"marked-body"),
    ] {
        let answer = server.post("/webhooks/cognigy", &headers, body);
        assert!(answer.status >= 400, "{answer:?}");
        answers.push_str(&answer.body);
    }
    let invalid = server.deliver(br#"{"eventId":"x","payload":"marked-body"}"#);
    invalid.problem(400);
    answers.push_str(&invalid.body);
    for (path, authorization) in [
        ("/admin/stats", "Bearer marked-wrong-token"),
        ("/admin/stats", bearer.as_str()),
        ("/admin/events?token=marked-admin-token", "Basic marked-admin-token"),
    ] {
        let answer = server.request("GET", path, &[("Authorization", authorization)], b"");
        answer.problem(401);
        answers.push_str(&answer.body);
    }

    // The queue is down, for the replay too.
    drop(moto);
    crm.answer(400, "marked-answer");
    server.deliver(&event("no-queue", "marked-contact"));
    eventually("the queue is missed", || {
        let metrics = server.request("GET", "/metrics", &[], b"").body;
        (!metrics.contains(r#"cognigy_dead_letters_total{outcome="failed",source="cognigy"} 0"#))
            .then_some(())
    });
    let replayed = server.operate("POST", "/webhooks/replay/crm-0", b"");
    replayed.problem(500);
    answers.push_str(&replayed.body);
    answers.push_str(&server.request("GET", "/metrics", &[], b"").body);
    answers.push_str(&server.stats().to_string());
    answers.push_str(&server.request("GET", "/readyz", &[], b"").body);
    assert_eq!(server.terminate(), Some(0));

    shows_nothing("an answer", &answers);
    let log = server.log();
    assert!(log.contains("crm-7") && log.contains("TRACE"), "it is the log, at its lowest level");
    assert!(log.contains("COGNIGY_SOURCE_SHOPP_WEBHOOK_SECRET") && log.contains("\"shop\""));
    shows_nothing("the log", &log);

    // The command line, at the same log level: an API that refuses, then an API that is down.
    let api = Crm::start();
    site.set("COGNIGY_CLIENT_ID", "client").set("COGNIGY_CLIENT_SECRET", "marked-client-secret");
    for (status, body) in [
        (401, r#"{"error":"marked-client-secret"}"#.to_owned()),
        (200, "marked-client-secret is no token".to_owned()),
        (500, "<p>marked-client-secret</p>".to_owned()),
    ] {
        api.answer(status, &body);
        site.set("COGNIGY_BASE_URL", api.url());
        let failed = site.run(&["register", "https://hooks.example/webhooks/cognigy"]);
        assert_eq!(failed.status.code(), Some(1), "{failed:?}");
        let output = [failed.stdout, failed.stderr].concat();
        assert!(!output.is_empty());
        shows_nothing("a registration", &String::from_utf8_lossy(&output));
    }
    assert_eq!(api.requests().len(), 3, "each was asked, and refused");
    site.set("COGNIGY_BASE_URL", "http://127.0.0.1:9");
    let failed = site.run(&["register", "https://hooks.example/webhooks/cognigy"]);
    shows_nothing("a registration", &common::stderr(&failed));
}

#[test]
fn an_id_cannot_forge_a_log_line() {
    let crm = Crm::start();
    let mut site = Site::new();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    site.set("CRM_BASE_URL", crm.url())
        .set("COGNIGY_LISTEN", free.to_string())
        .set("COGNIGY_LOG", "debug")
        .set("COGNIGY_LOG_FORMAT", "text");
    let mut child =
        site.command(&["serve"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let mut stderr = child.stderr.take().unwrap();
    let log = std::thread::spawn(move || {
        let mut log = Vec::new();
        stderr.read_to_end(&mut log).unwrap();
        log
    });
    // Control characters are refused.
    for id in [
        "a\nINFO forged: all is well",
        "b\r\n2026-01-01 ERROR forged",
        "c\u{1b}[2J\u{1b}]0;forged\u{7}",
        "d\u{9b}31m",
    ] {
        let status = eventually("it answers", || {
            Some(post_signed(free, &event(id, "c1"))).filter(|status| *status != 0)
        });
        assert_eq!(status, 400, "{id:?}");
    }
    for id in ["e\u{202e}forged", "f\u{2028}forged", "g\" forged=\"yes", "h<script>"] {
        // Each event has a contact of its own, because look-ups of one contact are made once.
        assert_eq!(post_signed(free, &event(id, &id[..1])), 200, "{id:?}");
    }
    eventually("they are looked up", || (crm.requests().len() == 4).then_some(()));
    // A stop lets work in progress end and the log be written.
    let id = child.id().to_string();
    assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
    assert!(child.wait().unwrap().success());
    let log = String::from_utf8(log.join().unwrap()).unwrap();
    assert!(log.contains("g\\\" forged"), "ids are logged, quoted: {log}");
    for line in log.lines() {
        // Each line is the server's: it begins with a time and a level.
        let level = line.split_whitespace().nth(1).unwrap_or_default();
        assert!(["DEBUG", "INFO", "WARN", "ERROR"].contains(&level), "{line:?}");
        let raw = |c: char| c.is_control() || ['\u{202e}', '\u{2028}'].contains(&c);
        assert!(!line.contains(raw), "{line:?}");
    }
}

/// Two events that must still be stored, once each, whatever an operator sends.
fn served() -> (Site, Server) {
    let mut site = Site::new();
    site.set("COGNIGY_WORKER", "off");
    let server = site.serve();
    for id in ["e1", "e2"] {
        assert_eq!(server.deliver(&event(id, "c1")).status, 200);
    }
    (site, server)
}

const INJECTIONS: [&str; 10] = [
    "c1\0",
    "' OR '1'='1",
    "'; DROP TABLE events; --",
    "\"; DROP TABLE cognigy_events; --",
    "%",
    "_-_",
    "\\",
    "?1",
    "$1",
    "c1' UNION SELECT raw_payload FROM webhook_events --",
];

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn what_an_operator_filters_by_is_data_and_never_sql() {
    let (_site, server) = served();
    for value in INJECTIONS {
        for name in ["user", "external_id"] {
            let found = server.get(&format!("/admin/events?{name}={}", encoded(value)));
            assert_eq!(found.status, 200, "{name} {value}: {found:?}");
            assert_eq!(found.json()["events"], json!([]), "{name} {value}");
            let filter = json!({ name: value }).to_string();
            let replay = server.operate("POST", "/admin/replays", filter.as_bytes());
            assert_eq!(replay.status, 202, "{filter}: {replay:?}");
        }
        for name in ["status", "type", "from", "to", "limit", "cursor", "order", value] {
            server.get(&format!("/admin/events?{}={}", encoded(name), encoded(value))).problem(400);
        }
        server.get(&format!("/admin/events/{}", encoded(value))).problem(404);
        server.operate("POST", &format!("/webhooks/replay/{}", encoded(value)), b"").problem(404);
        server.operate("POST", "/admin/quarantine/1%20OR%201=1/retry", b"").problem(404);
    }
    for query in [
        "limit=-1",
        "limit=0",
        "limit=501",
        "limit=1e2",
        "limit=99999999999999999999",
        "user=a&user=b",
        "from=-99999999999999999999",
    ] {
        server.get(&format!("/admin/events?{query}")).problem(400);
    }
    assert_eq!(server.get("/admin/events?cursor=-1").json()["events"], json!([]));
    let long = "x".repeat(1 << 20);
    let refused = server.get(&format!("/admin/events?user={long}"));
    assert!((400..500).contains(&refused.status), "{refused:?}");
    let refused =
        server.operate("POST", "/admin/replays", json!({"user": long}).to_string().as_bytes());
    assert!((400..500).contains(&refused.status), "{refused:?}");

    let stats = server.stats();
    assert_eq!((&stats["events"]["total"], &stats["quarantined"]), (&json!(2), &json!(0)));
    let all: Value = server.get("/admin/events?external_id=c1").json();
    assert_eq!(all["events"].as_array().unwrap().len(), 2, "and a filter still finds");
    for id in ["e1", "e2"] {
        assert_eq!(server.event(id)["attempts"], json!([]), "nothing was run");
    }
}

#[test]
fn a_log_that_nobody_reads_holds_nobody_up() {
    let mut site = Site::new();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    site.set("COGNIGY_LISTEN", free.to_string())
        .set("COGNIGY_LOG", "trace")
        .set("COGNIGY_WORKER", "off");
    // The log's pipe is full after 64 KiB.
    let mut child =
        site.command(&["serve"]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("it listens", || TcpStream::connect(free).ok());
    for number in 0..3000 {
        let status = post_signed(free, &event(&format!("e{number}"), "c1"));
        assert_eq!(status, 200, "delivery {number}");
    }
    let mut stream = TcpStream::connect(free).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n").unwrap();
    let metrics = Answer::read(stream).body;
    let dropped = metrics.lines().find(|line| line.starts_with("cognigy_log_lines_dropped_total "));
    assert_ne!(dropped.expect("it is a metric"), "cognigy_log_lines_dropped_total 0");
    // The pipe was full, so that only a part of the lines about the deliveries is in it.
    child.kill().unwrap();
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    child.wait().unwrap();
    assert!(log.len() >= 60_000, "{} bytes: the pipe was never full", log.len());
    assert!(!log.contains("\"e2999\""), "and yet everything is there");
}
