//! Counts and logs what happens: one observer for both.
//!
//! Labels come from fixed sets, never from events. Log lines contain ids, never bodies. Input of
//! others is logged as a string value and never with `%`: the text format quotes and escapes
//! strings but writes `%` as it is, and the JSON format writes strings as JSON.
//!
//! Each source has counters of its own, with its name as the label `source`. The plain path's
//! source is called `cognigy`.

mod history;
mod metrics;
mod rates;
mod refusals;
mod shown;

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use cognigy_core::{
    AttemptOutcome, AuthenticationError, Correlation, Counts, CrmClient, CrmOutcome, Intake,
    MatchedSecret, Observation, Observer, Purged, QuarantineReason, SourceName, State,
    StoreErrorKind, StoreSize, Timestamp,
};
use cognigy_crm_http::CoalescingCrm;
use prometheus::{
    Encoder, Gauge, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder, core::Collector, proto::MetricFamily,
};

pub(crate) use history::{History, MINUTES, Minute};
use metrics::{Registrar, SparedRequests};
use rates::Rate;
pub(crate) use refusals::{Hints, Refusals, refusal};
pub(crate) use shown::Durations;

use crate::admission::UNKNOWN;

/// The metrics of the process and its store.
pub(crate) struct Telemetry {
    registry: Registry,
    dropped_log_lines: IntCounter,
    operator_refusals: IntCounter,
    /// In seconds since 1970.
    started: f64,
    events: IntGaugeVec,
    purged: IntCounterVec,
    size: IntGaugeVec,
    quarantined: IntGauge,
    oldest_pending: Gauge,
    held_back: IntGauge,
    stopped_contacts: IntGauge,
}

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
    ingest: Histogram,
    processing: IntCounterVec,
    processing_duration: Histogram,
    crm: IntCounterVec,
    crm_duration: Histogram,
    breaker: IntGauge,
    paused: IntGauge,
    put_off: IntCounter,
    correlations: IntCounterVec,
    dead_letters: IntCounterVec,
    store_errors: IntCounter,
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

/// The number of deliveries since the start, by outcome.
#[derive(Default)]
struct Tallies {
    new: AtomicU64,
    duplicates: AtomicU64,
    conflicts: AtomicU64,
    refused: AtomicU64,
}

/// Deliveries since the start: `received` is the sum of the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Deliveries {
    pub(crate) received: u64,
    pub(crate) new: u64,
    pub(crate) duplicates: u64,
    pub(crate) conflicts: u64,
    pub(crate) refused: u64,
}

impl std::ops::Add for Deliveries {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self {
            received: self.received + other.received,
            new: self.new + other.new,
            duplicates: self.duplicates + other.duplicates,
            conflicts: self.conflicts + other.conflicts,
            refused: self.refused + other.refused,
        }
    }
}

impl Telemetry {
    /// Registers every metric, so that all are there from the first scrape.
    pub(crate) fn new() -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let registrar = Registrar(&registry);
        let events =
            IntGaugeVec::new(Opts::new("cognigy_events", "Stored events by state"), &["status"])?;
        registry.register(Box::new(events.clone()))?;
        let oldest_pending = Gauge::new(
            "cognigy_oldest_pending_seconds",
            "Age of the oldest event that is not finished",
        )?;
        registry.register(Box::new(oldest_pending.clone()))?;
        let size = IntGaugeVec::new(
            Opts::new("cognigy_store_bytes", "Bytes that the store uses, by part"),
            &["part"],
        )?;
        registry.register(Box::new(size.clone()))?;
        metrics::process(&registry)?;
        let since_1970 = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
        Ok(Self {
            started: since_1970.unwrap_or_default().as_secs_f64(),
            operator_refusals: registrar.counter(
                "cognigy_operator_refusals_total",
                "Requests for operators that had no right token",
            )?,
            events,
            size,
            purged: registrar.counters(
                "cognigy_events_purged_total",
                "Events forgotten by this process, by their state",
                "status",
                &[
                    State::Processed.as_str(),
                    State::DeadLettered.as_str(),
                    State::Discarded.as_str(),
                ],
            )?,
            oldest_pending,
            quarantined: registrar.gauge(
                "cognigy_quarantined_bodies",
                "Bodies in quarantine, invalid ones and conflicts",
            )?,
            held_back: registrar.gauge(
                "cognigy_events_held_back",
                "Events that wait for an earlier one of the same contact",
            )?,
            stopped_contacts: registrar.gauge(
                "cognigy_contacts_stopped",
                "Contacts whose events wait for the replay of a dead-lettered event",
            )?,
            dropped_log_lines: registrar.counter(
                "cognigy_log_lines_dropped_total",
                "Log lines that were dropped because the log was not read fast enough",
            )?,
            registry: registry.clone(),
        })
    }

    /// An operator's request was refused.
    pub(crate) fn operator_refused(&self) {
        self.operator_refusals.inc();
    }

    /// Adds metrics that another part of the server collects.
    pub(crate) fn register(
        &self,
        metrics: impl Collector + 'static,
    ) -> Result<(), prometheus::Error> {
        self.registry.register(Box::new(metrics))
    }

    /// All metrics in Prometheus' text format, with those of `sources`. `counts` is None if the
    /// store could not be asked.
    pub(crate) fn render<'a>(
        &self,
        sources: impl Iterator<Item = &'a SourceTelemetry>,
        counts: Option<&Counts>,
        size: StoreSize,
        now: Timestamp,
    ) -> Result<Vec<u8>, prometheus::Error> {
        if let Some(counts) = counts {
            for state in State::ALL {
                let count = i64::try_from(counts.of(state)).unwrap_or(i64::MAX);
                self.events.with_label_values(&[state.as_str()]).set(count);
            }
            self.oldest_pending.set(age_seconds(counts, now));
            self.quarantined.set(i64::try_from(counts.quarantined).unwrap_or(i64::MAX));
            self.held_back.set(i64::try_from(counts.held_back).unwrap_or(i64::MAX));
            self.stopped_contacts.set(i64::try_from(counts.stopped_contacts).unwrap_or(i64::MAX));
        }
        for (part, bytes) in [("database", size.database), ("log", size.log)] {
            if let Some(bytes) = bytes {
                let bytes = i64::try_from(bytes).unwrap_or(i64::MAX);
                self.size.with_label_values(&[part]).set(bytes);
            }
        }
        let dropped = crate::logging::dropped_lines();
        self.dropped_log_lines.inc_by(dropped.saturating_sub(self.dropped_log_lines.get()));
        // Each metric is written once, with the series of all sources below its name.
        let mut families: BTreeMap<String, MetricFamily> = BTreeMap::new();
        let registries = std::iter::once(&self.registry).chain(sources.map(|it| &it.registry));
        for mut family in registries.flat_map(Registry::gather) {
            metrics::fill_in_start(&mut family, self.started);
            match families.get_mut(family.name()) {
                Some(known) => known.mut_metric().extend(family.take_metric()),
                None => drop(families.insert(family.name().to_owned(), family)),
            }
        }
        let families: Vec<_> = families.into_values().collect();
        let mut text = Vec::new();
        TextEncoder::new().encode(&families, &mut text)?;
        Ok(text)
    }
}

impl Telemetry {
    /// Events and quarantined bodies were forgotten.
    pub(crate) fn forgot(&self, purged: &Purged) {
        for (state, count) in &purged.events {
            self.purged.with_label_values(&[state.as_str()]).inc_by(*count);
        }
        let events = |state| purged.events.get(&state).copied().unwrap_or_default();
        let bodies = |reason| purged.quarantined.get(&reason).copied().unwrap_or_default();
        tracing::info!(
            processed = events(State::Processed),
            dead_lettered = events(State::DeadLettered),
            discarded = events(State::Discarded),
            invalid_bodies = bodies(QuarantineReason::Invalid),
            conflicting_bodies = bodies(QuarantineReason::Conflict),
            "forgotten: older than the retention"
        );
    }
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
            ingest: registrar.histogram(
                "cognigy_ingest_duration_seconds",
                "From the head of a delivery to its answer",
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
            crm_duration: registrar
                .histogram("cognigy_crm_request_duration_seconds", "Duration of a CRM look-up")?,
            breaker: registrar.gauge(
                "cognigy_crm_breaker",
                "1 while the CRM is out of reach and look-ups are held back, else 0",
            )?,
            paused: registrar.gauge(
                "cognigy_source_paused",
                "1 while an operator has paused the workers of the source, else 0",
            )?,
            put_off: registrar.counter(
                "cognigy_attempts_put_off_total",
                "Attempts that do not count, because the CRM was out of reach",
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
        self.registry.register(Box::new(SparedRequests::new(crm)?))
    }

    /// A delivery from `peer` was answered.
    fn delivery(&self, intake: &Intake, duration: Duration, peer: IpAddr) {
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
        let source = self.label();
        let first = |reason: &str| self.refusals.first(reason, peer);
        match intake {
            Intake::Accepted { .. } | Intake::Duplicate { .. } => {
                let (outcome, duration_ms) = (intake.as_str(), milliseconds(duration));
                tracing::debug!(source, outcome, duration_ms, "delivery");
            }
            Intake::Unsigned(reason) => {
                self.unauthenticated.with_label_values(&[reason.as_str()]).inc();
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

    /// Whether the source's workers are paused.
    pub(crate) fn paused(&self, paused: bool) {
        self.paused.set(i64::from(paused));
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

/// A duration as operators see it: in milliseconds, to the microsecond.
pub(crate) fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// How long the oldest unfinished event has waited, in seconds.
pub(crate) fn age_seconds(counts: &Counts, now: Timestamp) -> f64 {
    let age = counts.oldest_pending.and_then(|oldest| (now - oldest).to_std().ok());
    age.unwrap_or_default().as_secs_f64()
}

impl Observer for SourceTelemetry {
    fn observe(&self, observation: &Observation<'_>) {
        let source = self.label();
        match observation {
            Observation::Delivery { intake, peer, duration } => {
                self.delivery(intake, duration.unwrap_or_default(), peer.unwrap_or(UNKNOWN));
            }
            Observation::AttemptBegun { key, run, number } => {
                let event_id = key.id.as_str();
                tracing::debug!(source, event_id, run, attempt = number, "attempt begins");
            }
            Observation::Replay { key, outcome } => {
                tracing::debug!(source, event_id = key.id.as_str(), outcome, "replay ended");
            }
            Observation::CrmRequest { outcome, duration } => {
                self.crm.with_label_values(&[outcome.as_str()]).inc();
                self.crm_duration.observe(duration.as_secs_f64());
            }
            Observation::Attempt { key, run, number, outcome, duration, error, gave_up } => {
                self.processing.with_label_values(&[outcome.as_str()]).inc();
                self.processing_duration.observe(duration.as_secs_f64());
                let event_id = key.id.as_str();
                let duration_ms = milliseconds(*duration);
                if *outcome == AttemptOutcome::Succeeded {
                    self.processed.add(1);
                    self.history.add(Minute { processed: 1, ..Minute::default() });
                } else {
                    self.history.add(Minute { failed: 1, ..Minute::default() });
                }
                if self.leaves_attempts_unlogged.load(Ordering::Relaxed) {
                    return;
                }
                if *outcome == AttemptOutcome::Succeeded {
                    tracing::debug!(
                        source,
                        event_id,
                        run,
                        attempt = number,
                        duration_ms,
                        "event processed"
                    );
                } else if *gave_up {
                    tracing::error!(
                        source,
                        event_id,
                        run,
                        attempt = number,
                        error,
                        "event given up"
                    );
                } else {
                    tracing::warn!(
                        source,
                        event_id,
                        run,
                        attempt = number,
                        error,
                        "attempt failed, will retry"
                    );
                }
            }
            Observation::PutOff { key, error } => {
                self.put_off.inc();
                let event_id = key.id.as_str();
                tracing::debug!(
                    source,
                    event_id,
                    error,
                    "attempt put off: the CRM is out of reach"
                );
            }
            Observation::Breaker { open } => {
                self.breaker.set(i64::from(*open));
                match open {
                    true => tracing::warn!(
                        source,
                        "the CRM is out of reach: look-ups are held back until it answers a probe"
                    ),
                    false => tracing::info!(source, "the CRM answers again"),
                }
            }
            Observation::Correlated { correlation, .. } => {
                self.correlations.with_label_values(&[correlation.as_str()]).inc();
            }
            Observation::LeaseLost => {
                self.lost_leases.inc();
                tracing::warn!(source, "a lease was lost: another worker has taken the event over");
            }
            Observation::LeaseExpired { key, run, lost, gave_up } => {
                let outcome = AttemptOutcome::LeaseExpired.as_str();
                self.processing.with_label_values(&[outcome]).inc();
                let event_id = key.id.as_str();
                if *gave_up {
                    tracing::error!(
                        source,
                        event_id,
                        run,
                        lost,
                        "event given up: its run lost too many leases"
                    );
                } else {
                    tracing::warn!(
                        source,
                        event_id,
                        run,
                        lost,
                        "an attempt ended with its lease: its worker vanished"
                    );
                }
            }
            Observation::QuarantineEvicted { count } => {
                self.quarantine_evicted.inc_by(*count);
                tracing::warn!(
                    source,
                    count,
                    "invalid bodies went from the quarantine for newer ones"
                );
            }
            Observation::DeadLetterSent { key } => {
                self.dead_letters.with_label_values(&[SENT]).inc();
                tracing::info!(source, event_id = key.id.as_str(), "dead letter sent");
            }
            Observation::DeadLetterKept { key } => {
                self.dead_letters.with_label_values(&[KEPT]).inc();
                tracing::info!(source, event_id = key.id.as_str(), "dead letter kept in the store");
            }
            Observation::DeadLetterFailed { key, error } => {
                self.dead_letters.with_label_values(&[FAILED]).inc();
                let event_id = key.id.as_str();
                tracing::error!(source, event_id, error, "dead letter not sent, will retry");
            }
            Observation::StoreError { operation, error } => {
                self.store_errors.inc();
                tracing::error!(source, operation, error, "the store could not answer");
            }
            _ => {}
        }
    }
}
