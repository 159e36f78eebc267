//! Runs what is in `deploy/`: HAProxy with its shipped configuration in front of three servers on
//! one PostgreSQL database. Also tests how a server stops.

#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "../common/mod.rs"]
mod common;
mod proxy;

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    time::Duration,
};

use cognigy_test_postgres::Cluster;
use common::{Answer, BINARY, SECRET, Server, Site, TOKEN, crm::Crm, event, eventually, workspace};
use proxy::{Connection, Proxy, delivery, free_address, head_of_a_delivery};
use serde_json::json;

/// Three nodes behind the proxy.
struct Deployment {
    site: Site,
    crm: Crm,
    addresses: [SocketAddr; 3],
    nodes: Vec<Server>,
    proxy: Proxy,
}

impl Deployment {
    fn start() -> Self {
        let crm = Crm::start();
        let mut site = Site::on_postgres(Cluster::shared());
        site.set("CRM_BASE_URL", crm.url()).set("COGNIGY_LEASE", "1s").set("COGNIGY_DRAIN", "3s");
        let addresses = [(); 3].map(|()| free_address());
        let nodes = addresses.iter().map(|address| serve(&site, *address)).collect();
        let proxy = Proxy::start(site.folder.path(), &addresses);
        proxy.sends_to(3.0);
        Self { site, crm, addresses, nodes, proxy }
    }
}

fn serve(site: &Site, address: SocketAddr) -> Server {
    let mut command = site.command(&["serve"]);
    command.env("COGNIGY_LISTEN", address.to_string());
    Server::start(command)
}

/// The number of deliveries that a node has answered since its start.
fn taken_by(node: &Server) -> f64 {
    let metrics = node.request("GET", "/metrics", &[], b"").body;
    let lines = metrics.lines().filter(|line| line.starts_with("cognigy_deliveries_total{"));
    lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
}

/// What the senders of a test have seen.
#[derive(Default)]
struct Seen {
    /// Answers to bodies that fit into the proxy's buffer, by status; 0 is a broken connection.
    small: BTreeMap<u16, usize>,
    /// Answers to larger ones, which the proxy cannot repeat.
    large: BTreeMap<u16, usize>,
    acknowledged: usize,
}

/// Delivers one event after the other, each until it is acknowledged.
fn send_until(stop: &AtomicBool, proxy: &Proxy, sender: usize, delivered: &AtomicUsize) -> Seen {
    let mut seen = Seen::default();
    let mut connection: Option<Connection> = None;
    for number in 0_usize.. {
        if stop.load(Ordering::SeqCst) {
            break;
        }
        let large = number % 20 == 19;
        let filler = "x".repeat(if large { 200_000 } else { 300 });
        let body = json!({
            "eventId": format!("e{sender}-{number}"), "timestamp": "2026-03-01T12:00:00Z",
            "type": "USER_INPUT_RECEIVED", "externalId": format!("c{sender}-{number}"),
            "payload": {"input": filler},
        })
        .to_string();
        loop {
            let mut open = connection.take().unwrap_or_else(|| proxy.connect().unwrap());
            let answer = open.deliver(body.as_bytes());
            let status = answer.as_ref().map_or(0, |answer| answer.status);
            *if large { &mut seen.large } else { &mut seen.small }.entry(status).or_default() += 1;
            let kept = answer.is_ok_and(|answer| answer.header("connection").is_none());
            connection = kept.then_some(open);
            if status == 200 {
                break;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        seen.acknowledged += 1;
        delivered.fetch_add(1, Ordering::SeqCst);
        std::thread::sleep(Duration::from_millis(2));
    }
    seen
}

#[test]
fn senders_behind_the_proxy_notice_neither_a_killed_node_nor_a_rolling_restart() {
    let mut deployment = Deployment::start();
    // The CRM is slow at first, so that every node has work in progress when one is killed.
    deployment.crm.delay(Duration::from_secs(1));
    let (stop, delivered) = (AtomicBool::new(false), AtomicUsize::new(0));
    let Deployment { site, crm, addresses, nodes, proxy } = &mut deployment;
    let (seen, redispatched) = std::thread::scope(|scope| {
        let (proxy, stop, delivered): (&Proxy, _, _) = (proxy, &stop, &delivered);
        let senders: Vec<_> = (0..6)
            .map(|sender| scope.spawn(move || send_until(stop, proxy, sender, delivered)))
            .collect();
        let more = || {
            let sofar = delivered.load(Ordering::SeqCst);
            eventually("deliveries go on", || {
                (delivered.load(Ordering::SeqCst) > sofar + 100).then_some(())
            });
        };

        more();
        more();
        nodes[0].kill();
        crm.delay(Duration::from_millis(10));
        more();
        let redispatched = proxy.count("haproxy_backend_redispatch_warnings_total", &[]);
        nodes[0] = serve(site, addresses[0]);
        proxy.sends_to(3.0);

        // A rolling restart: each node is stopped, and the next one when the node is back.
        for node in 0..3 {
            nodes[node].signal("TERM");
            proxy.sends_to(2.0);
            more();
            assert_eq!(nodes[node].wait(), Some(0));
            nodes[node] = serve(site, addresses[node]);
            proxy.sends_to(3.0);
            more();
        }
        stop.store(true, Ordering::SeqCst);
        let seen: Vec<Seen> = senders.into_iter().map(|sender| sender.join().unwrap()).collect();
        (seen, redispatched)
    });

    assert!(redispatched > 0.0, "the kill met requests, which went to another node");
    for sender in &seen {
        assert_eq!(sender.small.keys().copied().collect::<Vec<_>>(), [200]);
        // The sender of a large body whose node was killed gets an error or a closed connection,
        // and repeats it. A node that is stopped in order fails no delivery.
        let failed: usize = sender.large.iter().filter(|(s, _)| **s != 200).map(|(_, n)| n).sum();
        assert!(failed <= 1, "{:?}", sender.large);
        assert!(sender.large.keys().all(|s| [0, 200, 502].contains(s)), "{:?}", sender.large);
    }
    assert!(nodes.iter().all(|node| taken_by(node) > 0.0), "all have had their share since");

    let acknowledged: usize = seen.iter().map(|sender| sender.acknowledged).sum();
    eventually("all are processed", || {
        let left = site.sql("SELECT count(*) FROM webhook_events WHERE status <> 'processed'");
        (left == "0").then_some(())
    });
    let total = site.sql("SELECT count(*) FROM webhook_events");
    assert_eq!(total, acknowledged.to_string(), "one row for each");
    let lost = site.sql("SELECT count(*) FROM cognigy_attempts WHERE outcome = 'lease_expired'");
    assert_ne!(lost, "0", "the killed node was at work");
    let repeated = site.sql(
        "SELECT count(*) FROM (SELECT 1 FROM cognigy_attempts WHERE outcome = 'succeeded'
                               GROUP BY event HAVING count(*) > 1) AS repeated",
    );
    assert_eq!(repeated, "0", "each succeeded once");
}

/// A sender on a connection that it keeps.
struct Kept(TcpStream);

impl Kept {
    fn deliver(&mut self, body: &[u8]) -> Answer {
        self.0.write_all(&delivery(body)).unwrap();
        let mut bytes = Vec::new();
        while !bytes.ends_with(b"}") {
            let mut chunk = [0; 1024];
            let read = self.0.read(&mut chunk).unwrap();
            assert_ne!(read, 0, "cut off after {bytes:?}");
            bytes.extend_from_slice(&chunk[..read]);
        }
        let text = String::from_utf8(bytes).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answer { status, head: head.to_owned(), body: body.to_owned() }
    }

    fn has_been_ended(mut self) -> bool {
        matches!(self.0.read(&mut [0]), Ok(0))
    }
}

#[test]
fn a_server_told_to_stop_takes_deliveries_until_its_balancer_has_noticed() {
    let mut site = Site::on_file();
    site.set("COGNIGY_DRAIN", "10m");
    let mut server = site.serve();
    let mut kept = Kept(server.connect());
    let answer = kept.deliver(&event("before", "c1"));
    assert_eq!((answer.status, answer.header("connection")), (200, None));

    server.signal("TERM");
    eventually("it is no longer ready", || {
        (server.request("GET", "/readyz", &[], b"").status == 503).then_some(())
    });
    assert_eq!(server.request("GET", "/healthz", &[], b"").status, 200);
    // On the open connection and on a new one; each ends with its answer.
    for (mut sender, id) in [(kept, "kept"), (Kept(server.connect()), "new")] {
        let answer = sender.deliver(&event(id, "c1"));
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("connection").as_deref(), Some("close"));
        assert!(sender.has_been_ended());
    }
    assert!(!server.has_ended());

    // A second signal ends the wait.
    assert_eq!(server.terminate(), Some(0));
    let stored = site.sql("SELECT CAST(count(*) AS TEXT) FROM webhook_events");
    assert_eq!(stored, "3", "what was answered is there");
}

/// The command of a unit of `deploy/systemd`, as systemd would fill it in.
fn command_of_the_unit(site: &Site, unit: &str, instance: &str) -> Command {
    let text = std::fs::read_to_string(workspace().join("deploy/systemd").join(unit)).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix("ExecStart=")).unwrap();
    let folder = site.folder.path().to_str().unwrap();
    let line = line.replace("%d", folder).replace("%S", folder).replace("%i", instance);
    let mut words = line.split(' ');
    assert_eq!(words.next(), Some("/usr/bin/cognigy-server"));
    let mut command = Command::new(BINARY);
    command.args(words).env_clear().current_dir(folder);
    command
}

/// The settings that `LoadCredential=` provides, with the secrets.
fn credential(site: &Site, more: &str) {
    let text = format!(
        "webhook_secret = \"{SECRET}\"\nadmin_token = \"{TOKEN}\"\nlog_format = \"json\"\n{more}"
    );
    std::fs::write(site.folder.path().join("cognigy.toml"), text).unwrap();
}

#[test]
fn the_units_start_servers_from_a_settings_file_alone() {
    let site = Site::on_file();
    credential(&site, "listen = \"127.0.0.1:0\"\n");
    std::fs::create_dir(site.folder.path().join("cognigy")).unwrap();
    let command = || command_of_the_unit(&site, "cognigy-server.service", "");
    let mut server = Server::start(command());
    assert_eq!(server.deliver(&event("e1", "c1")).status, 200);
    assert!(site.folder.path().join("cognigy/webhooks.db").exists());
    assert_eq!(server.terminate(), Some(0));
    // The exit status after which systemd does not restart the server: for a setting that this
    // program reads, for one that an adapter checks, and for a variable of the AWS SDK in
    // `aws.env`.
    for unit in ["cognigy-server.service", "cognigy-server@.service"] {
        let text = std::fs::read_to_string(workspace().join("deploy/systemd").join(unit)).unwrap();
        assert!(text.lines().any(|line| line == "RestartPreventExitStatus=2"), "{unit}");
    }
    for wrong in ["lease = \"soon\"\n", "crm_token = \"a b\"\n", "sqs_dlq_url = \"http://h/q\"\n"] {
        credential(&site, wrong);
        assert_eq!(command().output().unwrap().status.code(), Some(2), "{wrong}");
    }
    credential(&site, "");
    let mut with_aws = command();
    with_aws.env("AWS_ACCESS_KEY_ID", "key\n");
    assert_eq!(with_aws.output().unwrap().status.code(), Some(2));

    let site = Site::on_postgres(Cluster::shared());
    let (_, url) = site.variables.iter().find(|(name, _)| name == "COGNIGY_DATABASE_URL").unwrap();
    credential(&site, &format!("database_url = \"{url}\"\n"));
    let mut servers = [(); 2].map(|()| {
        let port = free_address().port().to_string();
        let server = Server::start(command_of_the_unit(&site, "cognigy-server@.service", &port));
        assert_eq!(server.address.to_string(), format!("0.0.0.0:{port}"));
        server
    });
    assert_eq!(servers[0].deliver(&event("e1", "c1")).status, 200);
    assert!(servers[1].deliver(&event("e1", "c1")).body.contains("duplicate"));
    servers.iter().for_each(|server| server.signal("TERM"));
    for server in &mut servers {
        assert_eq!(server.terminate(), Some(0));
    }
}

#[test]
fn the_proxy_passes_bodies_on_as_they_are_and_lets_nothing_else_through() {
    let Deployment { site, addresses, mut nodes, proxy, .. } = Deployment::start();

    // A body that stops arriving. The proxy ends it, see below.
    let mut stalled = proxy.connect().unwrap();
    stalled.send(&delivery(&event("stalled", "c1"))[..300]).unwrap();

    // Spelled as no JSON library would write it. The signature is over these bytes.
    let odd = concat!(
        " {\"payload\" :\t{\"input\": {\"n\": 1.0e+2, \"s\": \"\\u00e4\\/ä \"}},\r\n",
        "\"type\":\"USER_INPUT_RECEIVED\", \"timestamp\":1772366400 ,\"eventId\":\"odd\"}\n\n"
    );
    let mut sender = proxy.connect().unwrap();
    assert_eq!(sender.deliver(odd.as_bytes()).unwrap().status, 200);
    assert_eq!(nodes[0].event("odd")["body"], odd);

    // In chunks, with another case in the signature header's name, and larger than the buffer.
    let chunked = event("chunked", &"c".repeat(120_000));
    let head = head_of_a_delivery("Transfer-Encoding: chunked", &chunked)
        .replace("X-Cognigy-Signature", "x-cognigy-signature");
    sender.send(head.as_bytes()).unwrap();
    for chunk in chunked.chunks(7_000) {
        let framed = [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
        sender.send(&framed).unwrap();
    }
    sender.send(b"0\r\n\r\n").unwrap();
    assert_eq!(sender.answer().unwrap().status, 200);
    assert_eq!(nodes[1].event("chunked")["body"], String::from_utf8(chunked).unwrap());

    // A body that was changed on the way is refused by the node, and its answer comes through.
    let forged = delivery(&event("forged", "c1"));
    let forged = String::from_utf8(forged).unwrap().replace("marked-body", "marked-bodY");
    sender.send(forged.as_bytes()).unwrap();
    assert_eq!(sender.answer().unwrap().problem(401), "Invalid HMAC signature");

    // The proxy passes only deliveries on: neither operators' requests nor probes, in any spelling.
    for path in [
        "/admin/stats",
        "/webhooks/replay/odd",
        "/metrics",
        "/webhooks/cognigyx",
        "/webhooks/%63ognigy",
        "//admin/stats",
    ] {
        let mut stranger = proxy.connect().unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: webhooks.example.com\r\n\r\n");
        stranger.send(request.as_bytes()).unwrap();
        stranger.answer().unwrap().problem(404);
    }

    // The announced length is too large: the request is refused before the body arrives.
    let mut stranger = proxy.connect().unwrap();
    stranger.send(head_of_a_delivery("Content-Length: 1048577", b"").as_bytes()).unwrap();
    stranger.answer().unwrap().problem(413);

    // No node is left: senders get a Retry-After, and deliveries succeed again when a node is back.
    nodes.iter_mut().for_each(Server::kill);
    let mut sender = proxy.connect().unwrap();
    let answer = sender.deliver(&event("meanwhile", "c1")).unwrap();
    answer.problem(503);
    assert_eq!(answer.header("retry-after").as_deref(), Some("1"));
    nodes[1] = serve(&site, addresses[1]);
    proxy.sends_to(1.0);
    assert_eq!(sender.deliver(&event("after", "c1")).unwrap().status, 200);

    stalled.answer().unwrap().problem(408);
    assert_eq!(nodes[1].get("/admin/events/stalled").status, 404, "no node has seen it");
}
