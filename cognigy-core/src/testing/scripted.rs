//! A scripted CRM, handler and dead-letter sink that remember what they received.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use async_trait::async_trait;

use crate::{
    event::Event,
    ports::{Contact, ContactQuery, CrmClient, DeadLetter, DeadLetterSink, EventHandler, Failure},
};

/// What a [`ScriptedCrm`] answers.
#[derive(Debug, Clone)]
pub enum CrmAnswer {
    /// A contact, as JSON text.
    Found(String),
    /// No contact.
    Nobody,
    /// A transient failure with that message.
    Transient(String),
    /// A permanent failure with that message.
    Permanent(String),
    /// A transient failure that says that the whole CRM is out of reach.
    Down,
    /// Several contacts, and the first of them as JSON text where the answer holds it.
    Ambiguous(Option<String>),
    /// Panics.
    Panic,
    /// Never answers.
    Hang,
}

#[derive(Debug)]
struct CrmState {
    next: VecDeque<CrmAnswer>,
    default: CrmAnswer,
    queries: Vec<ContactQuery>,
}

/// A CRM that gives its scripted answers, then its default. Clones are the same CRM.
///
/// ```
/// use std::time::Duration;
///
/// use cognigy_core::{State, testing::{CrmAnswer, World}};
///
/// let mut world = World::start(cognigy_core::NoHandler);
/// world.crm.then([CrmAnswer::Transient("503".into()), CrmAnswer::Nobody]);
/// world.deliver("e1");
/// world.pass(Duration::from_secs(10));
/// assert_eq!((world.state("e1"), world.crm.queries().len()), (State::Processed, 2));
/// ```
#[derive(Debug, Clone)]
pub struct ScriptedCrm(Arc<Mutex<CrmState>>);

impl ScriptedCrm {
    /// A CRM that always answers `default`.
    #[must_use]
    pub fn answering(default: CrmAnswer) -> Self {
        let state = CrmState { next: VecDeque::new(), default, queries: Vec::new() };
        Self(Arc::new(Mutex::new(state)))
    }

    /// Answers these first, in order.
    pub fn then(&self, answers: impl IntoIterator<Item = CrmAnswer>) {
        lock(&self.0).next.extend(answers);
    }

    /// Answers `default` from now on.
    pub fn set_default(&self, default: CrmAnswer) {
        let mut state = lock(&self.0);
        state.next.clear();
        state.default = default;
    }

    /// The queries it received, in order.
    #[must_use]
    pub fn queries(&self) -> Vec<ContactQuery> {
        lock(&self.0).queries.clone()
    }
}

#[async_trait]
impl CrmClient for ScriptedCrm {
    async fn find_contact(&self, query: &ContactQuery) -> Result<Option<Contact>, Failure> {
        let answer = {
            let mut state = lock(&self.0);
            state.queries.push(query.clone());
            state.next.pop_front().unwrap_or_else(|| state.default.clone())
        };
        match answer {
            CrmAnswer::Found(json) => Contact::from_json(&json)
                .map(Some)
                .map_err(|error| Failure::permanent("not JSON").caused_by(error)),
            CrmAnswer::Nobody => Ok(None),
            CrmAnswer::Transient(message) => Err(Failure::transient(message)),
            CrmAnswer::Permanent(message) => Err(Failure::permanent(message)),
            CrmAnswer::Down => Err(Failure::transient("the CRM is down").of_service()),
            CrmAnswer::Ambiguous(first) => {
                let first = first.and_then(|json| Contact::from_json(&json).ok());
                Err(Failure::ambiguous("the CRM knows several contacts by that key", first))
            }
            CrmAnswer::Panic => panic!("the CRM client was told to panic"),
            CrmAnswer::Hang => std::future::pending().await,
        }
    }
}

#[derive(Debug, Default)]
struct SinkState {
    down: bool,
    hangs: bool,
    received: Vec<DeadLetter>,
    refused: usize,
    hung: usize,
}

/// A sink that accepts everything while it is up, refuses everything while it is down, and never
/// answers while it hangs. Clones are the same sink.
///
/// ```
/// use std::time::Duration;
///
/// use cognigy_core::{Failure, State, testing::World};
///
/// let mut world = World::start(|_, _| async { Err(Failure::permanent("no")) });
/// world.sink.set_down(true);
/// world.deliver("e1");
/// world.pass(Duration::from_secs(60));
/// assert_eq!(world.state("e1"), State::DeadLettering); // kept, and tried again
///
/// world.sink.set_down(false);
/// world.pass(Duration::from_secs(120));
/// assert_eq!((world.state("e1"), world.sink.received().len()), (State::DeadLettered, 1));
/// ```
#[derive(Debug, Clone, Default)]
pub struct ScriptedSink(Arc<Mutex<SinkState>>);

impl ScriptedSink {
    /// A sink that is up.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes it down, or brings it back.
    pub fn set_down(&self, down: bool) {
        lock(&self.0).down = down;
    }

    /// Makes it hang, or answer again.
    pub fn set_hanging(&self, hangs: bool) {
        lock(&self.0).hangs = hangs;
    }

    /// The dead letters it accepted, in order.
    #[must_use]
    pub fn received(&self) -> Vec<DeadLetter> {
        lock(&self.0).received.clone()
    }

    /// How many entries it received while it hung.
    #[must_use]
    pub fn hung(&self) -> usize {
        lock(&self.0).hung
    }

    /// How many entries it refused.
    #[must_use]
    pub fn refused(&self) -> usize {
        lock(&self.0).refused
    }
}

#[async_trait]
impl DeadLetterSink for ScriptedSink {
    async fn send(&self, batch: &[DeadLetter]) -> Vec<Result<(), Failure>> {
        if lock(&self.0).hangs {
            lock(&self.0).hung += batch.len();
            return std::future::pending().await;
        }
        let mut state = lock(&self.0);
        if state.down {
            state.refused += batch.len();
            return batch.iter().map(|_| Err(Failure::transient("the sink is down"))).collect();
        }
        state.received.extend_from_slice(batch);
        batch.iter().map(|_| Ok(())).collect()
    }
}

#[derive(Debug, Default)]
struct HandlerState {
    next: VecDeque<Result<(), Failure>>,
    handled: Vec<(Arc<Event>, Option<Contact>)>,
}

/// A handler that ends as it was told to, and then well: a stand-in for what an event is handed on to.
/// Clones are the same handler.
///
/// ```
/// use std::time::Duration;
///
/// use cognigy_core::{Failure, State, testing::{ScriptedHandler, World}};
///
/// let handler = ScriptedHandler::new();
/// handler.then([Err(Failure::transient("not yet"))]);
/// let mut world = World::start(handler.clone());
/// world.deliver("e1");
/// world.pass(Duration::from_secs(10));
/// assert_eq!((world.state("e1"), handler.handled().len()), (State::Processed, 2));
/// ```
#[derive(Debug, Clone, Default)]
pub struct ScriptedHandler(Arc<Mutex<HandlerState>>);

impl ScriptedHandler {
    /// A handler that ends well.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Ends like these first, in order.
    pub fn then(&self, outcomes: impl IntoIterator<Item = Result<(), Failure>>) {
        lock(&self.0).next.extend(outcomes);
    }

    /// The events and contacts that it was called with, in order.
    #[must_use]
    pub fn handled(&self) -> Vec<(Arc<Event>, Option<Contact>)> {
        lock(&self.0).handled.clone()
    }
}

#[async_trait]
impl EventHandler for ScriptedHandler {
    async fn handle(&self, event: Arc<Event>, contact: Option<Contact>) -> Result<(), Failure> {
        let mut state = lock(&self.0);
        state.handled.push((event, contact));
        state.next.pop_front().unwrap_or(Ok(()))
    }
}

fn lock<T>(state: &Mutex<T>) -> MutexGuard<'_, T> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
