//! Suites and stand-ins for programs that implement a port or test a pipeline.
//!
//! * [`store_conformance!`](crate::store_conformance) tests a store against its contract.
//! * [`ordered_store_conformance!`](crate::ordered_store_conformance) does the same for a store
//!   that keeps the order of each contact's events.
//! * [`model::compare`] makes random calls and compares a store with the one in memory.
//! * [`ManualClock`], [`ScriptedCrm`] and [`ScriptedSink`] replace time, the CRM and the sink.
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

mod clock;
pub mod conformance;
pub mod model;
pub mod recorded;
pub mod sample;
mod world;

pub use clock::ManualClock;
pub use world::{CrmAnswer, ScriptedCrm, ScriptedSink};
