//! Requests that offer an upgrade, as Java's HTTP client does by default, and nginx with its lines
//! for web sockets. The server declines: each is an ordinary request.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::{Duration, Instant},
};

use crate::{
    chunks,
    common::{Server, Site, event, signature},
    still_serves, stored,
};

const OFFERS: [(&str, &str); 6] = [
    (
        "Java's client",
        "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n\
         HTTP2-Settings: AAEAAEAAAAIAAAABAAMAAABkAAQBAAAAAAUAAEAA\r\n",
    ),
    ("nginx for web sockets, with nothing to upgrade to", "Connection: upgrade\r\n"),
    ("a web socket", "Connection: Upgrade\r\nUpgrade: websocket\r\n"),
    ("a web socket without the option", "Upgrade: WebSocket\r\n"),
    ("a web socket, kept alive", "Connection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"),
    ("something else", "Connection: upgrade\r\nUpgrade: TLS/1.0, foo/2\r\n"),
];

/// Reads one answer: its head and its body.
fn answer(stream: &mut TcpStream) -> (String, String) {
    let mut bytes = Vec::new();
    let mut byte = [0];
    while !bytes.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        bytes.push(byte[0]);
    }
    let head = String::from_utf8(bytes).unwrap().to_ascii_lowercase();
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
    let mut body = vec![0; length.parse().unwrap()];
    stream.read_exact(&mut body).unwrap();
    (head, String::from_utf8(body).unwrap())
}

/// Sends `requests` one after the other, each when the one before is answered. It makes a new
/// connection only if an answer said that the old one ends.
fn all_are_accepted(server: &Server, what: &str, requests: &[Vec<u8>]) {
    let mut stream = server.connect();
    for request in requests {
        let started = Instant::now();
        stream.write_all(request).unwrap();
        let (head, body) = answer(&mut stream);
        assert!(head.starts_with("http/1.1 200"), "{what}: {head}");
        assert_eq!(body, r#"{"status":"accepted"}"#, "{what}");
        assert!(!head.contains("upgrade"), "{what}: {head}");
        assert!(started.elapsed() < Duration::from_secs(5), "{what}: {:?}", started.elapsed());
        if head.contains("connection: close") {
            let mut rest = Vec::new();
            stream.read_to_end(&mut rest).unwrap();
            assert!(rest.is_empty(), "{what}: {}", String::from_utf8_lossy(&rest));
            stream = server.connect();
        }
    }
}

#[test]
fn an_upgrade_that_is_not_taken_up_is_an_ordinary_request() {
    let site = Site::new();
    let server = site.serve();
    let mut count = 0;
    for (what, offer) in OFFERS {
        for framing in ["length", "chunks", "length in parts"] {
            let requests: Vec<_> = (0..3)
                .map(|number| {
                    count += 1;
                    let body = event(&format!("{what} {framing} {number}"), "c1");
                    let (line, encoded) = match framing {
                        "chunks" => ("Transfer-Encoding: chunked".to_owned(), chunks(&body, 50)),
                        _ => (format!("Content-Length: {}", body.len()), body.clone()),
                    };
                    let head = format!(
                        "POST /webhooks/cognigy HTTP/1.1\r\nHost: t\r\n{offer}{line}\r\n\
                         X-Cognigy-Signature: {}\r\n\r\n",
                        signature(&body)
                    );
                    [head.as_bytes(), &encoded].concat()
                })
                .collect();
            if framing == "length in parts" {
                for request in requests {
                    let mut stream = server.connect();
                    let (first, second) = request.split_at(request.len() - 20);
                    stream.write_all(first).unwrap();
                    std::thread::sleep(Duration::from_millis(50));
                    stream.write_all(second).unwrap();
                    let (head, _) = answer(&mut stream);
                    assert!(head.starts_with("http/1.1 200"), "{what}: {head}");
                }
            } else {
                all_are_accepted(&server, &format!("{what}, {framing}"), &requests);
            }
        }
    }
    assert_eq!(stored(&server), count);
    // Without a body there is nothing to wait for.
    for (what, offer) in OFFERS {
        let mut stream = server.connect();
        let head = format!("GET /healthz HTTP/1.1\r\nHost: t\r\n{offer}\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        let (head, body) = answer(&mut stream);
        assert_eq!(body, r#"{"status":"ok"}"#, "{what}: {head}");
    }
    still_serves(&server, "after");
}

#[test]
fn a_body_that_an_offered_upgrade_hides_is_bounded_as_ever() {
    let site = Site::new();
    let server = site.serve();
    let offer = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
    // The bytes behind the body are neither part of it nor a request.
    let body = event("carrier", "c1");
    let smuggled = crate::delivery(&event("smuggled", "c1"), "");
    let request = [crate::delivery(&body, offer), smuggled].concat();
    assert_eq!(crate::statuses(&server, &request), [200]);
    assert_eq!(stored(&server), 1);
    let over = format!(
        "POST /webhooks/cognigy HTTP/1.1\r\nHost: t\r\n{offer}Content-Length: 1048577\r\n\r\n"
    );
    assert_eq!(crate::statuses(&server, over.as_bytes()), [413]);
    // Half a body and then the end of the input: no delivery.
    let half = crate::delivery(&event("half", "c1"), offer);
    let mut stream = server.connect();
    stream.write_all(&half[..half.len() - 10]).unwrap();
    stream.shutdown(std::net::Shutdown::Write).unwrap();
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    assert!(!crate::all_statuses(&bytes).contains(&200));
    assert_eq!(stored(&server), 1);
    still_serves(&server, "after");
}
