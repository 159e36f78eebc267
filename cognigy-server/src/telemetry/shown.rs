//! What the counters of a source say, for people: the console shows it.

use prometheus::{Histogram, IntCounterVec, core::Collector, proto::MetricFamily};

use super::{SourceTelemetry, Telemetry};

/// The buckets of a histogram, and how many values there are.
#[derive(Debug, Clone, Default)]
pub(crate) struct Durations {
    /// For each bound, how many values are at most that.
    up_to: Vec<(f64, u64)>,
    pub(crate) count: u64,
}

impl Durations {
    fn of(histogram: &Histogram) -> Self {
        let mut found = Self::default();
        for family in histogram.collect() {
            for metric in family.get_metric() {
                let histogram = metric.get_histogram();
                found.count += histogram.get_sample_count();
                let buckets = histogram.get_bucket().iter();
                found.up_to = buckets.map(|it| (it.upper_bound(), it.cumulative_count())).collect();
            }
        }
        found
    }

    /// Adds those of another source, which has the same bounds.
    pub(crate) fn add(&mut self, other: &Self) {
        if self.up_to.is_empty() {
            self.up_to.clone_from(&other.up_to);
        } else {
            self.up_to.iter_mut().zip(&other.up_to).for_each(|(one, other)| one.1 += other.1);
        }
        self.count += other.count;
    }

    /// The bound in seconds that this share of the values does not exceed. None if there is no value, and
    /// infinite if the value is longer than the longest bound.
    pub(crate) fn percentile(&self, share: f64) -> Option<f64> {
        // A double holds such a number exactly.
        #[allow(clippy::cast_precision_loss)]
        let wanted = self.count as f64 * share;
        #[allow(clippy::cast_precision_loss)]
        let bound = self.up_to.iter().find(|(_, count)| *count as f64 >= wanted);
        (self.count > 0).then(|| bound.map_or(f64::INFINITY, |(bound, _)| *bound))
    }

    /// The longest bound in seconds.
    pub(crate) fn longest(&self) -> f64 {
        let finite = self.up_to.iter().map(|(bound, _)| *bound).filter(|bound| bound.is_finite());
        finite.fold(0.0, f64::max)
    }
}

/// Which values a counter has, by label, without those at zero.
fn by_label(counters: &IntCounterVec, label: &str) -> Vec<(String, u64)> {
    let families: Vec<MetricFamily> = counters.collect();
    let mut found = Vec::new();
    for metric in families.iter().flat_map(MetricFamily::get_metric) {
        // A counter counts in whole steps and stays below 2^53.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let count = metric.get_counter().get_value() as u64;
        let name = metric.get_label().iter().find(|pair| pair.name() == label);
        if let (Some(name), true) = (name, count > 0) {
            found.push((name.value().to_owned(), count));
        }
    }
    found.sort_by(|one, other| other.1.cmp(&one.1).then_with(|| one.0.cmp(&other.0)));
    found
}

impl SourceTelemetry {
    /// Deliveries since the start of the process by outcome, the most frequent first.
    pub(crate) fn outcomes(&self) -> Vec<(String, u64)> {
        by_label(&self.deliveries, "outcome")
    }

    /// Why credentials were refused since the start of the process.
    pub(crate) fn wrong_credentials(&self) -> Vec<(String, u64)> {
        by_label(&self.unauthenticated, "reason")
    }

    /// From the head of a delivery to its answer.
    pub(crate) fn intake_durations(&self) -> Durations {
        Durations::of(&self.ingest)
    }

    /// Of attempts, look-up and handler together.
    pub(crate) fn attempt_durations(&self) -> Durations {
        Durations::of(&self.processing_duration)
    }
}

impl Telemetry {
    /// The start of the process, in seconds since 1970.
    pub(crate) fn started(&self) -> f64 {
        self.started
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_bounds_of_buckets() {
        let mut durations = Durations { up_to: vec![(0.1, 50), (1.0, 94), (10.0, 99)], count: 100 };
        assert_eq!(durations.percentile(0.5), Some(0.1));
        assert_eq!(durations.percentile(0.95), Some(10.0));
        assert_eq!(durations.percentile(0.999), Some(f64::INFINITY));
        assert!((durations.longest() - 10.0).abs() < f64::EPSILON);
        assert_eq!(Durations::default().percentile(0.5), None);
        let other = Durations { up_to: vec![(0.1, 0), (1.0, 100), (10.0, 100)], count: 100 };
        durations.add(&other);
        assert_eq!((durations.count, durations.percentile(0.5)), (200, Some(1.0)));
    }
}
