//! What operators have done: replays, redrives, retries from the quarantine.

mod quarantine;
mod recorrelate;
mod redrive;
mod replay;

pub use quarantine::QuarantineRetry;
pub use recorrelate::Recorrelated;
pub use redrive::{LeftMessage, RedriveReport, Redriven};
pub use replay::{ReplayError, ReplayOutcome};
