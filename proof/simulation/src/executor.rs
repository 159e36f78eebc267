//! A single-threaded executor on virtual time whose every choice comes from the seed.
//!
//! The seed picks the next task to be polled from the tasks that are ready. When none is ready,
//! time jumps to the next alarm. Tasks belong to the world (senders, operators, a remote store) or
//! to a process, and the tasks of a process can be stalled (the machine is paused) or dropped at
//! any point (the process crashed). There is no real time, no thread and no I/O.

use std::{
    any::Any,
    collections::BTreeMap,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

use fastrand::Rng;

use crate::dice::hash;

/// Virtual time, in microseconds since the run began.
pub type Micros = u64;

/// The owner of a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Owner {
    /// The world: the task goes on whatever happens to the processes.
    World,
    /// The process with this number: the task ends with it.
    Process(usize),
}

type Work = Pin<Box<dyn Future<Output = ()> + Send>>;
type TaskId = u64;

/// The executor's interface for tasks: the time, alarms, and starting other tasks.
#[derive(Clone)]
pub(crate) struct Handle(Arc<Mutex<Shared>>);

#[derive(Default)]
struct Shared {
    now: Micros,
    alarms: BTreeMap<(Micros, u64), Waker>,
    last_alarm: u64,
    started: Vec<(Owner, Work)>,
    ready: Vec<TaskId>,
}

impl Handle {
    pub(crate) fn now(&self) -> Micros {
        self.lock().now
    }

    pub(crate) fn sleep(&self, micros: Micros) -> Sleep {
        self.sleep_until(self.now().saturating_add(micros))
    }

    pub(crate) fn sleep_until(&self, deadline: Micros) -> Sleep {
        Sleep { handle: self.clone(), deadline, alarm: None }
    }

    pub(crate) fn spawn(&self, owner: Owner, work: impl Future<Output = ()> + Send + 'static) {
        self.lock().started.push((owner, Box::pin(work)));
    }

    /// Wakes all tasks that wait for a time, so that they read their clock again.
    pub(crate) fn wake_sleepers(&self) {
        let alarms = std::mem::take(&mut self.lock().alarms);
        alarms.into_values().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Resolves at its deadline. Gives its alarm back when it is dropped.
pub(crate) struct Sleep {
    handle: Handle,
    deadline: Micros,
    alarm: Option<(Micros, u64)>,
}

impl Sleep {
    fn disarm(&mut self) {
        if let Some(alarm) = self.alarm.take() {
            let removed = self.handle.lock().alarms.remove(&alarm);
            drop(removed);
        }
    }
}

impl Future for Sleep {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.disarm();
        let deadline = self.deadline;
        let mut shared = self.handle.lock();
        if shared.now >= deadline {
            return Poll::Ready(());
        }
        shared.last_alarm += 1;
        let alarm = (deadline, shared.last_alarm);
        shared.alarms.insert(alarm, context.waker().clone());
        drop(shared);
        self.alarm = Some(alarm);
        Poll::Pending
    }
}

impl Drop for Sleep {
    fn drop(&mut self) {
        self.disarm();
    }
}

struct TaskWaker {
    id: TaskId,
    queued: AtomicBool,
    handle: Handle,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if !self.queued.swap(true, Ordering::Relaxed) {
            self.handle.lock().ready.push(self.id);
        }
    }
}

struct Task {
    owner: Owner,
    work: Work,
    waker: Waker,
    queued: Arc<TaskWaker>,
}

/// Runs tasks, one poll at a time.
pub(crate) struct Executor {
    handle: Handle,
    tasks: BTreeMap<TaskId, Task>,
    last_task: TaskId,
    order: Rng,
    stalled: BTreeMap<Owner, Vec<TaskId>>,
    digest: u64,
    polls: u64,
}

/// The result of one poll.
pub(crate) struct Polled {
    pub(crate) owner: Owner,
    /// The task panicked: nothing in the code under test may, outside handlers and adapters.
    pub(crate) panic: Option<Box<dyn Any + Send>>,
}

impl Executor {
    pub(crate) fn new(order: Rng) -> Self {
        Self {
            handle: Handle(Arc::new(Mutex::new(Shared::default()))),
            tasks: BTreeMap::new(),
            last_task: 0,
            order,
            stalled: BTreeMap::new(),
            digest: 0,
            polls: 0,
        }
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.handle
    }

    /// A hash over which task was polled when: two runs that agree in it took the same steps.
    pub(crate) fn digest(&self) -> u64 {
        self.digest
    }

    pub(crate) fn polls(&self) -> u64 {
        self.polls
    }

    /// Polls one ready task. `None` if no task is ready.
    pub(crate) fn step(&mut self) -> Option<Polled> {
        loop {
            self.take_in();
            let id = {
                let mut shared = self.handle.lock();
                if shared.ready.is_empty() {
                    return None;
                }
                let picked = self.order.usize(0..shared.ready.len());
                shared.ready.swap_remove(picked)
            };
            let Some(task) = self.tasks.get_mut(&id) else { continue };
            if let Some(waiting) = self.stalled.get_mut(&task.owner) {
                waiting.push(id);
                continue;
            }
            task.queued.queued.store(false, Ordering::Relaxed);
            self.polls += 1;
            self.digest = hash((self.digest, id, self.handle.now()));
            let owner = task.owner;
            let mut context = Context::from_waker(&task.waker);
            let work = task.work.as_mut();
            let polled = catch_unwind(AssertUnwindSafe(|| work.poll(&mut context)));
            let panic = match polled {
                Ok(Poll::Pending) => None,
                Ok(Poll::Ready(())) => {
                    drop(self.tasks.remove(&id));
                    None
                }
                Err(panic) => {
                    drop(self.tasks.remove(&id));
                    Some(panic)
                }
            };
            return Some(Polled { owner, panic });
        }
    }

    fn take_in(&mut self) {
        let started = std::mem::take(&mut self.handle.lock().started);
        for (owner, work) in started {
            self.last_task += 1;
            let id = self.last_task;
            let handle = self.handle.clone();
            let queued = Arc::new(TaskWaker { id, queued: AtomicBool::new(true), handle });
            let waker = Waker::from(Arc::clone(&queued));
            self.tasks.insert(id, Task { owner, work, waker, queued });
            self.handle.lock().ready.push(id);
        }
    }

    /// When the next alarm goes off.
    pub(crate) fn next_alarm(&self) -> Option<Micros> {
        self.handle.lock().alarms.first_key_value().map(|((time, _), _)| *time)
    }

    /// Moves time on to `now` and sets off the alarms that were due by then.
    pub(crate) fn advance(&self, now: Micros) {
        let mut shared = self.handle.lock();
        shared.now = shared.now.max(now);
        let later = shared.alarms.split_off(&(now + 1, 0));
        let due = std::mem::replace(&mut shared.alarms, later);
        drop(shared);
        due.into_values().for_each(Waker::wake);
    }

    /// Drops every task of `owner`.
    pub(crate) fn drop_tasks(&mut self, owner: Owner) {
        self.take_in();
        let doomed: Vec<TaskId> =
            self.tasks.iter().filter(|(_, task)| task.owner == owner).map(|(id, _)| *id).collect();
        for id in doomed {
            drop(self.tasks.remove(&id));
        }
        self.stalled.remove(&owner);
    }

    /// Polls no task of `owner` until it is resumed.
    pub(crate) fn stall(&mut self, owner: Owner) {
        self.stalled.entry(owner).or_default();
    }

    pub(crate) fn resume(&mut self, owner: Owner) {
        if let Some(waiting) = self.stalled.remove(&owner) {
            self.handle.lock().ready.extend(waiting);
        }
    }
}
