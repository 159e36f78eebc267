//! One run: the plan's processes, senders, operators and accidents on the executor, until
//! everything has ended or the time limit is reached.

use std::{collections::BTreeMap, sync::Arc};

use cognigy_core::State;
use futures_util::FutureExt;

use crate::{
    checker::{self, Violation},
    dice::dice,
    executor::{Executor, Micros, Owner},
    fault::Fault,
    history::{Entry, Happened, RecordedAs},
    plan::{Incident, Plan, SECOND, What},
    planted::Bug,
    process::Running,
    traffic,
    world::World,
};

/// More polls than this without time moving on is a loop that waits for nothing.
const MOST_POLLS_AT_ONCE: u64 = 200_000;

/// More polls than this in a whole run mean an endless run: most runs take a few thousand.
const MOST_POLLS: u64 = 2_000_000;

/// A run that is over.
#[derive(Debug)]
pub struct Run {
    /// What was planned.
    pub plan: Plan,
    /// What happened.
    pub history: Vec<Entry>,
    /// The broken promises.
    pub violations: Vec<Violation>,
    /// How often each fault and situation occurred.
    pub fired: BTreeMap<Fault, u64>,
    /// The identities of the faults that struck, for the shrinker.
    pub struck: Vec<u64>,
    /// A hash over every step: equal for equal runs.
    pub digest: u64,
    /// How many times a task was polled.
    pub polls: u64,
    /// How much virtual time passed.
    pub lasted: Micros,
}

impl Run {
    /// How many events were recorded.
    #[must_use]
    pub fn recorded(&self) -> u64 {
        let is_new = |entry: &&Entry| {
            matches!(entry.what, Happened::Recorded { outcome: RecordedAs::New, .. })
        };
        self.history.iter().filter(is_new).count() as u64
    }
}

/// Runs `plan`, with `bug` planted if there is one.
#[must_use]
pub fn run(plan: Plan, bug: Option<Bug>) -> Run {
    let mut driver = Driver::new(plan, bug);
    let finished = driver.drive();
    let Driver { world, executor, .. } = driver;
    let (digest, polls) = (executor.digest(), executor.polls());
    let lasted = world.handle.now();
    let leftover = checker::Leftover::read(&*world.store);
    // Dropping the remaining tasks writes the last entries: calls that the end cut off.
    let mut state = world.state();
    let history = std::mem::take(&mut state.history);
    let fired = std::mem::take(&mut state.fired);
    let struck = std::mem::take(&mut state.struck);
    drop(state);
    drop(executor);
    let mut fired = fired;
    let violations = checker::check(&world.plan, &history, &leftover, finished, &mut fired);
    let digest = crate::dice::hash((digest, format!("{history:?}")));
    let plan = world.plan.clone();
    Run { plan, history, violations, fired, struck, digest, polls, lasted }
}

#[derive(Debug)]
enum Action {
    Incident(usize),
    Start { process: usize, clock: i64 },
    Resume { process: usize, at: Micros },
}

struct Armed {
    polls: u64,
    down: Micros,
    clock: i64,
}

struct Driver {
    world: Arc<World>,
    executor: Executor,
    schedule: BTreeMap<(Micros, u64), Action>,
    scheduled: u64,
    /// Crashes that wait for so many polls of their process.
    armed: BTreeMap<usize, Armed>,
    /// Processes told to stop: since when, and for how long they will be gone.
    stopping: BTreeMap<usize, (Micros, Micros)>,
    stalled_until: BTreeMap<usize, Micros>,
    /// Each process's clock error when it was last up.
    clocks: Vec<i64>,
}

impl Driver {
    fn new(plan: Plan, bug: Option<Bug>) -> Self {
        let executor = Executor::new(dice(plan.seed, ("order", plan.order)));
        let world = World::new(plan, bug, executor.handle().clone());
        let clocks = world.plan.settings.clocks.clone();
        if clocks.iter().any(|clock| *clock != clocks[0]) {
            world.count(Fault::ClockSkew);
        }
        let mut driver = Self {
            world,
            executor,
            schedule: BTreeMap::new(),
            scheduled: 0,
            armed: BTreeMap::new(),
            stopping: BTreeMap::new(),
            stalled_until: BTreeMap::new(),
            clocks,
        };
        let plan = driver.world.plan.clone();
        for (process, clock) in plan.settings.clocks.iter().enumerate() {
            Running::start(&driver.world, process, *clock);
        }
        (0..plan.deliveries.len()).for_each(|delivery| traffic::send(&driver.world, delivery));
        for (number, incident) in plan.incidents.iter().enumerate() {
            driver.at(incident.at, Action::Incident(number));
        }
        driver
    }

    fn at(&mut self, time: Micros, action: Action) {
        self.scheduled += 1;
        self.schedule.insert((time, self.scheduled), action);
    }

    /// Whether everything ended in time.
    fn drive(&mut self) -> bool {
        let quiet_at = self.world.plan.settings.quiet_at;
        let deadline = quiet_at + self.world.plan.patience();
        let lease = self.world.plan.settings.lease;
        let calm = 2 * u64::try_from(lease.as_micros()).unwrap_or(0);
        let mut calm_until = None;
        let mut polls_at_once = 0;
        loop {
            self.crash_doomed();
            self.finish_stops();
            if let Some(polled) = self.executor.step() {
                polls_at_once += 1;
                self.after_poll(polled.owner, polled.panic);
                if polls_at_once < MOST_POLLS_AT_ONCE && self.executor.polls() < MOST_POLLS {
                    continue;
                }
                let message = "goes on and on without coming to an end".to_owned();
                self.world.log(None, Happened::Panicked { message });
                return false;
            }
            polls_at_once = 0;
            let now = self.world.handle.now();
            if now >= quiet_at {
                self.armed.clear();
                // The run goes on a little after all work is done: nothing may change any more,
                // except through an old call to a remote store that takes effect only now.
                match calm_until {
                    None if self.is_done() => calm_until = Some(now + calm),
                    Some(until) if now >= until && self.is_done() => return true,
                    Some(until) if now >= until => calm_until = None,
                    _ => {}
                }
            }
            let alarm = self.executor.next_alarm();
            let action = self.schedule.first_key_value().map(|((time, _), _)| *time);
            let Some(next) = alarm.into_iter().chain(action).min() else { return self.is_done() };
            if next > deadline {
                return self.is_done();
            }
            self.executor.advance(next);
            self.act(next);
        }
    }

    fn is_done(&self) -> bool {
        let up = {
            let state = self.world.state();
            state.busy == 0 && state.processes.iter().all(Option::is_some)
        };
        let settled = || {
            let counts = self.world.store.counts().now_or_never().and_then(Result::ok);
            counts.is_some_and(|counts| {
                let open = [State::Pending, State::Processing, State::DeadLettering];
                open.iter().all(|state| counts.of(*state) == 0) && counts.unsent_dead_letters == 0
            })
        };
        up && self.schedule.is_empty() && self.stopping.is_empty() && settled()
    }

    fn after_poll(&mut self, owner: Owner, panic: Option<Box<dyn std::any::Any + Send>>) {
        let Owner::Process(process) = owner else { return };
        if let Some(panic) = panic {
            let message = panic.downcast_ref::<String>().cloned();
            let message = message.or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            let message = message.unwrap_or_else(|| "panicked".to_owned());
            self.world.log(Some(process), Happened::Panicked { message });
        }
        let Some(armed) = self.armed.get_mut(&process) else { return };
        if armed.polls > 0 {
            armed.polls -= 1;
        } else if let Some(armed) = self.armed.remove(&process) {
            self.world.count(Fault::CrashAnywhere);
            self.crash(process, armed.down, armed.clock);
        }
    }

    fn crash_doomed(&mut self) {
        let doomed = std::mem::take(&mut self.world.state().doomed);
        for process in doomed {
            let passing = self.world.pass(("doomed", process));
            let down = self.world.dice("down", passing).u64(0..=2 * SECOND);
            self.crash(process, down, 0);
        }
    }

    fn crash(&mut self, process: usize, down: Micros, clock_step: i64) {
        let Some(running) = self.world.running(process) else { return };
        self.world.log(Some(process), Happened::Crashed);
        self.gone(process, &running);
        self.world.crash_disk();
        self.world.note_survivors(process);
        self.stopping.remove(&process);
        if clock_step < 0 {
            self.world.count(Fault::ClockBack);
        }
        let clock = self.clocks[process] + clock_step;
        self.at(self.world.handle.now() + down, Action::Start { process, clock });
    }

    fn gone(&mut self, process: usize, running: &Running) {
        self.clocks[process] = running.clock.error();
        self.world.state().processes[process] = None;
        self.executor.drop_tasks(Owner::Process(process));
        self.armed.remove(&process);
        self.stalled_until.remove(&process);
        self.world.state().last_commit[process] = 0;
    }

    fn finish_stops(&mut self) {
        let stopping: Vec<_> =
            self.stopping.iter().map(|(process, times)| (*process, *times)).collect();
        for (process, (since, down)) in stopping {
            let Some(running) = self.world.running(process).filter(Running::has_stopped) else {
                continue;
            };
            let now = self.world.handle.now();
            let grace = self.world.plan.settings.options.grace.as_micros();
            if u128::from(now - since) >= grace {
                self.world.count(Fault::GraceEnded);
            }
            self.world.log(Some(process), Happened::Stopped);
            self.gone(process, &running);
            self.stopping.remove(&process);
            let clock = self.clocks[process];
            self.at(now + down, Action::Start { process, clock });
        }
    }

    /// Does what is due by `now`.
    fn act(&mut self, now: Micros) {
        while let Some(entry) = self.schedule.first_entry()
            && entry.key().0 <= now
        {
            match entry.remove() {
                Action::Start { process, clock } => {
                    Running::start(&self.world, process, clock);
                }
                Action::Resume { process, at } => {
                    if self.stalled_until.get(&process) == Some(&at) {
                        self.stalled_until.remove(&process);
                        self.world.log(Some(process), Happened::Resumed);
                        self.executor.resume(Owner::Process(process));
                    }
                }
                Action::Incident(number) => {
                    let incident = self.world.plan.incidents[number].clone();
                    self.happen(&incident, now);
                }
            }
        }
    }

    fn happen(&mut self, incident: &Incident, now: Micros) {
        let world = Arc::clone(&self.world);
        match incident.what {
            What::Crash { process, polls, down, clock } => {
                self.armed.insert(process, Armed { polls, down, clock });
            }
            What::Stop { process, down } => {
                let Some(running) = world.running(process) else { return };
                if !running.is_stopping() {
                    world.count(Fault::GracefulStop);
                    world.log(Some(process), Happened::StopAsked);
                    running.stop();
                    self.stopping.insert(process, (now, down));
                }
            }
            What::Stall { process, time } => {
                if world.running(process).is_none() || self.stalled_until.contains_key(&process) {
                    return;
                }
                world.count(Fault::Stall);
                if u128::from(time) > world.plan.settings.lease.as_micros() {
                    world.count(Fault::LongStall);
                }
                let until = now + time;
                world.log(Some(process), Happened::Stalled { until });
                self.executor.stall(Owner::Process(process));
                self.stalled_until.insert(process, until);
                self.at(until, Action::Resume { process, at: until });
            }
            What::ClockAhead { process, by } => {
                let Some(running) = world.running(process) else { return };
                world.count(Fault::ClockAhead);
                world.log(Some(process), Happened::ClockJumped { by });
                running.clock.jump(by);
            }
            What::StoreOutage { time } => {
                let until = self.outage(Fault::StoreOutage, "store", time);
                world.state().store_back_at = until;
            }
            What::CrmOutage { time } => {
                let until = self.outage(Fault::CrmOutage, "CRM", time);
                world.state().crm_back_at = until;
            }
            What::SinkOutage { time } => {
                if time >= 3600 * SECOND {
                    world.count(Fault::LongSinkOutage);
                }
                let until = self.outage(Fault::SinkOutage, "sink", time);
                world.state().sink_back_at = until;
            }
            _ => traffic::operate(&world, incident),
        }
    }

    fn outage(&self, fault: Fault, of: &'static str, time: Micros) -> Micros {
        let now = self.world.handle.now();
        let until = (now + time).min(self.world.plan.settings.quiet_at);
        self.world.count(fault);
        self.world.log(None, Happened::Outage { of, until });
        until
    }
}
