//! A CRM over real HTTP, on threads of its own. Its answers can change while it runs.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    time::Duration,
};

#[derive(Clone)]
pub struct Crm {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
}

struct State {
    answer: (u16, String),
    delay: Duration,
    /// Requests that contain this text get that status instead.
    refusal: Option<(String, u16)>,
    requests: Vec<String>,
    bodies: Vec<String>,
}

impl Crm {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let answer = (200, r#"{"id":"crm-1","name":"Ada"}"#.to_owned());
        let state = State {
            answer,
            delay: Duration::ZERO,
            refusal: None,
            requests: Vec::new(),
            bodies: Vec::new(),
        };
        let crm = Self { address, state: Arc::new(Mutex::new(state)) };
        let shared = crm.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let crm = shared.clone();
                std::thread::spawn(move || crm.converse(stream));
            }
        });
        crm
    }

    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub fn answer(&self, status: u16, body: &str) {
        self.state.lock().unwrap().answer = (status, body.to_owned());
    }

    /// Answers requests whose head contains `text` with `status`, until that is changed.
    pub fn refuse(&self, text: &str, status: u16) {
        self.state.lock().unwrap().refusal = Some((text.to_owned(), status));
    }

    pub fn refuse_nobody(&self) {
        self.state.lock().unwrap().refusal = None;
    }

    pub fn delay(&self, delay: Duration) {
        self.state.lock().unwrap().delay = delay;
    }

    /// Request line and headers of every request, in order.
    pub fn requests(&self) -> Vec<String> {
        self.state.lock().unwrap().requests.clone()
    }

    /// The body of every request, in order.
    pub fn bodies(&self) -> Vec<String> {
        self.state.lock().unwrap().bodies.clone()
    }

    fn converse(&self, stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut writer = stream;
        loop {
            let mut head = String::new();
            loop {
                let mut line = String::new();
                match reader.read_line(&mut line) {
                    Ok(0) | Err(_) => return,
                    Ok(_) if line == "\r\n" => break,
                    Ok(_) => head.push_str(&line),
                }
            }
            let length = head.lines().find_map(|line| {
                let (name, value) = line.split_once(':')?;
                name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse().unwrap())
            });
            let mut body = vec![0; length.unwrap_or(0)];
            if reader.read_exact(&mut body).is_err() {
                return;
            }
            let received = String::from_utf8_lossy(&body).into_owned();
            let ((status, body), delay) = {
                let mut state = self.state.lock().unwrap();
                let refused = state.refusal.as_ref().filter(|(text, _)| head.contains(text));
                let refused = refused.map(|(_, status)| (*status, String::new()));
                let answer = refused.unwrap_or_else(|| state.answer.clone());
                state.requests.push(head);
                state.bodies.push(received);
                (answer, state.delay)
            };
            std::thread::sleep(delay);
            let length = body.len();
            let answer = format!("HTTP/1.1 {status} X\r\nContent-Length: {length}\r\n\r\n{body}");
            if writer.write_all(answer.as_bytes()).is_err() {
                return;
            }
        }
    }
}
