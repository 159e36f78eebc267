//! The real core, run deterministically under faults.
//!
//! One seed makes one run: [`Plan::draw`] draws deliveries, accidents and fault rates; [`run`] runs
//! the core's own pipeline, workers, ingest and replay through them on a single-threaded executor
//! with virtual time. A checker then reads what the outside saw (senders' answers, the CRM's, the
//! handler's and the sink's own logs, what the store committed) and says which promise was broken.
//! The same seed always makes the same run, step for step.
//!
//! ```text
//!   senders ─▶ ┌────────── process (1–3) ──────────┐      crashes, stops, pauses,
//!   operators  │ Pipeline + Workers: the real core │ ◀─── clock jumps at any await point
//!              └─┬───────────┬────────┬─────────┬──┘
//!                ▼ faults    ▼        ▼         ▼
//!               store       CRM    handler    sink ─▶ queue        history ─▶ checker
//! ```
//!
//! The simulation has a store of its own: [`Disk`] was written from the port's contract with
//! explicit phases, so only a misunderstanding that was made twice would stay unnoticed, and bugs
//! can be planted in it. In four of ten runs the core's own `MemoryStore` replaces it under the
//! same faults, so that the same checker tests the reference store. Either one survives a crash: a
//! crash drops every future of the process and leaves the store as the last commit left it.
//!
//! What is not simulated: SQLite's and SQS's own code, threads, real networks. Those have tests of
//! their own.
#![forbid(unsafe_code)]

mod body;
mod campaign;
mod checker;
mod clock;
mod dice;
mod disk;
mod draw;
mod executor;
mod fault;
mod history;
mod outside;
mod plan;
mod planted;
mod process;
mod run;
mod shrink;
mod store;
mod story;
mod traffic;
mod world;

pub use campaign::{Campaign, Report};
pub use checker::Violation;
pub use dice::Latency;
pub use disk::Disk;
pub use executor::Micros;
pub use fault::Fault;
pub use history::{
    AttemptRow, DeadLetterGrant, Ended, Entry, Grant, Happened, QuarantinedBody, RecordedAs, Told,
};
pub use plan::{Body, Delivery, Incident, Nature, Part, Plan, Settings, What};
pub use planted::Bug;
pub use run::{Run, run};
pub use shrink::shrink;
pub use story::tell;
