//! The Rust code of `docs/guide`, compiled and run as documentation tests: a module for each chapter.
//!
//! ```sh
//! cargo test -p cognigy-guide --doc
//! ```

#[doc = include_str!("../../../docs/guide/src/start.md")]
pub mod start {}

#[doc = include_str!("../../../docs/guide/src/concepts.md")]
pub mod concepts {}

#[doc = include_str!("../../../docs/guide/src/handlers.md")]
pub mod handlers {}

#[doc = include_str!("../../../docs/guide/src/adapters.md")]
pub mod adapters {}
