//! Several look-ups in one request.

use std::{
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use cognigy_core::{Contact, TraceParent};
use futures_util::future::join_all;
use tokio::sync::oneshot;

use super::{CrmError, Inner, session::Session};

/// Collects look-ups for a short while and asks for their contacts in one request.
///
/// Each key gets an answer of its own. A key that the answer leaves open is looked up alone, and so is
/// each key of a batch that the CRM refuses: one key must not be the fault of the others.
///
/// ```
/// use std::time::Duration;
///
/// use cognigy_crm_http::{Batching, CrmPreset, TemplateCrm};
///
/// let crm = TemplateCrm::builder(CrmPreset::HubSpot.template()?)
///     .external_id_field("ext_id")
///     .token("a-token")
///     .batching(Batching::new(Duration::from_millis(5)).at_most(50))
///     .build()?;
/// # let _ = crm;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Batching {
    window: Duration,
    most: usize,
}

impl Batching {
    /// Collects for `window` after the first look-up of a batch. Some milliseconds are enough where
    /// many look-ups run at a time, and hardly delay them.
    #[must_use]
    pub fn new(window: Duration) -> Self {
        Self { window, most: usize::MAX }
    }

    /// At most so many contacts in one request, where the template allows more.
    #[must_use]
    pub fn at_most(mut self, contacts: usize) -> Self {
        self.most = contacts.max(1);
        self
    }
}

type Outcome = Result<Option<Contact>, CrmError>;

struct Waiting {
    key: String,
    traceparent: Option<TraceParent>,
    answer: oneshot::Sender<Outcome>,
}

/// The look-ups that wait for the next batch.
#[derive(Clone)]
pub(super) struct Batches {
    crm: Arc<Inner>,
    batching: Batching,
    waiting: Arc<Mutex<Vec<Waiting>>>,
}

impl Batches {
    pub(super) fn new(crm: Arc<Inner>, batching: Batching) -> Self {
        Self { crm, batching, waiting: Arc::default() }
    }

    /// Whether a batch can express the key.
    pub(super) fn takes(&self, key: &str) -> bool {
        self.crm.template.batch.as_ref().is_some_and(|batch| batch.key.takes(key))
    }

    pub(super) async fn look_up(&self, key: &str, traceparent: Option<TraceParent>) -> Outcome {
        let (answer, outcome) = oneshot::channel();
        let timeout = self.crm.timeout;
        self.join(Waiting { key: key.to_owned(), traceparent, answer });
        match tokio::time::timeout(timeout, outcome).await {
            Ok(outcome) => outcome.unwrap_or(Err(CrmError::CutShort)),
            Err(_) => Err(CrmError::Timeout(timeout)),
        }
    }

    /// The first one to wait starts the batch; the one that fills it sends it off.
    fn join(&self, waiting: Waiting) {
        let most = self.crm.template.batch.as_ref().map_or(1, |batch| batch.most);
        let most = most.min(self.batching.most);
        let mut queue = self.queue();
        queue.push(waiting);
        let (is_first, is_full) = (queue.len() == 1, queue.len() >= most);
        let full = if is_full { std::mem::take(&mut *queue) } else { Vec::new() };
        drop(queue);
        if is_full {
            tokio::spawn(ask(Arc::clone(&self.crm), full));
        } else if is_first {
            let this = self.clone();
            tokio::spawn(async move {
                tokio::time::sleep(this.batching.window).await;
                let batch = std::mem::take(&mut *this.queue());
                ask(this.crm, batch).await;
            });
        }
    }

    fn queue(&self) -> MutexGuard<'_, Vec<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl fmt::Debug for Batches {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batches").field("batching", &self.batching).finish_non_exhaustive()
    }
}

/// Asks for all contacts of a batch, and alone for those that its answer leaves open.
async fn ask(crm: Arc<Inner>, mut waiting: Vec<Waiting>) {
    // A caller that gave up meanwhile needs no answer.
    waiting.retain(|it| !it.answer.is_closed());
    let traceparent = waiting.iter().find_map(|it| it.traceparent);
    let mut keys: Vec<&str> = waiting.iter().map(|it| it.key.as_str()).collect();
    keys.sort_unstable();
    keys.dedup();
    let outcomes = match &crm.template.batch {
        Some(batch) if keys.len() > 1 => {
            let mut session = Session::new(&crm, traceparent);
            let asked = session.batch(batch, &keys);
            let answered = tokio::time::timeout(crm.timeout, asked).await;
            answered.unwrap_or(Err(CrmError::Timeout(crm.timeout)))
        }
        _ => Ok(keys.iter().map(|_| None).collect()),
    };
    let outcomes = match outcomes {
        Err(error) if error.is_of_request() => keys.iter().map(|_| None).collect(),
        Err(error) => keys.iter().map(|_| Some(Err(error.clone()))).collect(),
        Ok(outcomes) => outcomes,
    };
    let alone = keys.iter().zip(outcomes).map(async |(key, outcome)| match outcome {
        Some(outcome) => outcome,
        None => crm.look_up(key, traceparent).await,
    });
    let outcomes = join_all(alone).await;
    let outcomes: Vec<(String, Outcome)> =
        keys.iter().map(|key| (*key).to_owned()).zip(outcomes).collect();
    for Waiting { key, answer, .. } in waiting {
        let outcome = outcomes.iter().find(|(it, _)| *it == key);
        let outcome = outcome.map_or(Err(CrmError::CutShort), |(_, outcome)| outcome.clone());
        _ = answer.send(outcome);
    }
}
