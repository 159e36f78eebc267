//! What all parts of a run share: the plan, the history, what is down, and when faults strike.

use std::{
    collections::BTreeMap,
    hash::Hash,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use cognigy_core::{EventKey, Store, memory::MemoryStore};
use fastrand::Rng;

use crate::{
    checker,
    dice::{Latency, dice, happens, hash},
    disk::Disk,
    executor::{Handle, Micros},
    fault::Fault,
    history::{Entry, Happened},
    outside::Message,
    plan::Plan,
    planted::Bug,
    process::Running,
};

/// A run's shared state.
pub(crate) struct World {
    pub(crate) plan: Plan,
    pub(crate) bug: Option<Bug>,
    pub(crate) handle: Handle,
    pub(crate) store: Arc<dyn Store>,
    /// The same store, if it is the simulated one.
    disk: Option<Arc<Disk>>,
    state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) history: Vec<Entry>,
    /// How often each point in the code was passed.
    passed: BTreeMap<u64, u64>,
    pub(crate) fired: BTreeMap<Fault, u64>,
    /// The identities of the faults that struck.
    pub(crate) struck: Vec<u64>,
    /// Processes to be crashed before anything else happens.
    pub(crate) doomed: Vec<usize>,
    pub(crate) processes: Vec<Option<Running>>,
    pub(crate) store_back_at: Micros,
    pub(crate) crm_back_at: Micros,
    pub(crate) sink_back_at: Micros,
    pub(crate) queue: Vec<Message>,
    pub(crate) messages: u64,
    /// When each process's last call to its own store commits: calls do not overtake one another.
    pub(crate) last_commit: Vec<Micros>,
    /// Senders and operators that are still active.
    pub(crate) busy: usize,
    calls: u64,
}

impl World {
    pub(crate) fn new(plan: Plan, bug: Option<Bug>, handle: Handle) -> Arc<Self> {
        let processes = plan.settings.clocks.len();
        let reference = plan.settings.reference_store && bug.is_none();
        let order = plan.settings.event_order;
        let disk = (!reference).then(|| Arc::new(Disk::keeping(order, bug)));
        let store: Arc<dyn Store> = match &disk {
            Some(disk) => Arc::clone(disk) as Arc<dyn Store>,
            None => Arc::new(MemoryStore::keeping(order)),
        };
        let state = State {
            processes: (0..processes).map(|_| None).collect(),
            last_commit: vec![0; processes],
            ..State::default()
        };
        Arc::new(Self { plan, bug, handle, store, disk, state: Mutex::new(state) })
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn has(&self, bug: Bug) -> bool {
        self.bug == Some(bug)
    }

    pub(crate) fn is_quiet(&self) -> bool {
        self.handle.now() >= self.plan.settings.quiet_at
    }

    pub(crate) fn log(&self, process: Option<usize>, what: Happened) {
        let at = self.handle.now();
        self.state().history.push(Entry { at, process, what });
    }

    /// Counts that `fault` happened.
    pub(crate) fn count(&self, fault: Fault) {
        *self.state().fired.entry(fault).or_default() += 1;
    }

    /// A name for this passing of a point: the point, and how often it was passed before.
    pub(crate) fn pass(&self, place: impl Hash) -> u64 {
        let place = hash(place);
        let mut state = self.state();
        let passed = state.passed.entry(place).or_default();
        *passed += 1;
        hash((place, *passed))
    }

    /// A number for a call to the outside, so that its end can be told from another's.
    pub(crate) fn next_call(&self) -> u64 {
        let mut state = self.state();
        state.calls += 1;
        state.calls
    }

    /// A generator for the decisions at `passing`.
    pub(crate) fn dice(&self, about: &'static str, passing: u64) -> Rng {
        dice(self.plan.seed, (about, passing))
    }

    /// Whether `fault` strikes at `passing`; if so it is recorded.
    pub(crate) fn strikes(
        &self,
        fault: Fault,
        passing: u64,
        process: Option<usize>,
        about: &dyn Fn() -> String,
    ) -> bool {
        let Some(rate) = self.plan.rates.get(&fault) else { return false };
        let identity = hash((fault, passing));
        let strikes = !self.is_quiet()
            && happens(&mut dice(self.plan.seed, identity), *rate)
            && !self.plan.spared.contains(&identity);
        if strikes {
            self.count(fault);
            self.state().struck.push(identity);
            self.log(process, Happened::Struck { fault, about: about() });
        }
        strikes
    }

    /// How long something takes at `passing`. Once faults have ended, nothing is slow.
    pub(crate) fn delay(&self, latency: Latency, passing: u64) -> Micros {
        let drawn = latency.draw(&mut self.dice("latency", passing));
        if self.is_quiet() { drawn.min(100_000) } else { drawn }
    }

    /// Crashes `process` before anything else happens.
    pub(crate) fn doom(&self, process: usize) {
        self.state().doomed.push(process);
    }

    /// Writes down what the store holds after a crash, in a run with deliveries of several events.
    pub(crate) fn note_survivors(&self, process: usize) {
        if self.plan.deliveries.iter().all(|delivery| delivery.others.is_empty()) {
            return;
        }
        let stored = checker::Leftover::read(&*self.store).by_delivery();
        self.log(Some(process), Happened::Survived { stored });
    }

    /// The process crashed: everything in its memory is lost.
    pub(crate) fn crash_disk(&self) {
        if let Some(disk) = &self.disk {
            disk.crash();
        }
    }

    /// Damages a stored body, where the store can be damaged.
    pub(crate) fn damage(&self, key: &EventKey) {
        if let Some(disk) = &self.disk {
            disk.damage(key);
            self.count(Fault::Unreadable);
        }
    }

    pub(crate) fn running(&self, process: usize) -> Option<Running> {
        self.state().processes[process].clone()
    }
}
