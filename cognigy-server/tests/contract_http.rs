//! The contract's HTTP table, row by row, over real connections.

#![allow(clippy::unwrap_used, clippy::expect_used)]

mod common;

use std::{
    io::{Read, Write},
    sync::Arc,
    time::Duration,
};

use common::{Answer, Site, TOKEN, crm::Crm, event, eventually, signature};
use serde_json::{Value, json};

fn site_with(crm: &Crm) -> Site {
    let mut site = Site::new();
    site.set("CRM_BASE_URL", crm.url()).set("CRM_TOKEN", "marked-crm-token");
    site
}

#[test]
fn stored_duplicate_and_conflict() {
    let crm = Crm::start();
    let server = site_with(&crm).serve_here();
    let body = event("e1", "c1");
    let answer = server.deliver(&body);
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"status":"accepted"}"#));
    assert_eq!(answer.header("content-type").as_deref(), Some("application/json"));

    let duplicate = r#"{"status":"accepted","duplicate":true}"#;
    assert_eq!(server.deliver(&body).body, duplicate);
    let value: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(
        server.deliver(serde_json::to_string_pretty(&value).unwrap().as_bytes()).body,
        duplicate
    );

    let other = event("e1", "somebody else");
    let conflict = r#"{"status":"accepted","duplicate":true,"conflict":true}"#;
    assert_eq!(server.deliver(&other).body, conflict);
    assert_eq!(server.deliver(&other).body, conflict);

    let stored = server.wait_for("e1", "processed");
    assert_eq!(stored["body"].as_str().unwrap().as_bytes(), body);
    assert_eq!(stored["crm_context"], json!({"id": "crm-1", "name": "Ada"}));
    let items = server.get("/admin/quarantine").json();
    assert_eq!(items["items"].as_array().unwrap().len(), 1);
    assert_eq!(items["items"][0]["reason"], "conflict");
    assert_eq!(items["items"][0]["body"].as_str().unwrap().as_bytes(), other);
}

#[test]
fn a_signature_that_is_not_right_is_one_and_the_same_401() {
    let site = Site::new();
    let server = site.serve();
    let body = event("e1", "c1");
    let good = signature(&body);
    let path = "/webhooks/cognigy";
    let name = "X-Cognigy-Signature";
    let wrong = signature(b"something else");
    let mut answers = vec![
        server.post(path, &[], &body),
        server.post(path, &[(name, "")], &body),
        server.post(path, &[(name, "not base64!")], &body),
        server.post(path, &[(name, &wrong)], &body),
        server.post(path, &[(name, good.trim_end_matches('='))], &body),
        server.post(path, &[(name, &good), (name, "x")], &body),
        server.post(path, &[(name, "x"), (name, &good)], &body),
        server.post(path, &[(name, &format!("{good},{good}"))], &body),
        server.post(path, &[(name, &good)], &event("e1", "c2")),
    ];
    let raw = |value: &[u8]| {
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: {}\r\n{name}: ",
            body.len()
        );
        server.raw(&[head.as_bytes(), value, b"\r\n\r\n", &body].concat())
    };
    answers.push(raw("sïgnature".as_bytes()));
    answers.push(raw(&[0x80, 0xff, 0xfe]));
    for answer in &answers {
        assert_eq!(answer.problem(401), "Invalid HMAC signature");
        assert_eq!(answer.body, answers[0].body);
    }
    assert_eq!(server.stats()["deliveries"]["refused"], answers.len());
    assert_eq!(server.stats()["events"]["total"], 0);
    assert_eq!(server.stats()["quarantined"], 0, "what is not signed is forgotten");
}

#[test]
fn signed_but_invalid_is_a_400_that_names_the_field_and_is_kept_once() {
    let site = Site::new();
    let server = site.serve();
    let body = br#"{"eventId":"e1","timestamp":"2026-03-01T12:00:00Z","type":"PROFILE_UPDATED","payload":{}}"#;
    for _ in 0..2 {
        let answer = server.deliver(body);
        assert!(answer.problem(400).starts_with("Payload validation failed: "));
        assert_eq!(answer.json()["errors"][0]["field"], "payload.profile");
        assert!(answer.json()["errors"][0]["message"].is_string());
    }
    for body in [&b""[..], b"[]", b"{", b"null", b"{\"a\":\"\xff\"}"] {
        assert!(server.deliver(body).problem(400).starts_with("Payload validation failed: "));
    }
    let items = server.get("/admin/quarantine?limit=500").json()["items"].clone();
    let kept = items.as_array().unwrap();
    assert_eq!(kept.len(), 6);
    let ours = kept.iter().find(|item| item["event_id"] == "e1").unwrap();
    assert_eq!(ours["reason"], "invalid");
    assert!(ours["id"].is_i64() && ours["received_at"].is_string() && ours["detail"].is_string());

    let retry = format!("/admin/quarantine/{}/retry", ours["id"]);
    assert!(server.operate("POST", &retry, b"").problem(409).contains("payload.profile"));
    server.operate("POST", "/admin/quarantine/999/retry", b"").problem(404);
    server.operate("POST", "/admin/quarantine/x/retry", b"").problem(404);
}

#[test]
fn a_body_over_the_limit_is_a_413_with_or_without_a_length() {
    let mut site = Site::new();
    site.set("COGNIGY_MAX_BODY_BYTES", "1000");
    let server = site.serve();
    let small = event("e1", "c1");
    assert_eq!(server.deliver(&small).status, 200);
    let large = event("e2", &"c".repeat(1000));
    server.deliver(&large).problem(413);

    let start = |body: &[u8]| {
        let mut request = format!(
            "POST /webhooks/cognigy HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\
             X-Cognigy-Signature: {}\r\nTransfer-Encoding: chunked\r\n\r\n",
            signature(body)
        )
        .into_bytes();
        for chunk in body.chunks(100) {
            request.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
            request.extend_from_slice(chunk);
            request.extend(b"\r\n");
        }
        request
    };
    let chunked = |body: &[u8]| server.raw(&[&start(body)[..], b"0\r\n\r\n"].concat());
    assert_eq!(chunked(&small).body, r#"{"status":"accepted","duplicate":true}"#);
    chunked(&large).problem(413);
    // Counted as it arrives: a body that is too long is refused although it has not ended.
    server.raw(&start(&large)).problem(413);
    assert_eq!(server.stats()["events"]["total"], 1);
}

#[test]
fn an_encoded_body_is_a_415() {
    let site = Site::new();
    let server = site.serve();
    let body = event("e1", "c1");
    let good = signature(&body);
    for encoding in ["gzip", "br", "deflate", "gzip, identity"] {
        let headers = [("X-Cognigy-Signature", good.as_str()), ("Content-Encoding", encoding)];
        server.post("/webhooks/cognigy", &headers, &body).problem(415);
    }
    let identity = [("X-Cognigy-Signature", good.as_str()), ("Content-Encoding", "identity")];
    assert_eq!(server.post("/webhooks/cognigy", &identity, &body).status, 200);
}

#[test]
fn a_body_that_does_not_come_is_a_408_after_ten_seconds() {
    let site = Site::new();
    let server = site.serve();
    let mut stream = server.connect();
    stream
        .write_all(
            b"POST /webhooks/cognigy HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\n{\"ev",
        )
        .unwrap();
    let started = std::time::Instant::now();
    let answer = Answer::read(stream);
    answer.problem(408);
    let waited = started.elapsed().as_secs_f64();
    assert!((9.0..15.0).contains(&waited), "{waited} s, and the connection is closed");
}

#[test]
fn a_store_that_cannot_write_is_a_503_and_recovers() {
    let site = Site::on_file();
    let server = site.serve();
    assert_eq!(server.request("GET", "/readyz", &[], b"").status, 200);
    let moved = site.folder.path().join("moved");
    std::fs::create_dir(&moved).unwrap();
    let files = ["webhooks.db", "webhooks.db-wal", "webhooks.db-shm"];
    for name in files {
        let _ = std::fs::rename(site.folder.path().join(name), moved.join(name));
    }
    let answer = eventually("it notices", || {
        let answer = server.deliver(&event("while away", "c1"));
        (answer.status != 200).then_some(answer)
    });
    answer.problem(503);
    assert!(answer.header("retry-after").is_some());
    for name in files {
        let _ = std::fs::rename(moved.join(name), site.folder.path().join(name));
    }
    eventually("it takes events again", || {
        (server.deliver(&event("back", "c1")).status == 200).then_some(())
    });
}

#[test]
fn the_operator_api_is_closed_without_its_token() {
    let routes = [
        ("POST", "/webhooks/replay/e1"),
        ("GET", "/webhooks/replay/e1"),
        ("GET", "/admin/events"),
        ("GET", "/admin/events/e1"),
        ("POST", "/admin/replays"),
        ("GET", "/admin/replays/1"),
        ("GET", "/admin/quarantine"),
        ("POST", "/admin/quarantine/1/retry"),
        ("GET", "/admin/stats"),
        ("GET", "/admin/replays"),
        ("DELETE", "/admin/replays/1"),
        ("GET", "/admin/errors"),
        ("GET", "/admin/contacts/c1"),
        ("POST", "/admin/discards"),
        ("POST", "/admin/erasures"),
        ("DELETE", "/admin/quarantine/1"),
        ("POST", "/admin/purges"),
        ("POST", "/admin/redrives"),
        ("POST", "/admin/rehearsals"),
        ("POST", "/admin/recorrelations"),
        ("POST", "/admin/sources/cognigy/pause"),
        ("POST", "/admin/sources/cognigy/resume"),
        ("GET", "/admin/audit"),
        ("GET", "/admin/openapi.json"),
    ];
    let mut site = Site::new();
    let server = site.serve();
    for (method, path) in routes {
        let with = |value: &str| {
            server.request(method, path, &[("Authorization", value), ("Content-Length", "0")], b"")
        };
        for value in ["Bearer wrong", "Bearer", "Basic marked-admin-token", ""] {
            with(value).problem(401);
        }
        server.request(method, path, &[("Content-Length", "0")], b"").problem(401);
        server
            .request(method, &format!("{path}?token={TOKEN}"), &[("Content-Length", "0")], b"")
            .problem(401);
        assert_ne!(with(&format!("bearer {TOKEN}")).status, 401, "{path}");
    }
    drop(server);
    site.set("COGNIGY_ADMIN_TOKEN", "");
    let server = site.serve();
    for (method, path) in routes {
        server.operate(method, path, b"").problem(403);
    }
}

#[test]
fn replay_runs_now_and_answers_with_the_contact() {
    let crm = Crm::start();
    let server = site_with(&crm).serve_here();
    server.deliver(&event("a/b c%ü", "c1"));
    let path = "a%2Fb%20c%25%C3%BC";
    server.wait_for(path, "processed");
    for method in ["POST", "GET"] {
        let answer = server.operate(method, &format!("/webhooks/replay/{path}"), b"");
        assert_eq!(answer.status, 200, "{answer:?}");
        let expected = json!({"status": "replayed", "crm_context": {"id": "crm-1", "name": "Ada"}});
        assert_eq!(answer.json(), expected);
    }
    crm.answer(404, "");
    let answer = server.operate("POST", &format!("/webhooks/replay/{path}"), b"");
    assert_eq!(answer.json(), json!({"status": "replayed", "crm_context": null}));
    assert_eq!(server.event(path)["attempts"].as_array().unwrap().len(), 4);

    let unknown = server.operate("POST", "/webhooks/replay/unknown", b"");
    assert_eq!(unknown.problem(404), "Event not found in local store");

    crm.answer(500, "");
    let failed = server.operate("POST", &format!("/webhooks/replay/{path}"), b"");
    assert!(failed.problem(500).starts_with("Replay failed: "));
    let event = server.wait_for(path, "dead_lettered");
    let last = event["attempts"].as_array().unwrap().last().unwrap().clone();
    assert_eq!((&last["run"], &last["number"]), (&json!(5), &json!(1)));
}

#[test]
fn a_replay_is_a_409_while_another_run_holds_the_event() {
    let crm = Crm::start();
    crm.delay(Duration::from_secs(2));
    let server = site_with(&crm).serve_here();
    server.deliver(&event("e1", "c1"));
    server.wait_for("e1", "processing");
    server.operate("POST", "/webhooks/replay/e1", b"").problem(409);
    server.wait_for("e1", "processed");
    assert_eq!(crm.requests().len(), 1);
}

#[test]
fn operators_list_filter_page_and_show() {
    let crm = Crm::start();
    let server = site_with(&crm).serve_here();
    for number in 0..5 {
        server.deliver(&event(&format!("e{number}"), &format!("c{number}")));
        server.wait_for(&format!("e{number}"), "processed");
    }
    let page = server.get("/admin/events?limit=2").json();
    let ids = |page: &Value| -> Vec<String> {
        let events = page["events"].as_array().unwrap();
        events.iter().map(|event| event["event_id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&page), ["e4", "e3"]);
    let cursor = page["next_cursor"].as_str().unwrap();
    let page = server.get(&format!("/admin/events?limit=10&cursor={cursor}")).json();
    assert_eq!(
        (ids(&page), &page["next_cursor"]),
        (vec!["e2".into(), "e1".into(), "e0".into()], &Value::Null)
    );
    for (query, found) in [
        ("status=processed", 5),
        ("status=pending", 0),
        ("type=USER_INPUT_RECEIVED", 5),
        ("type=DIALOG_ENDED", 0),
        ("external_id=c3", 1),
        ("user=user-1", 5),
        ("user=%25", 0),
        ("from=2020-01-01T00:00:00Z", 5),
        ("to=2020-01-01T00:00:00%2B00:00", 0),
        ("external_id=c3&user=user-1", 1),
        ("external_id=%27%20OR%201%3D1%20--", 0),
    ] {
        let answer = server.get(&format!("/admin/events?{query}"));
        assert_eq!(answer.status, 200, "{query}: {answer:?}");
        assert_eq!(ids(&answer.json()).len(), found, "{query}");
    }
    for query in [
        "limit=0",
        "limit=501",
        "limit=x",
        "cursor=x",
        "status=x",
        "status=&external_id=c3&user=user-1",
        "type=x",
        "from=x",
        "nonsense=1",
        "limit=1&limit=2",
    ] {
        server.get(&format!("/admin/events?{query}")).problem(400);
    }
    let shown = server.event("e3");
    for field in [
        "event_id",
        "type",
        "status",
        "timestamp",
        "external_id",
        "user_id",
        "received_at",
        "processed_at",
        "crm_context",
        "body",
        "attempts",
    ] {
        assert!(shown.get(field).is_some(), "{field}");
    }
    let attempt = &shown["attempts"][0];
    assert_eq!(
        (&attempt["number"], &attempt["run"], &attempt["outcome"]),
        (&json!(1), &json!(1), &json!("succeeded"))
    );
    assert!(
        attempt["started_at"].is_string()
            && attempt["duration_ms"].is_number()
            && attempt["error"].is_null()
    );
    server.get("/admin/events/unknown").problem(404);
}

#[test]
fn many_are_replayed_by_filter_or_by_id() {
    let crm = Crm::start();
    crm.answer(403, "");
    let server = site_with(&crm).serve_here();
    for number in 0..5 {
        server.deliver(&event(&format!("e{number}"), "c1"));
        server.wait_for(&format!("e{number}"), "dead_lettered");
    }
    crm.answer(200, r#"{"id":"crm-1"}"#);
    let begin = |body: &[u8]| {
        let answer = server.operate("POST", "/admin/replays", body);
        assert_eq!(answer.status, 202, "{answer:?}");
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        let total = answer.json()["total"].clone();
        let ended = eventually("the replay has ended", || {
            let progress = server.get(&format!("/admin/replays/{id}")).json();
            (progress["state"] != "running").then_some(progress)
        });
        assert_eq!(
            (&ended["state"], &ended["done"], &ended["total"]),
            (&json!("done"), &total, &total)
        );
        ended
    };
    let progress = begin(br#"{"ids":["e0","unknown"]}"#);
    assert_eq!((&progress["succeeded"], &progress["failed"]), (&json!(1), &json!(1)));
    server.wait_for("e0", "processed");
    let progress = begin(br#"{"status":"dead_lettered"}"#);
    assert_eq!((&progress["succeeded"], &progress["by"]), (&json!(4), &json!("admin")));
    assert_eq!(server.get("/admin/replays").json()["replays"].as_array().unwrap().len(), 2);
    for number in 0..5 {
        server.wait_for(&format!("e{number}"), "processed");
    }
    server.operate("POST", "/admin/replays", b"{}").problem(400);
    server.get("/admin/replays/999").problem(404);
}

#[test]
fn probes_metrics_and_stats_agree() {
    let crm = Crm::start();
    let server = site_with(&crm).serve_here();
    server.deliver(&event("e1", "c1"));
    server.deliver(&event("e1", "c1"));
    server.deliver(b"{}");
    server.post("/webhooks/cognigy", &[], b"{}");
    server.wait_for("e1", "processed");
    for path in ["/healthz", "/readyz"] {
        assert_eq!(server.request("GET", path, &[], b"").status, 200);
    }
    let metrics = server.request("GET", "/metrics", &[], b"");
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain"));
    for line in [
        r#"cognigy_deliveries_total{outcome="accepted",source="cognigy"} 1"#,
        r#"cognigy_deliveries_total{outcome="duplicate",source="cognigy"} 1"#,
        r#"cognigy_deliveries_total{outcome="invalid",source="cognigy"} 1"#,
        r#"cognigy_deliveries_total{outcome="unsigned",source="cognigy"} 1"#,
        r#"cognigy_ingest_duration_seconds_count{source="cognigy"} 4"#,
        r#"cognigy_events{status="processed"} 1"#,
        r#"cognigy_processing_total{outcome="succeeded",source="cognigy"} 1"#,
        r#"cognigy_processing_duration_seconds_count{source="cognigy"} 1"#,
        r#"cognigy_crm_requests_total{outcome="found",source="cognigy"} 1"#,
        r#"cognigy_crm_request_duration_seconds_count{source="cognigy"} 1"#,
        r#"cognigy_dead_letters_total{outcome="sent",source="cognigy"} 0"#,
        r#"cognigy_dead_letters_total{outcome="kept",source="cognigy"} 0"#,
        r#"cognigy_dead_letters_total{outcome="failed",source="cognigy"} 0"#,
        "cognigy_oldest_pending_seconds 0",
        r#"cognigy_store_errors_total{source="cognigy"} 0"#,
    ] {
        assert!(metrics.body.lines().any(|found| found == line), "{line}\n{}", metrics.body);
    }
    let asked = server.request("HEAD", "/metrics", &[], b"");
    assert_eq!((asked.status, asked.body.as_str()), (200, ""));
    // Metrics of the process, which has run for a moment and has open files.
    let build = metrics.body.lines().find(|line| line.starts_with("cognigy_build_info{"));
    assert!(build.is_some_and(|it| it.contains("version=\"0.1.0\"")), "{}", metrics.body);
    let value = |name: &str| -> f64 {
        let line = metrics.body.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name}")).parse().unwrap()
    };
    assert!(value("process_resident_memory_bytes") > 1e6 && value("process_open_fds") > 3.0);
    assert!(value("process_cpu_seconds_total") >= 0.0);
    let now = std::time::SystemTime::now().duration_since(std::time::SystemTime::UNIX_EPOCH);
    let age = now.unwrap().as_secs_f64() - value("process_start_time_seconds");
    assert!((-5.0..600.0).contains(&age), "{age}");
    let stats = server.stats();
    let deliveries =
        json!({"received": 4, "new": 1, "duplicates": 1, "conflicts": 0, "refused": 2});
    assert_eq!(stats["deliveries"], deliveries);
    assert_eq!(
        stats["events"],
        json!({"total": 1, "processed": 1, "dead_lettered": 0, "waiting": 0})
    );
    assert_eq!(stats["by_status"]["processed"], 1);
    assert_eq!(stats["by_type"]["USER_INPUT_RECEIVED"], 1);
    assert!(stats["oldest_pending_seconds"].is_number() && stats["rates"].is_object());
}

#[test]
fn other_methods_and_paths_are_problems_too() {
    let site = Site::new();
    let server = site.serve();
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "TRACE"] {
        let answer = server.request(method, "/webhooks/cognigy", &[], b"");
        answer.problem(405);
        assert_eq!(answer.header("allow").as_deref(), Some("POST"));
    }
    for path in
        ["/", "/webhooks", "/webhooks/cognigy/", "//webhooks/cognigy", "/admin", "/console/"]
    {
        server.request("GET", path, &[], b"").problem(404);
    }
}

#[test]
fn a_hundred_concurrent_deliveries_of_one_event_are_one_row_and_one_run() {
    let crm = Crm::start();
    let server = Arc::new(site_with(&crm).serve_here());
    let body = event("e1", "c1");
    let deliveries: Vec<_> = (0..100)
        .map(|_| {
            let (server, body) = (Arc::clone(&server), body.clone());
            std::thread::spawn(move || server.deliver(&body))
        })
        .collect();
    let answers: Vec<_> = deliveries.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(answers.iter().all(|answer| answer.status == 200));
    let new = answers.iter().filter(|answer| !answer.body.contains("duplicate")).count();
    assert_eq!(new, 1);
    server.wait_for("e1", "processed");
    assert_eq!(server.stats()["events"]["total"], 1);
    assert_eq!(crm.requests().len(), 1);
}

#[test]
fn pipelined_requests_get_their_own_answers_in_order() {
    let site = Site::new();
    let server = site.serve();
    let (good, bad) = (event("e1", "c1"), event("e2", "c1"));
    let request = |body: &[u8], signature: &str, last: bool| {
        let connection = if last { "close" } else { "keep-alive" };
        let head = format!(
            "POST /webhooks/cognigy HTTP/1.1\r\nHost: t\r\nConnection: {connection}\r\nContent-Length: {}\r\nX-Cognigy-Signature: {signature}\r\n\r\n",
            body.len()
        );
        [head.as_bytes(), body].concat()
    };
    let mut stream = server.connect();
    stream.write_all(&request(&good, &signature(&good), false)).unwrap();
    stream.write_all(&request(&bad, "AAAA", false)).unwrap();
    stream.write_all(&request(&good, &signature(&good), true)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let statuses: Vec<_> =
        text.split("HTTP/1.1 ").skip(1).map(|answer| answer.get(..3).unwrap_or_default()).collect();
    assert_eq!(statuses, ["200", "401", "200"]);
}

trait ServeHere {
    fn serve_here(self) -> ServerAndSite;
}

/// A server together with the folder it runs in.
struct ServerAndSite {
    server: common::Server,
    _site: Site,
}

impl ServeHere for Site {
    fn serve_here(self) -> ServerAndSite {
        ServerAndSite { server: self.serve(), _site: self }
    }
}

impl std::ops::Deref for ServerAndSite {
    type Target = common::Server;

    fn deref(&self) -> &common::Server {
        &self.server
    }
}
