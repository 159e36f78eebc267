//! A flood of refused requests makes a bounded number of log lines, and no delays for other
//! senders.

use std::{
    io::{Read, Write},
    thread,
    time::{Duration, Instant},
};

use crate::{
    all_statuses,
    common::{Server, Site, TOKEN, event},
    still_serves,
};

fn lines<'l>(log: &'l str, message: &str) -> Vec<&'l str> {
    log.lines().filter(|line| line.contains(message)).collect()
}

/// The counts of "refused again" for a reason, summed up.
fn counted(log: &str, reason: &str) -> u64 {
    let lines = lines(log, "refused again").into_iter();
    let lines = lines.map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
    lines.filter(|it| it["reason"] == reason).map(|it| it["count"].as_u64().unwrap()).sum()
}

fn unsigned(server: &Server, count: usize) {
    let body = event("unsigned", "c1");
    let request = format!(
        "POST /webhooks/cognigy HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\r\n{}",
        body.len(),
        String::from_utf8_lossy(&body)
    );
    let mut stream = server.connect();
    let mut writer = stream.try_clone().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            writer.write_all(request.repeat(count).as_bytes()).unwrap();
            writer
                .write_all(b"GET /healthz HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n")
                .unwrap();
        });
        let mut bytes = Vec::new();
        stream.read_to_end(&mut bytes).unwrap();
        let statuses = all_statuses(&bytes);
        assert_eq!(statuses.iter().filter(|status| **status == 401).count(), count);
    });
}

#[test]
fn a_flood_of_refusals_is_a_few_log_lines_and_their_counts() {
    let mut site = Site::new();
    site.set("COGNIGY_LOG", "info");
    let mut server = site.serve();
    unsigned(&server, 2_000);
    for number in 0..200 {
        assert_eq!(server.raw(b"GET / HTTP/1.1\r\nno colon\r\n\r\n").status, 400);
        assert_eq!(server.raw(b"NONSENSE\r\n\r\n").status, 400);
        let encoded = "POST /webhooks/cognigy HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\
                       Content-Encoding: gzip\r\nContent-Length: 0\r\n\r\n";
        assert_eq!(server.raw(encoded.as_bytes()).status, 415);
        let invalid = format!("{{\"eventId\":\"invalid-{number}\"}}");
        assert_eq!(server.deliver(invalid.as_bytes()).status, 400);
        let bad_chunk = "POST /webhooks/cognigy HTTP/1.1\r\nHost: t\r\n\
                         Transfer-Encoding: chunked\r\n\r\nzz\r\n";
        server.raw(bad_chunk.as_bytes()).problem(400);
    }
    still_serves(&server, "after");
    assert_eq!(server.terminate(), Some(0));
    let log = server.log();
    assert!(!log.contains("\"ERROR\""), "{log}");
    for (first, message, reason, again) in [
        ("unsigned", "delivery refused: not authenticated", "not authenticated: missing", 1_999),
        ("malformed", "refused: request cannot be read", "request cannot be read", 399),
        ("encoded", r#""reason":"encoded","duration_ms""#, "encoded", 199),
        ("invalid", "delivery quarantined", "invalid", 199),
        ("bad chunks", r#""reason":"malformed","duration_ms""#, "malformed", 199),
    ] {
        let found = lines(&log, message);
        assert_eq!(found.len(), 1, "{first}: {log}");
        assert!(
            found[0].contains("\"WARN\"") && found[0].contains(r#""peer":"127.0.0.1""#),
            "{log}"
        );
        assert_eq!(counted(&log, reason), again, "{first}: {log}");
    }
    assert!(log.len() < 16_000, "{} bytes", log.len());
}

#[test]
fn wrong_operator_tokens_are_counted_and_slow_and_a_right_one_is_neither() {
    let mut site = Site::new();
    site.set("COGNIGY_LOG", "info");
    let mut server = site.serve();
    let guess = |server: &Server, token: &str| {
        let bearer = format!("Bearer {token}");
        server.request("GET", "/admin/stats", &[("Authorization", &bearer)], b"")
    };
    let started = Instant::now();
    for _ in 0..20 {
        guess(&server, "wrong").problem(401);
    }
    let free = started.elapsed();
    assert!(free < Duration::from_secs(2), "the first ones may be a mistake: {free:?}");
    let started = Instant::now();
    for number in 0..30 {
        let answer = guess(&server, &format!("wrong-{number}"));
        answer.problem(401);
        assert_eq!(answer.header("connection").as_deref(), Some("close"));
    }
    let slowed = started.elapsed();
    assert!(slowed > Duration::from_secs(2), "{slowed:?}");
    assert!(slowed < Duration::from_secs(20), "{slowed:?}");
    // While the answers to many wrong tokens wait, the right one is answered at once.
    thread::scope(|scope| {
        for _ in 0..40 {
            scope.spawn(|| guess(&server, "wrong").problem(401));
        }
        thread::sleep(Duration::from_millis(50));
        for _ in 0..5 {
            let started = Instant::now();
            assert_eq!(guess(&server, TOKEN).status, 200);
            assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
        }
    });
    server.request("GET", "/admin/stats", &[], b"").problem(401);
    let metrics = server.request("GET", "/metrics", &[], b"").body;
    assert!(metrics.lines().any(|line| line == "cognigy_operator_refusals_total 91"), "{metrics}");
    assert_eq!(server.terminate(), Some(0));
    let log = server.log();
    let first = lines(&log, "operator refused: wrong operator token");
    assert_eq!(first.len(), 1, "{log}");
    assert!(first[0].contains(r#""peer":"127.0.0.1""#), "{log}");
    assert_eq!(counted(&log, "wrong operator token"), 89, "{log}");
    assert!(!log.contains("wrong-1") && !log.contains(TOKEN), "{log}");
}
