//! `/console/live` tells the script when the page has to be fetched again. It says nothing else, so that
//! all that a viewer may see is decided in one place: by the page.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use actix_web::{
    HttpResponse,
    http::header::{CACHE_CONTROL, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
    web::Bytes,
};
use cognigy_core::StoreError;
use cognigy_operator::Operator;
use futures_util::stream;
use sha2::{Digest, Sha256};
use tokio::sync::Mutex;

use super::{page::Sorry, session::Viewer};
use crate::{
    app::App,
    http::{ProblemResponse, Service, Shared},
};

/// How often the store is looked at while at least one page is watched, however many are.
const INTERVAL: Duration = Duration::from_secs(2);
/// A sign of life is sent at least this often, so that a proxy keeps the connection.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// A stream ends after this time. The browser comes again and shows its session again.
const LONGEST: Duration = Duration::from_secs(600);
/// How often a stream looks whether the server is stopping.
const TICK: Duration = Duration::from_millis(500);
/// The most streams: each holds a connection.
const MOST: usize = 64;

/// What the streams of a process share.
#[derive(Default)]
pub(crate) struct Live {
    watching: Arc<AtomicUsize>,
    last: Mutex<Option<(Instant, String)>>,
}

/// One of the streams. It counts as long as it lives.
struct Watching(Arc<AtomicUsize>);

impl Drop for Watching {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Live {
    fn enter(&self) -> Option<Watching> {
        let entered = Watching(Arc::clone(&self.watching));
        (self.watching.fetch_add(1, Ordering::Relaxed) < MOST).then_some(entered)
    }

    /// A short text that changes with what the pages show.
    async fn state(&self, app: &App, operator: &Operator) -> Result<String, Sorry> {
        // The lock is held while the store is asked, so that many streams at once ask once.
        let mut last = self.last.lock().await;
        if let Some((_, state)) = last.as_ref().filter(|(at, _)| at.elapsed() < INTERVAL) {
            return Ok(state.clone());
        }
        let mut stats = app.api.stats(operator).await?;
        // The age grows while nothing happens. A minute more is worth showing.
        stats.oldest_pending_seconds = (stats.oldest_pending_seconds / 60.0).floor();
        let breakers = app.pipelines.iter().map(|source| source.pipeline.breaker_is_open());
        let breakers: Vec<bool> = breakers.collect();
        let text = serde_json::to_string(&(stats, breakers)).unwrap_or_default();
        let state: String =
            Sha256::digest(text).iter().take(8).map(|byte| format!("{byte:02x}")).collect();
        *last = Some((Instant::now(), state.clone()));
        Ok(state)
    }
}

/// Where a stream is.
struct Stream {
    operator: Operator,
    service: Service,
    begun: Instant,
    told: Option<String>,
    told_at: Instant,
    _watching: Watching,
}

impl Stream {
    /// What is sent next. None at the end of the stream.
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            if self.begun.elapsed() > LONGEST || self.service.is_stopping() {
                return None;
            }
            // While the store does not answer, the page stays as it is.
            let Self { service, operator, .. } = &*self;
            let state = service.console.live.state(&service.app, operator).await.ok();
            if state.is_some() && state != self.told {
                self.told_at = Instant::now();
                let text = format!("data: {}\n\n", state.as_deref().unwrap_or_default());
                self.told = state;
                return Some(text.into());
            }
            if self.told_at.elapsed() > SIGN_OF_LIFE {
                self.told_at = Instant::now();
                return Some(Bytes::from_static(b": still here\n\n"));
            }
            tokio::time::sleep(TICK).await;
        }
    }
}

pub(super) async fn live(viewer: Viewer, service: Shared) -> Result<HttpResponse, Sorry> {
    let watching = service.console.live.enter().ok_or_else(|| {
        let detail = "Too many pages are being kept up to date: reload this one by hand";
        ProblemResponse::new(503, "Service Unavailable", detail)
    })?;
    let now = Instant::now();
    let service = Service::clone(&service);
    let operator = viewer.operator;
    let begun =
        Stream { operator, service, begun: now, told: None, told_at: now, _watching: watching };
    let body = stream::unfold(begun, |mut stream| async move {
        let text = stream.next().await?;
        Some((Ok::<_, StoreError>(text), stream))
    });
    Ok(HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "text/event-stream"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        // A proxy that gathers answers would hold each line back.
        .insert_header(("x-accel-buffering", "no"))
        .streaming(Box::pin(body)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_are_bounded() {
        let live = Live::default();
        let mut streams: Vec<_> = (0..MOST).map(|_| live.enter()).collect();
        assert!(streams.iter().all(Option::is_some));
        assert!(live.enter().is_none() && live.enter().is_none());
        streams.pop();
        assert!(live.enter().is_some());
    }
}
