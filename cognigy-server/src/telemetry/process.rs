//! The metrics of the process and its store, and all metrics as a scrape reads them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use cognigy_core::{Purged, QuarantineReason, SourceName, State, Timestamp};
use cognigy_operator::view::age_seconds;
use prometheus::{
    Encoder, Gauge, Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Registry,
    TextEncoder, core::Collector, proto::MetricFamily,
};

use super::{
    Repeated, Seen, SourceTelemetry,
    metrics::{self, PURGE_SECONDS, Registrar},
    seconds_since_1970,
};

/// The sources' backlogs are not counted more often than this.
const BACKLOG_PAUSE: Duration = Duration::from_secs(10);
/// Counting them reads all unfinished work: 150 ms for a million events in SQLite, measured. The pause after it is this many times as long as it took, so
/// that it takes a hundredth of a reader's time at most.
const BACKLOG_SHARE: u32 = 100;

/// The metrics of the process and its store.
pub(crate) struct Telemetry {
    registry: Registry,
    dropped_log_lines: IntCounter,
    operator_refusals: IntCounter,
    /// In seconds since 1970.
    pub(super) started: f64,
    worker: IntGauge,
    store_up: IntGauge,
    events: IntGaugeVec,
    purged: IntCounterVec,
    last_purge: Gauge,
    purge_duration: Histogram,
    size: IntGaugeVec,
    /// Has a series where the store can tell.
    free: IntGaugeVec,
    quarantined: IntGauge,
    oldest_pending: Gauge,
    backlog: IntGaugeVec,
    held_back: IntGauge,
    stopped_contacts: IntGauge,
    bulk_replays: IntGaugeVec,
    bulk_replay_events: IntGauge,
    /// When the backlogs may be counted next.
    next_backlog: Mutex<Option<Instant>>,
    /// Bulk replays that were found to be at their end.
    ended_replays: Mutex<BTreeSet<u64>>,
    /// Failures of the tasks that tend the store.
    pub(crate) failing: Repeated,
    /// Held while the metrics are written: gauges are taken away and set anew.
    writing: Mutex<()>,
}

impl Telemetry {
    /// Registers every metric, so that all are there from the first scrape. `store` says what kind of store
    /// it is.
    pub(crate) fn new(store: &str) -> Result<Self, prometheus::Error> {
        let registry = Registry::new();
        let registrar = Registrar(&registry);
        metrics::process(&registry, store)?;
        Ok(Self {
            started: seconds_since_1970(),
            worker: registrar.gauge(
                "cognigy_worker",
                "1 if this process works events off, 0 if it only takes them in",
            )?,
            store_up: registrar.gauge(
                "cognigy_store_up",
                "1 if the store answered for this scrape, else 0. Then its other gauges are old",
            )?,
            operator_refusals: registrar.counter(
                "cognigy_operator_refusals_total",
                "Requests for operators that had no right token",
            )?,
            events: registrar.gauges("cognigy_events", "Stored events by state", &["status"])?,
            size: registrar.gauges(
                "cognigy_store_bytes",
                "Bytes that the store uses, by part",
                &["part"],
            )?,
            free: registrar.gauges(
                "cognigy_store_free_bytes",
                "Bytes that are free on the disk of the SQLite file",
                &[],
            )?,
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
            last_purge: registrar.seconds(
                "cognigy_purge_last_success_timestamp_seconds",
                "When the last whole purge of this process ended; 0 before the first",
            )?,
            purge_duration: registrar.histogram(
                "cognigy_purge_duration_seconds",
                "How long whole purges took",
                &PURGE_SECONDS,
            )?,
            oldest_pending: registrar.seconds(
                "cognigy_oldest_pending_seconds",
                "Age of the oldest event that is not finished",
            )?,
            backlog: registrar.gauges(
                "cognigy_source_backlog_events",
                "Events that are pending or processing, as counted some seconds or minutes ago",
                &["source"],
            )?,
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
            bulk_replays: registrar.gauges(
                "cognigy_bulk_replays",
                "Bulk replays and recorrelations that are not at their end: those that a process \
                 carries out, and those that wait for one",
                &["state"],
            )?,
            bulk_replay_events: registrar.gauge(
                "cognigy_bulk_replay_events_waiting",
                "Events of those bulk replays whose turn has not come",
            )?,
            dropped_log_lines: registrar.counter(
                "cognigy_log_lines_dropped_total",
                "Log lines that were dropped because the log was not read fast enough",
            )?,
            next_backlog: Mutex::default(),
            ended_replays: Mutex::default(),
            failing: Repeated::default(),
            writing: Mutex::default(),
            registry: registry.clone(),
        })
    }

    /// Whether this process works events off.
    pub(crate) fn works(&self, works: bool) {
        self.worker.set(i64::from(works));
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

    /// Everything that was old enough has been forgotten, in that time.
    pub(crate) fn purged(&self, duration: Duration) {
        self.purge_duration.observe(duration.as_secs_f64());
        self.last_purge.set(seconds_since_1970());
    }

    /// Whether the sources' backlogs may be counted now. Then no other scrape may, until the pause after it
    /// is set.
    pub(super) fn may_count_backlog(&self, now: Instant) -> bool {
        let mut next = self.next_backlog.lock().unwrap_or_else(PoisonError::into_inner);
        let may = next.is_none_or(|next| next <= now);
        if may {
            *next = Some(now + BACKLOG_PAUSE);
        }
        may
    }

    /// Counting them took so long.
    pub(super) fn counted_backlog(&self, now: Instant, took: Duration) {
        let pause = BACKLOG_PAUSE.max(took.saturating_mul(BACKLOG_SHARE));
        *self.next_backlog.lock().unwrap_or_else(PoisonError::into_inner) = Some(now + pause);
    }

    /// Bulk replays that need not be read any more, because they are at their end.
    pub(super) fn ended_replays(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.ended_replays.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// All metrics in Prometheus' text format, with those of `sources`.
    pub(crate) fn render<'a>(
        &self,
        sources: impl Iterator<Item = &'a SourceTelemetry> + Clone,
        seen: &Seen,
        now: Timestamp,
    ) -> Result<Vec<u8>, prometheus::Error> {
        let _alone = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        self.set(seen, sources.clone().map(|source| &source.name), now);
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

    /// Sets the gauges of what was seen of the store. Where it did not answer, they keep their last values.
    fn set<'a>(
        &self,
        seen: &Seen,
        configured: impl Iterator<Item = &'a SourceName>,
        now: Timestamp,
    ) {
        self.store_up.set(i64::from(seen.counts.is_some()));
        if let Some(counts) = &seen.counts {
            for state in State::ALL {
                self.events.with_label_values(&[state.as_str()]).set(number(counts.of(state)));
            }
            self.oldest_pending.set(age_seconds(counts, now));
            self.quarantined.set(number(counts.quarantined));
            self.held_back.set(number(counts.held_back));
            self.stopped_contacts.set(number(counts.stopped_contacts));
        }
        for (part, bytes) in [("database", seen.size.database), ("log", seen.size.log)] {
            if let Some(bytes) = bytes {
                self.size.with_label_values(&[part]).set(number(bytes));
            }
        }
        if let Some(bytes) = seen.size.free {
            self.free.with_label_values::<&str>(&[]).set(number(bytes));
        }
        if let Some(unfinished) = &seen.bulk_replays {
            for (state, count) in [("running", unfinished.running), ("waiting", unfinished.waiting)]
            {
                self.bulk_replays.with_label_values(&[state]).set(number(count));
            }
            self.bulk_replay_events.set(number(unfinished.events));
        }
        if let Some(backlog) = &seen.backlog {
            // A source that was taken out of the settings is shown for as long as it has work.
            self.backlog.reset();
            configured.for_each(|source| {
                self.backlog.with_label_values(&[source.as_str()]).set(0);
            });
            for (source, backlog) in backlog {
                self.backlog.with_label_values(&[source.as_str()]).set(number(backlog.events));
            }
        }
    }
}

fn number(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backlogs_are_counted_for_a_hundredth_of_the_time() {
        let (telemetry, start) = (Telemetry::new("other").unwrap(), Instant::now());
        assert!(telemetry.may_count_backlog(start));
        assert!(!telemetry.may_count_backlog(start), "another scrape meanwhile");
        telemetry.counted_backlog(start, Duration::from_millis(1));
        assert!(!telemetry.may_count_backlog(start + BACKLOG_PAUSE / 2));
        assert!(telemetry.may_count_backlog(start + BACKLOG_PAUSE));
        telemetry.counted_backlog(start, Duration::from_secs(2));
        assert!(!telemetry.may_count_backlog(start + Duration::from_secs(199)));
        assert!(telemetry.may_count_backlog(start + Duration::from_secs(200)));
    }
}
