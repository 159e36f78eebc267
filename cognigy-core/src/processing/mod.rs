//! The way through: workers claim what is due, attempt it, and settle how it ended.

mod attempt;
mod breaker;
mod capacity;
mod dead_letters;
mod in_flight;
mod notify;
mod retry;
#[cfg(feature = "tokio")]
mod spawn;
mod store_call;
mod worker;

pub(crate) use attempt::{ClaimTime, Ending, Occasion, of_answer};
pub(crate) use breaker::{Admission, Breaker};
pub(crate) use notify::Notify;
pub use retry::{Jitter, NextStep, RetryPolicy};
#[cfg(feature = "tokio")]
pub use spawn::WorkerHandle;
pub(crate) use store_call::answered_by;
pub use worker::{Stop, Worker, WorkerOptions};
