//! For those who write an adapter: the ports, and what crosses them.
//!
//! Each port's documentation has a paragraph `Contract`, and with the feature `testing` this crate has the
//! suite that checks it, under the name below.
//!
//! | to write | implement | prove by |
//! |---|---|---|
//! | a store | [`Store`]: [`EventStore`], [`EventArchive`], [`Quarantine`], [`Administration`], [`AuditLog`], [`SharedValues`] | `store_conformance!` |
//! | a CRM client | [`CrmClient`] | `crm_conformance!` |
//! | a place for dead letters | [`DeadLetterSink`] | `sink_conformance!` |
//! | another authentication | [`Authenticator`] | `authenticator_conformance!` |
//! | another format | [`EventFormat`] | |
//! | another handler | [`EventHandler`](crate::EventHandler) | |
//! | a handler with its own transaction | [`SettlingHandler`] | |
//!
//! ```
//! use cognigy::adapter::{ContactQuery, CrmClient, async_trait};
//! use cognigy::{Contact, Failure};
//!
//! /// Asks the directory of the company for people.
//! struct Directory;
//!
//! #[async_trait]
//! impl CrmClient for Directory {
//!     async fn find_contact(&self, query: &ContactQuery) -> Result<Option<Contact>, Failure> {
//!         match query.contact_key.as_str() {
//!             "7" => Ok(Some(Contact::from_json(r#"{"name":"Ada"}"#)?)),
//!             _ => Ok(None),
//!         }
//!     }
//! }
//! ```

/// What the ports are written with: put it on each implementation.
pub use async_trait::async_trait;
pub use cognigy_core::{
    Administration, Attempt, AttemptOutcome, AuditEntry, AuditLog, AuditPage, Authenticator, Claim,
    ClaimBatch, ClaimRequest, ClaimToken, ClaimedDeadLetter, ClaimedRun, Completion, ContactQuery,
    CrmClient, DeadLetter, DeadLetterClaim, DeadLetterEnd, DeadLetterMessage, DeadLetterSink,
    DeadLetterSource, DeliveryContext, EarlierId, EventArchive, EventFormat, EventParts,
    EventStore, FailureKind, FailureScope, Forgotten, Headers, IllegalMove, IncomingEvent, Move,
    NextStep, Quarantine, QuarantineEntry, ReceivedDeadLetter, Recorded, ReplayClaim, Request,
    Requeued, RunEnd, Settled, Settlement, SettlingHandler, SharedValues, Store, StoreError,
    StoreErrorKind, UnsentDeadLetter, WorkEnd, WorkKind, search_index,
};
