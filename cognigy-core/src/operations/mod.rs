//! What operators have done: replays and their rehearsals, redrives, retries from the quarantine, imports.

mod import;
mod quarantine;
mod recorrelate;
mod redrive;
mod rehearse;
mod replay;

pub use import::{Import, Imported, ImportedEnd};
pub use quarantine::QuarantineRetry;
pub use recorrelate::Recorrelated;
pub use redrive::{LeftMessage, RedriveReport, Redriven};
pub use rehearse::{Rehearsal, Rehearsed, RunOutcome};
pub use replay::{ReplayError, ReplayOutcome};
