//! Attacks, without a secret, on what all senders share: slots, memory and connections. All honest
//! deliveries are taken meanwhile, within a bounded time. No latency is asserted, since that would
//! test the machine (docs/faults.md has the measurements).

use std::{
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use socket2::{Domain, Socket, Type};

use crate::{
    all_statuses,
    common::{Answer, Server, Site, event, eventually, signature},
    delivery, peak_memory, sockets, still_serves,
};

/// The attacker's address. All other senders use 127.0.0.1.
const ATTACKER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

fn connect_from(address: Ipv4Addr, server: &Server) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((address, 0)).into()).unwrap();
    socket.connect(&server.address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream
}

/// A delivery that announces `length` bytes and sends only the first ones.
fn unfinished(mut stream: TcpStream, length: usize, sent: usize) -> TcpStream {
    let head = format!(
        "POST /webhooks/cognigy HTTP/1.1\r\nHost: t\r\nX-Cognigy-Signature: x\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    // The connection of a refused delivery is closed while it is still sending.
    let _ = stream.write_all(&[head.as_bytes(), &vec![b'x'; sent]].concat());
    stream
}

fn statuses_of(mut stream: TcpStream) -> Vec<u16> {
    let mut bytes = Vec::new();
    let _ = stream.read_to_end(&mut bytes);
    all_statuses(&bytes)
}

/// Makes that many deliveries, one after the other. All are taken within `limit`.
fn all_are_taken(server: &Server, name: &str, count: usize, limit: Duration) {
    let started = Instant::now();
    for number in 0..count {
        still_serves(server, &format!("{name}-{number}"));
    }
    assert!(started.elapsed() < limit, "{name}: {:?}", started.elapsed());
}

#[test]
fn bodies_that_are_announced_and_do_not_come_keep_nobody_out() {
    let mut site = Site::new();
    site.set("COGNIGY_MAX_IN_FLIGHT", "50");
    let server = site.serve();
    let started = Instant::now();
    let announced: Vec<_> =
        (0..40).map(|_| unfinished(server.connect(), 1024 * 1024, 100)).collect();
    let stalled: Vec<_> = (0..60).map(|_| unfinished(server.connect(), 500, 10)).collect();
    let heads: Vec<_> = (0..60)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(b"POST /webhooks/cognigy HTTP/1.1\r\nHost: t").unwrap();
            stream
        })
        .collect();
    all_are_taken(&server, "honest", 50, Duration::from_secs(9));
    // A body that announces many bytes has to arrive as fast. A small one has its ten seconds.
    for stream in announced {
        assert_eq!(statuses_of(stream), [408]);
    }
    let after = started.elapsed();
    assert!(after > Duration::from_secs(2) && after < Duration::from_secs(9), "{after:?}");
    for stream in stalled {
        assert_eq!(statuses_of(stream), [408]);
    }
    assert!(started.elapsed() > Duration::from_secs(9), "{:?}", started.elapsed());
    for stream in heads {
        Answer::read(stream).problem(408);
    }
    still_serves(&server, "after");
}

#[test]
fn no_address_uses_up_the_memory_or_the_places_for_bodies_that_do_not_come() {
    let site = Site::new();
    let server = site.serve();
    still_serves(&server, "before");
    let before = peak_memory(&server);
    // 64 MiB less a few bytes; all sources together have 32.
    let length = 1024 * 1024;
    let large: Vec<_> =
        (0..64).map(|_| unfinished(connect_from(ATTACKER, &server), length, length - 1)).collect();
    // A body that arrives in parts needs memory while it is not complete.
    let body = event("in parts", &"c".repeat(200_000));
    let (first, second) = (delivery(&body, "Connection: close\r\n"), body.len() / 2);
    let (first, second) = first.split_at(first.len() - second);
    let mut stream = server.connect();
    stream.write_all(first).unwrap();
    thread::sleep(Duration::from_millis(300));
    stream.write_all(second).unwrap();
    assert_eq!(Answer::read(stream).status, 200);
    all_are_taken(&server, "beside-memory", 20, Duration::from_secs(5));
    // The server's count: some clients see a reset before their answer.
    let refused = || {
        let metrics = server.request("GET", "/metrics", &[], b"").body;
        let unavailable = r#"cognigy_deliveries_total{outcome="unavailable",source="cognigy"} "#;
        let count = metrics.lines().find_map(|line| line.strip_prefix(unavailable)).unwrap();
        count.parse::<usize>().unwrap()
    };
    let for_memory = refused();
    assert!(for_memory >= 40, "{for_memory} were told to come back");
    let waited_for = large.into_iter().map(statuses_of).filter(|it| it == &[408]).count();
    assert!(waited_for + for_memory <= 64, "{waited_for} waited for, {for_memory} refused");
    // So do connections: one address may hold half of them at most.
    let small: Vec<_> =
        (0..2_400).map(|_| unfinished(connect_from(ATTACKER, &server), 500, 10)).collect();
    all_are_taken(&server, "beside-places", 20, Duration::from_secs(5));
    drop(small);
    eventually("their slots are free", || (sockets(&server) < 100).then_some(()));
    let for_places = refused() - for_memory;
    assert!(for_places >= 300, "{for_places} refused for places");
    let grown = peak_memory(&server) - before;
    assert!(grown < 128 * 1024, "{grown} KiB more");
    still_serves(&server, "after");
}

#[test]
fn long_heads_that_do_not_end_leave_memory_for_those_of_others() {
    let site = Site::new();
    let server = site.serve();
    let long = |stream: TcpStream| {
        let mut stream = stream;
        let head = format!("GET /healthz HTTP/1.1\r\nHost: t\r\nX: {}", "v".repeat(100 * 1024));
        let _ = stream.write_all(head.as_bytes());
        stream
    };
    // 29 MiB; all heads together have 32, and one address half of that.
    let heads: Vec<_> = (0..300).map(|_| long(connect_from(ATTACKER, &server))).collect();
    let mut stream = long(server.connect());
    stream.write_all(b"\r\nConnection: close\r\n\r\n").unwrap();
    assert_eq!(Answer::read(stream).status, 200);
    all_are_taken(&server, "beside", 10, Duration::from_secs(10));
    let statuses: Vec<_> = heads.into_iter().map(statuses_of).collect();
    let waited_for = statuses.iter().filter(|it| *it == &[408]).count();
    // Some of the others see a reset before their answer.
    let refused = statuses.iter().filter(|it| *it == &[503]).count();
    assert!(waited_for <= 168 && refused >= 1, "{waited_for} waited for, {refused} refused");
    let log = server.log();
    assert!(log.contains("refused: too many long heads at once"), "{log}");
    still_serves(&server, "after");
}

#[test]
fn idle_connections_make_room_for_new_ones_and_none_with_a_request_is_closed() {
    let site = Site::new();
    let server = site.serve();
    // A delivery that begins before the flood and ends after it.
    let body = event("under way", "c1");
    let request = delivery(&body, "Connection: close\r\n");
    let (first, second) = request.split_at(request.len() - 10);
    let mut under_way = server.connect();
    under_way.write_all(first).unwrap();
    let idle: Vec<_> = (0..4_300)
        .map(|_| {
            let mut stream = server.connect();
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"HTTP/1.1 200");
            stream
        })
        .collect();
    assert!(sockets(&server) < 4_096, "{}", sockets(&server));
    all_are_taken(&server, "in-the-flood", 50, Duration::from_secs(9));
    under_way.write_all(second).unwrap();
    assert_eq!(Answer::read(under_way).status, 200);
    // The connections that were idle longest were closed; the newest are still open.
    let is_open = |stream: &TcpStream| {
        let mut stream = stream.try_clone().unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let mut buffer = [0; 1024];
        loop {
            match stream.read(&mut buffer) {
                Ok(0) => return false,
                Ok(_) => {}
                Err(error) => return error.kind() == std::io::ErrorKind::WouldBlock,
            }
        }
    };
    assert!(!is_open(&idle[0]) && is_open(&idle[4_299]));
    let metrics = server.request("GET", "/metrics", &[], b"").body;
    let closed = r#"cognigy_connections_closed_total{listener="public",reason="idle"} "#;
    let closed = metrics.lines().find_map(|line| line.strip_prefix(closed)).unwrap();
    assert!(closed.parse::<u64>().unwrap() >= 700, "{closed}");
    drop(idle);
    eventually("their slots are free", || (sockets(&server) < 100).then_some(()));
    still_serves(&server, "after");
}

#[test]
fn a_later_head_that_stalls_and_answers_that_nobody_reads_end_their_connections() {
    let site = Site::new();
    let server = site.serve();
    let before = sockets(&server);
    thread::scope(|scope| {
        scope.spawn(|| {
            let mut stream = server.connect();
            let started = Instant::now();
            stream.write_all(b"GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n").unwrap();
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).unwrap();
            // A byte a second: a timer for pauses would never end.
            let mut writer = stream.try_clone().unwrap();
            scope.spawn(move || {
                for byte in b"GET /healthz HTTP/1.1" {
                    if writer.write_all(&[*byte]).is_err() {
                        break;
                    }
                    thread::sleep(Duration::from_secs(1));
                }
            });
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest);
            assert_eq!(all_statuses(&rest), [408]);
            let after = started.elapsed();
            assert!(after > Duration::from_secs(4) && after < Duration::from_secs(15), "{after:?}");
        });
        // Megabytes of answers, for a client that does not read and has no buffer for them.
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.connect(&server.address.into()).unwrap();
        let mut writer = TcpStream::from(socket);
        let request = b"GET /metrics HTTP/1.1\r\nHost: t\r\n\r\n";
        writer.write_all(&request.repeat(1_000)).unwrap();
        eventually("both are in", || (sockets(&server) == before + 2).then_some(()));
        let stalled = || {
            let metrics = server.request("GET", "/metrics", &[], b"").body;
            let stalled =
                r#"cognigy_connections_closed_total{listener="public",reason="stalled"} 2"#;
            metrics.lines().any(|line| line == stalled).then_some(())
        };
        eventually("the server has ended both", stalled);
        // Both directions are still open at the client.
        eventually("their slots are free", || (sockets(&server) <= before).then_some(()));
        drop(writer);
    });
    still_serves(&server, "after");
}

#[test]
fn what_is_sent_ahead_on_a_connection_costs_little_memory() {
    let site = Site::new();
    let server = site.serve();
    still_serves(&server, "before");
    let before = peak_memory(&server);
    let send = |bytes: &[u8]| {
        let mut stream = connect_from(ATTACKER, &server);
        stream.set_write_timeout(Some(Duration::from_millis(20))).unwrap();
        // Only a part of the bytes that the server does not read yet fits into the kernel's
        // buffers.
        let _ = stream.write_all(bytes);
        stream
    };
    // Requests whose answers are not read.
    let request = b"GET /metrics HTTP/1.1\r\nHost: t\r\n\r\n";
    let unread: Vec<_> = (0..500).map(|_| send(&request.repeat(300))).collect();
    // A request, and in the same bytes a long head that does not end.
    let long = "v".repeat(120 * 1024);
    let first = "GET /healthz HTTP/1.1\r\nHost: t\r\n\r\n";
    let second = format!("{first}GET /healthz HTTP/1.1\r\nHost: t\r\nX: {long}");
    let heads: Vec<_> = (0..600).map(|_| send(second.as_bytes())).collect();
    // Chunks that consist of their extensions, which are no part of the body.
    let head = "POST /webhooks/cognigy HTTP/1.1\r\nHost: t\r\nX-Cognigy-Signature: x\r\n\
                Transfer-Encoding: chunked\r\n\r\n";
    let extensions = format!("{head}1;{long}");
    let chunks: Vec<_> = (0..600).map(|_| send(extensions.as_bytes())).collect();
    // Bodies whose last byte does not arrive.
    let body = format!(
        "POST /webhooks/cognigy HTTP/1.1\r\nHost: t\r\nX-Cognigy-Signature: x\r\n\
         Content-Length: {}\r\n\r\n{long}",
        long.len() + 1
    );
    let bodies: Vec<_> = (0..600).map(|_| send(body.as_bytes())).collect();
    // Beside 150,000 answers that the server has to make first.
    all_are_taken(&server, "beside", 10, Duration::from_secs(60));
    let grown = peak_memory(&server) - before;
    drop((unread, heads, chunks, bodies));
    // Less than the deployments grant. Without the limits on reading ahead it is six times as much.
    assert!(grown < 192 * 1024, "{grown} KiB more");
    still_serves(&server, "after");
}

#[test]
fn a_proxy_that_is_trusted_speaks_for_many_senders() {
    let mut site = Site::new();
    site.set("COGNIGY_TRUSTED_PROXIES", "127.0.0.2").set("COGNIGY_LOG", "info");
    let server = site.serve();
    let refused = |address, forwarded: &str| {
        let mut stream = connect_from(address, &server);
        let request = format!(
            "POST /webhooks/cognigy HTTP/1.1\r\nHost: t\r\nConnection: close\r\n\
             X-Forwarded-For: {forwarded}\r\nX-Cognigy-Signature: {}\r\nContent-Length: 2\r\n\r\n{{}}",
            signature(b"other")
        );
        stream.write_all(request.as_bytes()).unwrap();
        Answer::read(stream).problem(401);
    };
    refused(ATTACKER, "198.51.100.66, 198.51.100.7");
    refused(Ipv4Addr::LOCALHOST, "203.0.113.5");
    eventually("both are logged", || {
        let log = server.log();
        let shows = |peer: &str| log.contains(&format!(r#""peer":"{peer}""#));
        assert!(!shows("198.51.100.66") && !shows("203.0.113.5") && !shows("127.0.0.2"), "{log}");
        (shows("198.51.100.7") && shows("127.0.0.1")).then_some(())
    });
}
