//! Rehearsing a run: what would come of it now, without doing it.

use super::recorrelate::asked_again;
use crate::{
    event::{Correlation, EventKey, State},
    pipeline::Pipeline,
    ports::{Clock, Contact, Failure, StoreError},
    processing::of_answer,
    store::StoredEvent,
};

/// How a run ended, or would end.
#[derive(Debug, Clone)]
pub struct RunOutcome {
    /// `processed`, `dead_lettered`, or, of a run that has not ended, where the event is.
    pub state: State,
    /// What asking the CRM came to.
    pub correlation: Correlation,
    /// What the CRM knew.
    pub contact: Option<Contact>,
    /// Why it failed.
    pub error: Option<String>,
}

/// What the store says of an event's last run, beside what a replay would come to now.
///
/// ```
/// use cognigy_core::{Rehearsed, testing::{CrmAnswer, World, sample}};
///
/// # fn main() -> Result<(), cognigy_core::StoreError> {
/// let mut world = World::start(cognigy_core::NoHandler);
/// world.crm.set_default(CrmAnswer::Permanent("no such field".into()));
/// world.deliver("e1");
/// world.pass(std::time::Duration::from_secs(1));
///
/// // What would a replay come to now? Nothing is stored and no handler runs.
/// world.crm.set_default(CrmAnswer::Found(r#"{"name":"Ada"}"#.into()));
/// let key = sample::key("e1");
/// let rehearsed = futures_executor::block_on(world.pipeline.rehearse(&key, &world.clock))?;
/// let Rehearsed::Compared(rehearsal) = rehearsed else { panic!() };
/// assert_eq!(rehearsal.differences(), ["status", "correlation", "contact"]);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Rehearsal {
    /// As it is stored.
    pub recorded: RunOutcome,
    /// As a replay would end now if its handler succeeded.
    pub now: RunOutcome,
}

impl Rehearsal {
    /// The parts in which the two differ: `status`, `correlation`, `contact`.
    #[must_use]
    pub fn differences(&self) -> Vec<&'static str> {
        let (before, now) = (&self.recorded, &self.now);
        let json = |outcome: &RunOutcome| {
            let contact = outcome.contact.as_ref();
            contact.and_then(|it| serde_json::from_str::<serde_json::Value>(it.as_json()).ok())
        };
        let parts = [
            ("status", before.state != now.state),
            ("correlation", before.correlation != now.correlation),
            ("contact", json(before) != json(now)),
        ];
        parts.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| name).collect()
    }
}

/// What came of a rehearsal.
#[derive(Debug)]
pub enum Rehearsed {
    /// What is recorded, and what would come now.
    Compared(Box<Rehearsal>),
    /// The event's body was forgotten: there is nothing to run.
    Forgotten,
    /// Nothing is stored under that key.
    NotFound,
}

impl Pipeline {
    /// Asks the CRM as a replay of the event would, and says how that replay would end. Nothing is claimed,
    /// stored or settled, the handler is not called, and the breaker is not told.
    ///
    /// # Errors
    ///
    /// The store could not answer.
    pub async fn rehearse(
        &self,
        key: &EventKey,
        clock: &dyn Clock,
    ) -> Result<Rehearsed, StoreError> {
        let store = &self.inner.store;
        let Some(stored) = store.find(key).await? else { return Ok(Rehearsed::NotFound) };
        if stored.forgotten.is_some() {
            return Ok(Rehearsed::Forgotten);
        }
        let now = self.outlook(&stored, clock).await;
        let error = match stored.state {
            State::Processed | State::Discarded => None,
            _ => store.attempts(key).await?.pop().and_then(|last| last.error),
        };
        let StoredEvent { state, correlation, contact, .. } = stored;
        let recorded = RunOutcome { state, correlation, contact, error };
        Ok(Rehearsed::Compared(Box::new(Rehearsal { recorded, now })))
    }

    async fn outlook(&self, stored: &StoredEvent, clock: &dyn Clock) -> RunOutcome {
        let (correlation, answer) = match asked_again(&stored.event) {
            None => (Correlation::NotAsked, Ok(None)),
            Some(query) => {
                let answer = self.find_contact(&query, clock).await;
                of_answer(answer, self.inner.on_ambiguous)
            }
        };
        let error = answer.as_ref().err().map(Failure::report);
        let state = if answer.is_ok() { State::Processed } else { State::DeadLettered };
        RunOutcome { state, correlation, contact: answer.ok().flatten(), error }
    }
}
