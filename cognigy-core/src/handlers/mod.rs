//! Handlers by type of event: each gets its payload as a type of its own.
//!
//! [`Handlers`] is an [`EventHandler`] that looks at an event's type, reads the payload, and calls the
//! handler for that type.

mod context;
mod payload;

use std::{collections::HashMap, fmt, future::Future, pin::Pin, sync::Arc};

use async_trait::async_trait;

pub use context::HandlerContext;
pub use payload::{DialogEnded, DialogStarted, EventPayload, ProfileUpdated, UserInput};

use crate::{
    event::{Event, EventType},
    ports::{Contact, EventHandler, Failure},
    processing::RetryPolicy,
};

type Outcome = Pin<Box<dyn Future<Output = Result<(), Failure>> + Send>>;
type Call<S> = Box<dyn Fn(HandlerContext<S>) -> Outcome + Send + Sync>;

/// What one type of event is handed to.
struct Entry<S> {
    call: Call<S>,
    retry: Option<RetryPolicy>,
}

/// One handler for each type of event.
///
/// ```
/// use cognigy_core::{DialogStarted, Handlers, OrFail, ProfileUpdated, UserInput};
/// use serde::Deserialize;
///
/// #[derive(Deserialize)]
/// struct MyProfile {
///     email: String,
/// }
///
/// let handlers = Handlers::new()
///     .on(|said: UserInput<String>, cx| async move {
///         println!("{:?} said {} characters", cx.event().contact_key(), said.input.len());
///         Ok(())
///     })
///     .on(|update: ProfileUpdated<MyProfile>, cx| async move {
///         let at = update.profile.email.find('@').ok_or("no @").or_permanent("no e-mail address")?;
///         println!("attempt {}: a domain of {} characters", cx.event().attempt(), update.profile.email.len() - at - 1);
///         Ok(())
///     })
///     .otherwise(|cx| async move {
///         println!("nothing to do for {}", cx.event().kind());
///         Ok(())
///     });
/// # let _ = handlers;
/// ```
///
/// * A payload that does not fit its type is a permanent failure: the event is dead-lettered with the
///   position in the JSON, and never with a part of the content.
/// * Events of types without a handler are processed, with nothing done, unless there is an
///   [`otherwise`](Self::otherwise).
/// * An attempt, the look-up of the contact and the handler together, ends after
///   [`attempt_timeout`](crate::PipelineBuilder::attempt_timeout): 120 s unless set otherwise.
/// * `?` takes errors out of a handler: a [`DecodeError`](crate::DecodeError) as it is, any other error by
///   [`or_transient` or `or_permanent`](crate::OrFail).
#[must_use = "handlers do nothing until a pipeline has them"]
pub struct Handlers<S = ()> {
    state: Arc<S>,
    by_type: HashMap<EventType, Entry<S>>,
    otherwise: Option<Entry<S>>,
    last: Option<EventType>,
}

impl Handlers {
    /// No handler yet, and no state that handlers share.
    pub fn new() -> Self {
        Self::with_state(())
    }
}

impl Default for Handlers {
    fn default() -> Self {
        Self::new()
    }
}

impl<S: Send + Sync + 'static> Handlers<S> {
    /// No handler yet. Each handler sees `state` as [`HandlerContext::state`]: a pool of connections, a
    /// client of another service.
    pub fn with_state(state: S) -> Self {
        Self { state: Arc::new(state), by_type: HashMap::new(), otherwise: None, last: None }
    }

    /// Hands the events of `P`'s type to `handler`: a closure or a function.
    ///
    /// # Panics
    /// There is a handler for that type already: one of the two would never be called.
    pub fn on<P, F, Fut>(self, handler: F) -> Self
    where
        P: EventPayload,
        F: Fn(P, HandlerContext<S>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let call = move |context: HandlerContext<S>| -> Outcome {
            match P::read(context.event()) {
                Ok(payload) => Box::pin(handler(payload, context)),
                Err(error) => Box::pin(async move { Err(error.into()) }),
            }
        };
        self.add(P::kind(), Box::new(call))
    }

    /// Hands the events of `P`'s type to `handler`, a type of yours.
    ///
    /// # Panics
    /// There is a handler for that type already: one of the two would never be called.
    pub fn on_type<P: EventPayload>(self, handler: impl PayloadHandler<P, S>) -> Self {
        let handler = Arc::new(handler);
        self.on(move |payload: P, context| {
            let handler = Arc::clone(&handler);
            async move { handler.handle(payload, context).await }
        })
    }

    /// Retries failed attempts at events of the type that was added last by `policy`, in place of the
    /// pipeline's.
    ///
    /// # Panics
    /// No handler of a type was added before, or the policy allows no attempt.
    ///
    /// ```
    /// use cognigy_core::{DialogEnded, Handlers, RetryPolicy, UserInput};
    ///
    /// let patient = RetryPolicy { max_attempts: 20, ..RetryPolicy::default() };
    /// let handlers = Handlers::new()
    ///     .on(|_: UserInput, _| async { Ok(()) }) // as the pipeline says
    ///     .on(|_: DialogEnded, _| async { Ok(()) })
    ///     .retry(patient); // the end of a dialog may wait
    /// # let _ = handlers;
    /// ```
    pub fn retry(mut self, policy: RetryPolicy) -> Self {
        assert!(policy.max_attempts > 0, "a retry policy has to allow an attempt");
        let added = self.last.as_ref().and_then(|kind| self.by_type.get_mut(kind));
        match added {
            Some(entry) => entry.retry = Some(policy),
            None => panic!("`retry` follows the `on` whose events it is about"),
        }
        self
    }

    /// Hands the events of all other types to `handler`. The last one that was set counts.
    pub fn otherwise<F, Fut>(mut self, handler: F) -> Self
    where
        F: Fn(HandlerContext<S>) -> Fut + Send + Sync + 'static,
        Fut: Future<Output = Result<(), Failure>> + Send + 'static,
    {
        let call: Call<S> = Box::new(move |context| Box::pin(handler(context)));
        (self.otherwise, self.last) = (Some(Entry { call, retry: None }), None);
        self
    }

    fn add(mut self, kind: EventType, call: Call<S>) -> Self {
        let before = self.by_type.insert(kind.clone(), Entry { call, retry: None });
        assert!(before.is_none(), "there are two handlers for events of the type {kind}");
        self.last = Some(kind);
        self
    }
}

/// What to do with events of one type, where that is more than a closure. See [`Handlers::on_type`].
///
/// ```
/// use async_trait::async_trait;
/// use cognigy_core::{Failure, HandlerContext, Handlers, PayloadHandler, UserInput, testing::World};
///
/// /// Has more to do than fits into a closure, and tests of its own.
/// struct Reply {
///     greeting: String,
/// }
///
/// #[async_trait]
/// impl PayloadHandler<UserInput<String>> for Reply {
///     async fn handle(&self, said: UserInput<String>, cx: HandlerContext) -> Result<(), Failure> {
///         println!("{}: {}, you said {}", cx.event().id(), self.greeting, said.input);
///         Ok(())
///     }
/// }
///
/// let handlers = Handlers::new().on_type(Reply { greeting: "Good day".into() });
/// let mut world = World::start(handlers);
/// world.deliver("e1");
/// world.pass(std::time::Duration::from_secs(1));
/// # assert_eq!(world.state("e1"), cognigy_core::State::Processed);
/// ```
#[async_trait]
pub trait PayloadHandler<P: EventPayload, S: Send + Sync + 'static = ()>:
    Send + Sync + 'static
{
    /// Handles one event, under the contract of [`EventHandler`].
    ///
    /// # Errors
    /// As [`EventHandler::handle`].
    async fn handle(&self, payload: P, context: HandlerContext<S>) -> Result<(), Failure>;
}

#[async_trait]
impl<S: Send + Sync + 'static> EventHandler for Handlers<S> {
    async fn handle(&self, event: Arc<Event>, contact: Option<Contact>) -> Result<(), Failure> {
        match self.by_type.get(event.kind()).or(self.otherwise.as_ref()) {
            Some(entry) => {
                (entry.call)(HandlerContext::new(event, contact, Arc::clone(&self.state))).await
            }
            None => Ok(()),
        }
    }

    fn retry_policy(&self, kind: &EventType) -> Option<RetryPolicy> {
        self.by_type.get(kind)?.retry
    }
}

impl<S> fmt::Debug for Handlers<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut kinds: Vec<_> = self.by_type.keys().map(EventType::as_str).collect();
        kinds.sort_unstable();
        f.debug_struct("Handlers").field("types", &kinds).finish_non_exhaustive()
    }
}
