//! Makes metrics for Prometheus' library.

use std::sync::{Arc, Mutex, PoisonError};

use cognigy_core::{CrmClient, Stage};
use cognigy_crm_http::{CoalescingCrm, Spared, TokenRequests};
use prometheus::{
    Gauge, Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts,
    Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};

use super::{PERMANENT, TRANSIENT};

/// Upper bounds of the buckets for attempts and CRM look-ups, in seconds. A look-up takes up to its timeout,
/// ten seconds by default, and an attempt with a hand-over twice that.
pub(super) const SECONDS: [f64; 17] = [
    0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0,
    60.0,
];

/// Upper bounds of the buckets for taking deliveries in, in seconds. A group commit takes half a
/// millisecond to some tens, and most deliveries ten; a head and a body may take 15 s.
pub(super) const INGEST_SECONDS: [f64; 18] = [
    0.0005, 0.001, 0.002, 0.003, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5,
    5.0, 10.0, 15.0,
];

/// Upper bounds of the buckets for a whole purge, in seconds: nothing to do, up to millions of events.
pub(super) const PURGE_SECONDS: [f64; 10] =
    [0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 30.0, 120.0, 600.0, 3600.0];

/// Counters of what another part counts; a scrape reads it.
pub(super) struct Counted {
    counters: IntCounterVec,
    read: Box<dyn Fn() -> [(&'static str, u64); 2] + Send + Sync>,
    /// Held while the counters are updated: two scrapes at once would count a step twice.
    catching_up: Mutex<()>,
}

impl Counted {
    /// CRM look-ups that needed no request of their own.
    pub(super) fn spared(
        crm: CoalescingCrm<Arc<dyn CrmClient>>,
    ) -> Result<Self, prometheus::Error> {
        let options = Opts::new(
            "cognigy_crm_requests_spared_total",
            "CRM look-ups answered by a request already in flight, or from the cache",
        );
        Self::new(options, "by", move || {
            let Spared { by_coalescing, by_memory } = crm.spared();
            [("coalescing", by_coalescing), ("cache", by_memory)]
        })
    }

    /// Tokens that were fetched for the CRM.
    pub(super) fn tokens(
        read: impl Fn() -> TokenRequests + Send + Sync + 'static,
    ) -> Result<Self, prometheus::Error> {
        let options = Opts::new(
            "cognigy_crm_token_refreshes_total",
            "Requests for an OAuth token of the CRM, by outcome",
        );
        Self::new(options, "outcome", move || {
            let TokenRequests { succeeded, failed } = read();
            [("succeeded", succeeded), ("failed", failed)]
        })
    }

    fn new(
        options: Opts,
        label: &str,
        read: impl Fn() -> [(&'static str, u64); 2] + Send + Sync + 'static,
    ) -> Result<Self, prometheus::Error> {
        let counters = IntCounterVec::new(options, &[label])?;
        Ok(Self { counters, read: Box::new(read), catching_up: Mutex::new(()) })
    }
}

impl Collector for Counted {
    fn desc(&self) -> Vec<&Desc> {
        self.counters.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let _alone = self.catching_up.lock().unwrap_or_else(PoisonError::into_inner);
        for (value, count) in (self.read)() {
            let counter = self.counters.with_label_values(&[value]);
            counter.inc_by(count.saturating_sub(counter.get()));
        }
        self.counters.collect()
    }
}

/// A gauge of what another part knows; a scrape reads it.
pub(super) struct Known {
    gauge: IntGauge,
    read: Box<dyn Fn() -> usize + Send + Sync>,
}

impl Known {
    pub(super) fn new(
        name: &str,
        help: &str,
        read: impl Fn() -> usize + Send + Sync + 'static,
    ) -> Result<Self, prometheus::Error> {
        Ok(Self { gauge: IntGauge::new(name, help)?, read: Box::new(read) })
    }
}

impl Collector for Known {
    fn desc(&self) -> Vec<&Desc> {
        self.gauge.desc()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        self.gauge.set(i64::try_from((self.read)()).unwrap_or(i64::MAX));
        self.gauge.collect()
    }
}

/// Registers the metrics of the process itself. `store` says what kind of store it works on.
pub(super) fn process(registry: &Registry, store: &str) -> Result<(), prometheus::Error> {
    let mut build = Opts::new("cognigy_build_info", "Always 1; the labels say what runs")
        .const_label("version", env!("CARGO_PKG_VERSION"))
        .const_label("store", store);
    // Who builds it may name the commit. Nothing is asked here, so that a build can be repeated.
    if let Some(commit) = option_env!("BUILD_COMMIT") {
        build = build.const_label("commit", commit);
    }
    let build = IntGauge::with_opts(build)?;
    build.set(1);
    registry.register(Box::new(build))?;
    #[cfg(target_os = "linux")]
    registry.register(Box::new(prometheus::process_collector::ProcessCollector::for_self()))?;
    Ok(())
}

/// Writes the start time of the process into its gauge, if the collector could not read it: the
/// collector reads a file that does not exist in a unit with `ProcSubset=pid`.
pub(super) fn fill_in_start(family: &mut MetricFamily, started: f64) {
    if family.name() != "process_start_time_seconds" {
        return;
    }
    for metric in family.mut_metric() {
        let mut gauge = metric.get_gauge().clone();
        if gauge.get_value() == 0.0 {
            gauge.set_value(started);
            metric.set_gauge(gauge);
        }
    }
}

/// Makes and registers metrics.
pub(super) struct Registrar<'r>(pub(super) &'r Registry);

impl Registrar<'_> {
    pub(super) fn counter(&self, name: &str, help: &str) -> Result<IntCounter, prometheus::Error> {
        let counter = IntCounter::new(name, help)?;
        self.0.register(Box::new(counter.clone()))?;
        Ok(counter)
    }

    pub(super) fn gauge(&self, name: &str, help: &str) -> Result<IntGauge, prometheus::Error> {
        let gauge = IntGauge::new(name, help)?;
        self.0.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    /// A counter for each of `values`, at zero. If a counter appeared with its first step, a rate
    /// would miss that step.
    pub(super) fn counters(
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

    /// Failed attempts by where and how they failed, at zero.
    pub(super) fn failures(&self) -> Result<IntCounterVec, prometheus::Error> {
        let options =
            Opts::new("cognigy_failures_total", "Failed attempts, by where and how they failed");
        let failures = IntCounterVec::new(options, &["stage", "kind"])?;
        self.0.register(Box::new(failures.clone()))?;
        for stage in Stage::ALL {
            for kind in [TRANSIENT, PERMANENT] {
                failures.with_label_values(&[stage.as_str(), kind]).inc_by(0);
            }
        }
        Ok(failures)
    }

    /// Gauges that appear when they are first set.
    pub(super) fn gauges(
        &self,
        name: &str,
        help: &str,
        labels: &[&str],
    ) -> Result<IntGaugeVec, prometheus::Error> {
        let gauges = IntGaugeVec::new(Opts::new(name, help), labels)?;
        self.0.register(Box::new(gauges.clone()))?;
        Ok(gauges)
    }

    /// A gauge for what is no whole number.
    pub(super) fn seconds(&self, name: &str, help: &str) -> Result<Gauge, prometheus::Error> {
        let gauge = Gauge::new(name, help)?;
        self.0.register(Box::new(gauge.clone()))?;
        Ok(gauge)
    }

    pub(super) fn histogram(
        &self,
        name: &str,
        help: &str,
        bounds: &[f64],
    ) -> Result<Histogram, prometheus::Error> {
        let options = HistogramOpts::new(name, help).buckets(bounds.to_vec());
        let histogram = Histogram::with_opts(options)?;
        self.0.register(Box::new(histogram.clone()))?;
        Ok(histogram)
    }
}
