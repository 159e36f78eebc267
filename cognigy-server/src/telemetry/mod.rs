//! Counts and logs what happens: one observer for both (`observer`). `process` has the metrics of the
//! process and its store, and writes all of them for a scrape.
//!
//! Labels come from fixed sets, never from events. Log lines contain ids, never bodies. Input of
//! others is logged as a string value and never with `%`: the text format quotes and escapes
//! strings but writes `%` as it is, and the JSON format writes strings as JSON.
//!
//! Each source has counters of its own, with its name as the label `source`. The plain path's
//! source is called `cognigy`.

mod hints;
mod history;
mod metrics;
mod observer;
mod process;
mod rates;
mod seen;
mod shown;
mod tallies;

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::SystemTime,
};

use cognigy_core::{
    AttemptOutcome, AuthenticationError, Correlation, CrmClient, CrmOutcome, GaveUp, Intake,
    SourceName,
};
use cognigy_crm_http::{CoalescingCrm, TokenRequests};
use cognigy_operator::view::Deliveries;
pub(crate) use cognigy_service::{Refusals, Repeated};
use prometheus::{Gauge, Histogram, IntCounter, IntCounterVec, IntGauge, Registry};

pub(crate) use hints::{Hints, refusal};
pub(crate) use history::{History, MINUTES, Minute};
use metrics::{Counted, INGEST_SECONDS, Known, Registrar, SECONDS};
pub(crate) use process::Telemetry;
use rates::Rate;
pub(crate) use seen::Seen;
pub(crate) use shown::Durations;
use tallies::Tallies;

/// The metrics of one source.
pub(crate) struct SourceTelemetry {
    name: SourceName,
    refusals: Arc<Refusals>,
    /// Whether attempts are counted but not logged.
    leaves_attempts_unlogged: AtomicBool,
    registry: Registry,
    deliveries: IntCounterVec,
    unauthenticated: IntCounterVec,
    previous_secret: IntCounter,
    previous_secret_set: IntGauge,
    last_delivery: Gauge,
    max_in_flight: IntGauge,
    ingest: Histogram,
    processing: IntCounterVec,
    processing_duration: Histogram,
    crm: IntCounterVec,
    crm_duration: Histogram,
    breaker: IntGauge,
    breaker_opened: IntCounter,
    /// Since when the breaker has been open, and why.
    opened: Mutex<Option<Opened>>,
    paused: IntGauge,
    worker_ended: IntGauge,
    put_off: IntCounter,
    failures: IntCounterVec,
    given_up: IntCounterVec,
    replays: IntCounterVec,
    correlations: IntCounterVec,
    dead_letters: IntCounterVec,
    store_errors: IntCounter,
    store_failing: Repeated,
    lost_leases: IntCounter,
    quarantine_evicted: IntCounter,
    pub(crate) received: Rate,
    pub(crate) processed: Rate,
    pub(crate) history: History,
    tallies: Tallies,
}

/// What became of a dead letter that was handed to the sink.
const SENT: &str = "sent";
const FAILED: &str = "failed";
const KEPT: &str = "kept";

/// Whether a failure may pass.
const TRANSIENT: &str = "transient";
const PERMANENT: &str = "permanent";

/// The outcome of a replay whose event another run holds.
const BUSY: &str = "busy";

/// Every outcome of a replay: the names of [`ReplayOutcome::as_str`](cognigy_core::ReplayOutcome::as_str),
/// and the one of a replay whose outcome could not be stored.
const REPLAYS: [&str; 7] =
    ["replayed", "failed", "not_found", BUSY, "forgotten", "stopped", "error"];

/// A breaker that is open.
#[derive(Debug, Clone)]
pub(crate) struct Opened {
    pub(crate) since: SystemTime,
    /// What the look-up that opened it failed with.
    pub(crate) error: String,
}

impl SourceTelemetry {
    /// Registers every metric of a source, so that all are there from the first scrape.
    pub(crate) fn new(
        source: &SourceName,
        refusals: Arc<Refusals>,
    ) -> Result<Self, prometheus::Error> {
        let labels = HashMap::from([("source".to_owned(), source.to_string())]);
        let registry = Registry::new_custom(None, Some(labels))?;
        let registrar = Registrar(&registry);
        let telemetry = Self {
            name: source.clone(),
            refusals,
            leaves_attempts_unlogged: AtomicBool::new(false),
            deliveries: registrar.counters(
                "cognigy_deliveries_total",
                "Deliveries by outcome",
                "outcome",
                &Intake::NAMES,
            )?,
            unauthenticated: registrar.counters(
                "cognigy_unauthenticated_total",
                "Deliveries that were refused with a 401, by what was wrong with their credential",
                "reason",
                &AuthenticationError::NAMES,
            )?,
            previous_secret: registrar.counter(
                "cognigy_previous_secret_matches_total",
                "Deliveries signed with the previous secret",
            )?,
            previous_secret_set: registrar.gauge(
                "cognigy_previous_secret_set",
                "1 while a previous secret is set, which is accepted beside the present one, else 0",
            )?,
            last_delivery: registrar.seconds(
                "cognigy_last_delivery_timestamp_seconds",
                "When the last delivery with a right credential was answered; 0 before the first",
            )?,
            max_in_flight: registrar.gauge(
                "cognigy_max_in_flight",
                "The most deliveries that are taken in at once",
            )?,
            ingest: registrar.histogram(
                "cognigy_ingest_duration_seconds",
                "From the head of a delivery to its answer",
                &INGEST_SECONDS,
            )?,
            processing: registrar.counters(
                "cognigy_processing_total",
                "Attempts by outcome",
                "outcome",
                &[
                    AttemptOutcome::Succeeded,
                    AttemptOutcome::FailedTransient,
                    AttemptOutcome::FailedPermanent,
                    AttemptOutcome::LeaseExpired,
                ]
                .map(AttemptOutcome::as_str),
            )?,
            processing_duration: registrar.histogram(
                "cognigy_processing_duration_seconds",
                "Duration of an attempt, CRM look-up and handler together",
                &SECONDS,
            )?,
            crm: registrar.counters(
                "cognigy_crm_requests_total",
                "CRM look-ups by outcome, with those that needed no request of their own",
                "outcome",
                &[
                    CrmOutcome::Found,
                    CrmOutcome::NotFound,
                    CrmOutcome::Ambiguous,
                    CrmOutcome::Transient,
                    CrmOutcome::Permanent,
                ]
                .map(CrmOutcome::as_str),
            )?,
            crm_duration: registrar.histogram(
                "cognigy_crm_request_duration_seconds",
                "Duration of a CRM look-up",
                &SECONDS,
            )?,
            breaker: registrar.gauge(
                "cognigy_crm_breaker",
                "1 while the CRM is out of reach and look-ups are held back, else 0",
            )?,
            breaker_opened: registrar.counter(
                "cognigy_crm_breaker_opened_total",
                "How often look-ups were held back, because the CRM was out of reach",
            )?,
            opened: Mutex::default(),
            paused: registrar.gauge(
                "cognigy_source_paused",
                "1 while an operator has paused the workers of the source, else 0",
            )?,
            worker_ended: registrar.gauge(
                "cognigy_worker_ended",
                "1 once the worker of the source has ended although it was not asked to, else 0",
            )?,
            put_off: registrar.counter(
                "cognigy_attempts_put_off_total",
                "Attempts that do not count, because the CRM was out of reach",
            )?,
            failures: registrar.failures()?,
            given_up: registrar.counters(
                "cognigy_events_given_up_total",
                "Runs that ended in a dead letter, by why they were given up",
                "reason",
                &GaveUp::ALL.map(GaveUp::as_str),
            )?,
            replays: registrar.counters(
                "cognigy_replays_total",
                "Runs that operators asked for, one by one and in bulk, by outcome",
                "outcome",
                &REPLAYS,
            )?,
            correlations: registrar.counters(
                "cognigy_correlations_total",
                "Runs that ended, by what asking the CRM for the contact came to",
                "correlation",
                &Correlation::ALL.map(Correlation::as_str),
            )?,
            dead_letters: registrar.counters(
                "cognigy_dead_letters_total",
                "Dead letters by outcome: sent or failed by the sink's answer, kept if there is no queue",
                "outcome",
                &[SENT, FAILED, KEPT],
            )?,
            store_errors: registrar
                .counter("cognigy_store_errors_total", "Calls that the store could not answer")?,
            store_failing: Repeated::default(),
            lost_leases: registrar.counter(
                "cognigy_lost_leases_total",
                "Results that came after another worker had taken the event over",
            )?,
            quarantine_evicted: registrar.counter(
                "cognigy_quarantine_evicted_total",
                "Invalid bodies that were removed from the quarantine to make room for newer ones",
            )?,
            received: Rate::default(),
            processed: Rate::default(),
            history: History::default(),
            tallies: Tallies::default(),
            registry: registry.clone(),
        };
        Ok(telemetry)
    }

    /// Adds the look-ups that `crm` answers without a request of their own.
    pub(crate) fn count_spared(
        &self,
        crm: CoalescingCrm<Arc<dyn CrmClient>>,
    ) -> Result<(), prometheus::Error> {
        self.registry.register(Box::new(Counted::spared(crm)?))
    }

    /// Adds the requests for the CRM's tokens, as `read` counts them.
    pub(crate) fn count_tokens(
        &self,
        read: impl Fn() -> TokenRequests + Send + Sync + 'static,
    ) -> Result<(), prometheus::Error> {
        self.registry.register(Box::new(Counted::tokens(read)?))
    }

    /// Adds how many deliveries are in flight, which `used` tells. There are at most `limit`.
    pub(crate) fn watch_slots(
        &self,
        used: impl Fn() -> usize + Send + Sync + 'static,
        limit: usize,
    ) -> Result<(), prometheus::Error> {
        self.max_in_flight.set(i64::try_from(limit).unwrap_or(i64::MAX));
        let known = Known::new(
            "cognigy_deliveries_in_flight",
            "Deliveries that are being taken in now, from the last byte of the body to the answer",
            used,
        )?;
        self.registry.register(Box::new(known))
    }

    /// Whether a previous secret is accepted beside the present one.
    pub(crate) fn previous_secret(&self, is_set: bool) {
        self.previous_secret_set.set(i64::from(is_set));
    }

    /// A replay was not made, because another run held the event for as long as it was tried.
    pub(crate) fn replay_was_busy(&self) {
        self.replays.with_label_values(&[BUSY]).inc();
    }

    /// Since when the breaker has been open, and why; none while it is closed.
    pub(crate) fn opened(&self) -> Option<Opened> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Deliveries since the start.
    pub(crate) fn deliveries(&self) -> Deliveries {
        self.tallies.read()
    }

    /// Whether the source's workers are paused.
    pub(crate) fn paused(&self, paused: bool) {
        self.paused.set(i64::from(paused));
    }

    /// The source's worker has ended although it was not asked to.
    pub(crate) fn worker_ended(&self) {
        self.worker_ended.set(1);
    }

    /// The name of the source in log lines and metrics.
    pub(crate) fn label(&self) -> &str {
        self.name.as_str()
    }

    /// From now on counts attempts and dead letters without logging them, for a command that prints
    /// the outcome of each.
    pub(crate) fn leave_attempts_unlogged(&self) {
        self.leaves_attempts_unlogged.store(true, Ordering::Relaxed);
    }
}

/// The time in seconds since 1970.
fn seconds_since_1970() -> f64 {
    let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    since_1970.unwrap_or_default().as_secs_f64()
}
