//! A load generator for webhook receivers.
//!
//! It shares the machine with the server that it measures, so it has to cost little: one thread
//! that sends, a hand-written request, no HTTP library, one read for most answers. Latency is
//! counted from the moment a request was *meant* to be sent; a generator that waits for a slow
//! server and starts its clock afterwards hides exactly the delays that senders have (coordinated
//! omission). In an open loop a thread of its own keeps the time, because an event loop's timers
//! tick in milliseconds.

use std::{
    io,
    net::SocketAddr,
    sync::OnceLock,
    time::{Duration, Instant},
};

use cognigy_core::{Secret, SignatureScheme, sign};
use hdrhistogram::Histogram;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::LocalSet,
};

/// What to send, how, and for how long.
#[derive(Debug, Clone)]
pub struct Load {
    /// Where the receiver listens.
    pub address: SocketAddr,
    /// The secret it expects.
    pub secret: Secret,
    /// Keep-alive connections.
    pub connections: usize,
    /// How long to send.
    pub duration: Duration,
    /// Bytes of a body, 200 at least.
    pub body_bytes: usize,
    /// Events a second, whatever the server answers (open loop); `None`: each connection sends its
    /// next request when it has its answer (closed loop).
    pub rate: Option<f64>,
    /// Makes the ids of one run differ from those of another.
    pub prefix: String,
    /// How the events' ids follow one another.
    pub ids: Ids,
    /// Names a contact in each event, so that the CRM is asked.
    pub contact: bool,
}

/// How ids follow one another, which decides where an index of them grows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ids {
    /// Anywhere, like UUIDv4.
    Random,
    /// At the end, like UUIDv7 and ULID.
    Ascending,
    /// Each connection sends one event again and again.
    Repeated,
}

/// The result of a load.
#[derive(Debug, Clone)]
pub struct Report {
    /// Answers by status: 200, 503, anything else.
    pub accepted: u64,
    /// Answers that asked the sender to retry.
    pub turned_away: u64,
    /// Other answers, and connections that broke.
    pub failed: u64,
    /// From the first request to the last answer.
    pub seconds: f64,
    /// Latency of accepted events in microseconds, from the intended time of sending.
    pub latency: Histogram<u64>,
    /// Latency of refused events.
    pub refusal: Histogram<u64>,
}

impl Report {
    fn new() -> Self {
        // One microsecond to two minutes, to three digits. The bounds are valid constants.
        #[allow(clippy::expect_used)]
        let histogram = Histogram::new_with_bounds(1, 120_000_000, 3).expect("constant bounds");
        Self {
            accepted: 0,
            turned_away: 0,
            failed: 0,
            seconds: 0.0,
            latency: histogram.clone(),
            refusal: histogram,
        }
    }

    /// Accepted events a second.
    #[must_use]
    pub fn throughput(&self) -> f64 {
        #[allow(clippy::cast_precision_loss)]
        let accepted = self.accepted as f64;
        accepted / self.seconds
    }

    /// A latency quantile of accepted events, in milliseconds.
    #[must_use]
    pub fn milliseconds(&self, quantile: f64) -> f64 {
        #[allow(clippy::cast_precision_loss)]
        let microseconds = self.latency.value_at_quantile(quantile) as f64;
        microseconds / 1000.0
    }

    fn add(&mut self, other: &Self) -> Result<(), hdrhistogram::AdditionError> {
        self.accepted += other.accepted;
        self.turned_away += other.turned_away;
        self.failed += other.failed;
        self.latency.add(&other.latency)?;
        self.refusal.add(&other.refusal)
    }
}

impl Load {
    /// Sends, on this thread, and reports.
    ///
    /// # Errors
    /// The server cannot be reached.
    pub fn run(&self) -> io::Result<Report> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        LocalSet::new().block_on(&runtime, self.send_all())
    }

    async fn send_all(&self) -> io::Result<Report> {
        let mut streams = Vec::new();
        for _ in 0..self.connections {
            let stream = TcpStream::connect(self.address).await?;
            stream.set_nodelay(true)?;
            streams.push(stream);
        }
        let started = Instant::now();
        let mut schedule = Vec::new();
        let mut senders = Vec::new();
        for (number, stream) in streams.into_iter().enumerate() {
            let turns = if self.rate.is_some() {
                let (turn, turns) = unbounded_channel();
                schedule.push(turn);
                Turns::Scheduled(turns)
            } else {
                Turns::Immediate(started + self.duration)
            };
            senders.push(tokio::task::spawn_local(self.clone().send(number, stream, turns)));
        }
        let pacer = self.rate.map(|rate| {
            let duration = self.duration;
            std::thread::spawn(move || keep_time(&schedule, rate, started, duration))
        });
        let mut total = Report::new();
        for sender in senders {
            let report = sender.await.map_err(io::Error::other)?;
            total.add(&report).map_err(io::Error::other)?;
        }
        total.seconds = started.elapsed().as_secs_f64();
        if let Some(pacer) = pacer {
            pacer.join().map_err(|_| io::Error::other("the pacer panicked"))?;
        }
        Ok(total)
    }

    async fn send(self, connection: usize, mut stream: TcpStream, mut turns: Turns) -> Report {
        let mut report = Report::new();
        let mut answer = vec![0; 4096];
        for number in 0_u64.. {
            let Some(intended) = turns.next().await else { break };
            let request = self.request(connection, number);
            let status = match exchange(&mut stream, &request, &mut answer).await {
                Ok(status) => status,
                Err(_) => {
                    report.failed += 1;
                    match TcpStream::connect(self.address).await {
                        Ok(fresh) => stream = fresh,
                        Err(_) => break,
                    }
                    continue;
                }
            };
            let microseconds = u64::try_from(intended.elapsed().as_micros()).unwrap_or(u64::MAX);
            match status {
                200 => {
                    report.accepted += 1;
                    report.latency.saturating_record(microseconds.max(1));
                }
                503 => {
                    report.turned_away += 1;
                    report.refusal.saturating_record(microseconds.max(1));
                }
                _ => report.failed += 1,
            }
        }
        report
    }

    fn request(&self, connection: usize, number: u64) -> Vec<u8> {
        // Exactly the same bytes again: another body under the same id would be a conflict.
        let number = if self.ids == Ids::Repeated { 0 } else { number };
        let order = ((connection as u64) << 40) | number;
        let id = match self.ids {
            Ids::Random => {
                let mixed = order.wrapping_mul(0x9e37_79b9_7f4a_7c15);
                format!("{mixed:016x}-{}-{connection}-{number}", self.prefix)
            }
            // After all ids that begin with a hexadecimal digit.
            Ids::Ascending => format!("z-{}-{number:016x}-{connection}", self.prefix),
            Ids::Repeated => format!("{}-{connection}", self.prefix),
        };
        // Of the same length either way.
        let (external, user) =
            if self.contact { ("externalId", "userId") } else { ("externalXX", "userXX") };
        let mut body = format!(
            r#"{{"eventId":"{id}","timestamp":"2026-03-01T12:00:00Z","type":"USER_INPUT_RECEIVED","{external}":"customer-{connection}","{user}":"user-{number}","payload":{{"input":{{"text":""#
        );
        fill(&mut body, self.body_bytes.saturating_sub(4));
        body.push_str(r#""}}}"#);
        let signature = sign(&self.secret, SignatureScheme::Base64, body.as_bytes());
        let mut request = format!(
            "POST /webhooks/cognigy HTTP/1.1\r\nHost: receiver\r\nContent-Type: application/json\r\n\
             X-Cognigy-Signature: {signature}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        request.push_str(&body);
        request.into_bytes()
    }
}

/// Makes a text longer with letters and digits that do not repeat, because PostgreSQL compresses
/// repeating text from 2 KB on.
fn fill(text: &mut String, length: usize) {
    static PIECE: OnceLock<String> = OnceLock::new();
    // A linear congruential generator (Knuth's MMIX). Its low bits repeat soonest, so the high bits
    // are used.
    let piece = PIECE.get_or_init(|| {
        let mut state = 1_u64;
        let digit = |_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            char::from_digit((state >> 59) as u32, 36).unwrap_or('x')
        };
        (0..1 << 16).map(digit).collect()
    });
    while text.len() < length {
        text.push_str(&piece[..piece.len().min(length - text.len())]);
    }
}

/// When a connection sends.
enum Turns {
    /// Closed loop: at once, until the end.
    Immediate(Instant),
    /// Open loop: at the times that the pacer gives out.
    Scheduled(UnboundedReceiver<Instant>),
}

impl Turns {
    async fn next(&mut self) -> Option<Instant> {
        match self {
            Self::Immediate(end) => Some(Instant::now()).filter(|now| now < end),
            Self::Scheduled(turns) => turns.recv().await,
        }
    }
}

/// Gives the connections their sending times, `rate` per second, whether or not the last answers
/// have arrived.
fn keep_time(
    connections: &[UnboundedSender<Instant>],
    rate: f64,
    started: Instant,
    duration: Duration,
) {
    for (number, connection) in (0_u64..).zip(connections.iter().cycle()) {
        #[allow(clippy::cast_precision_loss)]
        let planned = started + Duration::from_secs_f64(number as f64 / rate);
        if planned.duration_since(started) >= duration {
            return;
        }
        std::thread::sleep(planned.saturating_duration_since(Instant::now()));
        // A connection that could not be made again gets no more sending times.
        let _ = connection.send(planned);
    }
}

/// Sends a request and reads its answer. Returns the status.
async fn exchange(stream: &mut TcpStream, request: &[u8], answer: &mut [u8]) -> io::Result<u16> {
    stream.write_all(request).await?;
    let mut filled = 0;
    loop {
        let read = stream.read(&mut answer[filled..]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += read;
        if let Some(status) = whole_answer(&answer[..filled])? {
            return Ok(status);
        }
    }
}

/// The status, once head and body have arrived.
fn whole_answer(bytes: &[u8]) -> io::Result<Option<u16>> {
    let Some(head) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else {
        return Ok(None);
    };
    let text = std::str::from_utf8(&bytes[..head]).map_err(io::Error::other)?;
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok());
    let length = text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("content-length").then(|| value.trim().parse::<usize>().ok())?
    });
    match (status, length) {
        (Some(status), Some(length)) => Ok((bytes.len() >= head + 4 + length).then_some(status)),
        _ => Err(io::Error::other("an answer without status or length")),
    }
}
