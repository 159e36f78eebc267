//! Makes metrics for Prometheus' library.

use std::sync::{Arc, Mutex, PoisonError};

use cognigy_core::CrmClient;
use cognigy_crm_http::{CoalescingCrm, Spared};
use prometheus::{
    Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry,
    core::{Collector, Desc},
    proto::MetricFamily,
};

/// Upper bounds of the duration buckets, in seconds: a group commit takes half a millisecond to
/// some tens, a CRM call up to its timeout of ten seconds.
pub(super) const SECONDS: [f64; 14] =
    [0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];

/// CRM look-ups that needed no request of their own. [`CoalescingCrm`] counts them, and a scrape
/// reads the counts.
pub(super) struct SparedRequests {
    crm: CoalescingCrm<Arc<dyn CrmClient>>,
    counters: IntCounterVec,
    /// Held while the counters are updated: two scrapes at once would count a step twice.
    catching_up: Mutex<()>,
}

impl SparedRequests {
    pub(super) fn new(crm: CoalescingCrm<Arc<dyn CrmClient>>) -> Result<Self, prometheus::Error> {
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

/// Registers the metrics of the process itself.
pub(super) fn process(registry: &Registry) -> Result<(), prometheus::Error> {
    let build = Opts::new("cognigy_build_info", "Always 1; the label is the version that runs")
        .const_label("version", env!("CARGO_PKG_VERSION"));
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

    pub(super) fn histogram(&self, name: &str, help: &str) -> Result<Histogram, prometheus::Error> {
        let options = HistogramOpts::new(name, help).buckets(SECONDS.to_vec());
        let histogram = Histogram::with_opts(options)?;
        self.0.register(Box::new(histogram.clone()))?;
        Ok(histogram)
    }
}
