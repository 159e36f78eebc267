//! Suites and stand-ins for programs that implement a port or test a pipeline.
//!
//! * [`store_conformance!`](crate::store_conformance) tests a store against its contract.
//! * [`ordered_store_conformance!`](crate::ordered_store_conformance) does the same for a store
//!   that keeps the order of each contact's events.
//! * [`model::compare`] makes random calls and compares a store with the one in memory.
//! * [`sink_conformance!`](crate::sink_conformance), [`crm_conformance!`](crate::crm_conformance) and
//!   [`authenticator_conformance!`](crate::authenticator_conformance) do it for the other ports.
//! * [`World`] is a pipeline with all that is around it, for tests of handlers.
//! * [`ManualClock`], [`ScriptedCrm`], [`ScriptedHandler`] and [`ScriptedSink`] replace time, the CRM,
//!   the handler and the sink.
//! * [`sample`] makes events.
//!
//! A store's test file is a few lines:
//!
//! ```
//! use cognigy_core::memory::MemoryStore;
//!
//! async fn fresh_store() -> (MemoryStore, ()) {
//!     (MemoryStore::new(), ())
//! }
//!
//! cognigy_core::store_conformance!(#[tokio::test], fresh_store);
//! ```
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc)]

pub mod authenticator_conformance;
mod clock;
pub mod conformance;
pub mod crm_conformance;
pub mod model;
pub mod recorded;
pub mod sample;
mod scripted;
pub mod sink_conformance;
mod world;

pub use clock::ManualClock;
pub use scripted::{CrmAnswer, ScriptedCrm, ScriptedHandler, ScriptedSink};
pub use world::World;
