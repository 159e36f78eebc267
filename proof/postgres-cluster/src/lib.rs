//! A private PostgreSQL cluster in a temporary folder, for tests and benchmarks.
//!
//! PostgreSQL refuses to run as root, so a test that runs as root starts it as the user `postgres`.
//! A small shell process runs between the test and the server and holds the other end of a pipe.
//! The pipe closes when the [`Cluster`] is dropped or the test process ends in any way. The shell
//! then stops the server by its process id and removes the folder.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc, missing_docs)]

use std::{
    io::Write,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

/// A started cluster answers within this time, even if the machine is busy with other tests.
const PATIENCE: Duration = Duration::from_secs(60);

/// Runs the server named by its arguments until it reads a signal's name or the end of its input. A
/// Ctrl-C at the terminal reaches it too, and must not prevent the clean-up.
const WATCHER: &str = r#"
trap '' INT TERM HUP
folder=$1; shift
"$@" >>"$folder/log" 2>&1 &
server=$!
if read -r signal; then
    kill -"$signal" "$server"; wait "$server"
else
    kill -QUIT "$server"; wait "$server"
    # A test may have mounted a small disk here.
    umount -l "$folder"/* 2>/dev/null
    rm -rf "$folder"
fi
"#;

/// How to stop a server.
#[derive(Debug, Clone, Copy)]
pub enum Stop {
    /// Connections are cut, and committed data is written out.
    Fast,
    /// As in a crash: everything ends at once, and the next start recovers.
    Immediate,
}

/// A private PostgreSQL server. Stopped and removed when dropped, or when this process ends.
#[derive(Debug)]
pub struct Cluster {
    folder: PathBuf,
    port: u16,
    settings: Vec<(String, String)>,
    watcher: Option<Child>,
}

impl Cluster {
    /// Starts a cluster that does not sync to the disk: a test that kills the server, but not the
    /// machine, loses nothing.
    pub fn start() -> Self {
        Self::start_with(&[("fsync", "off"), ("full_page_writes", "off")])
    }

    /// Starts a cluster with these settings.
    pub fn start_with(settings: &[(&str, &str)]) -> Self {
        let mut cluster = Self::at(new_folder(), settings);
        cluster.program("initdb", &["-D", &cluster.data(), "-A", "trust", "-U", "postgres", "-N"]);
        cluster.start_again();
        cluster
    }

    /// A cluster that all tests of a process share.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Cluster> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    fn at(folder: PathBuf, settings: &[(&str, &str)]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        Self { folder, port, settings: settings.iter().map(own).collect(), watcher: None }
    }

    /// A streaming standby of this cluster, up and following.
    pub fn standby(&self) -> Self {
        let own: Vec<_> =
            self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut standby = Self::at(new_folder(), &own);
        let port = self.port.to_string();
        standby.program(
            "pg_basebackup",
            &[
                "-D",
                &standby.data(),
                "-h",
                "127.0.0.1",
                "-p",
                &port,
                "-U",
                "postgres",
                "-R",
                "-c",
                "fast",
            ],
        );
        standby.start_again();
        standby
    }

    /// Makes a standby the primary.
    pub fn promote(&self) {
        self.program("pg_ctl", &["promote", "-w", "-D", &self.data()]);
    }

    /// Makes a new, empty database and returns its name.
    pub fn create_database(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test_{}", NUMBER.fetch_add(1, Ordering::Relaxed));
        self.sql("postgres", &format!("CREATE DATABASE {name}"));
        name
    }

    /// The URL of a database.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// The port on 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The cluster's folder: the server's files are in `data`, its output is in `log`.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The server's log.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        let file = std::fs::read_to_string(self.folder.join("data/postmaster.pid")).unwrap();
        file.lines().next().unwrap().trim().parse().unwrap()
    }

    /// Runs SQL as an operator would at the prompt. Returns one line per row, with columns
    /// separated by `|`.
    pub fn sql(&self, database: &str, sql: &str) -> String {
        self.try_sql(database, sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
    }

    /// As [`sql`](Self::sql), with the error.
    pub fn try_sql(&self, database: &str, sql: &str) -> Result<String, String> {
        let port = self.port.to_string();
        let output = Command::new(programs().join("psql"))
            .args(["-h", "127.0.0.1", "-p", &port, "-U", "postgres", "-d", database])
            .args(["-AtXq", "-v", "ON_ERROR_STOP=1", "-c", sql])
            .env_remove("PGOPTIONS")
            .output()
            .unwrap();
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).into_owned())
        }
    }

    /// Stops the server and keeps its files.
    pub fn stop(&mut self, how: Stop) {
        let signal = match how {
            Stop::Fast => "INT",
            Stop::Immediate => "QUIT",
        };
        let mut watcher = self.watcher.take().expect("the server runs");
        writeln!(watcher.stdin.take().unwrap(), "{signal}").unwrap();
        watcher.wait().unwrap();
    }

    /// Starts the server on the files it has, and waits until it answers.
    pub fn start_again(&mut self) {
        let mut server: Vec<String> = as_owner();
        server.push(programs().join("postgres").display().to_string());
        server.extend(["-D".to_owned(), self.data()]);
        let socket = self.folder.display().to_string();
        let port = self.port.to_string();
        let fixed = [
            ("listen_addresses", "127.0.0.1"),
            ("port", port.as_str()),
            ("unix_socket_directories", socket.as_str()),
            ("shared_buffers", "64MB"),
            ("max_connections", "200"),
        ];
        let set = self.settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        for (name, value) in fixed.into_iter().chain(set) {
            server.extend(["-c".to_owned(), format!("{name}={value}")]);
        }
        let watcher = Command::new("sh")
            .args(["-c", WATCHER, "watcher"])
            .arg(&self.folder)
            .args(&server)
            // The user `postgres` needs a working directory that it may enter.
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        self.watcher = Some(watcher);
        let started = Instant::now();
        while !self.answers() {
            assert!(started.elapsed() < PATIENCE, "PostgreSQL did not start: {}", self.log());
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Writes a file that only the server may read into its data folder. Returns the path.
    pub fn write(&self, name: &str, content: &str) -> PathBuf {
        let (path, draft) = (self.folder.join("data").join(name), self.folder.join("draft"));
        std::fs::write(&draft, content).unwrap();
        let mut install = Command::new("install");
        install.args(["-m", "600"]);
        if is_root() {
            install.args(["-o", "postgres", "-g", "postgres"]);
        }
        assert!(install.args([&draft, &path]).status().unwrap().success());
        path
    }

    /// Starts PgBouncer in transaction mode in front of this cluster.
    pub fn pooler(&self, settings: &str) -> Pooler {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let config = self.write(
            "pgbouncer.ini",
            &format!(
                "[databases]\n* = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\n\
                 listen_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\n\
                 auth_type = any\npool_mode = transaction\n{settings}\n",
                self.port
            ),
        );
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"]
            .into_iter()
            .find(|path| Path::new(path).exists())
            .expect("PgBouncer is not installed: run ./scripts/install/postgres");
        let mut words = as_owner();
        words.extend([program.to_owned(), "-q".to_owned(), config.display().to_string()]);
        let child = Command::new(&words[0])
            .args(&words[1..])
            .current_dir("/")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let pooler = Pooler { child, port };
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(started.elapsed() < PATIENCE, "PgBouncer did not start");
            std::thread::sleep(Duration::from_millis(20));
        }
        pooler
    }

    fn answers(&self) -> bool {
        let port = self.port.to_string();
        let status = Command::new(programs().join("pg_isready"))
            .args(["-q", "-h", "127.0.0.1", "-p", &port, "-t", "5"])
            .status();
        status.unwrap().success()
    }

    fn data(&self) -> String {
        self.folder.join("data").display().to_string()
    }

    /// Runs one of PostgreSQL's own programs as the cluster's owner.
    fn program(&self, name: &str, arguments: &[&str]) {
        let mut words = as_owner();
        words.push(programs().join(name).display().to_string());
        let output = Command::new(&words[0])
            .args(&words[1..])
            .args(arguments)
            .current_dir("/")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{name}: {said}");
    }
}

/// A private PgBouncer; stopped when dropped.
#[derive(Debug)]
pub struct Pooler {
    child: Child,
    port: u16,
}

impl Pooler {
    /// The URL of a database behind it.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if let Some(mut watcher) = self.watcher.take() {
            drop(watcher.stdin.take());
            let _ = watcher.wait();
        }
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

/// The folder of PostgreSQL's programs; `scripts/install/postgres` finds or installs them.
pub fn programs() -> &'static Path {
    static PROGRAMS: OnceLock<PathBuf> = OnceLock::new();
    PROGRAMS.get_or_init(|| {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/../../scripts/install/postgres");
        let output = Command::new(script).stderr(Stdio::inherit()).output().unwrap();
        let said = String::from_utf8(output.stdout).unwrap();
        let folder = said.lines().last().expect("scripts/install/postgres found no PostgreSQL");
        PathBuf::from(folder)
    })
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output().unwrap();
    id.stdout == b"0\n"
}

/// The beginning of a command line that runs what follows as a user whom PostgreSQL accepts.
fn as_owner() -> Vec<String> {
    if is_root() {
        ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
            .map(str::to_owned)
            .to_vec()
    } else {
        vec!["env".to_owned()]
    }
}

/// A new folder that the cluster's owner may write to.
fn new_folder() -> PathBuf {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let folder =
        std::env::temp_dir().join(format!("cognigy-postgres-{}-{number}", std::process::id()));
    let mut install = Command::new("install");
    install.args(["-d", "-m", "700"]);
    if is_root() {
        install.args(["-o", "postgres", "-g", "postgres"]);
    }
    assert!(install.arg(&folder).status().unwrap().success(), "cannot make {}", folder.display());
    folder
}
