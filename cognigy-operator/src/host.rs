//! The program that the operator API is part of.

use std::{error::Error, sync::Arc};

use cognigy_core::{AuditEntry, EventKey, Silent, SourceName, StoreError};

use crate::{
    breakers::Breakers,
    view::{Deliveries, Rates},
};

/// What only the program around the API knows, and what it may want to log or count. Every method has a
/// default: [`Silent`] knows nothing and says nothing.
pub trait Host: Send + Sync + 'static {
    /// How many deliveries there were since the start, and how many a second. None, the default, where the
    /// program does not count them: `/admin/stats` says `null`.
    fn figures(&self) -> Option<(Deliveries, Rates)> {
        None
    }

    /// The sources whose CRM is out of reach of this process. The store knows those of other processes that
    /// write them there.
    fn breakers(&self) -> Breakers {
        Breakers::new()
    }

    /// Something happened: be quick, never block.
    fn happened(&self, happening: &Happening<'_>) {
        let _ = happening;
    }
}

/// Something that an operator did, or that went wrong meanwhile.
#[derive(Debug)]
#[non_exhaustive]
pub enum Happening<'a> {
    /// A request could not be answered, and the answer does not say why.
    Failed {
        /// What went wrong: the store did not answer, as a rule.
        error: &'a (dyn Error + Send + Sync + 'static),
    },
    /// What an operator did is done, and could not be recorded.
    NotRecorded {
        /// What was done.
        entry: &'a AuditEntry,
        /// Why the store did not keep it.
        error: &'a StoreError,
    },
    /// The workers of a source stop claiming, or go on, as an operator wanted.
    Paused {
        /// The source.
        source: &'a SourceName,
        /// Whether they are paused now.
        paused: bool,
    },
    /// It cannot be seen which sources are paused: workers go on as before. It is said once for each outage.
    PausesUnknown {
        /// Why the store did not answer.
        error: &'a StoreError,
    },
    /// It cannot be seen which bulk replays are to be carried out. It is said once for each outage.
    ReplaysUnknown {
        /// Why the store did not answer.
        error: &'a StoreError,
    },
    /// A bulk replay broke off.
    ReplayBrokeOff {
        /// Its number.
        id: u64,
        /// Why, and what becomes of it.
        error: &'a str,
    },
    /// What became of an event of a bulk replay is not known: the store did not answer.
    RunUnknown {
        /// The event.
        key: &'a EventKey,
        /// What the store could not do.
        error: &'a (dyn Error + Send + Sync + 'static),
    },
    /// The CRM gave no answer that can be used, when it was asked again for the contact of an event.
    NotCorrelated {
        /// The event.
        key: &'a EventKey,
        /// What the look-up failed with.
        error: &'a str,
    },
    /// A replay was not made, because another run held its event.
    ReplayWasBusy {
        /// The event's source.
        source: &'a SourceName,
    },
}

impl Host for Silent {}

impl<H: Host + ?Sized> Host for Arc<H> {
    fn figures(&self) -> Option<(Deliveries, Rates)> {
        (**self).figures()
    }

    fn breakers(&self) -> Breakers {
        (**self).breakers()
    }

    fn happened(&self, happening: &Happening<'_>) {
        (**self).happened(happening);
    }
}

/// Logs with [`tracing`] what goes wrong, and what operators pause.
#[cfg(feature = "tracing")]
#[derive(Debug, Clone, Copy, Default)]
pub struct TracingHost;

#[cfg(feature = "tracing")]
impl Host for TracingHost {
    fn happened(&self, happening: &Happening<'_>) {
        happening.log();
    }
}

#[cfg(feature = "tracing")]
impl Happening<'_> {
    /// Writes the line that tells an operator of it.
    pub fn log(&self) {
        match self {
            Self::Failed { error } => {
                let error = cognigy_core::report(*error);
                tracing::error!(error, "an operator's request could not be answered");
            }
            Self::NotRecorded { entry, error } => {
                let AuditEntry { by, action, outcome, .. } = entry;
                let error = cognigy_core::report(*error);
                let message = "what an operator did could not be recorded";
                tracing::error!(by, action, outcome, error, "{message}");
            }
            Self::Paused { source, paused } => {
                let told = match paused {
                    true => "an operator paused the workers of this source",
                    false => "an operator let the workers of this source go on",
                };
                tracing::info!(source = source.as_str(), paused, "{told}");
            }
            Self::PausesUnknown { error } => {
                let error = cognigy_core::report(*error);
                tracing::warn!(error, "could not see which sources are paused: as before");
            }
            Self::ReplaysUnknown { error } => {
                let error = cognigy_core::report(*error);
                tracing::warn!(error, "the bulk replays could not be looked at");
            }
            Self::ReplayBrokeOff { id, error } => {
                tracing::error!(replay = id, error, "a bulk replay broke off");
            }
            Self::RunUnknown { key, error } => {
                let (source, event_id) = (key.source.as_str(), key.id.as_str());
                let error = cognigy_core::report(*error);
                tracing::error!(source, event_id, error, "an event of a bulk replay");
            }
            Self::NotCorrelated { key, error } => {
                let (source, event_id) = (key.source.as_str(), key.id.as_str());
                tracing::warn!(source, event_id, error, "an event of a bulk recorrelation");
            }
            Self::ReplayWasBusy { .. } => {}
        }
    }
}
