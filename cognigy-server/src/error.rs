//! Why a command could not do its work, and the exit status that tells it.

use cognigy_core::{Failure, StoreError, report};

use crate::settings::SettingError;

/// The command did its work.
pub(crate) const DONE: u8 = 0;
/// The command was tried and failed.
pub(crate) const FAILED: u8 = 1;
/// The command line or a setting is wrong; nothing was tried.
pub(crate) const WRONG_USE: u8 = 2;
/// SIGINT or SIGTERM ended the command: 128 plus the number of SIGINT, as shells write it.
pub(crate) const INTERRUPTED: u8 = 130;

/// Why a command could not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// A setting is wrong: wrong use, not a failure.
    #[error("{0}")]
    Setting(#[from] SettingError),
    /// The arguments of the command contradict each other.
    #[error("{0}")]
    Usage(String),
    /// The settings are valid, but the command failed.
    #[error("{0}")]
    Failed(String),
    /// The reader of stdout ended before the command did.
    #[error("stopped: the program that reads the output has ended")]
    Unread,
    /// A signal asked the command to end.
    #[error("interrupted: {0}")]
    Interrupted(String),
}

impl StartError {
    pub(crate) fn failed(what: &str, error: &dyn std::error::Error) -> Self {
        Self::Failed(format!("{what}: {}", report(error)))
    }

    /// The exit status of a command that ended with this error.
    pub(crate) fn exit_status(&self) -> u8 {
        match self {
            Self::Interrupted(_) => INTERRUPTED,
            Self::Setting(_) | Self::Usage(_) => WRONG_USE,
            Self::Failed(_) | Self::Unread => FAILED,
        }
    }
}

impl From<Failure> for StartError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure.report())
    }
}

impl From<StoreError> for StartError {
    fn from(error: StoreError) -> Self {
        Self::failed("the store could not answer", &error)
    }
}
