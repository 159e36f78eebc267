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

#[doc = include_str!("../../../docs/guide/src/failures.md")]
pub mod failures {}

#[doc = include_str!("../../../docs/guide/src/handlers-tested.md")]
pub mod handlers_tested {}

#[doc = include_str!("../../../docs/guide/src/operator-api.md")]
pub mod operator_api {}

#[doc = include_str!("../../../docs/guide/src/stores.md")]
pub mod stores {}

#[doc = include_str!("../../../docs/guide/src/adapters.md")]
pub mod adapters {}

#[doc = include_str!("../../../docs/guide/src/adapter-crm.md")]
pub mod adapter_crm {}

#[doc = include_str!("../../../docs/guide/src/adapter-sink.md")]
pub mod adapter_sink {}

#[doc = include_str!("../../../docs/guide/src/adapter-authenticator.md")]
pub mod adapter_authenticator {}

#[doc = include_str!("../../../docs/guide/src/guarantees.md")]
pub mod guarantees {}

#[doc = include_str!("../../../docs/guide/src/production.md")]
pub mod production {}

#[doc = include_str!("../../../docs/guide/src/compared.md")]
pub mod compared {}
