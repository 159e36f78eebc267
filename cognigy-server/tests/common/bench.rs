//! A server whose disk can be made to fail, and helpers that read its answers and its database.

use std::{
    collections::BTreeSet,
    fs,
    io::Write,
    net::{SocketAddr, TcpStream},
    path::PathBuf,
};

use cognigy_fault_disk::Injector;
use rusqlite::Connection;
use tempfile::TempDir;

use super::{Answer, Server, Site, event, signature};

/// A site whose server's disk can be made to fail.
pub struct Bench {
    pub site: Site,
    pub data: PathBuf,
    pub injector: Injector,
    _control: TempDir,
}

impl Bench {
    pub fn new() -> Self {
        let mut site = Site::new();
        let data = site.folder.path().join("data");
        fs::create_dir(&data).unwrap();
        site.set("COGNIGY_DATABASE_URL", format!("sqlite:{}", data.join("webhooks.db").display()))
            .set("COGNIGY_WORKER", "off");
        let control = tempfile::tempdir().unwrap();
        let injector = Injector::new(&control.path().join("control")).unwrap();
        Self { site, data, injector, _control: control }
    }

    pub fn serve(&self) -> Server {
        let mut command = self.site.command(&["serve"]);
        self.injector.attach(&mut command, &self.data);
        Server::start(command)
    }

    /// The database, opened with SQLite after the end of the server.
    pub fn sql(&self) -> Connection {
        Connection::open(self.data.join("webhooks.db")).unwrap()
    }
}

pub fn integrity(connection: &Connection) -> String {
    connection.query_row("PRAGMA integrity_check", [], |row| row.get(0)).unwrap()
}

/// The events that are stored, byte for byte.
pub fn stored(connection: &Connection) -> BTreeSet<String> {
    let mut select = connection
        .prepare("SELECT event_id, body FROM events JOIN bodies ON bodies.event = events.id")
        .unwrap();
    let rows = select
        .query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, Vec<u8>>(1)?)))
        .unwrap();
    let check = |(id, body): (String, Vec<u8>)| {
        assert_eq!(body, event(&id, "c1"), "{id}, byte for byte");
        id
    };
    rows.map(|row| check(row.unwrap())).collect()
}

pub fn refused(answer: &Answer) {
    answer.problem(503);
    assert!(answer.header("retry-after").is_some(), "{answer:?}");
}

pub fn is_ready(server: &Server) -> bool {
    server.request("GET", "/readyz", &[], b"").status == 200
}

pub fn metric(server: &Server, name: &str) -> f64 {
    let text = server.request("GET", "/metrics", &[], b"").body;
    let line = text.lines().find(|line| line.starts_with(name));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_default()
}

/// A signed delivery as it goes over the wire, for one connection.
pub fn request(id: &str) -> Vec<u8> {
    let body = event(id, "c1");
    let head = format!(
        "POST /webhooks/cognigy HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\
         X-Cognigy-Signature: {}\r\nContent-Length: {}\r\n\r\n",
        signature(&body),
        body.len()
    );
    [head.into_bytes(), body].concat()
}

/// Posts until the server has ended. Yields the ids that were answered with 200.
pub fn deliver_until_the_end(address: SocketAddr, name: &str) -> Vec<String> {
    let mut answered = Vec::new();
    for number in 0.. {
        let id = format!("{name}-{number}");
        let Ok(mut stream) = TcpStream::connect(address) else { break };
        if stream.write_all(&request(&id)).is_err() {
            break;
        }
        match Answer::read(stream).status {
            200 => answered.push(id),
            503 => {}
            _ => break,
        }
    }
    answered
}
