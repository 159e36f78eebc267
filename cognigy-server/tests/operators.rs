//! Operators: their names and roles, the record of what they did, and sources that they pause.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use common::{Answer, Server, Site, TOKEN, event, stderr};
use serde_json::Value;

const ANNA: &str = "marked-token-of-anna";
const RITA: &str = "marked-token-of-rita";
const BILL: &str = "marked-token-of-bill";

/// A site with an operator `anna`, a reader `rita`, and a reader `bill` who sees bodies.
fn site() -> Site {
    let mut site = Site::new();
    for (name, token, role) in
        [("ANNA", ANNA, "operator"), ("RITA", RITA, "reader"), ("BILL", BILL, "reader,bodies")]
    {
        site.set(&format!("COGNIGY_OPERATOR_{name}_TOKEN"), token);
        site.set(&format!("COGNIGY_OPERATOR_{name}_ROLE"), role);
    }
    site
}

/// A request of the operator with that token.
fn ask(server: &Server, token: &str, method: &str, path: &str, body: &str) -> Answer {
    let (length, bearer) = (body.len().to_string(), format!("Bearer {token}"));
    let headers = [("Content-Length", length.as_str()), ("Authorization", &bearer)];
    server.request(method, path, &headers, body.as_bytes())
}

const READING: [&str; 6] = [
    "/admin/events",
    "/admin/events/e1",
    "/admin/replays/1",
    "/admin/quarantine",
    "/admin/quarantine/1",
    "/admin/stats",
];

const CHANGES: [(&str, &str); 4] = [
    ("POST", "/webhooks/replay/e1"),
    ("GET", "/webhooks/replay/e1"),
    ("POST", "/admin/replays"),
    ("POST", "/admin/quarantine/1/retry"),
];

#[test]
fn a_reader_changes_nothing_and_sees_no_body_unless_allowed() {
    let mut site = site();
    site.set("COGNIGY_WORKER", "off");
    let server = site.serve();
    assert_eq!(server.deliver(&event("e1", "c1")).status, 200);
    assert_eq!(server.deliver(br#"{"marked-body":1}"#).status, 400);
    let quarantined = server.get("/admin/quarantine").json()["items"][0]["id"].clone();
    for token in [RITA, BILL] {
        for (method, path) in CHANGES {
            let answer = ask(&server, token, method, path, r#"{"status":"pending"}"#);
            let detail = answer.problem(403);
            assert!(detail.contains("reader"), "{detail}");
            assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"));
        }
        for path in READING {
            let answer = ask(&server, token, "GET", path, "");
            assert!(matches!(answer.status, 200 | 404), "{path}: {answer:?}");
            assert_eq!(answer.header("cache-control").as_deref(), Some("no-store"), "{path}");
        }
    }
    let event = |token| ask(&server, token, "GET", "/admin/events/e1", "").json();
    assert_eq!(event(RITA)["body"], Value::Null);
    assert!(event(RITA)["external_id"] == "c1" && event(RITA)["status"] == "pending");
    assert!(event(BILL)["body"].as_str().unwrap().contains("marked-body"));
    for path in ["/admin/quarantine".to_owned(), format!("/admin/quarantine/{quarantined}")] {
        let seen = |token| ask(&server, token, "GET", &path, "").body;
        assert!(
            !seen(RITA).contains("marked-body") && seen(BILL).contains("marked-body"),
            "{path}"
        );
        assert!(seen(RITA).contains(r#""body":null"#), "{path}");
    }
    // What they were refused did not happen, and what an operator asks for does.
    assert_eq!(server.event("e1")["attempts"].as_array().unwrap().len(), 0);
    for token in [ANNA, TOKEN] {
        let answer = ask(&server, token, "POST", "/admin/replays", r#"{"status":"pending"}"#);
        assert_eq!(answer.status, 202, "{answer:?}");
    }
    for token in ["", "marked-token-of-ann", "marked-token-of-anna "] {
        let answer = ask(&server, token, "GET", "/admin/stats", "");
        let expected = if token.trim() == ANNA { 200 } else { 401 };
        assert_eq!(answer.status, expected, "{token:?}");
    }
    for token in [ANNA, RITA, BILL, TOKEN] {
        assert!(!server.log().contains(token), "a token is in the log");
    }
}

#[test]
fn operators_need_no_administrator() {
    let mut site = site();
    site.set("COGNIGY_ADMIN_TOKEN", "");
    let server = site.serve();
    assert_eq!(ask(&server, RITA, "GET", "/admin/stats", "").status, 200);
    assert_eq!(ask(&server, "", "GET", "/admin/stats", "").status, 401);
    assert_eq!(server.get("/admin/stats").status, 401);
}

#[test]
fn a_wrong_operator_stops_the_start() {
    for (variable, value) in [
        ("COGNIGY_OPERATOR_RITA_ROLE", "owner"),
        ("COGNIGY_OPERATOR_RITA_ROLE", "bodies"),
        ("COGNIGY_OPERATOR_RITA_TOKEN", "marked-token-of-rita\n"),
        ("COGNIGY_OPERATOR_RITA_TOKEN", ANNA),
        ("COGNIGY_OPERATOR_RITA_TOKEN", TOKEN),
        ("COGNIGY_OPERATOR_RITA_TOKEN", ""),
    ] {
        let mut site = site();
        site.set(variable, value);
        let output = site.run(&["serve"]);
        let told = stderr(&output);
        assert_eq!(output.status.code(), Some(2), "{variable}={value:?}: {told}");
        assert!(told.contains("COGNIGY_OPERATOR_RITA_") && !told.contains("marked"), "{told}");
        assert_eq!(told.lines().count(), 1, "{told}");
    }
}
