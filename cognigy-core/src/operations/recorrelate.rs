//! Asking the CRM once more for the contact of an event that was processed without one.

use crate::{
    event::{Correlation, Event, EventKey, State},
    pipeline::Pipeline,
    ports::{Clock, Contact, ContactQuery, Failure, FailureScope, StoreError},
    store::{Attempt, AttemptOutcome, ReplayClaim, RunEnd, Settled},
};

/// What came of asking the CRM again.
///
/// ```
/// use cognigy_core::{Recorrelated, testing::{CrmAnswer, World, sample}};
///
/// # fn main() -> Result<(), cognigy_core::StoreError> {
/// let mut world = World::start(cognigy_core::NoHandler);
/// world.crm.set_default(CrmAnswer::Nobody);
/// world.deliver("e1"); // processed, without a contact
/// world.pass(std::time::Duration::from_secs(1));
///
/// world.crm.set_default(CrmAnswer::Found(r#"{"name":"Ada"}"#.into()));
/// let key = sample::key("e1");
/// let asked = futures_executor::block_on(world.pipeline.recorrelate(&key, &world.clock))?;
/// assert!(matches!(asked, Recorrelated::Matched(_)));
/// assert!(world.find("e1").contact.is_some());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub enum Recorrelated {
    /// The CRM knows the contact now. It is kept with the event; the handler was not run.
    Matched(Contact),
    /// The CRM still knows no such contact, or several. Nothing changed.
    Not(Correlation),
    /// The CRM did not give an answer that can be used; nothing changed.
    Failed(Failure),
    /// The event has no contact key, or it is not processed: only the end of a run says what was asked
    /// and what came of it.
    NotApplicable,
    /// The body of the event was forgotten, or another run holds the event.
    Busy,
    /// Nothing is stored under that key.
    NotFound,
}

impl Recorrelated {
    /// The name in reports.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Matched(_) => "matched",
            Self::Not(correlation) => correlation.as_str(),
            Self::Failed(_) => "failed",
            Self::NotApplicable => "not_applicable",
            Self::Busy => "busy",
            Self::NotFound => "not_found",
        }
    }
}

impl Pipeline {
    /// Asks the CRM again for the contact of a processed event, and keeps the contact if it is known now.
    /// The handler is not run; a replay runs it.
    ///
    /// The CRM is asked before the event is claimed, so that an event whose contact is still unknown is
    /// left as it was.
    ///
    /// # Errors
    ///
    /// The store could not answer.
    pub async fn recorrelate(
        &self,
        key: &EventKey,
        clock: &dyn Clock,
    ) -> Result<Recorrelated, StoreError> {
        let store = &self.inner.store;
        let Some(stored) = store.find(key).await? else { return Ok(Recorrelated::NotFound) };
        let query = asked_again(&stored.event);
        let (Some(query), State::Processed) = (query, stored.state) else {
            return Ok(Recorrelated::NotApplicable);
        };
        let started_at = clock.now();
        let contact = match self.inner.crm.find_contact(&query).await {
            Ok(Some(contact)) => contact,
            Ok(None) => return Ok(Recorrelated::Not(Correlation::None)),
            Err(failure) if matches!(failure.scope(), FailureScope::Ambiguous { .. }) => {
                return Ok(Recorrelated::Not(Correlation::Ambiguous));
            }
            Err(failure) => return Ok(Recorrelated::Failed(failure)),
        };
        let now = clock.now();
        let work = match store.replay(key, self.inner.lease, now).await? {
            ReplayClaim::Claimed(work) => *work,
            ReplayClaim::NotFound => return Ok(Recorrelated::NotFound),
            ReplayClaim::Busy | ReplayClaim::Forgotten => return Ok(Recorrelated::Busy),
        };
        let attempt = Attempt {
            number: work.attempt,
            run: work.run,
            started_at,
            duration: (now - started_at).to_std().unwrap_or_default(),
            outcome: AttemptOutcome::Recorrelated,
            error: None,
        };
        let end = RunEnd::Processed { contact: Some(contact.clone()) };
        let settlement =
            work.claim.settle(end, Some(attempt), now).correlated(Correlation::Matched);
        match store.settle(&[settlement]).await?.first() {
            Some(Settled::LeaseLost) => Ok(Recorrelated::Busy),
            Some(Settled::UnblockedNext) => {
                self.inner.new_work.notify();
                Ok(Recorrelated::Matched(contact))
            }
            Some(Settled::Done) | None => Ok(Recorrelated::Matched(contact)),
        }
    }
}

/// The question about an event's contact that is not part of a run. None without a contact key.
pub(super) fn asked_again(event: &Event) -> Option<ContactQuery> {
    Some(ContactQuery {
        contact_key: event.contact_key()?.to_owned(),
        idempotency_key: event.idempotency_key(),
        fresh: true,
        traceparent: None,
    })
}
