//! [`CoalescingCrm`]: one look-up for all callers that ask for the same contact at the same time.
//!
//! ```text
//!  find_contact ─┬─ remembered ────────────────────────────▶ Ok(Some(contact))
//!                ├─ on its way: wait for it too ──────┐
//!                └─ neither: ask the client within ───┴────▶ the outcome, for all who wait
//! ```

use std::{
    collections::HashMap,
    fmt,
    panic::AssertUnwindSafe,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use async_trait::async_trait;
use cognigy_core::{Contact, ContactQuery, CrmClient, Failure, FailureKind, FailureScope};
use futures_util::{
    FutureExt,
    future::{BoxFuture, Shared, WeakShared},
};
use tokio::time::Instant;

use crate::cache::{Bounds, Cache, LookUp};

/// Sends identical look-ups that are in flight at the same time only once, with any client; and, if
/// configured, remembers found contacts for a short while. Cheap to clone; clones share everything.
///
/// * Two look-ups are identical when they name the same contact key. All waiting callers share the
///   outcome: a failure too, with its kind, its wait and its scope.
/// * The look-up carries the idempotency key and the trace of the first caller. This is safe because a look-up
///   changes nothing in the CRM; do not wrap a client for which it is not safe.
/// * The client's own time limit counts from the first caller's question. A caller that joins late
///   may soon share a timeout; the timeout is transient, and the next attempt asks anew.
/// * A caller that gives up waiting, even the first one, does not affect the others. When the last
///   caller gives up, the look-up is dropped.
/// * A panic of the client is a transient failure for all waiting callers.
/// * [`fresh`](ContactQuery::fresh) look-ups neither join one that is on its way nor are answered
///   from memory; from then on no caller is answered with a result that was asked for before them.
///
/// No more look-ups are in flight than callers wait, so the number of callers bounds the memory.
///
/// ```
/// use std::time::Duration;
///
/// use cognigy_crm_http::{CoalescingCrm, HttpCrm};
///
/// # fn main() -> Result<(), cognigy_crm_http::ConfigError> {
/// let crm = HttpCrm::builder("https://crm.example").build()?;
/// let crm = CoalescingCrm::new(crm).remembering(Duration::from_secs(30));
/// # Ok(())
/// # }
/// ```
pub struct CoalescingCrm<C>(Arc<Inner<C>>);

struct Inner<C> {
    crm: C,
    state: Mutex<State>,
    by_coalescing: AtomicU64,
    by_memory: AtomicU64,
}

struct State {
    /// How many look-ups have begun; the latest one's number.
    begun: u64,
    on_their_way: HashMap<Arc<str>, OnItsWay>,
    cache: Cache,
}

/// The look-up that others may join. Only the waiting callers keep it alive.
struct OnItsWay {
    number: u64,
    look_up: WeakShared<BoxFuture<'static, Outcome>>,
}

type Outcome = Result<Option<Contact>, Arc<Failure>>;
type SharedLookUp = Shared<BoxFuture<'static, Outcome>>;

/// How many look-ups were answered without asking the client, since the start.
///
/// ```
/// use std::time::Duration;
///
/// use cognigy_core::{CrmClient, testing::{CrmAnswer, ScriptedCrm, crm_conformance::query}};
/// use cognigy_core::ContactQuery;
/// use cognigy_crm_http::CoalescingCrm;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), cognigy_core::Failure> {
/// let crm = ScriptedCrm::answering(CrmAnswer::Found(r#"{"name":"Ada"}"#.into()));
/// let coalescing = CoalescingCrm::new(crm.clone()).remembering(Duration::from_secs(30));
/// let query = ContactQuery { fresh: false, ..query("customer-7") };
/// coalescing.find_contact(&query).await?;
/// coalescing.find_contact(&query).await?; // remembered
/// assert_eq!((crm.queries().len(), coalescing.spared().by_memory), (1, 1));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spared {
    /// By a look-up that was on its way.
    pub by_coalescing: u64,
    /// By what was remembered.
    pub by_memory: u64,
}

enum Answer {
    Known(Contact),
    Awaited(SharedLookUp),
}

impl<C: CrmClient> CoalescingCrm<C> {
    /// Coalesces look-ups of `crm`, and remembers nothing.
    pub fn new(crm: C) -> Self {
        let cache = Cache::new(Duration::ZERO, Bounds::DEFAULT);
        let state = State { begun: 0, on_their_way: HashMap::new(), cache };
        Self(Arc::new(Inner {
            crm,
            state: Mutex::new(state),
            by_coalescing: AtomicU64::new(0),
            by_memory: AtomicU64::new(0),
        }))
    }

    /// Answers from memory for `span` after a contact was asked for. A span of zero, the default,
    /// never does.
    ///
    /// Only contacts that were found are remembered. An unknown contact may be created a moment
    /// later, often by the very dialogue that asks, and a handler that is told "not found" would
    /// create it again. Failures are not remembered either. Memory is bounded (4096 contacts, 16
    /// MiB); the oldest answers go first. Each process has its own memory: where several processes
    /// share the work, the others notice a change after `span` at the latest.
    #[must_use]
    pub fn remembering(self, span: Duration) -> Self {
        self.0.state().cache = Cache::new(span, Bounds::DEFAULT);
        self
    }

    /// How many look-ups were answered without asking the client.
    #[must_use]
    pub fn spared(&self) -> Spared {
        Spared {
            by_coalescing: self.0.by_coalescing.load(Relaxed),
            by_memory: self.0.by_memory.load(Relaxed),
        }
    }
}

impl<C: CrmClient> Inner<C> {
    /// The remembered contact, or a look-up to wait for: the one on its way if there is one, or a
    /// new one.
    fn take_up(self: &Arc<Self>, query: &ContactQuery) -> Answer {
        let now = Instant::now();
        let mut state = self.state();
        let State { begun, on_their_way, cache } = &mut *state;
        if query.fresh {
            cache.forget(&query.contact_key);
        } else if let Some(contact) = cache.get(&query.contact_key, now) {
            self.by_memory.fetch_add(1, Relaxed);
            return Answer::Known(contact);
        } else if let Some(look_up) =
            on_their_way.get(query.contact_key.as_str()).and_then(|it| it.look_up.upgrade())
        {
            self.by_coalescing.fetch_add(1, Relaxed);
            return Answer::Awaited(look_up);
        }
        *begun += 1;
        let key: Arc<str> = query.contact_key.as_str().into();
        let look_up = LookUp { number: *begun, began: now };
        let entry = Entry { inner: Arc::clone(self), key: Arc::clone(&key), look_up };
        let shared = ask(entry, query.clone()).boxed().shared();
        // There is nothing to join only in a future that has already ended.
        if let Some(weak) = shared.downgrade() {
            // An older look-up that is still on its way goes on for the callers that wait for it.
            // No caller joins it any more, and its result does not enter the cache.
            on_their_way.insert(key, OnItsWay { number: look_up.number, look_up: weak });
        }
        Answer::Awaited(shared)
    }
}

impl<C> Inner<C> {
    fn state(&self) -> MutexGuard<'_, State> {
        // Nothing under the lock panics between two changes that belong together.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Asks the client for all callers, and removes the look-up afterwards.
async fn ask<C: CrmClient>(entry: Entry<C>, query: ContactQuery) -> Outcome {
    let crm = &entry.inner.crm;
    // The panic is caught here, because a shared future that panics leaves the other callers
    // waiting for ever.
    let answer = AssertUnwindSafe(async { crm.find_contact(&query).await }).catch_unwind().await;
    let outcome = answer
        .unwrap_or_else(|_panic| Err(Failure::transient("the CRM client panicked")))
        .map_err(Arc::new);
    entry.end(&outcome);
    outcome
}

/// A look-up's entry among those that can be joined, until it ends or all its callers have given
/// up.
struct Entry<C> {
    inner: Arc<Inner<C>>,
    key: Arc<str>,
    look_up: LookUp,
}

impl<C> Entry<C> {
    /// Removes this look-up and remembers the contact that was found. Both happen in one step, so
    /// that no call can start between them.
    fn end(&self, outcome: &Outcome) {
        let mut state = self.inner.state();
        if self.leave(&mut state)
            && let Ok(Some(contact)) = outcome
        {
            state.cache.put(&self.key, self.look_up, contact.clone(), Instant::now());
        }
    }

    /// Whether it was still the one to join, rather than replaced by a fresh look-up.
    fn leave(&self, state: &mut State) -> bool {
        let on_their_way = &mut state.on_their_way;
        let current = on_their_way.get(&self.key).map(|it| it.number);
        let is_current = current == Some(self.look_up.number);
        if is_current {
            on_their_way.remove(&self.key);
        }
        is_current
    }
}

impl<C> Drop for Entry<C> {
    fn drop(&mut self) {
        self.leave(&mut self.inner.state());
    }
}

/// The failure for one of the callers that share it: same kind, same wait, same scope, same report.
fn share(failure: Arc<Failure>) -> Failure {
    // The only or last caller gets the failure as it is.
    Arc::try_unwrap(failure).unwrap_or_else(|failure| {
        let message = failure.to_string();
        let copy = match (failure.scope(), failure.kind()) {
            (FailureScope::Ambiguous { first }, _) => Failure::ambiguous(message, first.clone()),
            (_, FailureKind::Transient { retry_after: Some(wait) }) => {
                Failure::transient(message).retry_after(wait)
            }
            (_, FailureKind::Transient { retry_after: None }) => Failure::transient(message),
            (_, FailureKind::Permanent) => Failure::permanent(message),
        };
        let copy = match failure.scope() {
            FailureScope::Service => copy.of_service(),
            _ => copy,
        };
        copy.caused_by(failure)
    })
}

#[async_trait]
impl<C: CrmClient> CrmClient for CoalescingCrm<C> {
    async fn find_contact(&self, query: &ContactQuery) -> Result<Option<Contact>, Failure> {
        match self.0.take_up(query) {
            Answer::Known(contact) => Ok(Some(contact)),
            Answer::Awaited(look_up) => look_up.await.map_err(share),
        }
    }
}

impl<C> Clone for CoalescingCrm<C> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
    }
}

impl<C: fmt::Debug> fmt::Debug for CoalescingCrm<C> {
    /// Shows how many are on their way and remembered, but none of the keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.state();
        f.debug_struct("CoalescingCrm")
            .field("crm", &self.0.crm)
            .field("remembering", &state.cache.span())
            .field("remembered", &state.cache.len())
            .field("on_their_way", &state.on_their_way.len())
            .finish_non_exhaustive()
    }
}
