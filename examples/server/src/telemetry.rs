//! Counting and logging what happens: one observer for both.
//!
//! Labels come from fixed sets, never from events. Log lines carry ids, quoted and escaped, never
//! bodies.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use cognigy_core::{
    AttemptOutcome, Counts, Intake, MatchedSecret, Observation, Observer, State, Timestamp,
};
use cognigy_crm_http::{CoalescingCrm, HttpCrm, Spared};
use prometheus::{
    Encoder, Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGaugeVec, Opts,
    Registry, TextEncoder,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use crate::rates::Rate;

/// Upper bounds of the duration buckets, in seconds: a group commit takes half a millisecond to
/// some tens, a CRM call up to its timeout of ten seconds.
const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// Everything that is counted.
pub(crate) struct Telemetry {
    registry: Registry,
    deliveries: IntCounterVec,
    dropped_log_lines: IntCounter,
    previous_secret: IntCounter,
    ingest: Histogram,
    events: IntGaugeVec,
    processing: IntCounterVec,
    processing_duration: Histogram,
    crm: IntCounterVec,
    crm_duration: Histogram,
    dead_letters: IntCounterVec,
    oldest_pending: Gauge,
    store_errors: IntCounter,
    lost_leases: IntCounter,
    pub(crate) received: Rate,
    pub(crate) processed: Rate,
    tallies: Tallies,
}

/// Deliveries since the start, as the accounting sums them.
#[derive(Default)]
struct Tallies {
    new: AtomicU64,
    duplicates: AtomicU64,
    conflicts: AtomicU64,
    refused: AtomicU64,
}

/// Deliveries since the start: `received` is the sum of the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Deliveries {
    pub(crate) received: u64,
    pub(crate) new: u64,
    pub(crate) duplicates: u64,
    pub(crate) conflicts: u64,
    pub(crate) refused: u64,
}

impl Telemetry {
    /// Registers every metric, so that all are there from the first scrape.
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let registrar = Registrar(&registry);
        let telemetry = Self {
            deliveries: registrar.counters(
                "cognigy_deliveries_total",
                "Deliveries by what became of them",
                "outcome",
                &[
                    "accepted",
                    "duplicate",
                    "conflict",
                    "unsigned",
                    "invalid",
                    "too_large",
                    "encoded",
                    "timed_out",
                    "malformed",
                    "unavailable",
                ],
            )?,
            dropped_log_lines: registrar.counter(
                "cognigy_log_lines_dropped_total",
                "Log lines that were dropped because nobody read them",
            )?,
            previous_secret: registrar.counter(
                "cognigy_previous_secret_matches_total",
                "Deliveries signed with the secret that is being rotated out",
            )?,
            ingest: registrar.histogram(
                "cognigy_ingest_duration_seconds",
                "From the head of a delivery to its answer",
            )?,
            events: {
                let events = IntGaugeVec::new(
                    Opts::new("cognigy_events", "Stored events by state"),
                    &["status"],
                )?;
                registry.register(Box::new(events.clone()))?;
                events
            },
            processing: registrar.counters(
                "cognigy_processing_total",
                "Attempts by how they ended",
                "outcome",
                &["succeeded", "failed_transient", "failed_permanent", "lease_expired"],
            )?,
            processing_duration: registrar.histogram(
                "cognigy_processing_duration_seconds",
                "Duration of an attempt, CRM look-up and handler together",
            )?,
            crm: registrar.counters(
                "cognigy_crm_requests_total",
                "CRM look-ups by how they ended, those that needed no request of their own included",
                "outcome",
                &["found", "not_found", "transient", "permanent"],
            )?,
            crm_duration: registrar
                .histogram("cognigy_crm_request_duration_seconds", "Duration of a CRM look-up")?,
            dead_letters: registrar.counters(
                "cognigy_dead_letters_total",
                "Dead letters handed to the sink, by its answer",
                "outcome",
                &["sent", "failed"],
            )?,
            oldest_pending: {
                let oldest = Gauge::new(
                    "cognigy_oldest_pending_seconds",
                    "Age of the oldest event that is not finished",
                )?;
                registry.register(Box::new(oldest.clone()))?;
                oldest
            },
            store_errors: registrar
                .counter("cognigy_store_errors_total", "Calls that the store could not answer")?,
            lost_leases: registrar.counter(
                "cognigy_lost_leases_total",
                "Results that came after another worker had taken the event over",
            )?,
            received: Rate::default(),
            processed: Rate::default(),
            tallies: Tallies::default(),
            registry: registry.clone(),
        };
        Ok(telemetry)
    }

    /// Counts from now on what `crm` answers without a request.
    pub(crate) fn count_spared(
        &self,
        crm: CoalescingCrm<HttpCrm>,
    ) -> Result<(), prometheus::Error> {
        self.registry.register(Box::new(SparedRequests::new(crm)?))
    }

    /// A delivery was answered.
    pub(crate) fn delivery(&self, intake: &Intake, duration: Duration) {
        self.deliveries.with_label_values(&[intake.as_str()]).inc();
        self.ingest.observe(duration.as_secs_f64());
        self.received.add(1);
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
        match intake {
            Intake::Unsigned(reason) => tracing::warn!(%reason, "delivery refused: not signed"),
            Intake::Invalid(invalid) => {
                tracing::warn!(event_id = ?invalid.event_id, problem = %invalid, "delivery quarantined");
            }
            Intake::Conflict { key, .. } => {
                let event_id = key.id.as_str();
                tracing::warn!(
                    ?event_id,
                    "delivery quarantined: its id is known with other content"
                );
            }
            Intake::Unavailable(kind) => {
                tracing::error!(?kind, "delivery refused: the store cannot take it")
            }
            other => tracing::debug!(outcome = other.as_str(), ?duration, "delivery"),
        }
    }

    /// Deliveries since the start.
    pub(crate) fn deliveries(&self) -> Deliveries {
        let read = |tally: &AtomicU64| tally.load(Ordering::Relaxed);
        let (new, duplicates, conflicts, refused) = (
            read(&self.tallies.new),
            read(&self.tallies.duplicates),
            read(&self.tallies.conflicts),
            read(&self.tallies.refused),
        );
        let received = new + duplicates + conflicts + refused;
        Deliveries { received, new, duplicates, conflicts, refused }
    }

    /// All metrics in Prometheus' text format; `counts` where the store could be asked.
    pub(crate) fn render(
        &self,
        counts: Option<&Counts>,
        now: Timestamp,
    ) -> Result<Vec<u8>, prometheus::Error> {
        if let Some(counts) = counts {
            for state in State::ALL {
                let count = i64::try_from(counts.of(state)).unwrap_or(i64::MAX);
                self.events.with_label_values(&[state.as_str()]).set(count);
            }
            self.oldest_pending.set(age_seconds(counts, now));
        }
        let dropped = crate::logging::dropped_lines();
        self.dropped_log_lines.inc_by(dropped.saturating_sub(self.dropped_log_lines.get()));
        let mut text = Vec::new();
        TextEncoder::new().encode(&self.registry.gather(), &mut text)?;
        Ok(text)
    }
}

/// How long the oldest unfinished event has waited, in seconds.
pub(crate) fn age_seconds(counts: &Counts, now: Timestamp) -> f64 {
    let age = counts.oldest_pending.and_then(|oldest| (now - oldest).to_std().ok());
    age.unwrap_or_default().as_secs_f64()
}

impl Observer for Telemetry {
    fn observe(&self, observation: &Observation<'_>) {
        match observation {
            Observation::CrmRequest { outcome, duration } => {
                self.crm.with_label_values(&[outcome.as_str()]).inc();
                self.crm_duration.observe(duration.as_secs_f64());
            }
            Observation::Attempt { key, run, number, outcome, duration, error, gave_up } => {
                self.processing.with_label_values(&[outcome.as_str()]).inc();
                self.processing_duration.observe(duration.as_secs_f64());
                let event_id = key.id.as_str();
                if *outcome == AttemptOutcome::Succeeded {
                    self.processed.add(1);
                    tracing::debug!(?event_id, run, attempt = number, ?duration, "event processed");
                } else if *gave_up {
                    tracing::error!(?event_id, run, attempt = number, error, "event given up");
                } else {
                    tracing::warn!(
                        ?event_id,
                        run,
                        attempt = number,
                        error,
                        "attempt failed, will retry"
                    );
                }
            }
            Observation::LeaseLost => {
                self.lost_leases.inc();
                tracing::warn!("a lease was lost: another worker has taken the event over");
            }
            Observation::DeadLetterSent { key } => {
                self.dead_letters.with_label_values(&["sent"]).inc();
                tracing::info!(event_id = ?key.id.as_str(), "dead letter sent");
            }
            Observation::DeadLetterFailed { key, error } => {
                self.dead_letters.with_label_values(&["failed"]).inc();
                tracing::error!(event_id = ?key.id.as_str(), error, "dead letter not sent, will retry");
            }
            Observation::StoreError { operation, error } => {
                self.store_errors.inc();
                tracing::error!(operation, error, "the store could not answer");
            }
            _ => {}
        }
    }
}

/// CRM look-ups that needed no request: counted where they are spared, read when scraped.
struct SparedRequests {
    crm: CoalescingCrm<HttpCrm>,
    counters: IntCounterVec,
    /// Held while the counters catch up: two scrapes at once would count a step twice.
    catching_up: Mutex<()>,
}

impl SparedRequests {
    fn new(crm: CoalescingCrm<HttpCrm>) -> Result<Self, prometheus::Error> {
        let options = Opts::new(
            "cognigy_crm_requests_spared_total",
            "CRM look-ups answered by a request already in flight, or from the cache",
        );
        let counters = IntCounterVec::new(options, &["by"])?;
        Ok(Self { crm, counters, catching_up: Mutex::new(()) })
    }
}

impl Collector for SparedRequests {
    fn desc(&self) -> Vec<&Desc> {
        self.counters.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _alone = self.catching_up.lock().unwrap_or_else(PoisonError::into_inner);
        let Spared { by_coalescing, by_memory } = self.crm.spared();
        for (by, count) in [("coalescing", by_coalescing), ("cache", by_memory)] {
            let counter = self.counters.with_label_values(&[by]);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
        self.counters.collect()
    }
}

struct Registrar<'r>(&'r Registry);

impl Registrar<'_> {
    fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        let counter = IntCounter::new(name, help)?;
        self.0.register(Box::new(counter.clone()))?;
        Ok(counter)
    }

    /// A counter for each of `values`, at zero: a rate over a counter that appears late misses its
    /// first step.
    fn counters(
        &self,
        name: &str,
        help: &str,
        label: &str,
        values: &[&str],
    ) -> Result<IntCounterVec, prometheus::Error> {
        let counters = IntCounterVec::new(Opts::new(name, help), &[label])?;
        self.0.register(Box::new(counters.clone()))?;
        for value in values {
            counters.with_label_values(&[*value]).inc_by(0);
        }
        Ok(counters)
    }

    fn histogram(&self, name: &str, help: &str) -> Result<Histogram, prometheus::Error> {
        let options = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
        let histogram = Histogram::with_opts(options)?;
        self.0.register(Box::new(histogram.clone()))?;
        Ok(histogram)
    }
}
