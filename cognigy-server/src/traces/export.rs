//! Sends finished spans to the collector, in batches, from a thread of its own.

use std::{
    sync::mpsc,
    thread,
    time::{Duration, SystemTime},
};

use cognigy_http::{BaseUrl, ClientOptions, read_at_most, retry_after};
use prometheus::{IntCounterVec, Opts};
use reqwest::{Client, Url, header::CONTENT_TYPE};
use serde_json::Value;
use tokio::{
    sync::{mpsc as tokio_mpsc, watch},
    time::{sleep, timeout},
};

use super::{
    ids::Ids,
    otlp::{self, hex},
    tracer::FinishedSpan,
};
use crate::{error::StartError, settings::Collector};

/// How many finished spans may wait. At 300 bytes each, that is less than a MiB; at 1 % of 10,000 events
/// a second with six spans each, it is three seconds.
const WAITING: usize = 2048;
/// The most spans in one request: what OpenTelemetry's own exporters send.
const BATCH: usize = 512;
/// How long spans are collected for one request.
const WINDOW: Duration = Duration::from_secs(1);
/// The time for one request.
const TIMEOUT: Duration = Duration::from_secs(5);
/// A batch is tried so often. Its spans are dropped then, so that later ones have a chance.
const TRIES: u32 = 3;
/// The pause before the second try, which doubles; the longest that a collector may ask for.
const PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// How long the end of the process may wait for what is left.
const LAST_CHANCE: Duration = Duration::from_secs(3);
/// How much is read of an answer, so that its connection can be used again.
const DRAINED_BYTES: usize = 16 * 1024;

/// What became of a span.
const SENT: &str = "sent";
const DROPPED: &str = "dropped";
const FAILED: &str = "failed";

/// Where finished spans go.
#[derive(Clone)]
pub(super) struct Queue {
    sender: tokio_mpsc::Sender<FinishedSpan>,
    spans: IntCounterVec,
}

impl Queue {
    /// Takes a span, or drops it if too many wait. It never waits.
    pub(super) fn put(&self, span: FinishedSpan) {
        if self.sender.try_send(span).is_err() {
            self.spans.with_label_values(&[DROPPED]).inc();
        }
    }

    pub(super) fn spans(&self) -> IntCounterVec {
        self.spans.clone()
    }
}

/// The thread that sends. Dropping it sends what is left, for [`LAST_CHANCE`] at most.
pub(super) struct Export {
    stop: watch::Sender<bool>,
    ended: mpsc::Receiver<()>,
}

impl Export {
    pub(super) fn start(
        collector: &Collector,
        proxy_from_env: bool,
    ) -> Result<(Self, Queue), StartError> {
        let failed = |error: &dyn std::error::Error| StartError::failed("traces", error);
        let base = BaseUrl::parse(&collector.url).map_err(|error| failed(&error))?;
        let mut options = ClientOptions::new(concat!("cognigy-server/", env!("CARGO_PKG_VERSION")));
        options.timeout = TIMEOUT;
        options.proxy_from_env = proxy_from_env;
        let http = cognigy_http::client(&base, &options).map_err(|error| failed(&error))?;
        let spans = Opts::new(
            "cognigy_spans_total",
            "Recorded spans: sent to the collector, dropped because too many waited, or failed because \
             the collector did not take them",
        );
        let spans = IntCounterVec::new(spans, &["outcome"]).map_err(|error| failed(&error))?;
        for outcome in [SENT, DROPPED, FAILED] {
            spans.with_label_values(&[outcome]).inc_by(0);
        }
        let (sender, receiver) = tokio_mpsc::channel(WAITING);
        let (stop, stopping) = watch::channel(false);
        let (done, ended) = mpsc::channel();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| failed(&error))?;
        let instance = hex(&Ids::new().trace());
        let exporter = Exporter {
            http,
            url: base.join(&["v1", "traces"]),
            resource: otlp::resource(&instance),
            spans: spans.clone(),
            stopping,
            is_out_of_reach: false,
        };
        let work = move || {
            runtime.block_on(exporter.run(receiver));
            // The other side may have stopped waiting.
            let _ = done.send(());
        };
        let thread = thread::Builder::new().name("traces".to_owned()).spawn(work);
        thread.map_err(|error| failed(&error))?;
        Ok((Self { stop, ended }, Queue { sender, spans }))
    }
}

impl Drop for Export {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        let _ = self.ended.recv_timeout(LAST_CHANCE);
    }
}

struct Exporter {
    http: Client,
    url: Url,
    resource: Value,
    spans: IntCounterVec,
    stopping: watch::Receiver<bool>,
    /// Whether the last batch was not taken: only the first of them is told.
    is_out_of_reach: bool,
}

/// Why a batch was not taken, and when to try again, if that can help.
struct Refused {
    reason: String,
    again_in: Option<Duration>,
}

impl Exporter {
    async fn run(mut self, mut receiver: tokio_mpsc::Receiver<FinishedSpan>) {
        let mut stopping = self.stopping.clone();
        loop {
            let mut batch = Vec::new();
            tokio::select! {
                _ = stopping.wait_for(|stop| *stop) => receiver.close(),
                received = receiver.recv_many(&mut batch, BATCH) => if received == 0 { return },
            }
            let window = sleep(WINDOW);
            tokio::pin!(window);
            while batch.len() < BATCH {
                let room = BATCH - batch.len();
                tokio::select! {
                    biased;
                    received = receiver.recv_many(&mut batch, room) => if received == 0 { break },
                    _ = stopping.wait_for(|stop| *stop), if !receiver.is_closed() => receiver.close(),
                    () = &mut window => break,
                }
            }
            if !batch.is_empty() {
                self.export(&batch).await;
            }
        }
    }

    async fn export(&mut self, batch: &[FinishedSpan]) {
        let body = otlp::request(&self.resource, batch).to_string();
        let count = u64::try_from(batch.len()).unwrap_or(u64::MAX);
        let mut pause = PAUSE;
        for attempt in 1.. {
            let refused = match self.send(body.clone()).await {
                Ok(()) => {
                    self.spans.with_label_values(&[SENT]).inc_by(count);
                    if std::mem::take(&mut self.is_out_of_reach) {
                        tracing::info!("the collector of traces takes spans again");
                    }
                    return;
                }
                Err(refused) => refused,
            };
            match refused.again_in {
                Some(asked) if attempt < TRIES && !*self.stopping.borrow() => {
                    let wait = asked.clamp(pause, LONGEST_PAUSE);
                    // The end of the process ends the wait: then it is tried once more.
                    let _ = timeout(wait, self.stopping.wait_for(|stop| *stop)).await;
                    pause *= 2;
                }
                _ => {
                    self.spans.with_label_values(&[FAILED]).inc_by(count);
                    if !std::mem::replace(&mut self.is_out_of_reach, true) {
                        let error = refused.reason;
                        tracing::warn!(
                            error,
                            "the collector of traces takes no spans: they are lost"
                        );
                    }
                    return;
                }
            }
        }
    }

    async fn send(&self, body: String) -> Result<(), Refused> {
        let request = self.http.post(self.url.clone()).header(CONTENT_TYPE, "application/json");
        let response = request.body(body).send().await.map_err(|error| Refused {
            reason: cognigy_core::report(&error.without_url()),
            again_in: Some(Duration::ZERO),
        })?;
        let status = response.status();
        let asked = retry_after(response.headers(), SystemTime::now());
        read_at_most(response, DRAINED_BYTES).await;
        if status.is_success() {
            return Ok(());
        }
        // The statuses that OTLP calls retryable.
        let may_pass = matches!(status.as_u16(), 429 | 502 | 503 | 504);
        let again_in = may_pass.then(|| asked.unwrap_or_default());
        Err(Refused { reason: format!("it answers {status}"), again_in })
    }
}
