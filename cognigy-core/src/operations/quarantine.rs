//! Trying a quarantined body again.

use crate::{
    event::{EventKey, IncomingEvent, InvalidEvent},
    intake::{Comparison, VerifiedDelivery},
    pipeline::Pipeline,
    ports::{StoreError, Timestamp},
    store::QuarantineReason,
};

/// What came of trying a quarantined body again.
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
    pub async fn retry_quarantined(
        &self,
        id: i64,
        now: Timestamp,
    ) -> Result<QuarantineRetry, StoreError> {
        let Some(item) = self.inner.store.quarantined_item(id).await? else {
            return Ok(QuarantineRetry::NotFound);
        };
        if item.source != self.inner.source.name {
            return Ok(QuarantineRetry::NotFound);
        }
        let delivery = VerifiedDelivery::verified_earlier(item.source, item.body);
        let event = match IncomingEvent::read(&delivery, &*self.inner.source.format) {
            Ok(event) => event,
            Err(invalid) => return Ok(QuarantineRetry::Invalid(invalid)),
        };
        let key = event.key.clone();
        let outcome = match self.record_and_compare(event, now).await? {
            Comparison::New => QuarantineRetry::Accepted(key),
            Comparison::Same => QuarantineRetry::Duplicate(key),
            Comparison::Other { key, body } => {
                if item.reason == QuarantineReason::Invalid {
                    // It became valid, and turned out to contradict a stored event.
                    self.quarantine_conflict(&key, body, now).await?;
                    self.inner.store.discharge(id).await?;
                }
                return Ok(QuarantineRetry::Conflict(key));
            }
        };
        self.inner.store.discharge(id).await?;
        Ok(outcome)
    }
}
