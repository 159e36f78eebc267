//! Taking a delivery in: verify, parse, record. Nothing else happens before the sender is answered.

use bytes::Bytes;

use crate::{
    event::{EventKey, IncomingEvent, InvalidEvent, same_content},
    intake::{Headers, MatchedSecret, RawDelivery, Reply, SignatureError, VerifiedDelivery},
    pipeline::Pipeline,
    ports::{Observation, StoreError, StoreErrorKind, Timestamp},
    store::{QuarantineEntry, QuarantineReason, Recorded},
};

/// The largest body that is taken unless set otherwise: 1 MiB, what one SQS message can hold.
pub const DEFAULT_MAX_BODY_BYTES: usize = 1024 * 1024;

/// What became of a delivery. [`Reply::from`] turns it into the HTTP answer.
#[derive(Debug)]
#[non_exhaustive]
pub enum Intake {
    /// Stored, durably.
    Accepted {
        /// Which secret it was signed with.
        matched: MatchedSecret,
    },
    /// Known, with the same content.
    Duplicate {
        /// Which secret it was signed with.
        matched: MatchedSecret,
    },
    /// Known, with other content: the first stands, this one is in quarantine.
    Conflict {
        /// The event that both claim to be.
        key: EventKey,
        /// Which secret it was signed with.
        matched: MatchedSecret,
    },
    /// Not signed by who should have. The body is forgotten.
    Unsigned(SignatureError),
    /// Signed, but not an event: in quarantine.
    Invalid(InvalidEvent),
    /// The body is over the limit.
    TooLarge,
    /// The body is encoded.
    Encoded,
    /// The body did not arrive in time.
    TimedOut,
    /// The body could not be read: the request was malformed or broke off.
    Malformed,
    /// The store cannot take it now. The sender has to come back.
    Unavailable(StoreErrorKind),
}

impl Intake {
    /// The name in metrics.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Accepted { .. } => "accepted",
            Self::Duplicate { .. } => "duplicate",
            Self::Conflict { .. } => "conflict",
            Self::Unsigned(_) => "unsigned",
            Self::Invalid(_) => "invalid",
            Self::TooLarge => "too_large",
            Self::Encoded => "encoded",
            Self::TimedOut => "timed_out",
            Self::Malformed => "malformed",
            Self::Unavailable(_) => "unavailable",
        }
    }

    /// Which secret the delivery was signed with, where it was.
    #[must_use]
    pub fn matched(&self) -> Option<MatchedSecret> {
        match self {
            Self::Accepted { matched }
            | Self::Duplicate { matched }
            | Self::Conflict { matched, .. } => Some(*matched),
            _ => None,
        }
    }
}

impl Pipeline {
    /// Takes a delivery in and answers its sender: a status and a body for any web framework.
    ///
    /// Once the answer is 200 the event is durable and will be processed, whatever crashes next.
    pub async fn ingest<H: Headers + Send>(&self, raw: RawDelivery<H>, now: Timestamp) -> Reply {
        Reply::from(&self.receive(raw, now).await)
    }

    /// What can be refused by the head of a request alone, before its body is read: an encoded
    /// body. [`ingest`](Self::ingest) checks the same again, so calling this is optional.
    #[must_use]
    pub fn refuse_by_head(&self, headers: impl Headers) -> Option<Intake> {
        RawDelivery::new(headers, Bytes::new()).is_encoded().then_some(Intake::Encoded)
    }

    /// As [`ingest`](Self::ingest), for callers that want to know what happened.
    pub async fn receive<H: Headers + Send>(&self, raw: RawDelivery<H>, now: Timestamp) -> Intake {
        // What needs headers is done before the first await, so that they need not be Sync.
        let verified = if raw.is_encoded() {
            Err(Intake::Encoded)
        } else if raw.body.len() > self.inner.max_body_bytes {
            Err(Intake::TooLarge)
        } else {
            let source = &self.inner.source;
            source.verifier.verify(&source.name, raw).map_err(Intake::Unsigned)
        };
        match verified {
            Ok(delivery) => self.take_in(delivery, now).await,
            Err(refused) => refused,
        }
    }

    async fn take_in(&self, delivery: VerifiedDelivery, now: Timestamp) -> Intake {
        let outcome = match IncomingEvent::read(&delivery, &*self.inner.source.format) {
            Ok(event) => self.record(event, delivery.matched(), now).await,
            Err(invalid) => self.quarantine_invalid(&delivery, invalid, now).await,
        };
        outcome.unwrap_or_else(|error| {
            self.report_store_error("record", &error);
            Intake::Unavailable(error.kind())
        })
    }

    async fn record(
        &self,
        event: IncomingEvent,
        matched: MatchedSecret,
        now: Timestamp,
    ) -> Result<Intake, StoreError> {
        Ok(match self.record_and_compare(event, now).await? {
            Comparison::New => Intake::Accepted { matched },
            Comparison::Same => Intake::Duplicate { matched },
            Comparison::Other { key, body } => {
                self.quarantine_conflict(&key, body, now).await?;
                Intake::Conflict { key, matched }
            }
        })
    }

    pub(crate) async fn quarantine_conflict(
        &self,
        key: &EventKey,
        body: Bytes,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let entry = QuarantineEntry {
            source: key.source.clone(),
            reason: QuarantineReason::Conflict,
            event_id: Some(key.id.as_str().to_owned()),
            detail: "the event id is known with other content".to_owned(),
            body,
        };
        self.quarantine(entry, now).await
    }

    async fn quarantine(&self, entry: QuarantineEntry, now: Timestamp) -> Result<(), StoreError> {
        let limits = self.inner.quarantine_limits;
        let count = self.inner.store.quarantine(entry, limits, now).await?;
        if count > 0 {
            self.inner.observer.observe(&Observation::QuarantineEvicted { count });
        }
        Ok(())
    }

    /// Records `event`; where its key is known, compares what the bodies say.
    pub(crate) async fn record_and_compare(
        &self,
        event: IncomingEvent,
        now: Timestamp,
    ) -> Result<Comparison, StoreError> {
        // What a conflict needs. The body is shared, not copied.
        let (key, body) = (event.key.clone(), event.body.clone());
        Ok(match self.inner.store.record(event, now).await? {
            Recorded::New => {
                self.inner.new_work.notify();
                Comparison::New
            }
            Recorded::Identical => Comparison::Same,
            Recorded::Differs { stored } if same_content(&stored, &body) => Comparison::Same,
            Recorded::Differs { .. } => Comparison::Other { key, body },
        })
    }

    async fn quarantine_invalid(
        &self,
        delivery: &VerifiedDelivery,
        invalid: InvalidEvent,
        now: Timestamp,
    ) -> Result<Intake, StoreError> {
        let entry = QuarantineEntry {
            source: self.inner.source.name.clone(),
            reason: QuarantineReason::Invalid,
            event_id: invalid.event_id.clone(),
            detail: invalid.to_string(),
            body: Bytes::clone(delivery.body()),
        };
        self.quarantine(entry, now).await?;
        Ok(Intake::Invalid(invalid))
    }
}

/// What recording an event showed.
pub(crate) enum Comparison {
    New,
    Same,
    Other { key: EventKey, body: Bytes },
}
