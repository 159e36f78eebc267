//! Hostile senders, over raw sockets against the real server: no forged or invalid event is taken,
//! memory stays bounded, and all other senders are served.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;

mod bodies;
mod floods;
mod framing;
mod identity;
mod operators;
mod paths;
mod refusals;
mod sizes;
mod slow;
mod upgrades;

use std::{
    collections::HashSet,
    io::{Read, Write},
};

use common::{Answer, Server, TOKEN, event, signature};

/// A delivery of `body`, signed, with more header lines (each ended by CRLF).
fn delivery(body: &[u8], lines: &str) -> Vec<u8> {
    let head = format!(
        "POST /webhooks/cognigy HTTP/1.1\r\nHost: t\r\nContent-Length: {}\r\n\
         X-Cognigy-Signature: {}\r\n{lines}\r\n",
        body.len(),
        signature(body)
    );
    [head.as_bytes(), body].concat()
}

/// `body` in chunks of at most `size` bytes, with the last chunk.
fn chunks(body: &[u8], size: usize) -> Vec<u8> {
    let mut encoded = Vec::new();
    for chunk in body.chunks(size) {
        encoded.extend(format!("{:x}\r\n", chunk.len()).into_bytes());
        encoded.extend_from_slice(chunk);
        encoded.extend(b"\r\n");
    }
    encoded.extend(b"0\r\n\r\n");
    encoded
}

/// The statuses of all answers until the server closes the connection.
fn statuses(server: &Server, request: &[u8]) -> Vec<u16> {
    let mut stream = server.connect();
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(request);
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes) {
        let reset = error.kind() == std::io::ErrorKind::ConnectionReset;
        assert!(reset, "the connection is neither answered nor closed: {error}");
    }
    all_statuses(&bytes)
}

fn all_statuses(bytes: &[u8]) -> Vec<u16> {
    let text = String::from_utf8_lossy(bytes);
    let answers = text.split("HTTP/1.1 ").skip(1);
    answers.map(|answer| answer.get(..3).unwrap_or_default().parse().unwrap_or(0)).collect()
}

/// How many events there are.
fn stored(server: &Server) -> u64 {
    server.stats()["events"]["total"].as_u64().unwrap()
}

/// The largest amount of memory that the server has used, in KiB.
fn peak_memory(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.id())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// How many connections to its port a server holds. Other sockets do not count: the runtimes have
/// one each, and the store opens files.
fn sockets(server: &Server) -> usize {
    let folder = format!("/proc/{}", server.id());
    let open = std::fs::read_dir(format!("{folder}/fd")).unwrap();
    let held: HashSet<String> = open
        .filter_map(|entry| {
            let file = std::fs::read_link(entry.unwrap().path()).ok()?;
            let inode = file.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?;
            Some(inode.to_owned())
        })
        .collect();
    let port = format!(":{:04X}", server.address.port());
    let table = std::fs::read_to_string(format!("{folder}/net/tcp")).unwrap();
    let connections = table.lines().filter(|line| {
        // Number, local address, remote address, state (0A: listening), …, inode (proc(5)).
        let fields: Vec<_> = line.split_ascii_whitespace().collect();
        matches!(fields[..], [_, local, _, state, _, _, _, _, _, inode, ..]
            if local.ends_with(&port) && state != "0A" && held.contains(inode))
    });
    connections.count()
}

/// The server is alive and takes a new event.
fn still_serves(server: &Server, id: &str) {
    let answer = server.deliver(&event(id, "c1"));
    assert_eq!((answer.status, answer.body.as_str()), (200, r#"{"status":"accepted"}"#));
}

fn percent_encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// What the operator sees of an event, whatever its id.
fn shown(server: &Server, id: &str) -> Answer {
    let bearer = format!("Bearer {TOKEN}");
    let path = format!("/admin/events/{}", percent_encoded(id));
    server.request("GET", &path, &[("Authorization", &bearer)], b"")
}
