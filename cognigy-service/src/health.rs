//! Whether a service can take events and work them off, for probes.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use cognigy_core::{Reply, SourceName, Store};
use tokio::sync::Mutex;

/// An answer of the store is kept this long: the probe writes to the disk, and any client may call it.
const VALID: Duration = Duration::from_millis(500);
/// A store that needs more time than this is not ready.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Whether events can be taken. The stores are asked at most twice a second. Cheap to clone.
///
/// ```
/// use std::sync::Arc;
///
/// use cognigy_core::{Store, memory::MemoryStore};
/// use cognigy_service::{Readiness, readiness};
///
/// # #[tokio::main]
/// # async fn main() {
/// let stores: [Arc<dyn Store>; 1] = [Arc::new(MemoryStore::new())];
/// let ready = Readiness::default();
/// assert_eq!(readiness(ready.check(&stores).await).status(), 200);
/// ready.stop();
/// assert_eq!(readiness(ready.check(&stores).await).status(), 503);
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct Readiness {
    last: Arc<Mutex<Option<(Instant, bool)>>>,
    stopping: Arc<AtomicBool>,
}

impl Readiness {
    /// The process is stopping: it is not ready from now on.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    /// Whether the process is stopping.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// Whether every one of `stores` can take events now. It is not while the process is stopping.
    pub async fn check(&self, stores: &[Arc<dyn Store>]) -> bool {
        !self.is_stopping() && self.stores_are_ready(stores).await
    }

    /// Whether every one of `stores` can take events now.
    pub(crate) async fn stores_are_ready(&self, stores: &[Arc<dyn Store>]) -> bool {
        // The lock is held while the stores are asked, so that many probes at once ask once.
        let mut last = self.last.lock().await;
        if let Some((_, ready)) = last.filter(|(asked, _)| asked.elapsed() < VALID) {
            return ready;
        }
        let all = futures_util::future::try_join_all(stores.iter().map(|store| store.ready()));
        let ready = matches!(tokio::time::timeout(TIMEOUT, all).await, Ok(Ok(_)));
        *last = Some((Instant::now(), ready));
        ready
    }
}

/// How a service is.
///
/// ```
/// use cognigy_core::{Pipeline, memory::MemoryStore, testing::sample};
/// use cognigy_service::Service;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let pipeline = Pipeline::builder(sample::verifier()).store(MemoryStore::new()).build()?;
/// let service = Service::builder(pipeline).start().await?;
/// let health = service.health().await;
/// assert!(health.is_ready() && health.is_alive());
/// service.shutdown().await;
/// let health = service.health().await;
/// assert!(health.is_stopping && !health.is_ready());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Health {
    /// Whether the store can take events, as it said within the last half second.
    pub store_is_ready: bool,
    /// The sources whose workers have ended although they were not asked to.
    pub ended_workers: Vec<SourceName>,
    /// Whether the service was asked to stop.
    pub is_stopping: bool,
}

impl Health {
    /// Whether events can be taken: a balancer may send some.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.store_is_ready && !self.is_stopping
    }

    /// Whether the process can go on as it is. If it cannot, it has to be restarted.
    #[must_use]
    pub fn is_alive(&self) -> bool {
        self.ended_workers.is_empty()
    }
}

/// The answer to `/readyz`: 200, or 503 while events cannot be taken.
///
/// ```
/// let reply = cognigy_service::readiness(false);
/// assert_eq!(reply.status(), 503);
/// assert!(reply.headers().any(|(name, _)| name == "Retry-After"));
/// ```
#[must_use]
pub fn readiness(is_ready: bool) -> Reply {
    match is_ready {
        true => Reply::json(200, r#"{"status":"ready"}"#),
        false => Reply::problem(503, "Service Unavailable", "Events cannot be taken now")
            .with_retry_after(1),
    }
}

/// The answer to `/healthz`: 200, or 503 once a worker has ended although it was not asked to, so that the
/// process has to be restarted.
///
/// ```
/// let reply = cognigy_service::liveness(&["shop".parse()?]);
/// assert_eq!(reply.status(), 503);
/// assert!(String::from_utf8_lossy(reply.body()).contains("shop"));
/// # Ok::<_, cognigy_core::InvalidSourceName>(())
/// ```
#[must_use]
pub fn liveness(ended_workers: &[SourceName]) -> Reply {
    if ended_workers.is_empty() {
        return Reply::json(200, r#"{"status":"ok"}"#);
    }
    let names: Vec<_> = ended_workers.iter().map(SourceName::as_str).collect();
    let detail = format!(
        "A worker has ended unexpectedly, of: {}. Restart the process: until then its events wait",
        names.join(", ")
    );
    Reply::problem(503, "Service Unavailable", &detail)
}
