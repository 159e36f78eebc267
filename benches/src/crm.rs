//! The CRM path: look-ups over real HTTP, beside a bare loop that sends the same requests.

use std::{
    error::Error,
    future::Future,
    io,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use cognigy_core::{
    BoxError, ContactQuery, CrmClient, EventArchive, Failure, Pipeline, Secret, SignatureVerifier,
    State, TokioClock, Worker, WorkerOptions,
};
use cognigy_crm_http::{CoalescingCrm, HttpCrm};
use futures_util::future::try_join_all;
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::LocalSet,
};

use crate::process::fill_with;

/// Look-ups in flight: the server's default.
pub const IN_FLIGHT: usize = 64;

/// A contact of half a KiB, as one answer with its head.
fn answer() -> Vec<u8> {
    let contact = format!(r#"{{"id":"crm-1","name":"Ada","note":"{}"}}"#, "x".repeat(470));
    let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: ";
    format!("{head}{}\r\n\r\n{contact}", contact.len()).into_bytes()
}

/// A CRM that costs little itself: one thread, no HTTP library, the same answer to every request.
/// It runs as long as the process.
pub struct StandIn {
    address: SocketAddr,
    requests: Arc<AtomicU64>,
}

impl StandIn {
    /// Starts one that answers after `latency`.
    ///
    /// # Errors
    /// No port is free, or no thread can be started.
    pub fn start(latency: Duration) -> io::Result<Self> {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        let requests = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&requests);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        std::thread::Builder::new().name("stand-in CRM".to_owned()).spawn(move || {
            LocalSet::new().block_on(&runtime, async move {
                let listener = TcpListener::from_std(listener)?;
                let answer: Arc<[u8]> = answer().into();
                loop {
                    let (stream, _) = listener.accept().await?;
                    let talk = converse(stream, Arc::clone(&answer), latency, counter.clone());
                    tokio::task::spawn_local(talk);
                }
                #[allow(unreachable_code)]
                io::Result::Ok(())
            })
        })?;
        Ok(Self { address, requests })
    }

    /// Its base URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// How many requests it has seen.
    #[must_use]
    pub fn requests(&self) -> u64 {
        self.requests.load(Relaxed)
    }
}

/// Answers one request after the other; any error ends the connection.
async fn converse(
    mut stream: TcpStream,
    answer: Arc<[u8]>,
    latency: Duration,
    requests: Arc<AtomicU64>,
) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = vec![0; 16 * 1024];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Ok(());
        }
        filled += read;
        // One request at a time, without a body: the client sends the next when it has its answer.
        if buffer[..filled].ends_with(b"\r\n\r\n") {
            filled = 0;
            requests.fetch_add(1, Relaxed);
            if !latency.is_zero() {
                tokio::time::sleep(latency).await;
            }
            stream.write_all(&answer).await?;
        }
    }
}

/// The result of a run.
#[derive(Debug, Clone, Copy)]
pub struct Rate {
    /// Look-ups answered, or events processed, a second.
    pub per_second: f64,
    /// Requests that the CRM saw meanwhile.
    pub requests: u64,
}

/// Asks `crm` for `count` contacts, [`IN_FLIGHT`] at a time in tasks of their own, over `keys`
/// different keys.
///
/// # Errors
/// A look-up failed, or found no contact.
pub async fn look_ups(
    crm: impl CrmClient + Clone,
    stand_in: &StandIn,
    count: u64,
    keys: u64,
) -> Result<Rate, Box<dyn Error>> {
    in_flight(stand_in, count, move |number| {
        let crm = crm.clone();
        async move {
            let query = ContactQuery {
                contact_key: format!("customer-{}", number % keys),
                idempotency_key: format!("cognigy/evt-{number:016x}/1"),
                traceparent: None,
                fresh: false,
            };
            match crm.find_contact(&query).await {
                Ok(Some(_)) => Ok(()),
                Ok(None) => Err("found no contact".into()),
                Err(failure) => Err(failure.report().into()),
            }
        }
    })
    .await
}

/// The peer: a loop around an unmodified reqwest client that sends the same requests and discards
/// the answers' bytes.
///
/// # Errors
/// A request failed.
pub async fn bare(stand_in: &StandIn, count: u64) -> Result<Rate, Box<dyn Error>> {
    // Never used, but without its default provider reqwest needs one.
    let tls = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(RootCertStore::empty())
        .with_no_client_auth();
    let client = reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls).build()?;
    let url = stand_in.url();
    in_flight(stand_in, count, move |number| {
        let request = client
            .get(format!("{url}/v1/contacts?external_id=customer-{number}"))
            .header("Accept", "application/json")
            .header("Idempotency-Key", format!("{number:064x}"))
            .header("Authorization", "Bearer token");
        async move {
            request.send().await?.error_for_status()?.bytes().await?;
            Ok(())
        }
    })
    .await
}

/// Makes `count` calls, [`IN_FLIGHT`] at a time: each of as many tasks makes one after the other.
async fn in_flight<F>(
    stand_in: &StandIn,
    count: u64,
    call: impl Fn(u64) -> F + Clone + Send + 'static,
) -> Result<Rate, Box<dyn Error>>
where
    F: Future<Output = Result<(), BoxError>> + Send,
{
    let before = stand_in.requests();
    let started = Instant::now();
    let tasks = (0..count).take(IN_FLIGHT).map(|first| {
        let call = call.clone();
        tokio::spawn(async move {
            for number in (first..count).step_by(IN_FLIGHT) {
                call(number).await?;
            }
            Ok::<(), BoxError>(())
        })
    });
    for ended in try_join_all(tasks).await? {
        ended.map_err(|error| error.to_string())?;
    }
    Ok(Rate { per_second: rate(count, started.elapsed()), requests: stand_in.requests() - before })
}

/// Processes `count` waiting events, each of a contact of its own, with the worker on SQLite and a
/// handler that does nothing.
///
/// # Errors
/// The store cannot be used.
pub async fn worker(path: &Path, stand_in: &StandIn, count: u64) -> Result<Rate, Box<dyn Error>> {
    let store = fill_with(path, (0..count).map(event)).await?;
    let pipeline = Pipeline::builder(SignatureVerifier::new(&Secret::new("unused secret")?))
        .store(store.clone())
        .crm(CoalescingCrm::new(client(stand_in)?))
        .handler(|_, _| async { Ok::<(), Failure>(()) })
        .build()?;
    let before = stand_in.requests();
    let started = Instant::now();
    let worker = Worker::spawn_with(pipeline, TokioClock::new(), WorkerOptions::default());
    while store.counts().await?.of(State::Processed) < count {
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    let per_second = rate(count, started.elapsed());
    worker.shutdown().await;
    Ok(Rate { per_second, requests: stand_in.requests() - before })
}

/// The client of the bundled server.
///
/// # Errors
/// TLS cannot be set up.
pub fn client(stand_in: &StandIn) -> Result<HttpCrm, Box<dyn Error>> {
    Ok(HttpCrm::builder(stand_in.url()).bearer_token("token").build()?)
}

/// A 512-byte event of a contact of its own.
fn event(number: u64) -> Vec<u8> {
    let id = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut body = format!(
        r#"{{"eventId":"{id:016x}-{number}","timestamp":"2026-03-01T12:00:00Z","type":"USER_INPUT_RECEIVED","externalId":"customer-{number}","payload":{{"input":""#
    );
    let filler = 512_usize.saturating_sub(body.len() + 3);
    body.extend(std::iter::repeat_n('x', filler));
    body.push_str(r#""}}"#);
    body.into_bytes()
}

#[allow(clippy::cast_precision_loss)]
fn rate(count: u64, time: Duration) -> f64 {
    count as f64 / time.as_secs_f64()
}
