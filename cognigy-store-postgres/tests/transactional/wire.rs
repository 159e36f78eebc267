//! A network that strikes at a chosen message of a handler's transaction: it loses a request before
//! the server has it, or an answer before the client has it, and may kill the client by that.
//!
//! A handler's connection is told from the store's by its first transaction, which names an
//! isolation level.

use std::{
    process::Child,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
};

/// Where to strike: at the n-th message, from 1, since the plan was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// The request is lost.
    Request(u32),
    /// The request is carried out, and its answer is lost.
    Answer(u32),
}

/// How to strike.
#[derive(Debug)]
pub(crate) enum Blow {
    /// The connection is cut.
    Cut,
    /// All connections are cut, and new ones are refused until [`Wire::mend`].
    CutAll,
    /// The process on this side is killed.
    Kill(Child),
    /// The process on this side receives a signal, and the message is passed on.
    Signal(u32, &'static str),
}

#[derive(Default)]
struct State {
    plan: Mutex<Option<(Moment, Blow)>>,
    requests: AtomicU32,
    answers: AtomicU32,
    struck: Mutex<Option<String>>,
    corpse: Mutex<Option<Child>>,
    is_down: AtomicBool,
    refused: AtomicU32,
}

pub(crate) struct Wire {
    port: u16,
    state: Arc<State>,
}

impl Wire {
    pub(crate) async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if shared.is_down.load(Ordering::SeqCst) {
                    shared.refused.fetch_add(1, Ordering::SeqCst);
                    continue;
                }
                tokio::spawn(converse(client, server, Arc::clone(&shared)));
            }
        });
        Self { port, state }
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Starts counting again and strikes at `moment`.
    pub(crate) fn strike(&self, moment: Moment, blow: Blow) {
        let mut plan = self.state.plan.lock().unwrap();
        *self.state.struck.lock().unwrap() = None;
        self.state.requests.store(0, Ordering::SeqCst);
        self.state.answers.store(0, Ordering::SeqCst);
        *plan = Some((moment, blow));
    }

    /// What was struck, if it has been: "before COMMIT", "after INSERT INTO transfers …".
    pub(crate) fn struck(&self) -> Option<String> {
        self.state.struck.lock().unwrap().clone()
    }

    /// The plan that was not carried out, or the process that was killed.
    pub(crate) fn child(&self) -> Option<Child> {
        match self.state.plan.lock().unwrap().take() {
            Some((_, Blow::Kill(child))) => Some(child),
            _ => self.state.corpse.lock().unwrap().take(),
        }
    }

    pub(crate) fn mend(&self) {
        self.state.is_down.store(false, Ordering::SeqCst);
    }

    /// How often a connection was refused.
    pub(crate) fn refused(&self) -> u32 {
        self.state.refused.load(Ordering::SeqCst)
    }
}

impl State {
    /// Strikes if it is time. Returns whether the message is lost.
    fn meet(&self, moment: Moment, words: &str) -> bool {
        let mut plan = self.plan.lock().unwrap();
        let Some((_, blow)) = plan.take_if(|(planned, _)| *planned == moment) else {
            return false;
        };
        let side = if matches!(moment, Moment::Request(_)) { "before" } else { "after" };
        let is_lost = match blow {
            Blow::Cut => true,
            Blow::CutAll => {
                self.is_down.store(true, Ordering::SeqCst);
                true
            }
            Blow::Kill(mut child) => {
                child.kill().unwrap();
                child.wait().unwrap();
                *self.corpse.lock().unwrap() = Some(child);
                true
            }
            Blow::Signal(pid, signal) => {
                send_signal(pid, signal);
                false
            }
        };
        *self.struck.lock().unwrap() = Some(format!("{side} {words}"));
        is_lost
    }
}

/// Sends a signal to a child process of the test.
pub(crate) fn send_signal(pid: u32, signal: &str) {
    let arguments = [format!("-{signal}"), pid.to_string()];
    assert!(std::process::Command::new("kill").args(arguments).status().unwrap().success());
}

async fn converse(client: TcpStream, server: u16, state: Arc<State>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let is_handlers = Arc::new(AtomicBool::new(false));
    // The SQL of requests that have not been answered.
    let asked = Arc::new(Mutex::new(std::collections::VecDeque::new()));
    let (theirs, words, shared) =
        (Arc::clone(&is_handlers), Arc::clone(&asked), Arc::clone(&state));
    let requests = async move {
        let mut is_first = true;
        while let Some((request, said)) = read_request(&mut from_client, is_first).await {
            is_first = false;
            if said.contains("ISOLATION LEVEL") {
                theirs.store(true, Ordering::SeqCst);
            }
            if theirs.load(Ordering::SeqCst) {
                let number = shared.requests.fetch_add(1, Ordering::SeqCst) + 1;
                words.lock().unwrap().push_back(said.clone());
                if shared.meet(Moment::Request(number), &said) {
                    return;
                }
            }
            if shared.is_down.load(Ordering::SeqCst) || to_server.write_all(&request).await.is_err()
            {
                return;
            }
        }
    };
    let answers = async move {
        while let Some(answer) = read_answer(&mut from_server).await {
            if is_handlers.load(Ordering::SeqCst) {
                let number = state.answers.fetch_add(1, Ordering::SeqCst) + 1;
                let said = asked.lock().unwrap().pop_front().unwrap_or_default();
                if state.meet(Moment::Answer(number), &said) {
                    return;
                }
            }
            if state.is_down.load(Ordering::SeqCst) || to_client.write_all(&answer).await.is_err() {
                return;
            }
        }
    };
    // The direction that ends first closes the connection.
    tokio::select! { () = requests => {}, () = answers => {} }
}

/// Everything up to the next message that asks for an answer (Query or Sync), and the SQL in it.
async fn read_request(client: &mut OwnedReadHalf, is_first: bool) -> Option<(Vec<u8>, String)> {
    let mut request = Vec::new();
    let mut said = "an execution".to_owned();
    loop {
        // The very first message has no type.
        let kind = if is_first { b'Q' } else { client.read_u8().await.ok()? };
        let length = client.read_u32().await.ok()?;
        if !is_first {
            request.push(kind);
        }
        request.extend(length.to_be_bytes());
        let start = request.len();
        request.resize(start + length as usize - 4, 0);
        client.read_exact(&mut request[start..]).await.ok()?;
        let content = &request[start..];
        match kind {
            b'Q' if !is_first => said = words(content),
            // Parse: the statement's name, then its text.
            b'P' => said = words(content.split(|byte| *byte == 0).nth(1).unwrap_or_default()),
            _ => {}
        }
        if matches!(kind, b'Q' | b'S' | b'X') {
            return Some((request, said));
        }
    }
}

fn words(sql: &[u8]) -> String {
    let sql = String::from_utf8_lossy(sql);
    let sql: Vec<_> = sql.trim_end_matches('\0').split_whitespace().take(5).collect();
    sql.join(" ")
}

/// Everything up to and including the next ReadyForQuery.
async fn read_answer(server: &mut OwnedReadHalf) -> Option<Vec<u8>> {
    let mut answer = Vec::new();
    loop {
        let kind = server.read_u8().await.ok()?;
        let length = server.read_u32().await.ok()?;
        let start = answer.len();
        answer.push(kind);
        answer.extend(length.to_be_bytes());
        answer.resize(start + 1 + length as usize, 0);
        server.read_exact(&mut answer[start + 5..]).await.ok()?;
        if kind == b'Z' {
            return Some(answer);
        }
    }
}
