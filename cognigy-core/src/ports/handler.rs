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
#[async_trait]
pub trait EventHandler: Send + Sync + 'static {
    /// Handles one event. A transient failure is retried, a permanent one dead-letters the event.
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
#[derive(Debug, Clone, Copy, Default)]
pub struct NoHandler;

#[async_trait]
impl EventHandler for NoHandler {
    async fn handle(&self, _event: Arc<Event>, _contact: Option<Contact>) -> Result<(), Failure> {
        Ok(())
    }
}
