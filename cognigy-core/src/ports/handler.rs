//! The user's own business logic, run once an event's contact is known.

use std::{future::Future, sync::Arc};

use async_trait::async_trait;

use crate::{
    event::{Event, EventType},
    ports::{Contact, Failure},
    processing::RetryPolicy,
};

/// What to do with an event and its contact. Closures over `(Arc<Event>, Option<Contact>)` are
/// handlers too.
///
/// ## Contract
/// * It may run more than once for one event: a crash or a lost lease repeats the attempt.
///   [`Event::idempotency_key`] is the same each time.
/// * It may be dropped at any `await`, when the lease is lost or the attempt takes longer than
///   [`attempt_timeout`](crate::PipelineBuilder::attempt_timeout) (120 s).
/// * A panic counts as a transient failure of this event alone.
///
/// ```
/// use std::{sync::Arc, time::Duration};
///
/// use async_trait::async_trait;
/// use cognigy_core::{
///     Contact, Event, EventHandler, EventType, Failure, RetryPolicy, State, testing::World,
/// };
///
/// struct Mailer;
///
/// #[async_trait]
/// impl EventHandler for Mailer {
///     async fn handle(&self, event: Arc<Event>, contact: Option<Contact>) -> Result<(), Failure> {
///         let Some(contact) = contact else {
///             return Err(Failure::permanent("there is no contact to write to")); // dead-lettered
///         };
///         if event.attempt() == 1 {
///             return Err(Failure::transient("the mail server is busy")); // tried again
///         }
///         println!("{}: a mail to {contact}", event.idempotency_key());
///         Ok(())
///     }
///
///     fn retry_policy(&self, kind: &EventType) -> Option<RetryPolicy> {
///         // The end of a dialog may wait for longer than the rest.
///         (*kind == EventType::DialogEnded)
///             .then(|| RetryPolicy { max_attempts: 20, ..RetryPolicy::default() })
///     }
/// }
///
/// let mut world = World::start(Mailer);
/// world.deliver("e1");
/// world.pass(Duration::from_secs(10));
/// assert_eq!((world.state("e1"), world.attempts("e1").len()), (State::Processed, 2));
/// ```
#[async_trait]
pub trait EventHandler: Send + Sync + 'static {
    /// Handles one event. A transient failure is retried, a permanent one dead-letters the event.
    ///
    /// # Errors
    /// [`Failure::transient`] where the same attempt may succeed later: the worker tries again by the retry policy, and
    /// gives the event up after the last attempt. [`Failure::permanent`] where it will fail in the same way: the event is
    /// dead-lettered at once. The message is stored and sent with the dead letter.
    async fn handle(&self, event: Arc<Event>, contact: Option<Contact>) -> Result<(), Failure>;

    /// How failed attempts at an event of `kind` are retried, where that differs from the pipeline's
    /// policy. It holds for the whole attempt, the look-up of the contact included. Default: as the
    /// pipeline says.
    fn retry_policy(&self, kind: &EventType) -> Option<RetryPolicy> {
        let _ = kind;
        None
    }
}

#[async_trait]
impl<F, Fut> EventHandler for F
where
    F: Fn(Arc<Event>, Option<Contact>) -> Fut + Send + Sync + 'static,
    Fut: Future<Output = Result<(), Failure>> + Send + 'static,
{
    async fn handle(&self, event: Arc<Event>, contact: Option<Contact>) -> Result<(), Failure> {
        self(event, contact).await
    }
}

/// Nothing to do: storing the event and its CRM context is all.
///
/// ```
/// use cognigy_core::{NoHandler, State, testing::World};
///
/// let mut world = World::start(NoHandler);
/// world.deliver("e1");
/// world.pass(std::time::Duration::from_secs(1));
/// let stored = world.find("e1");
/// assert_eq!(stored.state, State::Processed);
/// assert_eq!(stored.contact.unwrap().as_json(), r#"{"name":"Ada"}"#);
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHandler;

#[async_trait]
impl EventHandler for NoHandler {
    async fn handle(&self, _event: Arc<Event>, _contact: Option<Contact>) -> Result<(), Failure> {
        Ok(())
    }
}
