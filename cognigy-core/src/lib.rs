//! Receive signed Cognigy webhook events, keep them durably, process them, and explain what
//! happened to each one.
//!
//! ```text
//!  RawDelivery ─▶ Authenticator ─▶ VerifiedDelivery ─▶ EventFormat ─▶ IncomingEvent
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

mod event;
mod handlers;
mod intake;
pub mod memory;
mod operations;
mod pipeline;
mod ports;
mod processing;
mod store;
#[cfg(feature = "testing")]
pub mod testing;

pub use event::{
    Correlation, DEFAULT_SOURCE, DecodeError, DeliveryContext, EarlierId, Event, EventId, EventKey,
    EventParts, EventTime, EventType, FieldError, IllegalMove, IncomingEvent, InvalidEvent,
    InvalidEventId, InvalidEventTime, InvalidSourceName, InvalidTraceParent, MAX_JSON_DEPTH, Move,
    SourceName, State, Timestamp, TraceParent, UnknownCorrelation, UnknownState, same_content,
};
pub use handlers::{
    DialogEnded, DialogStarted, EventPayload, HandlerContext, Handlers, PayloadHandler,
    ProfileUpdated, UserInput,
};
pub use intake::{
    AllowedAddresses, AuthenticationError, Authenticator, Challenge, CognigyFormat,
    CredentialPlace, CredentialVerifier, DEFAULT_MAX_BODY_BYTES, DEFAULT_TOLERANCE, DerivedId,
    EventFormat, FormatOptions, FormatPreset, HandshakeRefused, Headers, IncompleteScheme, Intake,
    InvalidContent, InvalidEventType, InvalidJsonPointer, JsonPointer, KeyEncoding,
    MAX_CONTEXT_BYTES, MAX_EVENTS, MIN_SECRET_BYTES, MatchedSecret, RawDelivery, ReadEvent,
    Received, Reply, Request, Secret, SecretError, SignatureEncoding, SignatureFormat,
    SignatureScheme, SignatureVerifier, SignedContent, SigningScheme, SigningVerifier, Source,
    TimestampUnit, ToSign, UnknownPreset, UnknownScheme, UnusableKey, VerifiedDelivery,
    WebhookHandshake, sign,
};
pub use operations::{
    Import, Imported, ImportedEnd, LeftMessage, QuarantineRetry, Recorrelated, RedriveReport,
    Redriven, Rehearsal, Rehearsed, ReplayError, ReplayOutcome, RunOutcome,
};
pub use pipeline::{
    BuildError, DEFAULT_ATTEMPT_TIMEOUT, DEFAULT_LEASE, DEFAULT_MAX_LOST_LEASES, NeedsStore,
    OnAmbiguous, Pipeline, PipelineBuilder,
};
#[cfg(feature = "tokio")]
pub use ports::TokioClock;
pub use ports::{
    BoxError, Clock, Completion, Contact, ContactQuery, CrmClient, CrmOutcome, DeadLetter,
    DeadLetterMessage, DeadLetterSink, DeadLetterSource, EventHandler, Failure, FailureKind,
    FailureScope, GaveUp, KeepInStore, NoCrm, NoHandler, Observation, Observer, Operation, OrFail,
    Origin, ReceivedDeadLetter, Recording, Scope, SettlingHandler, Silent, Span, SpanEnd, Stage,
    StoreError, StoreErrorKind, Tracer, report,
};
#[cfg(feature = "tokio")]
pub use processing::WorkerHandle;
pub use processing::{Jitter, NextStep, RetryPolicy, Stop, Worker, WorkerOptions};
pub use store::{
    Administration, AfterDeadLetter, Attempt, AttemptOutcome, AuditEntry, AuditLog, AuditPage,
    Backlog, Claim, ClaimBatch, ClaimRequest, ClaimToken, ClaimedDeadLetter, ClaimedRun, Counts,
    Cursor, DeadLetterClaim, DeadLetterEnd, Discarded, EXCERPT_BYTES, Erasure, ErrorClass,
    ErrorGroup, EventArchive, EventFilter, EventOrder, EventPage, EventStore, EventSummary,
    Forgotten, GROUPED, InvalidCursor, LastFailure, PAGE_BYTES, PageRequest, Person, PurgeRequest,
    PurgeStep, Purged, Quarantine, QuarantineEntry, QuarantineLimits, QuarantinePage,
    QuarantineReason, QuarantineSummary, QuarantinedItem, Recorded, ReplayClaim, Requeued, RunEnd,
    SCAN_BYTES, SEARCHED, ScanPage, ScanRequest, Scanned, Settled, Settlement, SharedValues, Store,
    StoreSize, StoredEvent, UnknownOrder, UnsentDeadLetter, Words, WorkEnd, WorkKind, error_groups,
    search, search_index,
};
