//! The load tools: a generator that costs little itself, and code that turns its figures into a
//! table.
//!
//! The benchmarks proper are in `benches/` (criterion); `./scripts/bench` runs everything.

pub mod crm;
pub mod load;
pub mod postgres;
pub mod process;
pub mod server;
