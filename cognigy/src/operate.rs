//! What operators do with stored events: find them, run them again, rehearse, purge, erase, and take
//! dead letters back from their queue.
//!
//! The calls are methods of [`Pipeline`](crate::Pipeline) and of its
//! [store](crate::Pipeline::store). The same over HTTP is in the module `operator` (a feature).
//!
//! ```
//! use cognigy::{memory::MemoryStore, operate::{EventFilter, PageRequest, ReplayOutcome}, prelude::*};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let secret = Secret::new("the secret you share with Cognigy")?;
//! # let pipeline = Pipeline::builder(SignatureVerifier::new(&secret)).store(MemoryStore::new()).build()?;
//! // Everything that was given up runs again, a page at a time.
//! let filter = EventFilter { state: Some(cognigy::State::DeadLettered), ..EventFilter::default() };
//! let page = pipeline.store().list(&filter, PageRequest { limit: 100, after: None }).await?;
//! for event in &page.events {
//!     match pipeline.replay(&event.key(), &TokioClock::new()).await? {
//!         ReplayOutcome::Failed(reason) => println!("{}: {reason}", event.id),
//!         outcome => println!("{}: {}", event.id, outcome.as_str()),
//!     }
//! }
//! # Ok(())
//! # }
//! ```

pub use cognigy_core::{
    Administration, Attempt, AuditEntry, AuditLog, AuditPage, Backlog, Counts, Cursor,
    DeadLetterSource, Discarded, Erasure, ErrorClass, ErrorGroup, EventArchive, EventFilter,
    EventPage, EventSummary, InvalidCursor, LastFailure, LeftMessage, PageRequest, Person,
    PurgeRequest, PurgeStep, Purged, Quarantine, QuarantinePage, QuarantineReason, QuarantineRetry,
    QuarantineSummary, QuarantinedItem, Recorrelated, RedriveReport, Redriven, Rehearsal,
    Rehearsed, ReplayError, ReplayOutcome, RunOutcome, ScanPage, ScanRequest, Scanned,
    SharedValues, StoreSize, StoredEvent, Words, error_groups, search,
};
