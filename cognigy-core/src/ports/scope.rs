//! What is being worked on, for the log.
//!
//! Everything that is done for an attempt or a delivery runs in its scope, the adapters' and the
//! handler's code too. A log that looks at [`Scope::current`] can name the event and the trace in every
//! line. Work that is moved to another task or thread leaves its scope.

use std::{cell::RefCell, future::poll_fn, pin::pin, sync::Arc};

use crate::event::{EventId, TraceParent};

thread_local! {
    static CURRENT: RefCell<Option<Arc<Scope>>> = const { RefCell::new(None) };
}

/// An attempt or a delivery that is worked on.
///
/// ```
/// use cognigy_core::{Scope, State, testing::World};
///
/// // Code far below a handler names the event in its log, without being told which it is.
/// fn log(line: &str) -> String {
///     match Scope::current().and_then(|scope| scope.event_id.clone()) {
///         Some(id) => format!("[{id}] {line}"),
///         None => line.to_owned(),
///     }
/// }
///
/// let mut world = World::start(|_, _| async {
///     assert_eq!(log("a mail was sent"), "[e1] a mail was sent");
///     Ok(())
/// });
/// world.deliver("e1");
/// world.pass(std::time::Duration::from_secs(1));
/// assert_eq!(world.state("e1"), State::Processed);
/// assert_eq!(log("stopping"), "stopping");
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// The event, if it is one and its id is known.
    pub event_id: Option<EventId>,
    /// Its span, if traces are on.
    pub traceparent: Option<TraceParent>,
}

impl Scope {
    /// The scope that this thread works in.
    #[must_use]
    pub fn current() -> Option<Arc<Self>> {
        CURRENT.with_borrow(Clone::clone)
    }

    /// Does `work` in this scope.
    pub fn run<R>(self: &Arc<Self>, work: impl FnOnce() -> R) -> R {
        let before = CURRENT.replace(Some(Arc::clone(self)));
        let _back = Back(before);
        work()
    }

    /// Does all of `work` in this scope.
    pub async fn within<F: Future>(self: Arc<Self>, work: F) -> F::Output {
        let mut work = pin!(work);
        poll_fn(|context| self.run(|| work.as_mut().poll(context))).await
    }
}

/// Goes back to the scope before, after a panic too.
struct Back(Option<Arc<Scope>>);

impl Drop for Back {
    fn drop(&mut self) {
        CURRENT.replace(self.0.take());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(id: &str) -> Arc<Scope> {
        Arc::new(Scope { event_id: Some(id.parse().unwrap()), traceparent: None })
    }

    fn current() -> Option<String> {
        Scope::current()?.event_id.as_ref().map(ToString::to_string)
    }

    #[test]
    fn scopes_nest_and_a_panic_leaves_none_behind() {
        scope("a").run(|| {
            assert_eq!(current().as_deref(), Some("a"));
            let panicked = std::panic::catch_unwind(|| scope("b").run(|| panic!("on purpose")));
            assert!(panicked.is_err());
            assert_eq!(current().as_deref(), Some("a"));
        });
        assert_eq!(current(), None);
    }

    #[test]
    fn a_future_is_in_its_scope_whenever_it_is_looked_at() {
        let (wake, woken) = tokio::sync::oneshot::channel::<()>();
        let work = scope("a").within(async {
            assert_eq!(current().as_deref(), Some("a"));
            woken.await.unwrap();
            current()
        });
        let other = async {
            assert_eq!(current(), None, "the other one waits, and this one is not in its scope");
            wake.send(()).unwrap();
        };
        let (ended, ()) = futures_executor::block_on(futures_util::future::join(work, other));
        assert_eq!(ended.as_deref(), Some("a"));
        assert_eq!(current(), None);
    }
}
