//! HAProxy with the configuration of `deploy/`, and a sender that uses TLS.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::Duration,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    crypto::ring,
    pki_types::{CertificateDer, pem::PemObject},
};

use crate::common::{Answer, eventually, signature, workspace};

/// HAProxy with its shipped configuration. It is killed when dropped.
pub(crate) struct Proxy {
    child: Child,
    address: SocketAddr,
    metrics: SocketAddr,
    tls: Arc<ClientConfig>,
}

impl Proxy {
    /// Starts HAProxy in front of these nodes, with files in `folder`.
    pub(crate) fn start(folder: &Path, nodes: &[SocketAddr]) -> Self {
        let (certificate, tls) = certificate(folder);
        let (address, metrics) = (free_address(), free_address());
        let mut command = Command::new(program());
        command
            .arg("-f")
            .arg(workspace().join("deploy/haproxy/haproxy.cfg"))
            .env("COGNIGY_PROXY_BIND", address.to_string())
            .env("COGNIGY_PROXY_CERT", certificate)
            .env("COGNIGY_PROXY_METRICS", metrics.to_string())
            .stdout(std::fs::File::create(folder.join("proxy.log")).unwrap())
            .stderr(std::fs::File::create(folder.join("proxy.err")).unwrap());
        for (number, node) in (1..).zip(nodes) {
            command.env(format!("COGNIGY_NODE_{number}"), node.to_string());
        }
        let proxy = Self { child: command.spawn().unwrap(), address, metrics, tls };
        eventually("the proxy listens", || TcpStream::connect(proxy.metrics).ok());
        proxy
    }

    pub(crate) fn connect(&self) -> io::Result<Connection> {
        let socket = TcpStream::connect(self.address)?;
        socket.set_nodelay(true)?;
        socket.set_read_timeout(Some(Duration::from_secs(30)))?;
        let name = "webhooks.example.com".try_into().unwrap();
        let session = ClientConnection::new(Arc::clone(&self.tls), name).unwrap();
        Ok(Connection(StreamOwned::new(session, socket)))
    }

    /// A metric of HAProxy, summed over all series with these labels.
    pub(crate) fn count(&self, name: &str, labels: &[&str]) -> f64 {
        let mut socket = TcpStream::connect(self.metrics).unwrap();
        socket
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: proxy\r\nConnection: close\r\n\r\n")
            .unwrap();
        let answer = Answer::read(socket);
        assert_eq!(answer.status, 200);
        let with_labels = |line: &&str| labels.iter().all(|label| line.contains(label));
        let lines = answer.body.lines().filter(|line| line.starts_with(&format!("{name}{{")));
        lines
            .filter(with_labels)
            .map(|l| l.rsplit(' ').next().unwrap().parse::<f64>().unwrap())
            .sum()
    }

    /// Waits until the proxy sends to that many nodes.
    pub(crate) fn sends_to(&self, nodes: f64) {
        eventually(&format!("the proxy sends to {nodes} nodes"), || {
            (self.count("haproxy_server_status", &["state=\"UP\""]) == nodes).then_some(())
        });
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A sender's connection to the proxy.
pub(crate) struct Connection(StreamOwned<ClientConnection, TcpStream>);

impl Connection {
    /// Sends bytes, and nothing after them.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)?;
        self.0.flush()
    }

    /// Reads one answer with a length.
    pub(crate) fn answer(&mut self) -> io::Result<Answer> {
        let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
        loop {
            if let Some(answer) = whole(&bytes) {
                return Ok(answer);
            }
            match self.0.read(&mut chunk)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                read => bytes.extend_from_slice(&chunk[..read]),
            }
        }
    }

    /// Delivers a body, signed.
    pub(crate) fn deliver(&mut self, body: &[u8]) -> io::Result<Answer> {
        self.send(&delivery(body))?;
        self.answer()
    }
}

/// A delivery as its sender writes it.
pub(crate) fn delivery(body: &[u8]) -> Vec<u8> {
    let head = format!("Content-Length: {}", body.len());
    [head_of_a_delivery(&head, body).as_bytes(), body].concat()
}

/// The head of a signed delivery, with a header that says where its body ends.
pub(crate) fn head_of_a_delivery(framing: &str, body: &[u8]) -> String {
    let signature = signature(body);
    format!(
        "POST /webhooks/cognigy HTTP/1.1\r\nHost: webhooks.example.com\r\n{framing}\r\n\
         Content-Type: application/json\r\nX-Cognigy-Signature: {signature}\r\n\r\n"
    )
}

fn whole(bytes: &[u8]) -> Option<Answer> {
    let text = std::str::from_utf8(bytes).ok()?;
    let (head, body) = text.split_once("\r\n\r\n")?;
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let answer = Answer { status, head: head.to_owned(), body: body.to_owned() };
    let length: usize = answer.header("content-length")?.parse().ok()?;
    (answer.body.len() >= length).then_some(answer)
}

/// A free address, below the ports that the kernel gives to connections: a restarted node has to
/// find its own port free.
pub(crate) fn free_address() -> SocketAddr {
    static NEXT: std::sync::atomic::AtomicU16 = std::sync::atomic::AtomicU16::new(0);
    // A block of its own for each process: tests that run side by side have neighbouring ids.
    let start = u16::try_from(std::process::id() % 187 * 64).unwrap();
    loop {
        let step = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let port = 20_000 + (start + step) % 12_000;
        if let Ok(listener) = TcpListener::bind(("127.0.0.1", port)) {
            return listener.local_addr().unwrap();
        }
    }
}

/// The path of HAProxy. `scripts/install/haproxy` finds or installs it.
fn program() -> PathBuf {
    let script = workspace().join("scripts/install/haproxy");
    let output = Command::new(script).stderr(Stdio::inherit()).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    said.lines().last().expect("scripts/install/haproxy found no HAProxy").into()
}

/// A certificate with its key in one file, as HAProxy wants it, and a client that trusts it.
fn certificate(folder: &Path) -> (PathBuf, Arc<ClientConfig>) {
    let (certificate, key) = (folder.join("certificate.pem"), folder.join("key.pem"));
    let output = Command::new("openssl")
        .args("req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -noenc -days 2".split(' '))
        .args(["-subj", "/CN=webhooks.example.com"])
        .args(["-addext", "subjectAltName=DNS:webhooks.example.com"])
        .args(["-addext", "basicConstraints=critical,CA:FALSE"])
        .arg("-out")
        .arg(&certificate)
        .arg("-keyout")
        .arg(&key)
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(&certificate).unwrap()).unwrap();
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let both = folder.join("webhooks.pem");
    let parts = [certificate, key].map(|part| std::fs::read(part).unwrap());
    std::fs::write(&both, parts.concat()).unwrap();
    (both, Arc::new(tls))
}
