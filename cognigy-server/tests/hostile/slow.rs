//! Slow clients, clients that only hold a connection, and clients that close it early.

use std::{
    io::{Read, Write},
    net::TcpStream,
    thread,
    time::{Duration, Instant},
};

use crate::{
    all_statuses,
    common::{Server, Site, event, eventually, signature},
    delivery, peak_memory, sockets, still_serves, stored,
};

/// How one slow sender behaves.
enum Slow {
    /// Sends these bytes and then no more.
    Stalls(Vec<u8>),
    /// Sends these bytes, one a second.
    Trickles(Vec<u8>, usize),
}

impl Slow {
    /// The server's answer when it closed the connection, and the time of that.
    fn run(&self, server: &Server) -> (Vec<u16>, Duration) {
        let mut stream = server.connect();
        let started = Instant::now();
        let bytes = match self {
            Self::Stalls(bytes) => {
                stream.write_all(bytes).unwrap();
                drain(&mut stream)
            }
            Self::Trickles(bytes, at_once) => {
                stream.write_all(&bytes[..*at_once]).unwrap();
                let mut reader = stream.try_clone().unwrap();
                let answer = thread::spawn(move || drain(&mut reader));
                for byte in &bytes[*at_once..] {
                    if answer.is_finished() || stream.write_all(&[*byte]).is_err() {
                        break;
                    }
                    thread::sleep(Duration::from_secs(1));
                }
                answer.join().unwrap()
            }
        };
        (all_statuses(&bytes), started.elapsed())
    }
}

/// Everything until the server closes or resets the connection.
fn drain(stream: &mut TcpStream) -> Vec<u8> {
    let mut bytes = Vec::new();
    if let Err(error) = stream.read_to_end(&mut bytes) {
        let reset = error.kind() == std::io::ErrorKind::ConnectionReset;
        assert!(reset, "after 30 s it is still open: {error}");
    }
    bytes
}

#[test]
fn slow_heads_and_bodies_and_two_thousand_idle_connections_leave_the_others_alone() {
    let site = Site::new();
    let server = site.serve();
    still_serves(&server, "before");
    let before = sockets(&server);
    let idle: Vec<_> = (0..2_000).map(|_| server.connect()).collect();
    eventually("all of them are in", || (sockets(&server) > before + 1_990).then_some(()));

    let body = event("slow", "c1");
    let whole = delivery(&body, "");
    let head = whole.len() - body.len();
    let chunked = format!(
        "POST /webhooks/cognigy HTTP/1.1\r\nHost: t\r\nX-Cognigy-Signature: {}\r\n\
         Transfer-Encoding: chunked\r\n\r\n5\r\n{{\"eve\r\n",
        signature(&body)
    );
    // (what, how, the deadline that ends it)
    let slow = [
        ("a head that stalls", Slow::Stalls(whole[..40].to_vec()), 5),
        ("a head, a byte a second", Slow::Trickles(whole.clone(), 20), 5),
        ("no body", Slow::Stalls(whole[..head].to_vec()), 10),
        ("a body that stalls", Slow::Stalls(whole[..head + 20].to_vec()), 10),
        ("a body, a byte a second", Slow::Trickles(whole.clone(), head + 20), 10),
        ("chunks that stall", Slow::Stalls(chunked.into_bytes()), 10),
    ];
    thread::scope(|scope| {
        let slow: Vec<_> = slow
            .iter()
            .map(|(what, how, deadline)| (what, deadline, scope.spawn(|| how.run(&server))))
            .collect();
        // Meanwhile other senders are served.
        let mut served = 0;
        while slow.iter().any(|(_, _, thread)| !thread.is_finished()) {
            still_serves(&server, &format!("meanwhile-{served}"));
            served += 1;
            thread::sleep(Duration::from_millis(50));
        }
        assert!(served > 20, "{served}");
        for (what, deadline, thread) in slow {
            let (statuses, after) = thread.join().unwrap();
            assert_eq!(statuses, [408], "{what}");
            // Not before its deadline; long after it only if the machine is overloaded.
            let deadline = Duration::from_secs(*deadline);
            let in_time = after + Duration::from_millis(500) > deadline && after < deadline * 3;
            assert!(in_time, "{what}: {after:?}");
        }
        assert_eq!(stored(&server), 1 + served);
    });
    // The server closed the idle connections by itself: they are still open at the client's end.
    eventually("their slots are free", || (sockets(&server) < before + 20).then_some(()));
    assert_eq!(idle.len(), 2_000);
    assert!(peak_memory(&server) < 256 * 1024, "{} KiB", peak_memory(&server));
    still_serves(&server, "after");
}

#[test]
fn a_body_that_nobody_reads_holds_no_slot() {
    let site = Site::new();
    let server = site.serve();
    for (target, status) in [
        ("GET /healthz", 200),
        ("GET /metrics", 200),
        ("GET /nowhere", 404),
        ("PUT /webhooks/cognigy", 405),
        ("POST /admin/replays", 401),
    ] {
        for lines in ["Transfer-Encoding: chunked\r\n\r\n5\r\nabc", "Content-Length: 9\r\n\r\nabc"]
        {
            let head = format!("{target} HTTP/1.1\r\nHost: t\r\n{lines}");
            let (statuses, after) = Slow::Stalls(head.into_bytes()).run(&server);
            assert_eq!(statuses, [status], "{target}, {lines}");
            assert!(after < Duration::from_secs(20), "{target}: {after:?}");
        }
    }
    // Other senders are answered.
    let whole = "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    let two = format!(
        "GET /healthz HTTP/1.1\r\nHost: t\r\nContent-Length: 0\r\n\r\n\
         GET /healthz HTTP/1.1\r\nHost: t\r\nConnection: close\r\n{whole}"
    );
    let (statuses, _) = Slow::Stalls(two.into_bytes()).run(&server);
    assert_eq!(statuses, [200, 200]);
}

#[test]
fn more_connections_than_there_is_room_for_make_room_and_are_served() {
    let site = Site::new();
    let server = site.serve();
    // The server holds 4,096 connections at a time. These send nothing. They are closed after five
    // seconds at the latest, and sooner if other connections need their slots.
    let flood: Vec<_> = (0..4_600).map(|_| server.connect()).collect();
    eventually("it is crowded", || (sockets(&server) >= 3_400).then_some(()));
    let most = sockets(&server);
    assert!(most < 4_300, "{most} sockets: connections beyond the limit were taken");
    let started = Instant::now();
    still_serves(&server, "in the flood");
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    drop(flood);
    eventually("their slots are free", || (sockets(&server) < 100).then_some(()));
    assert!(peak_memory(&server) < 512 * 1024, "{} KiB", peak_memory(&server));
    still_serves(&server, "after the flood");
}

#[test]
fn who_hangs_up_in_the_middle_of_a_body_leaves_nothing() {
    let site = Site::new();
    let server = site.serve();
    let body = event("e1", "c1");
    let request = delivery(&body, "");
    let before = sockets(&server);
    for cut in [1, 40, body.len() - 1] {
        let mut stream = server.connect();
        stream.write_all(&request[..request.len() - cut]).unwrap();
        drop(stream);
    }
    // The same with chunks whose end does not arrive: the received part is whole JSON.
    let mut stream = server.connect();
    let head = format!(
        "POST /webhooks/cognigy HTTP/1.1\r\nHost: t\r\nX-Cognigy-Signature: {}\r\n\
         Transfer-Encoding: chunked\r\n\r\n{:x}\r\n",
        signature(&body),
        body.len()
    );
    stream.write_all(&[head.as_bytes(), &body, b"\r\n"].concat()).unwrap();
    drop(stream);
    eventually("they are forgotten", || (sockets(&server) <= before).then_some(()));
    assert_eq!(stored(&server), 0, "half a body is no delivery");

    // Once the body is complete, the event is stored even if the client does not wait for the
    // answer.
    let mut stream = server.connect();
    stream.write_all(&request).unwrap();
    drop(stream);
    eventually("it is stored", || (stored(&server) == 1).then_some(()));
    assert_eq!(server.deliver(&body).body, r#"{"status":"accepted","duplicate":true}"#);
}
