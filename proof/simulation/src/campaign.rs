//! Runs many seeds on as many threads as there are cores, because the seeds are independent.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use crate::{Bug, Fault, Plan, Violation, run};

/// Every so many seeds, one is run twice: a run that cannot be repeated is useless for debugging.
const REPEAT_EVERY: u64 = 50;

/// The results of a campaign.
#[derive(Debug, Default)]
pub struct Report {
    /// How many seeds were run.
    pub seeds: u64,
    /// The seeds that failed, with the first promise that each of them broke, in order of seeds.
    pub failures: Vec<(u64, Violation)>,
    /// Seeds that were run twice and took other steps the second time.
    pub unrepeatable: Vec<u64>,
    /// How often each fault struck and each situation arose.
    pub fired: BTreeMap<Fault, u64>,
    /// In how many of the seeds each of them occurred.
    pub seeds_with: BTreeMap<Fault, u64>,
    /// Events that were recorded.
    pub events: u64,
    /// How many entries the histories had.
    pub entries: u64,
    /// How many times a task was polled.
    pub polls: u64,
    /// Virtual seconds that passed.
    pub virtual_seconds: u64,
}

/// The settings of a campaign.
#[derive(Debug, Clone, Copy)]
pub struct Campaign {
    /// The first seed.
    pub from: u64,
    /// How many.
    pub seeds: u64,
    /// The planted bug.
    pub bug: Option<Bug>,
    /// Whether to stop at the first failure.
    pub stop_at_failure: bool,
}

impl Campaign {
    /// Runs it. `is_over` is asked before each seed and may end it early; `progress` is told how
    /// many seeds are done.
    pub fn run(self, is_over: impl Fn() -> bool + Sync, progress: impl Fn(u64) + Sync) -> Report {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let (next, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let report = Mutex::new(Report::default());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while !stop.load(Ordering::Relaxed) && !is_over() {
                        let number = next.fetch_add(1, Ordering::Relaxed);
                        if number >= self.seeds {
                            return;
                        }
                        let seed = self.from + number;
                        let outcome = run(Plan::draw(seed), self.bug);
                        let repeats = !number.is_multiple_of(REPEAT_EVERY)
                            || run(Plan::draw(seed), self.bug).digest == outcome.digest;
                        let mut report = report.lock().unwrap_or_else(PoisonError::into_inner);
                        report.add(&outcome);
                        report.unrepeatable.extend((!repeats).then_some(seed));
                        progress(report.seeds);
                        if self.stop_at_failure && !report.failures.is_empty() {
                            stop.store(true, Ordering::Relaxed);
                        }
                    }
                });
            }
        });
        let mut report = report.into_inner().unwrap_or_else(PoisonError::into_inner);
        report.failures.sort_by_key(|(seed, _)| *seed);
        report
    }
}

impl Report {
    fn add(&mut self, run: &crate::Run) {
        self.seeds += 1;
        for (fault, times) in &run.fired {
            *self.fired.entry(*fault).or_default() += times;
            *self.seeds_with.entry(*fault).or_default() += 1;
        }
        self.events += run.recorded();
        self.entries += run.history.len() as u64;
        self.polls += run.polls;
        self.virtual_seconds += run.lasted / 1_000_000;
        self.failures.extend(run.violations.first().map(|first| (run.plan.seed, first.clone())));
    }

    /// The faults and situations that never occurred: a campaign has proved nothing about them.
    #[must_use]
    pub fn never(&self) -> Vec<Fault> {
        Fault::ALL.iter().copied().filter(|fault| !self.fired.contains_key(fault)).collect()
    }

    /// With no failure in this many seeds, the highest rate of failing seeds that is still likely
    /// (95 %, "rule of three").
    #[must_use]
    pub fn highest_likely_rate(&self) -> f64 {
        #[allow(clippy::cast_precision_loss)]
        let seeds = self.seeds.max(1) as f64;
        3.0 / seeds
    }
}
