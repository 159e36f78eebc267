//! Trying a quarantined body again.

use crate::{
    event::{EventKey, InvalidEvent, Timestamp},
    intake::{Comparison, DeliveryIdentity, VerifiedDelivery},
    pipeline::Pipeline,
    ports::StoreError,
    store::QuarantineReason,
};

/// What came of trying a quarantined body again.
///
/// ```
/// use cognigy_core::{Clock, PageRequest, QuarantineRetry, testing::{World, sample}};
///
/// # use futures_executor::block_on;
/// # fn main() -> Result<(), cognigy_core::StoreError> {
/// let world = World::new();
/// world.deliver("e1");
/// world.deliver_body(sample::body_from("another contact", "e1")); // a conflict
/// let first = PageRequest { limit: 1, after: None };
/// let item = block_on(world.pipeline.store().quarantined(first))?.items.remove(0);
/// match block_on(world.pipeline.retry_quarantined(item.id, world.clock.now()))? {
///     QuarantineRetry::Conflict(key) => assert_eq!(key, sample::key("e1")), // it stays
///     other => panic!("{other:?}"),
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub enum QuarantineRetry {
    /// It is an event now, stored and due; out of quarantine.
    Accepted(EventKey),
    /// It says the same as a stored event; out of quarantine.
    Duplicate(EventKey),
    /// Still not valid; stays.
    Invalid(InvalidEvent),
    /// Its id is known with other content; stays.
    Conflict(EventKey),
    /// There is no such item.
    NotFound,
}

impl Pipeline {
    /// Parses a quarantined body again and takes it in if it is valid now.
    ///
    /// # Errors
    /// The store could not answer. The item is still there, or its events are stored: the call can be repeated.
    pub async fn retry_quarantined(
        &self,
        id: i64,
        now: Timestamp,
    ) -> Result<QuarantineRetry, StoreError> {
        let Some(item) = self.inner.store.quarantined_item(id).await? else {
            return Ok(QuarantineRetry::NotFound);
        };
        if &item.source != self.inner.source.name() {
            return Ok(QuarantineRetry::NotFound);
        }
        let delivery = VerifiedDelivery::verified_earlier(
            item.source,
            item.body,
            item.context,
            item.received_at,
            DeliveryIdentity::Quarantined(id),
        );
        let events = match self.inner.source.read(&delivery) {
            Ok(events) => events,
            Err(invalid) => return Ok(QuarantineRetry::Invalid(invalid)),
        };
        let keys: Vec<_> = events.iter().map(|event| event.key.clone()).collect();
        let (mut accepted, mut conflicts) = (None, Vec::new());
        for (key, comparison) in keys.iter().zip(self.record_and_compare(events, now).await?) {
            match comparison {
                Comparison::New => drop(accepted.get_or_insert(key)),
                Comparison::Same => {}
                Comparison::Other(other) => conflicts.push(other),
            }
        }
        if let Some(key) = conflicts.first().map(|other| other.key.clone()) {
            if item.reason == QuarantineReason::Invalid {
                // It became valid, and turned out to contradict stored events.
                for other in conflicts {
                    self.quarantine_conflict(other, now).await?;
                }
                self.inner.store.discharge(id).await?;
            }
            return Ok(QuarantineRetry::Conflict(key));
        }
        self.inner.store.discharge(id).await?;
        Ok(match (accepted, keys.first()) {
            (Some(key), _) => QuarantineRetry::Accepted(key.clone()),
            (None, Some(key)) => QuarantineRetry::Duplicate(key.clone()),
            (None, None) => QuarantineRetry::NotFound,
        })
    }
}
