//! What operators do with stored events: find them, run them again, rehearse, purge, erase, and take
//! dead letters back from their queue.
//!
//! The calls are methods of [`Pipeline`](crate::Pipeline) and of its
//! [store](crate::Pipeline::store). The same over HTTP is in the module `operator` (a feature).

pub use cognigy_core::{
    Administration, Attempt, AuditEntry, AuditLog, AuditPage, Backlog, Counts, Cursor,
    DeadLetterSource, Discarded, Erasure, ErrorClass, ErrorGroup, EventArchive, EventFilter,
    EventPage, EventSummary, InvalidCursor, LastFailure, LeftMessage, PageRequest, Person,
    PurgeRequest, PurgeStep, Purged, Quarantine, QuarantinePage, QuarantineReason, QuarantineRetry,
    QuarantineSummary, QuarantinedItem, Recorrelated, RedriveReport, Redriven, Rehearsal,
    Rehearsed, ReplayError, ReplayOutcome, RunOutcome, ScanPage, ScanRequest, Scanned,
    SharedValues, StoreSize, StoredEvent, Words, error_groups, search,
};
