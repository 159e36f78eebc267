//! Requests that are too large: each is refused as early as possible, and memory does not grow.

use std::{
    io::{Read, Write},
    thread,
    time::{Duration, Instant},
};

use crate::{
    all_statuses,
    common::{Answer, Server, Site, event},
    delivery, peak_memory, statuses, still_serves, stored,
};

/// The contract's default limit of a body.
const LIMIT: usize = 1024 * 1024;

/// The answer to a request of which only the head is ever sent.
fn by_head_alone(server: &Server, head: &str) -> Answer {
    let mut stream = server.connect();
    stream.write_all(head.as_bytes()).unwrap();
    Answer::read(stream)
}

#[test]
fn a_length_over_the_limit_is_refused_before_anything_is_read() {
    let site = Site::new();
    let server = site.serve();
    for length in [LIMIT + 1, 1 << 40, usize::MAX] {
        let head = format!(
            "POST /webhooks/cognigy HTTP/1.1\r\nHost: t\r\nX-Cognigy-Signature: x\r\n\
             Content-Length: {length}\r\n\r\n"
        );
        by_head_alone(&server, &head).problem(413);
    }
    assert_eq!(stored(&server), 0);
    still_serves(&server, "after");
}

#[test]
fn who_asks_first_is_told_before_the_body_is_sent() {
    let site = Site::new();
    let server = site.serve();
    for (lines, status) in [
        (format!("Content-Length: {}\r\n", LIMIT + 1), 413),
        ("Content-Length: 100\r\nContent-Encoding: gzip\r\n".to_owned(), 415),
    ] {
        let head = format!(
            "POST /webhooks/cognigy HTTP/1.1\r\nHost: t\r\nExpect: 100-continue\r\n{lines}\r\n"
        );
        let mut stream = server.connect();
        stream.write_all(head.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        let _ = stream.read_to_end(&mut bytes);
        assert_eq!(all_statuses(&bytes).last(), Some(&status), "{lines}");
    }
    // A client with an acceptable body sends it after the 100.
    let body = event("e1", "c1");
    let request = delivery(&body, "Expect: 100-continue\r\nConnection: close\r\n");
    let (head, body) = request.split_at(request.len() - body.len());
    let mut stream = server.connect();
    stream.write_all(head).unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(body).unwrap();
    assert_eq!(Answer::read(stream).status, 200);
}

#[test]
fn chunks_without_end_are_cut_off_whatever_the_path() {
    let site = Site::new();
    let server = site.serve();
    still_serves(&server, "before");
    let before = peak_memory(&server);
    let chunk = [b"10000\r\n".as_slice(), &[b'x'; 0x10000], b"\r\n"].concat();
    for target in ["POST /webhooks/cognigy", "GET /healthz", "POST /admin/replays", "PUT /nowhere"]
    {
        let mut stream = server.connect();
        let head = format!("{target} HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        // Half a minute of data or more, unless the server closes the connection.
        let started = Instant::now();
        while stream.write_all(&chunk).is_ok() {
            assert!(started.elapsed() < Duration::from_secs(30), "{target}: it reads on and on");
            thread::sleep(Duration::from_millis(10));
        }
    }
    // The answer is read if the reset has not overtaken it.
    let mut stream = server.connect();
    let head = "POST /webhooks/cognigy HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    for _ in 0..16 {
        stream.write_all(&chunk).unwrap();
    }
    stream.write_all(b"1\r\nx\r\n").unwrap();
    Answer::read(stream).problem(413);
    let grown = peak_memory(&server) - before;
    assert!(grown < 32 * 1024, "{grown} KiB more");
    still_serves(&server, "after");
}

#[test]
fn an_encoded_body_is_never_inflated() {
    let site = Site::new();
    let server = site.serve();
    // 64 MiB of zeros, compressed by gzip, begin like this. The server does not look at the rest.
    let bomb =
        [&b"\x1f\x8b\x08\0\0\0\0\0\x02\x03\xec\xc1\x01\x01\0\0\0\x80\x90"[..], &[0; 4096]].concat();
    for encoding in ["gzip", "GZIP", "br", "deflate", "zstd", "x-gzip", "identity, gzip", "none"] {
        let lines = format!("Content-Encoding: {encoding}\r\nConnection: close\r\n");
        assert_eq!(statuses(&server, &delivery(&bomb, &lines)), [415], "{encoding}");
    }
    let twice = "Content-Encoding: identity\r\nContent-Encoding: gzip\r\nConnection: close\r\n";
    assert_eq!(statuses(&server, &delivery(&bomb, twice)), [415]);
    // The head alone is enough for the refusal: the body never arrives.
    let head = "POST /webhooks/cognigy HTTP/1.1\r\nHost: t\r\nContent-Encoding: gzip\r\n\
                Content-Length: 1000\r\n\r\n";
    by_head_alone(&server, head).problem(415);
    assert_eq!(stored(&server), 0);
    assert_eq!(server.stats()["quarantined"], 0);
    // An empty value means that the body is not encoded.
    for encoding in ["", " ", "identity", "Identity"] {
        let body = event(&format!("plain {encoding:?}"), "c1");
        let lines = format!("Content-Encoding: {encoding}\r\nConnection: close\r\n");
        assert_eq!(statuses(&server, &delivery(&body, &lines)), [200], "{encoding:?}");
    }
}

#[test]
fn heads_without_measure_are_refused() {
    let site = Site::new();
    let server = site.serve();
    still_serves(&server, "before");
    let before = peak_memory(&server);
    let body = event("bomb", "c1");
    let many = |count: usize| -> String { (0..count).map(|n| format!("X-{n}: v\r\n")).collect() };
    for (what, request) in [
        ("a hundred headers", delivery(&body, &many(100))),
        ("ten thousand headers", delivery(&body, &many(10_000))),
        ("one header of 200 KiB", delivery(&body, &format!("X: {}\r\n", "v".repeat(200 << 10)))),
        ("a name of 200 KiB", delivery(&body, &format!("{}: v\r\n", "X".repeat(200 << 10)))),
        ("a head of 4 MiB", delivery(&body, &format!("X: {}\r\n", "v".repeat(4 << 20)))),
        (
            "a path of 64 KiB",
            format!("GET /{} HTTP/1.1\r\nHost: t\r\n\r\n", "p".repeat(64 << 10)).into_bytes(),
        ),
        (
            "a query of 64 KiB",
            format!("GET /healthz?{} HTTP/1.1\r\nHost: t\r\n\r\n", "p".repeat(64 << 10))
                .into_bytes(),
        ),
        (
            "a path of 1 MiB",
            format!("GET /{} HTTP/1.1\r\nHost: t\r\n\r\n", "p".repeat(1 << 20)).into_bytes(),
        ),
        (
            "a method of 200 KiB",
            format!("{} / HTTP/1.1\r\nHost: t\r\n\r\n", "M".repeat(200 << 10)).into_bytes(),
        ),
        ("nothing but line ends", b"\r\n".repeat(200 << 10)),
    ] {
        let answers = statuses(&server, &request);
        // If the reset overtakes an answer, because more was sent than was read, there is no
        // answer.
        assert!(matches!(answers[..], [] | [400..=499]), "{what}: {answers:?}");
    }
    // Less than the limit is taken.
    let request = delivery(&body, &format!("{}Connection: close\r\n", many(80)));
    assert_eq!(statuses(&server, &request), [200]);
    let grown = peak_memory(&server) - before;
    assert!(grown < 32 * 1024, "{grown} KiB more");
    still_serves(&server, "after");
}
