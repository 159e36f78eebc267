//! Taking over what another system received and processed.

use std::time::Duration;

use bytes::Bytes;

use crate::{
    event::{
        DeliveryContext, EventKey, IncomingEvent, InvalidEvent, State, Timestamp, same_content,
    },
    intake::{Comparison, DeliveryIdentity, VerifiedDelivery},
    pipeline::Pipeline,
    ports::{Clock, StoreError},
    store::{Attempt, AttemptOutcome, ReplayClaim, RunEnd, Settled},
};

/// An event that another system received.
///
/// ```
/// use cognigy_core::{Import, Imported, ImportedEnd, State, testing::{World, sample}};
///
/// # fn main() -> Result<(), cognigy_core::StoreError> {
/// // Without a worker: an import comes before the first start.
/// let world = World::new();
/// let import = Import {
///     key: sample::key("e1"),
///     body: sample::body("e1"),
///     end: ImportedEnd::Processed(None), // so that nothing runs again
/// };
/// let imported = futures_executor::block_on(world.pipeline.import(import, &world.clock))?;
/// assert!(matches!(imported, Imported::Done));
/// assert_eq!(world.state("e1"), State::Processed);
/// assert_eq!(&world.deliver("e1").body()[..], br#"{"status":"accepted","duplicate":true}"#);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Import {
    /// Its identity.
    pub key: EventKey,
    /// The body as the other system received it.
    pub body: Bytes,
    /// What the other system did with it.
    pub end: ImportedEnd,
}

/// What another system did with an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImportedEnd {
    /// It processed the event, at that time if that is known. The event is `processed`, and nothing runs.
    Processed(Option<Timestamp>),
    /// It gave the event up, at that time if that is known. The event is `dead_lettering` with this reason,
    /// so that its dead letter goes the way of any other, and an operator can run the event again.
    GivenUp(Option<Timestamp>, String),
    /// Neither. The event is `pending`, and workers run it.
    Pending,
}

/// What became of an import.
#[derive(Debug)]
pub enum Imported {
    /// The event is stored now, in the state that its end asks for.
    Done,
    /// The event was stored before, with the same content. An event that was not run yet is in the state that
    /// its end asks for, as if it were stored now; any other did not change.
    Known,
    /// An event with this identity and other content is stored. Nothing changed.
    Conflict,
    /// The body is not that of this event. Nothing was stored.
    Invalid(InvalidEvent),
    /// The event is stored and still `pending`: a run holds it, or an unfinished event of the same contact
    /// comes first. Importing it again ends it once that is over.
    Busy,
}

impl Pipeline {
    /// Stores an event that another system received, and runs nothing. Importing an event twice changes
    /// nothing the second time, and ends an import that broke off.
    ///
    /// The event is recorded first and ended then, so that no worker of the source may run meanwhile: it might
    /// run the event in between.
    ///
    /// # Errors
    ///
    /// The store could not answer. What was imported stays; the import can be repeated.
    pub async fn import(&self, import: Import, clock: &dyn Clock) -> Result<Imported, StoreError> {
        let now = clock.now();
        let event = match self.read_import(&import, now) {
            Ok(event) => event,
            Err(invalid) => return Ok(Imported::Invalid(invalid)),
        };
        let is_new = match self.record_and_compare(vec![event], now).await?.first() {
            Some(Comparison::New) => true,
            Some(Comparison::Other(_)) => return Ok(Imported::Conflict),
            Some(Comparison::Same) | None => false,
        };
        let done = if is_new { Imported::Done } else { Imported::Known };
        let (at, end, error) = match import.end {
            ImportedEnd::Pending => return Ok(done),
            ImportedEnd::Processed(at) => (at, RunEnd::Processed { contact: None }, None),
            ImportedEnd::GivenUp(at, reason) => {
                let end = RunEnd::GiveUp { reason: reason.clone(), attempts: 0 };
                (at, end, Some(reason))
            }
        };
        if !is_new && !self.is_untouched(&import.key).await? {
            return Ok(done);
        }
        let store = &self.inner.store;
        let work = match store.replay(&import.key, self.inner.lease, now).await? {
            ReplayClaim::Claimed(work) => *work,
            ReplayClaim::Forgotten | ReplayClaim::NotFound => return Ok(done),
            ReplayClaim::Busy => return Ok(Imported::Busy),
        };
        let attempt = Attempt {
            number: work.attempt,
            run: work.run,
            started_at: at.unwrap_or(now),
            duration: Duration::ZERO,
            outcome: AttemptOutcome::Imported,
            error,
        };
        let settlement = work.claim.settle(end, Some(attempt), now);
        match store.settle(&[settlement]).await?.first() {
            Some(Settled::LeaseLost) => Ok(Imported::Busy),
            _ => Ok(done),
        }
    }

    /// What [`import`](Self::import) would come to. Changes nothing.
    ///
    /// # Errors
    ///
    /// The store could not answer.
    pub async fn would_import(
        &self,
        import: &Import,
        clock: &dyn Clock,
    ) -> Result<Imported, StoreError> {
        if let Err(invalid) = self.read_import(import, clock.now()) {
            return Ok(Imported::Invalid(invalid));
        }
        Ok(match self.inner.store.find(&import.key).await? {
            None => Imported::Done,
            // Its digest decides, and only recording looks at that.
            Some(stored) if stored.forgotten.is_some() => Imported::Known,
            Some(stored) if *stored.event.body() == import.body => Imported::Known,
            Some(stored) if same_content(stored.event.body(), &import.body) => Imported::Known,
            Some(_) => Imported::Conflict,
        })
    }

    /// The event that the body holds. The other system has checked who sent it.
    fn read_import(&self, import: &Import, now: Timestamp) -> Result<IncomingEvent, InvalidEvent> {
        let delivery = VerifiedDelivery::verified_earlier(
            import.key.source.clone(),
            import.body.clone(),
            DeliveryContext::default(),
            now,
            DeliveryIdentity::Known(import.key.id.clone()),
        );
        let mut events = self.inner.source.read(&delivery)?;
        match (events.pop(), events.is_empty()) {
            (Some(event), true) if event.key == import.key => Ok(event),
            (Some(event), true) => {
                let message = format!("is {}, and not the id of the event", event.key.id);
                Err(InvalidEvent::new("eventId", message))
            }
            _ => Err(InvalidEvent::new("body", "does not hold one event")),
        }
    }

    /// Whether the event waits for its first attempt: an import may have broken off before its end.
    async fn is_untouched(&self, key: &EventKey) -> Result<bool, StoreError> {
        let store = &self.inner.store;
        let stored = store.find(key).await?;
        let waits = |state| matches!(state, State::Pending | State::Processing);
        Ok(stored.is_some_and(|stored| waits(stored.state))
            && store.attempts(key).await?.is_empty())
    }
}
