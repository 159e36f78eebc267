//! Operators: their names and roles, the record of what they did, and sources that they pause.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{io::Write, net::TcpStream};

use common::{
    Answer, Server, TOKEN,
    crm::Crm,
    event, eventually,
    operators::{ANNA, BILL, RITA, site},
    stderr,
};
use serde_json::Value;

/// A request of the operator with that token.
fn ask(server: &Server, token: &str, method: &str, path: &str, body: &str) -> Answer {
    let (length, bearer) = (body.len().to_string(), format!("Bearer {token}"));
    let headers = [("Content-Length", length.as_str()), ("Authorization", &bearer)];
    server.request(method, path, &headers, body.as_bytes())
}

const READING: [&str; 11] = [
    "/admin/events",
    "/admin/events/e1",
    "/admin/replays/1",
    "/admin/quarantine",
    "/admin/quarantine/1",
    "/admin/stats",
    "/admin/replays",
    "/admin/errors",
    "/admin/contacts/c1",
    "/admin/audit",
    "/admin/openapi.json",
];

const CHANGES: [(&str, &str); 14] = [
    ("POST", "/webhooks/replay/e1"),
    ("GET", "/webhooks/replay/e1"),
    ("POST", "/admin/replays"),
    ("POST", "/admin/quarantine/1/retry"),
    ("DELETE", "/admin/replays/1"),
    ("POST", "/admin/discards"),
    ("POST", "/admin/erasures"),
    ("DELETE", "/admin/quarantine/1"),
    ("POST", "/admin/purges"),
    ("POST", "/admin/redrives"),
    ("POST", "/admin/rehearsals"),
    ("POST", "/admin/recorrelations"),
    ("POST", "/admin/sources/cognigy/pause"),
    ("POST", "/admin/sources/cognigy/resume"),
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
    assert_eq!(ask(&server, RITA, "GET", "/admin/events?q=marked", "").status, 403);
    assert_eq!(ask(&server, BILL, "GET", "/admin/events?q=marked", "").status, 200);
    let of_person = br#"{"eventId":"e9","externalId":"c1","marked-body":1}"#;
    assert_eq!(server.deliver(of_person).status, 400);
    for path in [
        "/admin/quarantine".to_owned(),
        format!("/admin/quarantine/{quarantined}"),
        "/admin/contacts/c1".to_owned(),
    ] {
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

/// The entries of the record, newest first, each as `by action target count outcome`.
fn audited(server: &Server) -> Vec<String> {
    let entries = server.get("/admin/audit?limit=500").json()["entries"].clone();
    let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let line = |entry: &Value| {
        assert!(entry["at"].as_str().unwrap().ends_with('Z'), "{entry}");
        ["by", "action", "target", "count", "outcome"].map(|name| text(&entry[name])).join(" ")
    };
    entries.as_array().unwrap().iter().map(line).collect()
}

#[test]
fn who_did_what_is_recorded_and_survives_a_restart() {
    let mut site = site();
    site.set("COGNIGY_RETRY_MAX_ATTEMPTS", "1");
    let mut server = site.serve();
    for id in ["e1", "e2"] {
        assert_eq!(server.deliver(&event(id, "c1")).status, 200);
        server.wait_for(id, "dead_lettered");
    }
    assert_eq!(server.deliver(br#"{"eventId":"e3"}"#).status, 400);
    let id = server.get("/admin/quarantine").json()["items"][0]["id"].clone();
    let refused = ask(&server, RITA, "POST", "/webhooks/replay/e1", "");
    assert_eq!(refused.status, 403);
    assert!(audited(&server).is_empty(), "what was refused was not done");

    assert_eq!(ask(&server, ANNA, "POST", "/webhooks/replay/e1", "").status, 500);
    assert_eq!(ask(&server, TOKEN, "GET", "/webhooks/replay/nothing", "").status, 404);
    let retry = format!("/admin/quarantine/{id}/retry");
    assert_eq!(ask(&server, TOKEN, "POST", &retry, "").status, 409);
    // The dead letter of the replay that failed is kept a moment later.
    server.wait_for("e1", "dead_lettered");
    let filter = r#"{"status":"dead_lettered","external_id":"c1"}"#;
    assert_eq!(ask(&server, ANNA, "POST", "/admin/replays", filter).status, 202);
    let expected = [
        "anna replay null 2 begun".to_owned(),
        format!("admin quarantine_retry {id} 1 invalid"),
        "anna replay e1 1 failed".to_owned(),
    ];
    eventually("the bulk replay is recorded", || (audited(&server).len() == 3).then_some(()));
    assert_eq!(audited(&server), expected);
    let newest = server.get("/admin/audit?limit=1").json();
    let recorded: Value = serde_json::from_str(filter).unwrap();
    assert_eq!(newest["entries"][0]["filter"], recorded);
    let cursor = newest["next_cursor"].as_str().unwrap();
    let rest = server.get(&format!("/admin/audit?cursor={cursor}")).json();
    assert_eq!(rest["entries"].as_array().unwrap().len(), 2);
    assert_eq!(rest["next_cursor"], Value::Null);
    server.get("/admin/audit?who=anna").problem(400);
    assert_eq!(ask(&server, RITA, "GET", "/admin/audit", "").status, 200);
    let history = &server.event("e1")["audit"];
    assert_eq!((&history[0]["by"], &history[0]["outcome"]), (&"anna".into(), &"failed".into()));
    assert_eq!(server.event("e2")["audit"], Value::Array(Vec::new()));

    server.kill();
    let server = site.serve();
    assert_eq!(audited(&server), expected);
}

#[test]
fn a_paused_source_takes_events_in_and_runs_none_on_any_node() {
    let crm = Crm::start();
    let mut site = site();
    site.set("CRM_BASE_URL", crm.url());
    let (mut server, other) = (site.serve(), site.serve());
    assert_eq!(server.deliver(&event("e0", "c1")).status, 200);
    server.wait_for("e0", "processed");
    let pause = ask(&server, ANNA, "POST", "/admin/sources/cognigy/pause", "");
    assert_eq!(pause.json(), serde_json::json!({ "source": "cognigy", "paused": true }));
    let gauge = r#"cognigy_source_paused{source="cognigy"} "#;
    let is_paused = |server: &Server, value: char| {
        server.get("/metrics").body.contains(&format!("{gauge}{value}"))
    };
    assert!(is_paused(&server, '1'), "the node that was asked pauses at once");
    eventually("the other node pauses", || is_paused(&other, '1').then_some(()));
    assert_eq!(server.stats()["paused"]["cognigy"]["by"], "anna");
    for id in ["e1", "e2"] {
        assert_eq!(other.deliver(&event(id, "c1")).status, 200, "intake goes on");
    }
    server.kill();
    let server = site.serve();
    std::thread::sleep(std::time::Duration::from_millis(1200));
    for id in ["e1", "e2"] {
        let event = server.event(id);
        assert_eq!((&event["status"], &event["attempts"][0]), (&"pending".into(), &Value::Null));
    }
    // An event that is asked for by its name is run.
    assert_eq!(ask(&server, ANNA, "POST", "/webhooks/replay/e1", "").status, 200);
    assert_eq!(ask(&other, ANNA, "POST", "/admin/sources/cognigy/resume", "").status, 200);
    assert_eq!(ask(&other, ANNA, "POST", "/admin/sources/cognigy/resume", "").status, 200);
    server.wait_for("e2", "processed");
    eventually("every node resumes", || is_paused(&server, '0').then_some(()));
    assert_eq!(server.stats()["paused"], serde_json::json!({}));
    let expected = [
        "anna resume cognigy null unchanged",
        "anna resume cognigy null done",
        "anna replay e1 1 replayed",
        "anna pause cognigy null done",
    ];
    assert_eq!(audited(&server), expected);
    for (token, path, status) in [
        (ANNA, "/admin/sources/shop/pause", 404),
        (ANNA, "/admin/sources/The%20Shop/pause", 404),
        (RITA, "/admin/sources/cognigy/pause", 403),
        (BILL, "/admin/sources/shop/resume", 403),
        ("", "/admin/sources/cognigy/pause", 401),
    ] {
        ask(&server, token, "POST", path, "").problem(status);
    }
}

/// What is wrong with `value` by `schema`. It knows the words of JSON Schema that the document uses.
fn mismatch(document: &Value, schema: &Value, value: &Value, place: &str) -> Option<String> {
    if let Some(reference) = schema["$ref"].as_str() {
        let schema = document.pointer(reference.trim_start_matches('#')).expect(reference);
        return mismatch(document, schema, value, place);
    }
    let is = |kind: &Value| match kind.as_str().unwrap() {
        "object" => value.is_object(),
        "array" => value.is_array(),
        "string" => value.is_string(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "boolean" => value.is_boolean(),
        "null" => value.is_null(),
        other => panic!("{other}"),
    };
    let fits = match &schema["type"] {
        Value::Null => true,
        Value::Array(kinds) => kinds.iter().any(is),
        kind => is(kind),
    };
    let constant = schema.get("const").is_none_or(|only| only == value);
    let listed = schema["enum"].as_array().is_none_or(|all| all.contains(value));
    if !(fits && constant && listed) {
        return Some(format!("{place}: {value} is not {schema}"));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter(|_| value.is_object()) {
        if value.get(name.as_str().unwrap()).is_none() {
            return Some(format!("{place}: {name} is missing"));
        }
    }
    for (name, member) in value.as_object().into_iter().flatten() {
        let schema = match schema["properties"].get(name) {
            Some(schema) => schema,
            None if schema["additionalProperties"].is_object() => &schema["additionalProperties"],
            None if schema["properties"].is_object() => {
                return Some(format!("{place}: {name} is not described"));
            }
            None => continue,
        };
        let found = mismatch(document, schema, member, &format!("{place}.{name}"));
        if found.is_some() {
            return found;
        }
    }
    let items = value.as_array().into_iter().flatten().filter(|_| schema["items"].is_object());
    items.into_iter().find_map(|item| mismatch(document, &schema["items"], item, place))
}

#[test]
fn answers_are_as_the_openapi_document_says() {
    let crm = Crm::start();
    let mut site = site();
    site.set("CRM_BASE_URL", crm.url()).set("COGNIGY_RETRY_MAX_ATTEMPTS", "1");
    let server = site.serve();
    server.get("/admin/openapi.json?x=1");
    let document = ask(&server, RITA, "GET", "/admin/openapi.json", "").json();
    assert_eq!(ask(&server, "", "GET", "/admin/openapi.json", "").status, 401);
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(server.deliver(&event("e1", "c1")).status, 200);
    server.wait_for("e1", "processed");
    crm.refuse("customer-2", 500);
    assert_eq!(server.deliver(&event("e2", "customer-2")).status, 200);
    server.wait_for("e2", "dead_lettered");
    assert_eq!(server.deliver(br#"{"eventId":"e3"}"#).status, 400);
    let item = server.get("/admin/quarantine").json()["items"][0]["id"].to_string();
    let fill = |path: &str, id: &str| {
        let id = if path.contains("quarantine") { &item } else { id };
        path.replace("{event_id}", "e1")
            .replace("{key}", "customer-2")
            .replace("{id}", id)
            .replace("{source}", "cognigy")
    };
    let mut checked = 0;
    // Twice: what is changed in the first round shows in the second.
    for (round, id) in [(1, "1"), (2, "77")] {
        for (path, operations) in document["paths"].as_object().unwrap() {
            for (method, operation) in operations.as_object().unwrap() {
                let method = method.to_uppercase();
                let body = match (path.as_str(), round) {
                    ("/admin/replays", 1) | ("/admin/discards", 2) => r#"{"ids":["e1","e9"]}"#,
                    ("/admin/replays" | "/admin/recorrelations" | "/admin/discards", _) => {
                        r#"{"status":"dead_lettered","dry_run":true}"#
                    }
                    ("/admin/rehearsals", _) => r#"{"ids":["e1","e2","e9"]}"#,
                    ("/admin/erasures", 2) => r#"{"external_id":"customer-2"}"#,
                    _ => "",
                };
                let name = format!("round {round}: {method} {path}");
                for token in [TOKEN, RITA, BILL, ""] {
                    let answer = ask(&server, token, &method, &fill(path, id), body);
                    let status = answer.status.to_string();
                    let content = &operation["responses"][&status]["content"];
                    let kind = answer.header("content-type").expect(&name);
                    let schema = &content[&kind]["schema"];
                    assert!(schema.is_object(), "{name}: {status} {kind} is not described");
                    assert_eq!(mismatch(&document, schema, &answer.json(), &name), None);
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 100, "{checked}");
    for path in ["/admin/events?limit=0", "/admin/audit?cursor=x", "/admin/events/none"] {
        let answer = server.get(path);
        let problem = &document["components"]["schemas"]["Problem"];
        assert_eq!(mismatch(&document, problem, &answer.json(), path), None);
    }
}

/// A client that hangs up does not take its change out of the record.
#[test]
fn a_change_is_recorded_as_a_whole_although_its_operator_hangs_up() {
    const EVENTS: usize = 20;
    let (crm, mut site) = (Crm::start(), site());
    crm.refuse("c1", 422);
    site.set("CRM_BASE_URL", crm.url()).set("COGNIGY_RETRY_MAX_ATTEMPTS", "1");
    let mut server = site.serve();
    for n in 0..EVENTS {
        assert_eq!(server.deliver(&event(&format!("e{n}"), "c1")).status, 200);
    }
    eventually("all are given up", || {
        (server.stats()["events"]["dead_lettered"] == EVENTS).then_some(())
    });
    for n in 0..EVENTS {
        let body = format!(r#"{{"ids":["e{n}"]}}"#);
        let head = format!(
            "POST /admin/discards HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {ANNA}\r\n\
             Content-Length: {}\r\n\r\n",
            body.len()
        );
        let mut connection = TcpStream::connect(server.address).unwrap();
        connection.write_all((head + &body).as_bytes()).unwrap();
    }
    // Some may have been gone before the server read them.
    let discarded = || {
        let stats = server.stats();
        let is_at_rest = stats["events"]["discarded"].as_u64().unwrap_or_default();
        std::thread::sleep(std::time::Duration::from_millis(200));
        let later = server.stats()["events"]["discarded"].as_u64().unwrap_or_default();
        (later > 0 && later == is_at_rest).then_some(later)
    };
    let discarded = eventually("the changes are made", discarded);
    server.terminate();
    let server = site.serve();
    let entries = server.get("/admin/audit?limit=500").json()["entries"].clone();
    let of = |action: &str| {
        let entries = entries.as_array().unwrap().iter();
        entries.filter(|entry| entry["action"] == action && entry["target"].is_null()).count()
    };
    assert_eq!(of("discard") as u64, discarded, "{entries}");
}

#[test]
fn a_reader_does_not_see_what_others_have_searched_for() {
    let site = site();
    let server = site.serve();
    let filter = r#"{"q":"marked words","status":"dead_lettered"}"#;
    assert_eq!(ask(&server, ANNA, "POST", "/admin/discards", filter).status, 200);
    for (token, shown) in [(RITA, "(not shown to a reader)"), (BILL, "marked words")] {
        let answer = ask(&server, token, "GET", "/admin/audit", "");
        assert_eq!(answer.json()["entries"][0]["filter"]["q"], shown);
        let page = ask(&server, token, "GET", "/admin/audit", "").body;
        assert_eq!(page.contains("marked words"), token == BILL);
    }
}
