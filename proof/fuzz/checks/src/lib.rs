//! The properties that must hold for any input from outside, as functions over bytes.
//!
//! `proof/fuzz/` passes them to libFuzzer, which looks for new inputs; `tests/replay.rs` runs them
//! over the inputs that are committed, with every `cargo test`. Each compares with another
//! implementation where there is one: serde_json's own `Value` for events, `sign` for signatures.
//!
//! Settings are not among them: they come from the operator, and reading an address asks the
//! system's resolver. Their parsers have tables of their own.

// A broken invariant panics, which is how a fuzzer notices it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::missing_panics_doc)]

mod dead_letter;
mod event;
mod retry_after;
mod signature;
mod time;

pub use dead_letter::dead_letter;
pub use event::event;
pub use retry_after::retry_after;
pub use signature::signature;
pub use time::time;

/// A check over one input.
pub type Check = fn(&[u8]);

/// Every check under the name of its target and its folder in `proof/fuzz/corpus`.
pub const CHECKS: [(&str, Check); 5] = [
    ("dead_letter", dead_letter),
    ("event", event),
    ("retry_after", retry_after),
    ("signature", signature),
    ("time", time),
];
