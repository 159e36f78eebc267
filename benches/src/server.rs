//! Receivers under test: child processes on free loopback ports, ended by their handles.

use std::{
    error::Error,
    io::{BufRead, BufReader},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// The secret with which deliveries are signed, and the operator's token.
pub const SECRET: &str = "a secret for benchmarks";

/// A receiver under test.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// Where it listens.
    pub address: SocketAddr,
    /// From the start of the process to its first answer.
    pub ready_after: Duration,
}

impl Server {
    /// The bundled server on a file; `settings` beside the necessary ones.
    ///
    /// # Errors
    /// It is not built, or does not become ready.
    pub fn ours(database: &Path, settings: &[(&str, &str)]) -> Result<Self, Box<dyn Error>> {
        Self::on(&format!("sqlite:{}", database.display()), settings)
    }

    /// The bundled server on a database named by its URL.
    ///
    /// # Errors
    /// It is not built, or does not become ready.
    pub fn on(database_url: &str, settings: &[(&str, &str)]) -> Result<Self, Box<dyn Error>> {
        // Chosen here, so that readiness can be asked for without reading the server's log.
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let started = Instant::now();
        let child = Command::new(program("cognigy-server")?)
            .arg("serve")
            .env("COGNIGY_WEBHOOK_SECRET", SECRET)
            .env("COGNIGY_ADMIN_TOKEN", SECRET)
            .env("COGNIGY_LISTEN", address.to_string())
            .env("COGNIGY_DATABASE_URL", database_url)
            .env("COGNIGY_LOG", "error")
            .env("CRM_BASE_URL", "http://127.0.0.1:9")
            .envs(settings.iter().copied())
            .stderr(Stdio::null())
            .spawn()?;
        let mut server = Self { child, address, ready_after: Duration::ZERO };
        while server.ask("/readyz").is_none_or(|answer| !answer.starts_with("HTTP/1.1 200")) {
            if started.elapsed() > Duration::from_secs(30) {
                return Err("the server does not become ready".into());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        server.ready_after = started.elapsed();
        Ok(server)
    }

    /// The bare peer.
    ///
    /// # Errors
    /// It is not built, or does not start.
    pub fn bare(database: &Path) -> Result<Self, Box<dyn Error>> {
        let started = Instant::now();
        let mut child = Command::new(program("bare")?)
            .arg(database)
            .arg(SECRET)
            .stdout(Stdio::piped())
            .spawn()?;
        let output = child.stdout.take().ok_or("no output")?;
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line)?;
        Ok(Self { child, address: line.trim().parse()?, ready_after: started.elapsed() })
    }

    /// The whole answer to a `GET`, with the operator's token.
    #[must_use]
    pub fn ask(&self, path: &str) -> Option<String> {
        use std::io::{Read, Write};

        let mut stream = TcpStream::connect(self.address).ok()?;
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: r\r\nConnection: close\r\nAuthorization: Bearer {SECRET}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// A number of `/admin/stats`, such as `events.waiting`.
    #[must_use]
    pub fn stat(&self, path: &str) -> Option<u64> {
        let answer = self.ask("/admin/stats")?;
        let (_, body) = answer.split_once("\r\n\r\n")?;
        let stats: serde_json::Value = serde_json::from_str(body).ok()?;
        path.split('.').try_fold(&stats, |value, key| value.get(key))?.as_u64()
    }

    /// The most memory it has had resident, in MiB.
    #[must_use]
    pub fn peak_memory(&self) -> Option<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some(line.trim().strip_suffix(" kB")?.parse::<f64>().ok()? / 1024.0)
    }

    /// Bytes it has had written to the disk.
    #[must_use]
    pub fn written(&self) -> Option<f64> {
        let io = std::fs::read_to_string(format!("/proc/{}/io", self.child.id())).ok()?;
        io.lines().find_map(|line| line.strip_prefix("write_bytes: "))?.parse().ok()
    }

    /// Processor time it has used, in seconds.
    #[must_use]
    pub fn processor_seconds(&self) -> Option<f64> {
        Some(Stat::of(self.child.id())?.own)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program built beside this one.
///
/// # Errors
/// It is not there.
pub fn program(name: &str) -> Result<PathBuf, Box<dyn Error>> {
    let path = std::env::current_exe()?.with_file_name(name);
    if path.exists() { Ok(path) } else { Err(format!("{} is not built", path.display()).into()) }
}

/// A process's processor time from `/proc`, in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Stat {
    /// The process that started it.
    pub parent: u32,
    /// Its own, of all its threads, in the kernel and outside.
    pub own: f64,
    /// Of its children that have ended.
    pub ended_children: f64,
}

impl Stat {
    /// That of a process; `None` if there is none.
    #[must_use]
    pub fn of(process: u32) -> Option<Self> {
        let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
        // Fields 4 and 14 to 17 of proc(5), counted behind the name in parentheses; ticks of 10 ms.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let seconds =
            |field: usize| fields.get(field)?.parse::<f64>().ok().map(|ticks| ticks / 100.0);
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            own: seconds(11)? + seconds(12)?,
            ended_children: seconds(13)? + seconds(14)?,
        })
    }

    /// Processor time of a process and its children, in seconds, whether the children still run or
    /// not.
    #[must_use]
    pub fn seconds_with_children(process: u32) -> Option<f64> {
        let itself = Self::of(process)?;
        let processes = std::fs::read_dir("/proc").ok()?.flatten();
        let children = processes
            .filter_map(|entry| Self::of(entry.file_name().to_str()?.parse().ok()?))
            .filter(|stat| stat.parent == process);
        Some(itself.own + itself.ended_children + children.map(|child| child.own).sum::<f64>())
    }
}
