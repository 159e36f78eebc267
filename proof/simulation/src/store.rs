//! The store as one process sees it: remote, and not always reachable.
//!
//! Each call travels to the store, takes effect there at one moment, and its answer travels back.
//! On the way the caller may crash, give up or wait for ever; the store's side writes the effect
//! into the history, whatever answer the caller gets. With a store in the process (such as SQLite)
//! calls take effect in order and die with the process; with a remote one they may overtake one
//! another, and take effect after their caller is gone.

mod port;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use cognigy_core::{ClaimToken, Settled, StoreError, StoreErrorKind};
use futures_channel::oneshot;
use futures_util::FutureExt;

use crate::{
    executor::{Micros, Owner},
    fault::Fault,
    plan::SECOND,
    world::World,
};

/// A store answers within this time at the latest, even with a heavy tail.
const SLOWEST: Micros = 20 * SECOND;

/// The name of the call that records several events.
const RECORD_ALL: &str = "record_all";

/// One process's connection to the store.
#[derive(Clone)]
pub(crate) struct StoreClient {
    world: Arc<World>,
    process: usize,
    /// Tokens whose settlement took effect without the caller being told.
    unknown: Arc<std::sync::Mutex<Vec<ClaimToken>>>,
}

enum Fate {
    Fine,
    ErrorBefore(StoreErrorKind),
    ErrorAfter,
    StuckBefore,
    StuckAfter,
    CrashBefore,
    CrashAfter,
}

impl StoreClient {
    pub(crate) fn new(world: Arc<World>, process: usize) -> Self {
        Self { world, process, unknown: Arc::default() }
    }

    fn fate(&self, passing: u64, about: &dyn Fn() -> String) -> Fate {
        let strikes = |fault| self.world.strikes(fault, passing, Some(self.process), about);
        let is_down = self.world.state().store_back_at > self.world.handle.now();
        if is_down || strikes(Fault::StoreErrorBefore) {
            Fate::ErrorBefore(StoreErrorKind::Unavailable)
        } else if strikes(Fault::StoreOverloaded) {
            Fate::ErrorBefore(StoreErrorKind::Overloaded)
        } else if strikes(Fault::StoreErrorAfter) {
            Fate::ErrorAfter
        } else if strikes(Fault::StoreStuckBefore) {
            Fate::StuckBefore
        } else if strikes(Fault::StoreStuckAfter) {
            Fate::StuckAfter
        } else if strikes(Fault::CrashBeforeCommit) {
            Fate::CrashBefore
        } else if strikes(Fault::CrashAfterCommit) {
            Fate::CrashAfter
        } else {
            Fate::Fine
        }
    }

    /// When a call that was begun now reaches the store.
    fn commit_time(&self, passing: u64, about: &dyn Fn() -> String) -> Micros {
        let world = &self.world;
        let settings = &world.plan.settings;
        let mut delay = world.delay(settings.store, passing).min(SLOWEST);
        if world.strikes(Fault::StoreSlow, passing, Some(self.process), about) {
            delay += u64::try_from(settings.lease.as_micros()).unwrap_or(0) * 3 / 2;
        }
        let mut at = world.handle.now() + delay;
        if !settings.remote_store {
            let mut state = world.state();
            let last = &mut state.last_commit[self.process];
            at = at.max(*last + 1);
            *last = at;
        }
        at
    }

    /// Makes `effect` happen at the store and returns its answer, unless a fault strikes.
    async fn call<T: Send + 'static>(
        &self,
        operation: &'static str,
        subject: impl Fn() -> String + Send + Sync,
        effect: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let world = &self.world;
        let passing = world.pass(("store", operation, self.process, subject()));
        let about = move || format!("{operation} {}", subject());
        let fate = self.fate(passing, &about);
        let commit_at = self.commit_time(passing, &about);
        let (answer, receive) = oneshot::channel();
        let gone = Arc::new(AtomicBool::new(false));
        let client = self.clone();
        let is_gone = Arc::clone(&gone);
        let owner = match world.plan.settings.remote_store {
            true => Owner::World,
            false => Owner::Process(self.process),
        };
        world.handle.spawn(owner, async move {
            let world = &client.world;
            world.handle.sleep_until(commit_at).await;
            match fate {
                Fate::ErrorBefore(kind) => {
                    drop(answer.send(Err(StoreError::new(kind, "the store is not there"))));
                    return;
                }
                Fate::StuckBefore => return std::future::pending().await,
                Fate::CrashBefore => return client.crash_in(operation),
                _ => {}
            }
            let result = effect(&client);
            if is_gone.load(Ordering::Relaxed) {
                world.count(Fault::LateCommit);
            }
            let back = world.delay(world.plan.settings.store, passing ^ 1).min(SLOWEST);
            world.handle.sleep(back).await;
            match fate {
                Fate::ErrorAfter => {
                    let error = StoreError::new(StoreErrorKind::Unavailable, "connection lost");
                    drop(answer.send(Err(error)));
                }
                Fate::StuckAfter => std::future::pending().await,
                Fate::CrashAfter => client.crash_in(operation),
                _ => drop(answer.send(result)),
            }
        });
        let _gone = SetOnDrop(gone);
        match receive.await {
            Ok(answer) => answer,
            // Its process is about to be crashed.
            Err(oneshot::Canceled) => std::future::pending().await,
        }
    }

    fn crash_in(&self, operation: &'static str) {
        if operation == RECORD_ALL {
            self.world.count(Fault::CrashAmongSeveral);
        }
        self.world.doom(self.process);
    }

    fn note_settled(&self, token: ClaimToken, answer: Settled) {
        let world = &self.world;
        let mut unknown = self.unknown.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        match answer {
            Settled::Done | Settled::UnblockedNext => unknown.push(token),
            Settled::LeaseLost if unknown.contains(&token) => {
                world.count(Fault::RepeatedSettlement);
            }
            Settled::LeaseLost => world.count(Fault::LateSettlement),
        }
    }
}

struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The inner stores answer at once: nothing waits inside a transaction.
fn at_once<T>(future: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let waited = || Err(StoreError::new(StoreErrorKind::Corrupt, "a transaction waited"));
    future.now_or_never().unwrap_or_else(waited)
}
