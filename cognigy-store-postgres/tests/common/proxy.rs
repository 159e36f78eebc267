//! A network between the store and the server that can lose an answer or fall silent.
//!
//! It knows just enough of PostgreSQL's protocol to tell answers apart: each ends with a message of
//! type `Z` (ReadyForQuery), after the commit if there was one.

use std::sync::{
    Arc, Mutex,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
};

#[derive(Default)]
struct State {
    /// The numbers of the coming answers that are lost together with their connection.
    to_lose: Mutex<Vec<u32>>,
    answers: AtomicU32,
    lost: AtomicU32,
    silent: AtomicBool,
    closed: AtomicBool,
}

pub(crate) struct Proxy {
    pub(crate) port: u16,
    state: Arc<State>,
}

impl Proxy {
    pub(crate) async fn start(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if !shared.closed.load(Ordering::SeqCst) {
                    tokio::spawn(converse(client, server, Arc::clone(&shared)));
                }
            }
        });
        Self { port, state }
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Loses the answers with these numbers, counted from now and from 1. The server has done the
    /// work by then.
    pub(crate) fn lose(&self, numbers: impl IntoIterator<Item = u32>) {
        self.state.answers.store(0, Ordering::SeqCst);
        *self.state.to_lose.lock().unwrap() = numbers.into_iter().collect();
    }

    /// How many answers were lost.
    pub(crate) fn lost(&self) -> u32 {
        self.state.lost.load(Ordering::SeqCst)
    }

    /// How many answers came since the last [`lose`](Self::lose).
    pub(crate) fn answers(&self) -> u32 {
        self.state.answers.load(Ordering::SeqCst)
    }

    /// Passes nothing on any more, without closing a connection; or goes on.
    pub(crate) fn fall_silent(&self, silent: bool) {
        self.state.silent.store(silent, Ordering::SeqCst);
    }
}

async fn converse(client: TcpStream, server: u16, state: Arc<State>) {
    let Ok(server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    let (mut from_client, mut to_client) = client.into_split();
    let (from_server, mut to_server) = server.into_split();
    let quiet = Arc::clone(&state);
    let requests = async move {
        let mut buffer = vec![0; 64 * 1024];
        while let Ok(length @ 1..) = from_client.read(&mut buffer).await {
            quiet.wait_while_silent().await;
            if to_server.write_all(&buffer[..length]).await.is_err() {
                break;
            }
        }
    };
    let answers = async move {
        let mut from_server = from_server;
        while let Some(answer) = read_answer(&mut from_server).await {
            state.wait_while_silent().await;
            let number = state.answers.fetch_add(1, Ordering::SeqCst) + 1;
            if state.to_lose.lock().unwrap().contains(&number) {
                state.lost.fetch_add(1, Ordering::SeqCst);
                return;
            }
            if to_client.write_all(&answer).await.is_err() {
                return;
            }
        }
    };
    // The direction that ends first closes the connection.
    tokio::select! { () = requests => {}, () = answers => {} }
}

/// Everything up to and including the next ReadyForQuery, or the password dialogue's parts.
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

impl State {
    async fn wait_while_silent(&self) {
        while self.silent.load(Ordering::SeqCst) {
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}
