//! What happens as log lines.

use std::sync::Arc;

use cognigy_core::{AttemptOutcome, Intake, Observation, Observer, SourceName, StoreErrorKind};

use crate::{
    admission::UNKNOWN,
    happening::{Happening, ServiceObserver},
    refusals::Refusals,
    repeated::Repeated,
};

/// What a failure to forget the bodies of sensitive events is remembered by.
const SENSITIVE: &str = "sensitive events";
const INDEX: &str = "search index";

/// Logs with [`tracing`], one line for each thing that an operator may have to know: a refused delivery, an
/// attempt that failed, a dead letter, a store or a CRM out of reach, a worker that has ended. What went
/// well is logged at `debug`.
///
/// Give one to each pipeline and one to the service. Lines contain the source, ids, addresses and errors;
/// never a body or a secret. Texts of others are logged as string values, which both formats of
/// `tracing-subscriber` escape.
///
/// A flood of refused deliveries does not fill the log: the first refusal for a reason and an address is a
/// line at `warn`, further ones are lines at `debug`, and with one of them every five seconds come their
/// counts. A store that stays away is a line once a minute for each call.
///
/// ```
/// use cognigy_core::{Pipeline, memory::MemoryStore, testing::sample};
/// use cognigy_service::{Service, TracingObserver};
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// tracing_subscriber::fmt().init();
/// let observer = TracingObserver::default();
/// let pipeline = Pipeline::builder(sample::verifier())
///     .store(MemoryStore::new())
///     .observer(observer.clone())
///     .build()?;
/// let service = Service::builder(pipeline).observer(observer).start().await?;
/// # service.shutdown().await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Default)]
pub struct TracingObserver {
    source: SourceName,
    refusals: Arc<Refusals>,
    failing: Arc<Repeated>,
}

impl TracingObserver {
    /// For the pipeline of `source`. The one by default is for the source that is called `cognigy`.
    #[must_use]
    pub fn of(source: SourceName) -> Self {
        Self { source, ..Self::default() }
    }

    fn log_delivery(&self, observation: &Observation<'_>) {
        let Observation::Delivery { intake, peer, .. } = observation else { return };
        let (source, outcome) = (self.source.as_str(), intake.as_str());
        let (detail, event_id) = match intake {
            Intake::Accepted { .. } | Intake::Duplicate { .. } => {
                tracing::debug!(source, outcome, "delivery");
                return;
            }
            Intake::Unsigned(reason) => (Some(reason.to_string()), None),
            Intake::Invalid(invalid) => (Some(invalid.to_string()), invalid.event_id.as_deref()),
            Intake::Conflict { key, .. } => (None, Some(key.id.as_str())),
            Intake::Unavailable(kind) => (Some(format!("{kind:?}")), None),
            _ => (None, None),
        };
        let message = match intake {
            Intake::Unsigned(_) => "delivery refused: not authenticated",
            Intake::Invalid(_) => "delivery quarantined",
            Intake::Conflict { .. } => "delivery quarantined: its id is known with other content",
            Intake::Unavailable(StoreErrorKind::Overloaded) => "delivery refused: too much at once",
            Intake::Unavailable(_) => "delivery refused: the store cannot take it",
            _ => "delivery refused",
        };
        let first = self.refusals.first(outcome, peer.unwrap_or(UNKNOWN));
        let peer = peer.map(tracing::field::display);
        match first {
            true => tracing::warn!(source, peer, outcome, detail, event_id, "{message}"),
            false => tracing::debug!(source, peer, outcome, detail, event_id, "{message}"),
        }
        self.refusals.report_if_due();
    }

    fn log_attempt(&self, observation: &Observation<'_>) {
        let Observation::Attempt { key, run, number, outcome, error, gave_up, .. } = observation
        else {
            return;
        };
        let (source, event_id, attempt) = (self.source.as_str(), key.id.as_str(), number);
        if *outcome == AttemptOutcome::Succeeded {
            tracing::debug!(source, event_id, run, attempt, "event processed");
        } else if gave_up.is_some() {
            tracing::error!(source, event_id, run, attempt, error, "event given up");
        } else {
            tracing::warn!(source, event_id, run, attempt, error, "attempt failed, will retry");
        }
    }
}

impl Observer for TracingObserver {
    fn observe(&self, observation: &Observation<'_>) {
        let source = self.source.as_str();
        match observation {
            Observation::Delivery { .. } => self.log_delivery(observation),
            Observation::Attempt { .. } => self.log_attempt(observation),
            Observation::PutOff { key, error } => {
                let message = "attempt put off: the CRM is out of reach";
                tracing::debug!(source, event_id = key.id.as_str(), error, "{message}");
            }
            Observation::Breaker { open: true, error } => {
                let message = "the CRM is out of reach: look-ups are held back until it answers";
                tracing::warn!(source, error, "{message}");
            }
            Observation::Breaker { open: false, .. } => {
                tracing::info!(source, "the CRM answers again");
            }
            Observation::LeaseLost { key } => {
                let message = "a lease was lost: another worker has taken the event over";
                tracing::warn!(source, event_id = key.id.as_str(), "{message}");
            }
            Observation::LeaseExpired { key, run, lost, gave_up: true } => {
                let message = "event given up: its run lost too many leases";
                tracing::error!(source, event_id = key.id.as_str(), run, lost, "{message}");
            }
            Observation::LeaseExpired { key, run, lost, .. } => {
                let message = "an attempt ended with its lease: its worker vanished";
                tracing::warn!(source, event_id = key.id.as_str(), run, lost, "{message}");
            }
            Observation::QuarantineEvicted { count } => {
                let message = "invalid bodies went from the quarantine for newer ones";
                tracing::warn!(source, count, "{message}");
            }
            Observation::DeadLetterSent { key } => {
                tracing::info!(source, event_id = key.id.as_str(), "dead letter sent");
            }
            Observation::DeadLetterKept { key } => {
                tracing::info!(source, event_id = key.id.as_str(), "dead letter kept in the store");
            }
            Observation::DeadLetterFailed { key, error } => {
                let message = "dead letter not sent, will retry";
                tracing::error!(source, event_id = key.id.as_str(), error, "{message}");
            }
            Observation::StoreError { operation, error } => {
                if let Some(unlogged) = self.failing.again(operation) {
                    let message = "the store could not answer";
                    tracing::error!(source, operation, error, unlogged, "{message}");
                }
            }
            _ => {}
        }
    }
}

impl ServiceObserver for TracingObserver {
    fn happened(&self, happening: &Happening<'_>) {
        match happening {
            Happening::Forgot { purged } => {
                let bodies: u64 = purged.quarantined.values().sum();
                let (events, message) =
                    (purged.total_events(), "forgotten: older than the retention");
                tracing::info!(events, bodies, "{message}");
            }
            Happening::PurgeFailed { error } => {
                let error = cognigy_core::report(error);
                tracing::error!(error, "finished events not forgotten");
            }
            Happening::ForgetSensitiveFailed { error } => {
                if let Some(unlogged) = self.failing.again(SENSITIVE) {
                    let error = cognigy_core::report(error);
                    let message = "bodies of sensitive events not forgotten";
                    tracing::error!(error, unlogged, "{message}");
                }
            }
            Happening::IndexFailed { error } => {
                if let Some(unlogged) = self.failing.again(INDEX) {
                    let error = cognigy_core::report(error);
                    let message = "events not described in the search index";
                    tracing::warn!(error, unlogged, "{message}");
                }
            }
            Happening::WorkerEnded { source } => {
                let message = "a worker has ended unexpectedly: restart the process";
                tracing::error!(source = source.as_str(), "{message}");
            }
            Happening::ForgotSensitive { .. } => self.failing.over(SENSITIVE),
            Happening::PurgeEnded { .. } => {}
        }
    }
}
