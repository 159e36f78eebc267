//! Taking a delivery in: verify, parse, record. Nothing else happens before the sender is answered.

use std::{net::IpAddr, sync::Arc, time::Duration};

use bytes::Bytes;

use crate::{
    event::{
        DeliveryContext, EarlierId, EventKey, IncomingEvent, InvalidEvent, Timestamp, TraceParent,
        same_content,
    },
    intake::{AuthenticationError, Headers, MatchedSecret, RawDelivery, Reply, VerifiedDelivery},
    pipeline::Pipeline,
    ports::{Observation, Operation, Origin, Scope, Span, SpanEnd, StoreError, StoreErrorKind},
    store::{QuarantineEntry, QuarantineReason, Recorded},
};

/// The largest body that is taken unless set otherwise: 1 MiB, what one SQS message can hold.
pub const DEFAULT_MAX_BODY_BYTES: usize = 1024 * 1024;

/// What became of a delivery. [`Reply::from`] turns it into the HTTP answer.
///
/// ```
/// use cognigy_core::{AuthenticationError, Intake, RawDelivery, Reply, testing::{World, sample}};
///
/// let world = World::new();
/// let receive = |delivery| {
///     futures_executor::block_on(world.pipeline.receive(delivery, sample::start()))
/// };
/// let intake = receive(sample::delivery(sample::body("e1")));
/// assert!(matches!(intake, Intake::Accepted { .. }));
/// let intake = receive(sample::delivery(sample::body("e1")));
/// assert_eq!((intake.as_str(), Reply::from(&intake).status()), ("duplicate", 200));
/// ```
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
    Unsigned(AuthenticationError),
    /// Signed, but not an event: in quarantine.
    Invalid(InvalidEvent),
    /// The body is over the limit.
    TooLarge,
    /// The body is encoded.
    Encoded,
    /// The media type names a format that the source does not know.
    Unsupported(InvalidEvent),
    /// The headers that have to be kept with the body are too large.
    HeadersTooLarge,
    /// The source takes no deliveries.
    Closed,
    /// The body did not arrive in time.
    TimedOut,
    /// The body could not be read: the request was malformed or broke off.
    Malformed,
    /// The store cannot take it now. The sender has to come back.
    Unavailable(StoreErrorKind),
}

impl Intake {
    /// Every name that [`as_str`](Self::as_str) gives.
    pub const NAMES: [&'static str; 13] = [
        "accepted",
        "duplicate",
        "conflict",
        "unsigned",
        "invalid",
        "too_large",
        "encoded",
        "unsupported",
        "headers_too_large",
        "closed",
        "timed_out",
        "malformed",
        "unavailable",
    ];

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
            Self::Unsupported(_) => "unsupported",
            Self::HeadersTooLarge => "headers_too_large",
            Self::Closed => "closed",
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

/// What became of a delivery, and what the log says of it.
///
/// ```
/// use cognigy_core::testing::{World, sample};
///
/// // A server that logs each delivery with the event's id.
/// let world = World::new();
/// let take = world.pipeline.take(sample::delivery(sample::body("e1")), sample::start());
/// let received = futures_executor::block_on(take);
/// received.in_scope(|intake| {
///     let scope = cognigy_core::Scope::current().unwrap();
///     assert_eq!(scope.event_id.as_ref().unwrap().as_str(), "e1");
///     println!("{}", intake.as_str());
/// });
/// ```
#[derive(Debug)]
pub struct Received {
    /// What became of it.
    pub intake: Intake,
    /// Its event and its trace. None for a delivery that was refused before it was read.
    pub scope: Option<Arc<Scope>>,
}

impl Received {
    /// Does `work`, such as writing a log line, in the delivery's scope.
    pub fn in_scope<R>(&self, work: impl FnOnce(&Intake) -> R) -> R {
        match &self.scope {
            Some(scope) => scope.run(|| work(&self.intake)),
            None => work(&self.intake),
        }
    }
}

impl From<Intake> for Received {
    fn from(intake: Intake) -> Self {
        Self { intake, scope: None }
    }
}

impl Pipeline {
    /// Takes a delivery in and answers its sender: a status and a body for any web framework.
    ///
    /// Once the answer is 200 the event is durable and will be processed, whatever crashes next.
    ///
    /// ```
    /// use cognigy_core::testing::{World, sample};
    ///
    /// # let world = World::new();
    /// # let pipeline = &world.pipeline;
    /// # futures_executor::block_on(async {
    /// // In a route: `headers` and `body` as they came. `sample::delivery` signs as a sender does.
    /// let delivery = sample::delivery(sample::body("e1"));
    /// let reply = pipeline.ingest(delivery, sample::start()).await;
    /// assert_eq!(reply.status(), 200);
    /// let again = pipeline.ingest(sample::delivery(sample::body("e1")), sample::start()).await;
    /// assert_eq!(&again.body()[..], br#"{"status":"accepted","duplicate":true}"#);
    /// # });
    /// ```
    pub async fn ingest<H: Headers + Send>(&self, raw: RawDelivery<H>, now: Timestamp) -> Reply {
        let peer = raw.from();
        let received = self.take(raw, now).await;
        received.in_scope(|intake| self.observe_delivery(intake, peer, None));
        self.inner.source.reply(&received.intake)
    }

    /// Tells the pipeline's observer what became of a delivery: for servers that call
    /// [`receive`](Self::receive), and for deliveries that they refuse themselves.
    pub fn observe_delivery(
        &self,
        intake: &Intake,
        peer: Option<IpAddr>,
        duration: Option<Duration>,
    ) {
        self.inner.observer.observe(&Observation::Delivery { intake, peer, duration });
    }

    /// What can be refused by the head of a request alone, before its body is read: an encoded
    /// body. [`ingest`](Self::ingest) checks the same again, so calling this is optional.
    #[must_use]
    pub fn refuse_by_head(&self, headers: impl Headers) -> Option<Intake> {
        RawDelivery::new(headers, Bytes::new()).is_encoded().then_some(Intake::Encoded)
    }

    /// As [`ingest`](Self::ingest), for servers that need to know what happened. They tell the observer
    /// themselves, by [`observe_delivery`](Self::observe_delivery).
    pub async fn receive<H: Headers + Send>(&self, raw: RawDelivery<H>, now: Timestamp) -> Intake {
        self.take(raw, now).await.intake
    }

    /// As [`receive`](Self::receive), for servers that log what happened: in the scope of the delivery.
    pub async fn take<H: Headers + Send>(&self, raw: RawDelivery<H>, now: Timestamp) -> Received {
        // What needs headers is done before the first await, so that they need not be Sync.
        let verified = if raw.is_encoded() {
            Err(Intake::Encoded)
        } else if raw.body.len() > self.inner.max_body_bytes {
            Err(Intake::TooLarge)
        } else {
            self.inner.source.verify(raw, now)
        };
        match verified {
            Ok(delivery) => self.take_in(delivery, now).await,
            Err(refused) => refused.into(),
        }
    }

    async fn take_in(&self, delivery: VerifiedDelivery, now: Timestamp) -> Received {
        let operation = Operation::Delivery { source: self.inner.source.name() };
        let origin = delivery.traceparent.map_or(Origin::Root, Origin::Child);
        let mut span = self.inner.span(operation, origin, Some(now));
        let traceparent = span.as_ref().map(Span::traceparent);
        let mut read = self.inner.source.read(&delivery);
        let mut event_id = None;
        if let Ok(events) = &mut read {
            // A span that is not recorded need not be found again: most deliveries store nothing more.
            let is_of_sender = delivery.traceparent.is_some();
            if let Some(traceparent) = traceparent.filter(|it| it.is_sampled() || is_of_sender) {
                let context = delivery.context.with_traceparent(traceparent);
                events.iter_mut().for_each(|event| event.context.clone_from(&context));
            }
            if let [event] = &events[..] {
                event_id = Some(event.key.id.clone());
            }
        }
        if let (Some(span), Some(id)) = (&mut span, &event_id) {
            span.of_event(id);
        }
        let scope = Arc::new(Scope { event_id, traceparent });
        let commit = self.commit(delivery, read, traceparent, now);
        let intake = Arc::clone(&scope).within(commit).await;
        if let Some(span) = span {
            span.end(match intake {
                Intake::Unavailable(_) => SpanEnd::Failed(intake.as_str()),
                _ => SpanEnd::Done(intake.as_str()),
            });
        }
        Received { intake, scope: Some(scope) }
    }

    async fn commit(
        &self,
        delivery: VerifiedDelivery,
        read: Result<Vec<IncomingEvent>, InvalidEvent>,
        within: Option<TraceParent>,
        now: Timestamp,
    ) -> Intake {
        let outcome = match read {
            Ok(events) => {
                let span = self.inner.span_within(within, Operation::Commit);
                let outcome = self.record(events, delivery.matched(), now).await;
                if let Some(span) = span {
                    span.end(match outcome {
                        Ok(_) => SpanEnd::Done("committed"),
                        Err(_) => SpanEnd::Failed("unavailable"),
                    });
                }
                outcome
            }
            Err(invalid) if invalid.unsupported => return Intake::Unsupported(invalid),
            Err(invalid) => self.quarantine_invalid(&delivery, invalid, now).await,
        };
        outcome.unwrap_or_else(|error| {
            self.report_store_error("record", &error);
            Intake::Unavailable(error.kind())
        })
    }

    /// Records the events of one delivery. Its answer says that it is a duplicate if every event is
    /// known, and a conflict if one is known with other content.
    async fn record(
        &self,
        events: Vec<IncomingEvent>,
        matched: MatchedSecret,
        now: Timestamp,
    ) -> Result<Intake, StoreError> {
        let mut conflict = None;
        let received = events.len();
        let events = self.without_repetitions(events).await?;
        let mut all_known = received > 0;
        for comparison in self.record_and_compare(events, now).await? {
            match comparison {
                Comparison::New => all_known = false,
                Comparison::Same => {}
                Comparison::Other(other) => {
                    let key = other.key.clone();
                    self.quarantine_conflict(other, now).await?;
                    conflict.get_or_insert(key);
                }
            }
        }
        Ok(match conflict {
            Some(key) => Intake::Conflict { key, matched },
            None if all_known => Intake::Duplicate { matched },
            None => Intake::Accepted { matched },
        })
    }

    /// Leaves out the events with derived ids that are stored under the id of the window before. Without
    /// it, two deliveries on either side of a window's end would be two events, however close.
    async fn without_repetitions(
        &self,
        events: Vec<IncomingEvent>,
    ) -> Result<Vec<IncomingEvent>, StoreError> {
        if events.iter().all(|event| event.earlier.is_none()) {
            return Ok(events);
        }
        let mut new = Vec::with_capacity(events.len());
        for event in events {
            let is_known = match &event.earlier {
                None => false,
                Some(EarlierId { id, since }) => {
                    let key = EventKey { source: event.key.source.clone(), id: id.clone() };
                    let stored = self.inner.store.find(&key).await?;
                    stored.is_some_and(|stored| stored.event.received_at() >= *since)
                }
            };
            if !is_known {
                new.push(event);
            }
        }
        Ok(new)
    }

    pub(crate) async fn quarantine_conflict(
        &self,
        other: Conflicting,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        // A repetition is the same entry, whatever trace it came in.
        let context = other.context.without_traceparent();
        let entry = QuarantineEntry {
            source: other.key.source,
            reason: QuarantineReason::Conflict,
            event_id: Some(other.key.id.as_str().to_owned()),
            detail: "the event id is known with other content".to_owned(),
            // A sensitive body is not kept for operators to read; that it came stays known.
            body: if other.sensitive { Bytes::new() } else { other.body },
            context: if other.sensitive { DeliveryContext::default() } else { context },
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

    /// Records the events of one delivery, all or none; where a key is known, compares what the
    /// bodies say. One answer for each event, in order.
    pub(crate) async fn record_and_compare(
        &self,
        mut events: Vec<IncomingEvent>,
        now: Timestamp,
    ) -> Result<Vec<Comparison>, StoreError> {
        let store = &self.inner.store;
        // What a conflict needs. Bodies are shared, not copied.
        let received: Vec<_> = events.iter().map(Conflicting::of).collect();
        let recorded = match events.len() {
            0 => Vec::new(),
            1 => vec![store.record(events.swap_remove(0), now).await?],
            _ => store.record_all(events, now).await?,
        };
        if recorded.contains(&Recorded::New) {
            self.inner.new_work.notify();
        }
        let compare = |(received, recorded): (Conflicting, Recorded)| match recorded {
            Recorded::New => Comparison::New,
            Recorded::Identical => Comparison::Same,
            Recorded::Differs { stored } if same_content(&stored, &received.body) => {
                Comparison::Same
            }
            Recorded::Differs { .. } => Comparison::Other(received),
        };
        Ok(received.into_iter().zip(recorded).map(compare).collect())
    }

    async fn quarantine_invalid(
        &self,
        delivery: &VerifiedDelivery,
        invalid: InvalidEvent,
        now: Timestamp,
    ) -> Result<Intake, StoreError> {
        if invalid.sensitive {
            // Its sender was told what is wrong. An operator must not read it, and so could not mend it.
            return Ok(Intake::Invalid(invalid));
        }
        let entry = QuarantineEntry {
            source: self.inner.source.name().clone(),
            reason: QuarantineReason::Invalid,
            event_id: invalid.event_id.clone(),
            detail: invalid.to_string(),
            body: Bytes::clone(delivery.body()),
            context: delivery.context().clone(),
        };
        self.quarantine(entry, now).await?;
        Ok(Intake::Invalid(invalid))
    }
}

/// What recording an event showed.
pub(crate) enum Comparison {
    New,
    Same,
    /// The key is known with other content than this one.
    Other(Conflicting),
}

/// What was received under a key that may be known with other content.
pub(crate) struct Conflicting {
    pub(crate) key: EventKey,
    pub(crate) body: Bytes,
    pub(crate) context: DeliveryContext,
    /// Whether its sender asked that its content be logged nowhere.
    sensitive: bool,
}

impl Conflicting {
    fn of(event: &IncomingEvent) -> Self {
        let (key, body) = (event.key.clone(), event.body.clone());
        Self { key, body, context: event.context.clone(), sensitive: event.parts.sensitive }
    }
}
