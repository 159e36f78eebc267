//! Requests whose beginning or end can be read in two ways. The server reads them in one way or
//! refuses them: the bytes behind such a request are never read as another one.

use std::io::{Read, Write};

use crate::{
    all_statuses, chunks,
    common::{Site, event, signature},
    delivery, statuses, still_serves, stored,
};

/// A head that announces `body` in the given lines, and the body in chunks.
fn request(lines: &[u8], encoded: &[u8], body: &[u8]) -> Vec<u8> {
    let head = format!(
        "POST /webhooks/cognigy HTTP/1.1\r\nHost: t\r\nX-Cognigy-Signature: {}\r\n",
        signature(body)
    );
    [head.as_bytes(), lines, b"\r\n", encoded].concat()
}

#[test]
fn a_request_that_can_be_read_in_two_ways_is_refused_and_nothing_behind_it_is_read() {
    let site = Site::new();
    let server = site.serve();
    let body = event("carrier", "c1");
    let smuggled = delivery(&event("smuggled", "c1"), "");
    let in_chunks = chunks(&body, 50);
    let length = body.len();
    let cases: Vec<(&str, Vec<u8>, Vec<u8>)> = [
        (
            "length and chunks",
            format!("Content-Length: {length}\r\nTransfer-Encoding: chunked\r\n"),
        ),
        (
            "chunks and length",
            format!("Transfer-Encoding: chunked\r\nContent-Length: {length}\r\n"),
        ),
        ("chunks and no length", "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n".into()),
        ("two lengths", format!("Content-Length: {length}\r\nContent-Length: 5\r\n")),
        ("two equal lengths", format!("Content-Length: {length}\r\nContent-Length: {length}\r\n")),
        ("a list of lengths", format!("Content-Length: {length}, {length}\r\n")),
        ("a signed length", format!("Content-Length: +{length}\r\n")),
        ("a negative length", "Content-Length: -1\r\n".into()),
        ("a hexadecimal length", "Content-Length: 0x5\r\n".into()),
        ("an empty length", "Content-Length:\r\n".into()),
        ("a length beyond counting", "Content-Length: 18446744073709551616\r\n".into()),
        ("an unknown coding", "Transfer-Encoding: xchunked\r\n".into()),
        ("an unknown last coding", "Transfer-Encoding: chunked, x\r\n".into()),
        ("a quoted coding", "Transfer-Encoding: \"chunked\"\r\n".into()),
        ("chunked twice", "Transfer-Encoding: chunked, chunked\r\n".into()),
        (
            "chunks, hidden by a space",
            format!("Transfer-Encoding : chunked\r\nContent-Length: {length}\r\n"),
        ),
        (
            "chunks, hidden by a tab",
            format!("Transfer-Encoding:\tchunked\r\nContent-Length: {length}\r\n"),
        ),
        ("a folded header", format!("X-Folded: a\r\n b\r\nContent-Length: {length}\r\n")),
        (
            "a folded coding",
            format!("Content-Length: {length}\r\nTransfer-Encoding:\r\n chunked\r\n"),
        ),
        ("a line without a colon", format!("Content-Length: {length}\r\nnonsense\r\n")),
        ("a control character", format!("Content-Length: {length}\r\nX-Odd: a\u{1}b\r\n")),
        ("a NUL in a name", format!("Content-Length: {length}\r\nX\0Odd: a\r\n")),
        (
            "chunks after a bare LF",
            format!("Content-Length: {length}\nTransfer-Encoding: chunked\r\n"),
        ),
        (
            "chunks after a bare CR",
            format!("Content-Length: {length}\r\nX: a\rTransfer-Encoding: chunked\r\n"),
        ),
    ]
    .into_iter()
    .map(|(what, lines)| {
        let encoded = if lines.contains("Transfer") { in_chunks.clone() } else { body.clone() };
        (what, lines.into_bytes(), encoded)
    })
    .collect();
    for (what, lines, encoded) in cases {
        let request = [request(&lines, &encoded, &body), smuggled.clone()].concat();
        let answers = statuses(&server, &request);
        assert!(matches!(answers[..], [400..=499]), "{what}: {answers:?}");
    }
    assert_eq!(stored(&server), 0);
    still_serves(&server, "after");
}

#[test]
fn chunks_that_are_not_well_formed_end_the_connection() {
    let site = Site::new();
    let server = site.serve();
    let body = event("carrier", "c1");
    let smuggled = delivery(&event("smuggled", "c1"), "");
    let length = body.len();
    let text = String::from_utf8(body.clone()).unwrap();
    for (what, encoded) in [
        ("no size", format!("\r\n{text}\r\n0\r\n\r\n")),
        ("not a number", format!("zz\r\n{text}\r\n0\r\n\r\n")),
        ("a negative size", format!("-1\r\n{text}\r\n0\r\n\r\n")),
        ("a signed size", format!("+{length:x}\r\n{text}\r\n0\r\n\r\n")),
        ("a size with a prefix", format!("0x{length:x}\r\n{text}\r\n0\r\n\r\n")),
        ("a size beyond counting", format!("fffffffffffffffff\r\n{text}\r\n0\r\n\r\n")),
        ("a size, then a bare LF", format!("{length:x}\n{text}\r\n0\r\n\r\n")),
        ("a bare LF in an extension", format!("{length:x};a\nb\r\n{text}\r\n0\r\n\r\n")),
        ("a chunk longer than its size", format!("5\r\n{text}\r\n0\r\n\r\n")),
        ("no CRLF behind a chunk", format!("{length:x}\r\n{text}0\r\n\r\n")),
    ] {
        let lines = b"Transfer-Encoding: chunked\r\n";
        let request = [request(lines, encoded.as_bytes(), &body), smuggled.clone()].concat();
        let answers = statuses(&server, &request);
        assert!(matches!(answers[..], [400..=499]), "{what}: {answers:?}");
    }
    assert_eq!(stored(&server), 0);
    still_serves(&server, "after");
}

#[test]
fn chunks_are_a_body_like_any_other() {
    let site = Site::new();
    let server = site.serve();
    for (id, size) in [("by-one", 1), ("by-seven", 7), ("whole", 10_000)] {
        let body = event(id, "c1");
        let lines = b"Transfer-Encoding: chunked\r\nConnection: close\r\n";
        let answer = server.raw(&request(lines, &chunks(&body, size), &body));
        assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"status":"accepted"}"#));
        assert_eq!(server.event(id)["body"].as_str().unwrap().as_bytes(), body);
        assert!(server.deliver(&body).body.contains("duplicate"), "with a length it is the same");
    }
}

#[test]
fn a_line_that_ends_in_a_bare_lf_is_a_line() {
    // RFC 9112, section 2.2, allows it. There is still one reading, and one answer.
    let site = Site::new();
    let server = site.serve();
    let body = event("e1", "c1");
    let request = String::from_utf8(delivery(&body, "Connection: close\r\n")).unwrap();
    assert_eq!(statuses(&server, request.replace("\r\n", "\n").as_bytes()), [200]);
    assert_eq!(stored(&server), 1);
}

#[test]
fn a_hundred_pipelined_requests_are_answered_in_order_each_on_its_own() {
    let site = Site::new();
    let server = site.serve();
    let wrong = signature(b"something else");
    let mut requests = Vec::new();
    let mut expected = Vec::new();
    for number in 0..100 {
        let body = event(&format!("e{number}"), "c1");
        let mut request = String::from_utf8(delivery(&body, "")).unwrap();
        let status = match number % 3 {
            0 => 200,
            1 => {
                request = request.replace(&signature(&body), &wrong);
                401
            }
            _ => {
                request = request.replace("/webhooks/cognigy", "/nowhere");
                404
            }
        };
        requests.extend(request.into_bytes());
        expected.push(status);
    }
    requests.extend(b"GET /healthz HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\r\n");
    expected.push(200);
    let mut stream = server.connect();
    let mut writer = stream.try_clone().unwrap();
    let sender = std::thread::spawn(move || writer.write_all(&requests));
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    sender.join().unwrap().unwrap();
    assert_eq!(all_statuses(&bytes), expected);
    assert_eq!(stored(&server), 34);
}

#[test]
fn other_versions_of_http_are_spoken_or_refused() {
    let site = Site::new();
    let server = site.serve();
    let body = event("e1", "c1");
    // HTTP/1.0 has no persistent connections: the request is answered and the connection closed.
    let old = String::from_utf8(delivery(&body, "")).unwrap().replace("HTTP/1.1", "HTTP/1.0");
    let mut stream = server.connect();
    stream.write_all(old.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.0 200") || answer.starts_with("HTTP/1.1 200"), "{answer}");
    // No chunks in HTTP/1.0 (RFC 9112, section 6.1).
    let chunked = request(b"Transfer-Encoding: chunked\r\n", &chunks(&body, 50), &body);
    let chunked = String::from_utf8(chunked).unwrap().replace("HTTP/1.1", "HTTP/1.0");
    assert!(!statuses(&server, chunked.as_bytes()).contains(&200));

    let smuggled = delivery(&event("smuggled", "c1"), "");
    for (what, preface) in [
        ("HTTP/2 without an upgrade", &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"[..]),
        ("HTTP/2 by its request line", b"POST /webhooks/cognigy HTTP/2.0\r\nHost: t\r\n\r\n"),
        ("HTTP/0.9", b"GET /\r\n\r\n"),
        ("no version", b"GET / HTTP\r\n\r\n"),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n"),
        ("nothing HTTP", b"\x00\x01\x02\x03\xff\xfe\r\n\r\n"),
    ] {
        let answers = statuses(&server, &[preface, &smuggled].concat());
        assert!(answers.iter().all(|status| (400..500).contains(status)), "{what}: {answers:?}");
        assert!(answers.len() <= 1, "{what}: {answers:?}");
    }
    // The server declines an upgrade and answers the request as it is.
    let upgrade = "Connection: close, Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
                   HTTP2-Settings: AAMAAABkAAQAAP__\r\n";
    assert_eq!(statuses(&server, &delivery(&body, upgrade)), [200]);
    assert_eq!(stored(&server), 1);
    still_serves(&server, "after");
}
