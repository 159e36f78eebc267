//! Makes a failed run as small as possible while it still fails in the same way.
//!
//! Whole parts of the plan are taken out first (incidents, deliveries, fates, fault rates,
//! processes), then single faults that struck. The rest is needed for the failure.

use crate::{Bug, Plan, Run, run};

/// No more runs, and no more polls in them, than this: a smaller story is a convenience.
const MOST_RUNS: u32 = 3000;
const MOST_POLLS: u64 = 30_000_000;

struct Shrinker {
    best: Run,
    bug: Option<Bug>,
    promise: &'static str,
    runs_left: u32,
    polls_left: u64,
}

/// The smallest run found that breaks the same promise as `failed`.
#[must_use]
pub fn shrink(failed: Run, bug: Option<Bug>) -> Run {
    let Some(promise) = failed.violations.first().map(|first| first.promise) else {
        return failed;
    };
    let mut shrinker =
        Shrinker { best: failed, bug, promise, runs_left: MOST_RUNS, polls_left: MOST_POLLS };
    while shrinker.pass() && shrinker.runs_left > 0 && shrinker.polls_left > 0 {}
    shrinker.best
}

impl Shrinker {
    /// Keeps `plan` if its run still fails in the same way, in its own polling order or in another
    /// one: with one task less, ready tasks are polled in another order.
    fn try_plan(&mut self, plan: Plan) -> bool {
        let orders = [plan.order, plan.order + 1, plan.order + 2];
        orders.into_iter().any(|order| self.try_order(Plan { order, ..plan.clone() }))
    }

    fn try_order(&mut self, plan: Plan) -> bool {
        if self.runs_left == 0 || self.polls_left == 0 {
            return false;
        }
        self.runs_left -= 1;
        let outcome = run(plan, self.bug);
        self.polls_left = self.polls_left.saturating_sub(outcome.polls);
        let fails = outcome.violations.iter().any(|broken| broken.promise == self.promise);
        if fails {
            self.best = outcome;
        }
        fails
    }

    /// Tries every removal once. Returns whether one of them worked.
    fn pass(&mut self) -> bool {
        let mut smaller = self.keep_one_event();
        smaller |= self.thin(
            |plan| plan.incidents.len(),
            |plan, n| {
                plan.incidents.remove(n);
            },
        );
        smaller |= self.thin(
            |plan| plan.deliveries.len(),
            |plan, n| {
                plan.deliveries.remove(n);
            },
        );
        smaller |= self.thin(
            |plan| plan.deliveries.iter().map(|delivery| delivery.others.len()).sum(),
            |plan, mut n| {
                for delivery in &mut plan.deliveries {
                    if n < delivery.others.len() {
                        delivery.others.remove(n);
                        return;
                    }
                    n -= delivery.others.len();
                }
            },
        );
        smaller |= self.thin(
            |plan| plan.rates.len(),
            |plan, n| {
                let fault = plan.rates.keys().nth(n).copied();
                fault.map(|fault| plan.rates.remove(&fault));
            },
        );
        smaller |= self.thin(
            |plan| plan.natures.len(),
            |plan, n| {
                let event = plan.natures.keys().nth(n).copied();
                event.map(|event| plan.natures.remove(&event));
            },
        );
        smaller |= self.spare();
        smaller |= self.simplify();
        smaller
    }

    /// Leaves out every event but the one whose promise was broken.
    fn keep_one_event(&mut self) -> bool {
        let broken = self.best.violations.iter().filter(|broken| broken.promise == self.promise);
        let events: Vec<_> = broken.filter_map(|broken| broken.event).collect();
        events.into_iter().any(|event| {
            let mut plan = self.best.plan.clone();
            plan.deliveries.retain(|delivery| delivery.brings(event));
            plan.deliveries.len() < self.best.plan.deliveries.len() && self.try_plan(plan)
        })
    }

    /// Removes one part after the other.
    fn thin(&mut self, count: impl Fn(&Plan) -> usize, take: impl Fn(&mut Plan, usize)) -> bool {
        let mut smaller = false;
        let mut n = count(&self.best.plan);
        while n > 0 {
            n -= 1;
            let mut plan = self.best.plan.clone();
            take(&mut plan, n);
            smaller |= self.try_plan(plan);
        }
        smaller
    }

    /// Leaves faults out that struck: all, halves, quarters, down to single ones.
    fn spare(&mut self) -> bool {
        let mut smaller = false;
        let mut size = self.best.struck.len();
        while size > 0 {
            let struck = self.best.struck.clone();
            for chunk in struck.chunks(size) {
                let mut plan = self.best.plan.clone();
                plan.spared.extend(chunk);
                smaller |= self.try_plan(plan);
            }
            size /= 2;
        }
        smaller
    }

    /// Makes the set-up plainer.
    fn simplify(&mut self) -> bool {
        let steps: &[fn(&mut Plan)] = &[
            |plan| plan.settings.clocks.truncate(1),
            |plan| plan.settings.clocks.iter_mut().for_each(|clock| *clock = 0),
            |plan| plan.settings.workers = 1,
            |plan| plan.settings.crm = crate::Latency::Uniform(0),
            |plan| plan.settings.handler = crate::Latency::Uniform(0),
            |plan| plan.settings.settling_handler = false,
            |plan| plan.settings.sink = crate::Latency::Uniform(0),
            |plan| plan.settings.store = crate::Latency::Uniform(0),
            |plan| plan.settings.options.concurrency = 1,
            |plan| plan.deliveries.iter_mut().for_each(|delivery| delivery.tries = 1),
        ];
        let mut smaller = false;
        for step in steps {
            let mut plan = self.best.plan.clone();
            step(&mut plan);
            if format!("{plan:?}") != format!("{:?}", self.best.plan) && plan.is_sound() {
                smaller |= self.try_plan(plan);
            }
        }
        smaller
    }
}
