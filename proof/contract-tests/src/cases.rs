//! The cases of the contract's table for senders.

use std::{
    io::{Read, Write},
    thread,
    time::Instant,
};

use serde_json::Value;

use crate::{Answer, EVENTS_PATH, PATH, Running, Setup, event, signature};

/// Starts the receiver under test.
type Start<'s> = &'s dyn Fn(Setup) -> Running;

const ACCEPTED: &str = r#"{"status":"accepted"}"#;
const DUPLICATE: &str = r#"{"status":"accepted","duplicate":true}"#;
const CONFLICT: &str = r#"{"status":"accepted","duplicate":true,"conflict":true}"#;

/// The same bytes or the same JSON is a duplicate; another content under the same id is a conflict.
pub fn stored_duplicate_and_conflict(start: Start<'_>) {
    let receiver = start(Setup::default());
    let body = event("e1", "c1");
    let answer = receiver.deliver(&body);
    assert_eq!((answer.status, answer.body.as_str()), (200, ACCEPTED));
    assert_eq!(answer.header("content-type").as_deref(), Some("application/json"));
    assert_eq!(receiver.deliver(&body).body, DUPLICATE);
    let value: Value = serde_json::from_slice(&body).unwrap();
    let other_bytes = serde_json::to_string_pretty(&value).unwrap();
    assert_eq!(receiver.deliver(other_bytes.as_bytes()).body, DUPLICATE);
    let other = event("e1", "another contact");
    for _ in 0..2 {
        let answer = receiver.deliver(&other);
        assert_eq!((answer.status, answer.body.as_str()), (200, CONFLICT));
    }
}

/// A forger learns nothing from the answer.
pub fn a_signature_that_is_not_right_is_one_and_the_same_401(start: Start<'_>) {
    let receiver = start(Setup::default());
    let body = event("e1", "c1");
    let (good, wrong) = (signature(&body), signature(b"something else"));
    let name = "X-Cognigy-Signature";
    let mut answers = vec![
        receiver.post(&[], &body),
        receiver.post(&[(name, "")], &body),
        receiver.post(&[(name, "not base64!")], &body),
        receiver.post(&[(name, &wrong)], &body),
        receiver.post(&[(name, good.trim_end_matches('='))], &body),
        receiver.post(&[(name, &good), (name, "x")], &body),
        receiver.post(&[(name, "x"), (name, &good)], &body),
        receiver.post(&[(name, &format!("{good},{good}"))], &body),
        receiver.post(&[(name, &good)], &event("e1", "c2")),
    ];
    for value in ["sïgnature".as_bytes(), &[0x80, 0xff, 0xfe]] {
        let head = format!(
            "POST {PATH} HTTP/1.1\r\nHost: t\r\nConnection: close\r\nContent-Length: {}\r\n{name}: ",
            body.len()
        );
        answers.push(receiver.raw(&[head.as_bytes(), value, b"\r\n\r\n", &body].concat()));
    }
    for answer in &answers {
        assert_eq!(answer.problem(401), "Invalid HMAC signature");
        assert_eq!(answer.body, answers[0].body);
    }
    assert_eq!(receiver.deliver(&body).body, ACCEPTED, "nothing of it was stored");
}

/// What is wrong is said field by field.
pub fn signed_but_invalid_is_a_400_that_names_the_field(start: Start<'_>) {
    let receiver = start(Setup::default());
    let body = br#"{"eventId":"e1","timestamp":"2026-03-01T12:00:00Z","type":"PROFILE_UPDATED","payload":{}}"#;
    let answer = receiver.deliver(body);
    assert!(answer.problem(400).starts_with("Payload validation failed: "));
    assert_eq!(answer.json()["errors"][0]["field"], "payload.profile");
    assert!(answer.json()["errors"][0]["message"].is_string());
    for body in [&b""[..], b"[]", b"{", b"null", b"{\"a\":\"\xff\"}"] {
        assert!(receiver.deliver(body).problem(400).starts_with("Payload validation failed: "));
    }
}

/// The limit counts what arrives, announced or not, and the answer does not wait for the end.
pub fn a_body_over_the_limit_is_a_413_with_or_without_a_length(start: Start<'_>) {
    let receiver = start(Setup { max_body_bytes: 1000, ..Setup::default() });
    let (small, large) = (event("e1", "c1"), event("e2", &"c".repeat(1000)));
    assert_eq!(receiver.deliver(&small).status, 200);
    receiver.deliver(&large).problem(413);
    let begin = |body: &[u8]| {
        let mut request = format!(
            "POST {PATH} HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\
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
    let chunked = |body: &[u8]| receiver.raw(&[&begin(body)[..], b"0\r\n\r\n"].concat());
    assert_eq!(chunked(&small).body, DUPLICATE);
    chunked(&large).problem(413);
    let started = Instant::now();
    receiver.raw(&begin(&large)).problem(413);
    let waited = started.elapsed().as_secs();
    assert!(waited < 5, "{waited} s: the rest of the body holds the connection");
}

/// Nothing is inflated before its sender is known.
pub fn an_encoded_body_is_a_415(start: Start<'_>) {
    let receiver = start(Setup::default());
    let body = event("e1", "c1");
    let good = signature(&body);
    let encoded = |encoding| {
        let headers = [("X-Cognigy-Signature", good.as_str()), ("Content-Encoding", encoding)];
        receiver.post(&headers, &body)
    };
    for encoding in ["gzip", "br", "deflate", "gzip, identity"] {
        encoded(encoding).problem(415);
    }
    assert_eq!(encoded("identity").status, 200);
}

/// The deadline begins with the end of the head, and the connection is closed with the answer.
pub fn a_body_that_does_not_come_is_a_408_after_ten_seconds(start: Start<'_>) {
    let receiver = start(Setup::default());
    let mut stream = receiver.connect();
    let head = format!("POST {PATH} HTTP/1.1\r\nHost: t\r\nContent-Length: 100\r\n\r\n{{\"ev");
    stream.write_all(head.as_bytes()).unwrap();
    let started = Instant::now();
    let answer = Answer::read(stream);
    answer.problem(408);
    let waited = started.elapsed().as_secs_f64();
    assert!((9.0..15.0).contains(&waited), "{waited} s, and the connection is closed");
}

/// What was refused can be sent again, and is new then.
pub fn too_much_in_flight_is_a_503_and_nothing_is_half_done(start: Start<'_>) {
    let receiver = start(Setup { max_in_flight: 1, ..Setup::default() });
    // Bodies that do not arrive take no place, however many there are.
    let unfinished: Vec<_> = (0..5)
        .map(|_| {
            let mut stream = receiver.connect();
            let head = format!(
                "POST {PATH} HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).unwrap();
            let mut asked = [0; b"HTTP/1.1 100 Continue\r\n\r\n".len()];
            stream.read_exact(&mut asked).unwrap();
            assert!(asked.starts_with(b"HTTP/1.1 100 "));
            stream
        })
        .collect();
    assert_eq!(receiver.deliver(&event("beside", "c1")).status, 200);
    // Complete bodies do, until the store has answered.
    for round in 0..50 {
        let bodies: Vec<_> =
            (0..40).map(|number| event(&format!("e-{round}-{number}"), "c1")).collect();
        let answers: Vec<_> = thread::scope(|scope| {
            let deliveries: Vec<_> =
                bodies.iter().map(|body| scope.spawn(|| receiver.deliver(body))).collect();
            deliveries.into_iter().map(|delivery| delivery.join().unwrap()).collect()
        });
        let mut refused = 0;
        for (body, answer) in bodies.iter().zip(&answers) {
            if answer.status == 200 {
                continue;
            }
            answer.problem(503);
            assert!(answer.header("retry-after").is_some(), "{answer:?}");
            assert_eq!(receiver.deliver(body).body, ACCEPTED, "it was not stored");
            refused += 1;
        }
        if refused > 0 {
            assert!(refused < answers.len(), "one at a time is taken");
            drop(unfinished);
            return;
        }
    }
    panic!("no delivery was refused");
}

/// Whatever a sender gets wrong, it gets a problem document.
pub fn other_methods_and_paths_are_problems_too(start: Start<'_>) {
    let receiver = start(Setup::default());
    for method in ["GET", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"] {
        let answer = receiver.request(method, PATH, &[], b"");
        answer.problem(405);
        assert_eq!(answer.header("allow").as_deref(), Some("POST"));
    }
    for path in ["/", "/webhooks", "/webhooks/cognigy/", "//webhooks/cognigy", "/nothing"] {
        receiver.request("GET", path, &[], b"").problem(404);
    }
}

/// The abuse protection of CloudEvents webhooks (section 4).
pub fn a_sender_of_cloud_events_may_ask_before_it_sends(start: Start<'_>) {
    let receiver = start(Setup::default());
    let ask = |headers: &[(&str, &str)]| receiver.request("OPTIONS", EVENTS_PATH, headers, b"");
    let permitted = ask(&[("WebHook-Request-Origin", "grid.example")]);
    assert_eq!((permitted.status, permitted.body.as_str()), (200, ""));
    assert_eq!(permitted.header("webhook-allowed-origin").as_deref(), Some("grid.example"));
    assert_eq!(permitted.header("webhook-allowed-rate").as_deref(), Some("*"));
    ask(&[]).problem(400);
    let other = receiver.request("GET", EVENTS_PATH, &[], b"");
    other.problem(405);
    assert_eq!(other.header("allow").as_deref(), Some("POST, OPTIONS"));
}

/// The probes need no credential.
pub fn probes_say_that_it_is_alive_and_ready(start: Start<'_>) {
    let receiver = start(Setup::default());
    for (path, body) in [("/healthz", r#"{"status":"ok"}"#), ("/readyz", r#"{"status":"ready"}"#)] {
        let answer = receiver.request("GET", path, &[], b"");
        assert_eq!((answer.status, answer.body.as_str()), (200, body));
        assert_eq!(answer.header("content-type").as_deref(), Some("application/json"));
        assert_eq!(receiver.request("HEAD", path, &[], b"").status, 200);
        receiver.request("POST", path, &[("Content-Length", "0")], b"").problem(405);
    }
}
