//! A stand-in for an HTTP/1.1 server, on a real socket and scripted byte by byte: the faults that
//! matter (half an answer, a reset, garbage, a body without end) are ones that no server library
//! produces. The test files of the other HTTP adapters include it too.
#![allow(dead_code, clippy::unwrap_used)]

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinSet,
};

/// What to do with a request.
#[derive(Debug, Clone)]
pub(crate) enum Act {
    /// Answers and waits for the next request on the same connection.
    Say(Vec<u8>),
    /// Answers after a while.
    SayLater(Duration, Vec<u8>),
    /// Answers in two writes with a pause between them.
    SayInTwo(Vec<u8>, Vec<u8>),
    /// Answers and closes.
    SayAndClose(Vec<u8>),
    /// Sends no answer and keeps the connection.
    Hang,
    /// Closes with an RST.
    Reset,
    /// Writes `head`, then a byte every few milliseconds, for ever.
    Drip(Vec<u8>),
    /// Writes `head`, then this many bytes as fast as they are taken.
    Flood(Vec<u8>, usize),
}

/// An answer with a length.
pub(crate) fn answer(status: &str, headers: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// An answer with a length and JSON for a body.
pub(crate) fn json(status: &str, body: &str) -> Act {
    Act::Say(answer(status, "Content-Type: application/json\r\n", body))
}

/// A request as it arrived.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl Seen {
    /// Method, target and version.
    pub(crate) fn line(&self) -> &str {
        self.head.lines().next().unwrap()
    }

    pub(crate) fn target(&self) -> &str {
        self.line().split(' ').nth(1).unwrap()
    }

    /// The one value of a header. Panics where it was sent twice.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.head.lines().skip(1).filter_map(|line| {
            let (found, value) = line.split_once(": ")?;
            found.eq_ignore_ascii_case(name).then_some(value)
        });
        let value = values.next();
        assert_eq!(values.next(), None, "{name} was sent twice");
        value
    }

    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }
}

type Script = Arc<dyn Fn(usize, &Seen) -> Act + Send + Sync>;

struct Shared {
    script: Script,
    seen: Mutex<Vec<Seen>>,
    accepted: AtomicUsize,
    written: AtomicUsize,
}

/// The server. It stops when dropped.
pub(crate) struct StandIn {
    address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

impl StandIn {
    /// Serves on a free port; `script` is asked what to do with the n-th request, from 0.
    pub(crate) async fn start(
        script: impl Fn(usize, &Seen) -> Act + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            script: Arc::new(script),
            seen: Mutex::default(),
            accepted: AtomicUsize::new(0),
            written: AtomicUsize::new(0),
        });
        let mut tasks = JoinSet::new();
        let served = Arc::clone(&shared);
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                served.accepted.fetch_add(1, SeqCst);
                let served = Arc::clone(&served);
                connections.spawn(async move { drop(converse(stream, &served).await) });
            }
        });
        Self { address, shared, _tasks: tasks }
    }

    /// Does the same with every request.
    pub(crate) async fn always(act: Act) -> Self {
        Self::start(move |_, _| act.clone()).await
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.seen.lock().unwrap().clone()
    }

    /// How many connections it took.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.accepted.load(SeqCst)
    }

    /// How many bytes of a flood went out.
    pub(crate) fn written(&self) -> usize {
        self.shared.written.load(SeqCst)
    }
}

/// The URL of a port on which no process listens.
pub(crate) async fn closed_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

async fn converse(mut stream: TcpStream, shared: &Shared) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    while let Some(request) = read_request(&mut stream, &mut buffer).await? {
        let act = {
            let mut seen = shared.seen.lock().unwrap();
            seen.push(request);
            (shared.script)(seen.len() - 1, seen.last().unwrap())
        };
        match act {
            Act::Say(bytes) => stream.write_all(&bytes).await?,
            Act::SayLater(wait, bytes) => {
                tokio::time::sleep(wait).await;
                stream.write_all(&bytes).await?;
            }
            Act::SayInTwo(first, second) => {
                stream.write_all(&first).await?;
                tokio::time::sleep(Duration::from_millis(20)).await;
                stream.write_all(&second).await?;
            }
            Act::SayAndClose(bytes) => {
                stream.write_all(&bytes).await?;
                return stream.shutdown().await;
            }
            Act::Hang => std::future::pending().await,
            Act::Reset => return stream.set_zero_linger(),
            Act::Drip(head) => {
                stream.write_all(&head).await?;
                loop {
                    stream.write_all(b" ").await?;
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            Act::Flood(head, total) => {
                stream.write_all(&head).await?;
                let block = vec![b' '; 16 * 1024];
                for _ in 0..total / block.len() {
                    stream.write_all(&block).await?;
                    shared.written.fetch_add(block.len(), SeqCst);
                }
            }
        }
    }
    Ok(())
}

/// The next request, or `None` where the connection ends before it.
async fn read_request(
    stream: &mut TcpStream,
    buffer: &mut Vec<u8>,
) -> std::io::Result<Option<Seen>> {
    let end_of_head = loop {
        if let Some(at) = buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
            break at + 4;
        }
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    };
    let head = String::from_utf8(buffer.drain(..end_of_head).collect()).unwrap();
    let mut seen = Seen { head, body: Vec::new() };
    let length = seen.header("content-length").map_or(0, |length| length.parse().unwrap());
    while buffer.len() < length {
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
    seen.body = buffer.drain(..length).collect();
    Ok(Some(seen))
}
