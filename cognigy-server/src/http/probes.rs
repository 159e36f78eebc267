//! Probes and metrics: is the process alive, can it take events, what has it counted. They need no
//! token.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use actix_web::HttpResponse;
use cognigy_core::{Clock, Reply};
use tokio::sync::Mutex;

use super::{Shared, answer};
use crate::{app::App, telemetry::Seen};

/// An answer is kept this long: the probe writes to the disk, and any client may call it.
const PROBE_VALID: Duration = Duration::from_millis(500);
/// A store that needs more time than this is not ready.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// Whether events can be taken. The store is asked at most twice a second.
#[derive(Clone, Default)]
pub(super) struct Readiness {
    last: Arc<Mutex<Option<(Instant, bool)>>>,
    stopping: Arc<AtomicBool>,
}

impl Readiness {
    /// The process is stopping: it is not ready from now on.
    pub(super) fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    async fn check(&self, app: &App) -> bool {
        if self.is_stopping() {
            return false;
        }
        // The lock is held while the store is asked, so that many probes at once ask once.
        let mut last = self.last.lock().await;
        if let Some((_, ready)) = last.filter(|(asked, _)| asked.elapsed() < PROBE_VALID) {
            return ready;
        }
        let answer = tokio::time::timeout(PROBE_TIMEOUT, app.store.ready()).await;
        let ready = matches!(answer, Ok(Ok(())));
        *last = Some((Instant::now(), ready));
        ready
    }
}

pub(super) async fn healthz() -> HttpResponse {
    HttpResponse::Ok().json(serde_json::json!({ "status": "ok" }))
}

pub(super) async fn readyz(service: Shared) -> HttpResponse {
    if service.readiness.check(&service.app).await {
        HttpResponse::Ok().json(serde_json::json!({ "status": "ready" }))
    } else {
        let reply = Reply::problem(503, "Service Unavailable", "Events cannot be taken now");
        answer(&reply.with_retry_after(1))
    }
}

pub(super) async fn metrics(service: Shared) -> HttpResponse {
    let app = &service.app;
    // If the store does not answer, the counters are still right, and the store's gauges keep their
    // last values.
    let seen = Seen::of(app).await;
    let sources = app.pipelines.iter().map(|source| &*source.telemetry);
    match app.telemetry.render(sources, &seen, app.clock.now()) {
        Ok(text) => HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(text),
        Err(error) => {
            tracing::error!(%error, "metrics could not be written");
            answer(&Reply::problem(500, "Internal Server Error", "Metrics could not be written"))
        }
    }
}
