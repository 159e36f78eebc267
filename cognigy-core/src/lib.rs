//! Receive signed Cognigy webhook events, keep them durably, process them, and explain what
//! happened to each one.
//!
//! ```text
//!  RawDelivery ─▶ SignatureVerifier ─▶ VerifiedDelivery ─▶ EventFormat ─▶ IncomingEvent
//!                                                                            │ EventStore::record
//!      sender is answered here, once the event is durable  ◀─────────────────┘
//!
//!  EventStore::claim_due ─▶ Claim ─▶ CrmClient ─▶ EventHandler ─▶ Settlement ─▶ EventStore::settle
//!                                                                     │ gave up
//!                                                                     └─▶ outbox ─▶ DeadLetterSink
//! ```
//!
//! The crate holds the decisions and the ports; it reads no clock, opens no socket and knows no
//! runtime. Adapters implement the ports: [`EventStore`], [`EventArchive`] and [`Quarantine`] for
//! storage, [`CrmClient`], [`DeadLetterSink`], [`EventHandler`] (or [`SettlingHandler`]), and
//! [`Clock`] for time.
//!
//! * [`Pipeline::ingest`] takes a delivery in and yields the HTTP answer for any web framework.
//! * [`Worker`] claims what is due and settles it, retrying through the store.
//! * [`Pipeline::replay`] runs a stored event again.
//! * [`memory::MemoryStore`] is the reference store; `testing` (a feature) ships the suites that
//!   every store must pass.
#![forbid(unsafe_code)]

mod bell;
mod builder;
mod claim;
mod clock;
mod crm;
mod dead_letter;
mod delivery;
mod error;
mod event;
mod handler;
mod ingest;
pub mod memory;
mod observe;
mod order;
mod pipeline;
mod redrive;
mod replay;
mod reply;
mod retry;
mod settling;
mod signature;
mod source;
mod state;
mod store;
#[cfg(feature = "testing")]
pub mod testing;
mod worker;

pub use builder::{NeedsStore, PipelineBuilder};
pub use claim::{Attempt, AttemptOutcome, Claim, ClaimToken, Settlement, Verdict, WorkKind};
#[cfg(feature = "tokio")]
pub use clock::TokioClock;
pub use clock::{Clock, Timestamp};
pub use crm::{Contact, ContactQuery, CrmClient, NoCrm};
pub use dead_letter::{
    DeadLetter, DeadLetterMessage, DeadLetterSink, DeadLetterSource, KeepInStore,
    ReceivedDeadLetter,
};
pub use delivery::{Headers, RawDelivery, VerifiedDelivery};
pub use error::{BoxError, Failure, FailureKind, StoreError, StoreErrorKind};
pub use event::{
    CognigyFormat, Event, EventFormat, EventId, EventKey, EventParts, EventTime, EventType,
    FieldError, IncomingEvent, InvalidEvent, MAX_JSON_DEPTH, same_content,
};
pub use handler::{EventHandler, NoHandler};
pub use ingest::{DEFAULT_MAX_BODY_BYTES, Intake};
pub use observe::{CrmOutcome, Observation, Observer, Silent};
pub use order::{AfterDeadLetter, EventOrder};
pub use pipeline::{DEFAULT_ATTEMPT_TIMEOUT, DEFAULT_LEASE, DEFAULT_MAX_LOST_LEASES, Pipeline};
pub use redrive::{LeftMessage, RedriveReport, Redriven};
pub use replay::{QuarantineRetry, ReplayError, ReplayOutcome};
pub use reply::Reply;
pub use retry::{Jitter, NextStep, RetryPolicy};
pub use settling::{Completion, SettlingHandler};
pub use signature::{
    MIN_SECRET_BYTES, MatchedSecret, Secret, SecretError, SignatureError, SignatureScheme,
    SignatureVerifier, sign,
};
pub use source::{DEFAULT_SOURCE, InvalidSourceName, Source, SourceName};
pub use state::{IllegalMove, Move, State};
pub use store::{
    Backlog, ClaimBatch, ClaimRequest, ClaimedDeadLetter, ClaimedRun, Counts, Cursor,
    EXCERPT_BYTES, EventArchive, EventFilter, EventPage, EventStore, EventSummary, PAGE_BYTES,
    PageRequest, PurgeRequest, PurgeStep, Purged, Quarantine, QuarantineEntry, QuarantineLimits,
    QuarantinePage, QuarantineReason, QuarantineSummary, QuarantinedItem, Recorded, ReplayClaim,
    Requeued, Settled, Store, StoreSize, StoredEvent, UnsentDeadLetter,
};
#[cfg(feature = "tokio")]
pub use worker::WorkerHandle;
pub use worker::{Stop, Worker, WorkerOptions};
