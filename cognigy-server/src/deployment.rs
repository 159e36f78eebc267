//! What a command works with: the settings, and the adapters that the embedding program brings.

use std::{future::Future, pin::Pin, sync::Arc};

use async_trait::async_trait;
use cognigy_core::{
    BoxError, Contact, CrmClient, DeadLetterSink, Event, EventHandler, EventType, Failure,
    FailureKind, NoHandler, Operation, Origin, RetryPolicy, SourceName, SpanEnd, Stage, Store,
    Tracer,
};
use cognigy_handler_http::ForwardHandler;

use crate::{
    settings::{Database, Settings},
    traces::Traces,
};

/// Makes the handler of a source.
pub(crate) type HandlerOf = dyn Fn(&SourceName) -> Arc<dyn EventHandler> + Send + Sync;

/// Opens the store of the embedding program.
pub(crate) type OpenStore = dyn Fn() -> Pin<Box<dyn Future<Output = Result<Arc<dyn Store>, BoxError>> + Send>>
    + Send
    + Sync;

/// The adapters of the embedding program. Each one that is absent is made from the settings.
#[derive(Clone, Default)]
pub(crate) struct Adapters {
    pub(crate) handler: Option<Arc<HandlerOf>>,
    pub(crate) crm: Option<Arc<dyn CrmClient>>,
    pub(crate) dead_letters: Option<Arc<dyn DeadLetterSink>>,
    pub(crate) store: Option<Arc<OpenStore>>,
}

impl Adapters {
    /// What `source` does with an event, and then `forward`. Without a handler of the program that is the
    /// hand-over alone.
    pub(crate) fn handler_of(
        &self,
        source: &SourceName,
        forward: Option<ForwardHandler>,
        tracer: Option<Arc<dyn Tracer>>,
    ) -> SourceHandler {
        let handler = match &self.handler {
            Some(handler_of) => handler_of(source),
            None => Arc::new(NoHandler),
        };
        SourceHandler { handler, forward, tracer }
    }
}

/// The settings and the adapters of one process.
pub(crate) struct Deployment {
    pub(crate) settings: Settings,
    pub(crate) adapters: Adapters,
    pub(crate) traces: Option<Traces>,
}

impl Deployment {
    /// What follows deliveries and attempts, where traces are set.
    pub(crate) fn tracer(&self) -> Option<Arc<dyn Tracer>> {
        self.traces.as_ref().map(|traces| Arc::clone(&traces.tracer))
    }

    /// The database that is set. None where the embedding program brings its own store.
    pub(crate) fn database(&self) -> Option<&Database> {
        Some(&self.settings.database).filter(|_| self.adapters.store.is_none())
    }

    /// What kind of store it is, for metrics.
    pub(crate) fn store_kind(&self) -> &'static str {
        match self.database() {
            Some(Database::Sqlite(_)) => "sqlite",
            Some(Database::Postgres(_)) => "postgres",
            None => "other",
        }
    }
}

/// What a source does with an event: the program's handler, and then the hand-over where one is set.
pub(crate) struct SourceHandler {
    handler: Arc<dyn EventHandler>,
    forward: Option<ForwardHandler>,
    tracer: Option<Arc<dyn Tracer>>,
}

#[async_trait]
impl EventHandler for SourceHandler {
    async fn handle(&self, event: Arc<Event>, contact: Option<Contact>) -> Result<(), Failure> {
        let Some(forward) = &self.forward else { return self.handler.handle(event, contact).await };
        // What the program's own handler refuses is not handed on.
        self.handler.handle(Arc::clone(&event), contact.clone()).await?;
        let span = match (&self.tracer, event.traceparent()) {
            (Some(tracer), Some(handler)) if forward.takes(event.kind()) => {
                Some(tracer.begin(Operation::Forward, Origin::Child(handler), None))
            }
            _ => None,
        };
        let Some(span) = span else {
            let handed_over = forward.handle(event, contact).await;
            return handed_over.map_err(|failure| failure.at_stage(Stage::Forward));
        };
        let event = Event::clone(&event).with_traceparent(span.traceparent());
        let outcome = forward.handle(Arc::new(event), contact).await;
        span.end(match &outcome {
            Ok(()) => SpanEnd::Done("forwarded"),
            Err(failure) if failure.kind() == FailureKind::Permanent => {
                SpanEnd::Failed("permanent")
            }
            Err(_) => SpanEnd::Failed("transient"),
        });
        outcome.map_err(|failure| failure.at_stage(Stage::Forward))
    }

    fn retry_policy(&self, kind: &EventType) -> Option<RetryPolicy> {
        self.handler.retry_policy(kind)
    }
}
