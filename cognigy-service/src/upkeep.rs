//! What a store needs done for as long as a service runs: forget what is older than the retention, and the
//! bodies of sensitive events once they are processed; and describe new events in the search index.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cognigy_core::{
    Clock, PurgeRequest, Purged, Store, StoreError, Timestamp, search_index::IndexRequest,
};
use tokio::task::JoinHandle;

use crate::happening::{Happening, ServiceObserver};

/// How often finished events are checked against the retention.
const PURGE_INTERVAL: Duration = Duration::from_secs(600);
/// How often the bodies of sensitive events are looked for. An index holds just those.
const SENSITIVE_INTERVAL: Duration = Duration::from_secs(1);
/// How many events one transaction deletes. That takes a few milliseconds, so deliveries hardly wait.
const PURGE_BATCH: usize = 500;
/// The pause between two such transactions, in which deliveries are written.
const PURGE_PAUSE: Duration = Duration::from_millis(20);

/// How often it is looked whether there are events to describe in the index.
const INDEX_INTERVAL: Duration = Duration::from_secs(2);
/// After each step of the index it rests so many times as long as the step took: at full load, deliveries and
/// workers need the processor.
const INDEX_REST: u32 = 3;

/// How long finished events are kept unless set otherwise: 30 days.
pub const DEFAULT_RETENTION: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// How long what is stored is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// Processed and discarded events, and bodies that were refused as invalid. Default:
    /// [`DEFAULT_RETENTION`].
    pub finished: Duration,
    /// Dead-lettered events that no operator has dealt with, and conflicts. None: for ever, the default.
    pub dead_letters: Option<Duration>,
    /// The bodies of sensitive events, after they were processed. Default: no time at all.
    pub sensitive: Duration,
}

impl Default for Retention {
    fn default() -> Self {
        Self { finished: DEFAULT_RETENTION, dead_letters: None, sensitive: Duration::ZERO }
    }
}

impl Retention {
    /// Asks a store to forget what is too old at `now`, at most `limit` events at once.
    #[must_use]
    pub fn request(&self, now: Timestamp, limit: usize) -> PurgeRequest {
        PurgeRequest {
            before: now - self.finished,
            unresolved_before: self.dead_letters.map(|retention| now - retention),
            limit,
            after: None,
        }
    }
}

/// What is done for stores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UpkeepOptions {
    /// How long what is stored is kept.
    pub retention: Retention,
    /// Whether the index is kept by which lists find words and contacts. Default: yes. Without it they read
    /// events, some ten thousand for each page.
    pub search_index: bool,
}

impl Default for UpkeepOptions {
    fn default() -> Self {
        Self { retention: Retention::default(), search_index: true }
    }
}

/// Tends stores in tasks of its own, until it is stopped or dropped. A [`Service`](crate::Service) has one.
///
/// ```
/// use std::{sync::Arc, time::Duration};
///
/// use cognigy_core::{Silent, TokioClock, memory::MemoryStore};
/// use cognigy_service::{Retention, Upkeep, UpkeepOptions};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let retention =
///     Retention { finished: Duration::from_secs(7 * 24 * 60 * 60), ..Retention::default() };
/// let options = UpkeepOptions { retention, ..UpkeepOptions::default() };
/// let store = Arc::new(MemoryStore::new());
/// let upkeep =
///     Upkeep::start(vec![store], Arc::new(TokioClock::new()), options, Arc::new(Silent));
/// // … for as long as the program runs. It ends when it is dropped, too.
/// upkeep.stop();
/// # }
/// ```
#[derive(Debug)]
pub struct Upkeep(Vec<JoinHandle<()>>);

impl Upkeep {
    /// Begins to tend `stores` on the current tokio runtime. Tells `observer` what it did.
    #[must_use]
    pub fn start(
        stores: Vec<Arc<dyn Store>>,
        clock: Arc<dyn Clock>,
        options: UpkeepOptions,
        observer: Arc<dyn ServiceObserver>,
    ) -> Self {
        let tender = Tender { stores, clock, retention: options.retention, observer };
        let mut tasks = vec![
            tokio::spawn(tender.clone().purge()),
            tokio::spawn(tender.clone().forget_sensitive()),
        ];
        if options.search_index {
            tasks.push(tokio::spawn(tender.index()));
        }
        Self(tasks)
    }

    /// Does no more. What a store is doing at this moment ends by itself.
    pub fn stop(&self) {
        self.0.iter().for_each(JoinHandle::abort);
    }
}

impl Drop for Upkeep {
    fn drop(&mut self) {
        self.stop();
    }
}

#[derive(Clone)]
struct Tender {
    stores: Vec<Arc<dyn Store>>,
    clock: Arc<dyn Clock>,
    retention: Retention,
    observer: Arc<dyn ServiceObserver>,
}

impl Tender {
    /// Forgets what is older than the retention.
    async fn purge(self) {
        loop {
            for store in &self.stores {
                let began = Instant::now();
                let outcome = self.purge_once(&**store).await;
                self.observer.happened(&match &outcome {
                    Ok(()) => Happening::PurgeEnded { duration: began.elapsed() },
                    Err(error) => Happening::PurgeFailed { error },
                });
            }
            tokio::time::sleep(PURGE_INTERVAL).await;
        }
    }

    async fn purge_once(&self, store: &dyn Store) -> Result<(), StoreError> {
        let mut request = self.retention.request(self.clock.now(), PURGE_BATCH);
        let mut total = Purged::default();
        let outcome = loop {
            match store.purge(request).await {
                Ok(step) => {
                    total.add(&step.purged);
                    request.after = step.next;
                    if request.after.is_none() {
                        break Ok(());
                    }
                    tokio::time::sleep(PURGE_PAUSE).await;
                }
                Err(error) => break Err(error),
            }
        };
        if !total.is_empty() {
            self.observer.happened(&Happening::Forgot { purged: &total });
        }
        outcome
    }

    /// Forgets the bodies of sensitive events that were processed.
    async fn forget_sensitive(self) {
        loop {
            tokio::time::sleep(SENSITIVE_INTERVAL).await;
            let before = self.clock.now() - self.retention.sensitive;
            for store in &self.stores {
                let outcome = store.forget_sensitive(before, PURGE_BATCH).await;
                self.observer.happened(&match &outcome {
                    Ok(count) => Happening::ForgotSensitive { count: *count },
                    Err(error) => Happening::ForgetSensitiveFailed { error },
                });
            }
        }
    }

    /// Describes events in the stores' indexes, and describes anew what has changed.
    async fn index(self) {
        loop {
            let mut more = false;
            for store in &self.stores {
                let began = Instant::now();
                let outcome = store.index(&IndexRequest::at(self.clock.now())).await;
                match &outcome {
                    Ok(true) => {
                        more = true;
                        tokio::time::sleep(began.elapsed() * INDEX_REST).await;
                    }
                    Ok(false) => {}
                    Err(error) => self.observer.happened(&Happening::IndexFailed { error }),
                }
            }
            if !more {
                tokio::time::sleep(INDEX_INTERVAL).await;
            }
        }
    }
}
