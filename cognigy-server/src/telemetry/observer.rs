//! What the observer of a source does with what it hears: it counts it, and logs what tells an operator
//! something.

use std::{
    net::IpAddr,
    sync::{PoisonError, atomic::Ordering},
    time::{Duration, SystemTime},
};

use cognigy_core::{
    AttemptOutcome, GaveUp, Intake, MatchedSecret, Observation, Observer, StoreErrorKind,
};

use super::{
    BUSY, FAILED, KEPT, Minute, Opened, PERMANENT, SENT, SourceTelemetry, TRANSIENT,
    hints::refusal, seconds_since_1970,
};
use cognigy_operator::view::milliseconds;
use cognigy_service::admission::UNKNOWN;

impl Observer for SourceTelemetry {
    fn observe(&self, observation: &Observation<'_>) {
        self.count(observation);
        self.log(observation);
    }
}

impl SourceTelemetry {
    fn count(&self, observation: &Observation<'_>) {
        match observation {
            Observation::Delivery { intake, duration, .. } => {
                self.count_delivery(intake, duration.unwrap_or_default());
            }
            // A bulk replay asks again and again while the event is busy: only who gives up counts that,
            // by `replay_was_busy`.
            Observation::Replay { outcome, .. } if *outcome != BUSY => {
                self.replays.with_label_values(&[*outcome]).inc();
            }
            Observation::CrmRequest { outcome, duration } => {
                self.crm.with_label_values(&[outcome.as_str()]).inc();
                self.crm_duration.observe(duration.as_secs_f64());
            }
            Observation::Attempt { outcome, duration, stage, gave_up, .. } => {
                self.processing.with_label_values(&[outcome.as_str()]).inc();
                self.processing_duration.observe(duration.as_secs_f64());
                if *outcome == AttemptOutcome::Succeeded {
                    self.processed.add(1);
                    self.history.add(Minute { processed: 1, ..Minute::default() });
                } else {
                    self.history.add(Minute { failed: 1, ..Minute::default() });
                }
                if let Some(stage) = stage {
                    let is_permanent = *outcome == AttemptOutcome::FailedPermanent;
                    let kind = if is_permanent { PERMANENT } else { TRANSIENT };
                    self.failures.with_label_values(&[stage.as_str(), kind]).inc();
                }
                if let Some(why) = gave_up {
                    self.given_up.with_label_values(&[why.as_str()]).inc();
                }
            }
            Observation::PutOff { .. } => self.put_off.inc(),
            Observation::Breaker { open, error } => {
                self.breaker.set(i64::from(*open));
                if *open {
                    self.breaker_opened.inc();
                }
                let opened = open.then(|| Opened {
                    since: SystemTime::now(),
                    error: error.unwrap_or_default().to_owned(),
                });
                *self.opened.lock().unwrap_or_else(PoisonError::into_inner) = opened;
            }
            Observation::Correlated { correlation, .. } => {
                self.correlations.with_label_values(&[correlation.as_str()]).inc();
            }
            Observation::LeaseLost { .. } => self.lost_leases.inc(),
            Observation::LeaseExpired { gave_up, .. } => {
                let outcome = AttemptOutcome::LeaseExpired.as_str();
                self.processing.with_label_values(&[outcome]).inc();
                if *gave_up {
                    self.given_up.with_label_values(&[GaveUp::LostLeases.as_str()]).inc();
                }
            }
            Observation::QuarantineEvicted { count } => self.quarantine_evicted.inc_by(*count),
            Observation::DeadLetterSent { .. } => {
                self.dead_letters.with_label_values(&[SENT]).inc();
            }
            Observation::DeadLetterKept { .. } => {
                self.dead_letters.with_label_values(&[KEPT]).inc();
            }
            Observation::DeadLetterFailed { .. } => {
                self.dead_letters.with_label_values(&[FAILED]).inc();
            }
            Observation::StoreError { .. } => self.store_errors.inc(),
            _ => {}
        }
    }

    /// Counts a delivery that was answered.
    fn count_delivery(&self, intake: &Intake, duration: Duration) {
        self.deliveries.with_label_values(&[intake.as_str()]).inc();
        self.ingest.observe(duration.as_secs_f64());
        self.received.add(1);
        self.history.add(Minute { received: 1, ..Minute::default() });
        let tally = match intake {
            Intake::Accepted { .. } => &self.tallies.new,
            Intake::Duplicate { .. } => &self.tallies.duplicates,
            Intake::Conflict { .. } => &self.tallies.conflicts,
            _ => &self.tallies.refused,
        };
        tally.fetch_add(1, Ordering::Relaxed);
        if intake.matched() == Some(MatchedSecret::Previous) {
            self.previous_secret.inc();
        }
        if let Intake::Unsigned(reason) = intake {
            self.unauthenticated.with_label_values(&[reason.as_str()]).inc();
        }
        let is_authenticated = intake.matched().is_some() || matches!(intake, Intake::Invalid(_));
        if is_authenticated {
            self.last_delivery.set(seconds_since_1970());
        }
    }

    fn log(&self, observation: &Observation<'_>) {
        let source = self.label();
        match observation {
            Observation::Delivery { intake, peer, duration } => {
                self.log_delivery(intake, duration.unwrap_or_default(), peer.unwrap_or(UNKNOWN));
            }
            Observation::AttemptBegun { key, run, number } => {
                let event_id = key.id.as_str();
                tracing::debug!(source, event_id, run, attempt = number, "attempt begins");
            }
            Observation::Replay { key, outcome } => {
                tracing::debug!(source, event_id = key.id.as_str(), outcome, "replay ended");
            }
            Observation::Attempt { .. } => self.log_attempt(observation),
            Observation::PutOff { key, error } => {
                let event_id = key.id.as_str();
                let message = "attempt put off: the CRM is out of reach";
                tracing::debug!(source, event_id, error, "{message}");
            }
            Observation::Breaker { open: true, error } => tracing::warn!(
                source,
                error,
                "the CRM is out of reach: look-ups are held back until it answers a probe"
            ),
            Observation::Breaker { open: false, .. } => {
                tracing::info!(source, "the CRM answers again");
            }
            Observation::LeaseLost { key } => {
                let event_id = key.id.as_str();
                let message = "a lease was lost: another worker has taken the event over";
                tracing::warn!(source, event_id, "{message}");
            }
            Observation::LeaseExpired { key, run, lost, gave_up } => {
                let event_id = key.id.as_str();
                if *gave_up {
                    let message = "event given up: its run lost too many leases";
                    tracing::error!(source, event_id, run, lost, "{message}");
                } else {
                    let message = "an attempt ended with its lease: its worker vanished";
                    tracing::warn!(source, event_id, run, lost, "{message}");
                }
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
                let event_id = key.id.as_str();
                tracing::error!(source, event_id, error, "dead letter not sent, will retry");
            }
            Observation::StoreError { operation, error } => {
                if let Some(unlogged) = self.store_failing.again(operation) {
                    let message = "the store could not answer";
                    tracing::error!(source, operation, error, unlogged, "{message}");
                }
            }
            _ => {}
        }
    }

    fn log_attempt(&self, observation: &Observation<'_>) {
        let Observation::Attempt { key, run, number, outcome, duration, error, gave_up, .. } =
            observation
        else {
            return;
        };
        if self.leaves_attempts_unlogged.load(Ordering::Relaxed) {
            return;
        }
        let (source, event_id, attempt) = (self.label(), key.id.as_str(), number);
        let duration_ms = milliseconds(*duration);
        if *outcome == AttemptOutcome::Succeeded {
            tracing::debug!(source, event_id, run, attempt, duration_ms, "event processed");
        } else if gave_up.is_some() {
            tracing::error!(source, event_id, run, attempt, error, "event given up");
        } else {
            tracing::warn!(source, event_id, run, attempt, error, "attempt failed, will retry");
        }
    }

    /// Logs a delivery from `peer`.
    fn log_delivery(&self, intake: &Intake, duration: Duration, peer: IpAddr) {
        let source = self.label();
        let first = |reason: &str| self.refusals.first(reason, peer);
        match intake {
            Intake::Accepted { .. } | Intake::Duplicate { .. } => {
                let (outcome, duration_ms) = (intake.as_str(), milliseconds(duration));
                tracing::debug!(source, outcome, duration_ms, "delivery");
            }
            Intake::Unsigned(reason) => {
                refusal!(
                    // By its name: a text with seconds in it would be another reason each time.
                    first(&format!("not authenticated: {}", reason.as_str())),
                    source, %peer, reason = reason.to_string(), "delivery refused: not authenticated"
                );
            }
            Intake::Invalid(invalid) => {
                refusal!(
                    first("invalid"),
                    source, %peer, event_id = invalid.event_id.as_deref(), problem = invalid.to_string(),
                    "delivery quarantined"
                );
            }
            Intake::Conflict { key, .. } => {
                let event_id = key.id.as_str();
                refusal!(
                    first("conflict"),
                    source, %peer, event_id,
                    "delivery quarantined: its id is known with other content"
                );
            }
            Intake::Unavailable(kind) => {
                let (reason, message) = match kind {
                    StoreErrorKind::Overloaded => {
                        ("overloaded", "delivery refused: too much at once")
                    }
                    _ => ("store unavailable", "delivery refused: the store cannot take it"),
                };
                match first(reason) {
                    // The cause is the store, not a sender: an operator has to act.
                    true if *kind != StoreErrorKind::Overloaded => {
                        tracing::error!(source, %peer, ?kind, "{message}");
                    }
                    first => refusal!(first, source, %peer, ?kind, "{message}"),
                }
            }
            other => {
                let (reason, duration_ms) = (other.as_str(), milliseconds(duration));
                refusal!(first(reason), source, %peer, reason, duration_ms, "delivery refused");
            }
        }
    }
}
