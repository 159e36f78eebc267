//! The real server as a child process, and the systems around it: a CRM over HTTP, a real SQS
//! emulator.

#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used)]

#[cfg(target_os = "linux")]
pub mod bench;
pub mod crm;
pub mod moto;
pub mod operators;

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

pub use cognigy_contract_tests::Answer;
use cognigy_core::{Secret, SignatureScheme, sign};
use cognigy_test_postgres::Cluster;
use serde_json::{Value, json};
use tempfile::TempDir;

pub const SECRET: &str = "marked-webhook-secret";
pub const TOKEN: &str = "marked-admin-token";
pub const BINARY: &str = env!("CARGO_BIN_EXE_cognigy-server");

/// Whether sites keep their events in PostgreSQL. `tests/postgres.rs` runs the other files' tests
/// once more; the name of its crate decides.
const ON_POSTGRES: bool = matches!(env!("CARGO_CRATE_NAME").as_bytes(), b"postgres");

/// A folder with a database, and the variables of its servers and commands.
pub struct Site {
    pub folder: TempDir,
    pub variables: Vec<(String, String)>,
    /// The name of its database in the tests' cluster. None if the database is a file in the
    /// folder.
    pub postgres: Option<String>,
}

impl Site {
    pub fn new() -> Self {
        if ON_POSTGRES { Self::on_postgres(Cluster::shared()) } else { Self::on_file() }
    }

    /// A site with a new database in `cluster`.
    pub fn on_postgres(cluster: &Cluster) -> Self {
        let mut site = Self::on_file();
        let database = cluster.create_database();
        site.set("COGNIGY_DATABASE_URL", cluster.url(&database));
        site.postgres = Some(database);
        site
    }

    /// A site with its events in a file, for tests about the file.
    pub fn on_file() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut site = Self { folder, variables: Vec::new(), postgres: None };
        site.set("COGNIGY_WEBHOOK_SECRET", SECRET)
            .set("COGNIGY_ADMIN_TOKEN", TOKEN)
            .set("COGNIGY_LISTEN", "127.0.0.1:0")
            .set("COGNIGY_LOG", "debug")
            .set("COGNIGY_LOG_FORMAT", "json")
            .set("COGNIGY_RETRY_BASE_DELAY", "20ms")
            // No process listens there: a test that needs a CRM sets another address.
            .set("CRM_BASE_URL", "http://127.0.0.1:9");
        site
    }

    pub fn set(&mut self, name: &str, value: impl Into<String>) -> &mut Self {
        self.variables.retain(|(known, _)| known != name);
        self.variables.push((name.to_owned(), value.into()));
        self
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(BINARY);
        command
            .args(arguments)
            .env_clear()
            .envs(self.variables.iter().map(|(name, value)| (name, value)))
            .current_dir(self.folder.path());
        command
    }

    /// Runs a command of the program to its end.
    pub fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub fn database(&self) -> PathBuf {
        self.folder.path().join("webhooks.db")
    }

    /// Asks the database, as an operator would at the prompt: the first row, `|` between columns.
    pub fn sql(&self, sql: &str) -> String {
        if let Some(database) = &self.postgres {
            return Cluster::shared().sql(database, sql).lines().next().unwrap_or_default().into();
        }
        let database = rusqlite::Connection::open(self.database()).unwrap();
        let mut select = database.prepare(sql).unwrap();
        let columns = select.column_count();
        let texts = select.query_row([], |row| {
            (0..columns).map(|column| row.get(column)).collect::<Result<Vec<String>, _>>()
        });
        texts.unwrap().join("|")
    }

    pub fn serve(&self) -> Server {
        Server::start(self.command(&["serve"]))
    }
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// A running server. It is killed when dropped.
pub struct Server {
    child: Child,
    pub address: SocketAddr,
    /// The address for operators, if it is not the same.
    pub operators: Option<SocketAddr>,
    log: Arc<Mutex<String>>,
}

impl Server {
    pub fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let log = Arc::new(Mutex::new(String::new()));
        let mut seen = String::new();
        let (address, operators) = loop {
            let line = lines.next().unwrap_or_else(|| panic!("it did not start: {seen}")).unwrap();
            seen.push_str(&line);
            seen.push('\n');
            let entry: Value = serde_json::from_str(&line).unwrap_or_default();
            if entry["message"] == "listening" {
                let operators = entry["operators"].as_str().map(|it| it.parse().unwrap());
                break (entry["address"].as_str().unwrap().parse().unwrap(), operators);
            }
        };
        *log.lock().unwrap() = seen;
        let shared = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in lines.map_while(Result::ok) {
                let mut log = shared.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self { child, address, operators, log }
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    pub fn has_ended(&mut self) -> bool {
        self.child.try_wait().unwrap().is_some()
    }

    /// Kills the server, which may have ended by itself.
    pub fn kill_if_alive(&mut self) {
        let _ = self.child.kill();
        self.child.wait().unwrap();
    }

    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Waits until the server ends by itself. Yields the exit status.
    pub fn wait(&mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }

    /// Sends SIGTERM. Yields the exit status.
    pub fn terminate(&mut self) -> Option<i32> {
        self.signal("TERM");
        self.child.wait().unwrap().code()
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let (name, id) = (format!("-{name}"), self.child.id().to_string());
        assert!(Command::new("kill").args([&name, &id]).status().unwrap().success());
    }

    pub fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Answer {
        let length = body.len().to_string();
        let mut all = vec![("Content-Length", length.as_str())];
        all.extend_from_slice(headers);
        self.request("POST", path, &all, body)
    }

    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, &[("Authorization", &format!("Bearer {TOKEN}"))], b"")
    }

    pub fn operate(&self, method: &str, path: &str, body: &[u8]) -> Answer {
        let (length, bearer) = (body.len().to_string(), format!("Bearer {TOKEN}"));
        self.request(method, path, &[("Content-Length", &length), ("Authorization", &bearer)], body)
    }

    /// Posts `body`, signed.
    pub fn deliver(&self, body: &[u8]) -> Answer {
        self.post("/webhooks/cognigy", &[("X-Cognigy-Signature", &signature(body))], body)
    }

    pub fn request(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        self.raw(&[head.as_bytes(), body].concat())
    }

    /// Sends bytes and reads the answer to the end of the connection.
    pub fn raw(&self, request: &[u8]) -> Answer {
        let mut stream = self.connect();
        // The server may answer and close before it has read everything.
        let _ = stream.write_all(request);
        Answer::read(stream)
    }

    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
        stream
    }

    /// The operator's view of an event.
    pub fn event(&self, id: &str) -> Value {
        self.get(&format!("/admin/events/{id}")).json()
    }

    pub fn stats(&self) -> Value {
        self.get("/admin/stats").json()
    }

    /// Waits until the event has that status.
    pub fn wait_for(&self, id: &str, status: &str) -> Value {
        eventually(&format!("{id} is {status}"), || {
            let event = self.event(id);
            (event["status"] == status).then_some(event)
        })
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn signature(body: &[u8]) -> String {
    sign(&Secret::new(SECRET).unwrap(), SignatureScheme::Base64, body)
}

/// Posts `body`, signed, to `address`. Yields the status, or 0 if there was no answer.
pub fn post_signed(address: SocketAddr, body: &[u8]) -> u16 {
    let Ok(mut stream) = TcpStream::connect(address) else { return 0 };
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let (length, signature) = (body.len(), signature(body));
    let head = format!(
        "POST /webhooks/cognigy HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\
         Content-Length: {length}\r\nX-Cognigy-Signature: {signature}\r\n\r\n"
    );
    let _ = stream.write_all(&[head.as_bytes(), body].concat());
    Answer::read(stream).status
}

/// Sends an operator's request to `address`. Yields the status, or 0 if there was no answer.
pub fn operate_at(address: SocketAddr, method: &str, path: &str, body: &str) -> u16 {
    let Ok(mut stream) = TcpStream::connect(address) else { return 0 };
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\
         Content-Length: {length}\r\nAuthorization: Bearer {TOKEN}\r\n\r\n{body}"
    );
    let _ = stream.write_all(request.as_bytes());
    Answer::read(stream).status
}

/// A valid `USER_INPUT_RECEIVED` of contact `contact`.
pub fn event(id: &str, contact: &str) -> Vec<u8> {
    let event = json!({
        "eventId": id, "timestamp": "2026-03-01T12:00:00Z", "type": "USER_INPUT_RECEIVED",
        "externalId": contact, "userId": "user-1", "payload": {"input": {"text": "marked-body"}},
    });
    event.to_string().into_bytes()
}

/// Asks again until there is an answer. Fails after 30 s.
pub fn eventually<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(started.elapsed() < Duration::from_secs(30), "it never happened: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn workspace() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
