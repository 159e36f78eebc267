//! The API itself: what it is made of, and how a request becomes an answer.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, PoisonError},
};

use bytes::Bytes;
use cognigy_core::{
    Clock, EventId, EventKey, Pipeline, Reply, Silent, SourceName, Stop, Store, StoreError,
    TokioClock,
};
use cognigy_service::{Retention, Service};
use futures_util::{Stream, stream};
use serde::Serialize;
use tokio::task::{AbortHandle, JoinHandle};

use crate::{
    Operator, Parameters, Request,
    audit::Recorder,
    body::Bodies,
    changes::Changes,
    filter::Types,
    find,
    host::{Happening, Host},
    pausing,
    problem::Problem,
    routes::{self, Route},
};

/// What an [`OperatorApi`] is made of. Everything but the store and the pipelines has a default.
#[must_use]
pub struct OperatorApiBuilder {
    store: Arc<dyn Store>,
    pipelines: BTreeMap<SourceName, Pipeline>,
    clock: Arc<dyn Clock>,
    types: Types,
    retention: Retention,
    host: Arc<dyn Host>,
    carries_replays_out: bool,
}

impl OperatorApiBuilder {
    /// Tells the time by `clock`. Default: the service's, or a [`TokioClock`].
    pub fn clock(mut self, clock: impl Clock) -> Self {
        self.clock = Arc::new(clock);
        self
    }

    /// Which types of events there may be: a filter with another one is refused. Default: any.
    pub fn types(mut self, types: Types) -> Self {
        self.types = types;
        self
    }

    /// What `/admin/purges` goes by. Default: the service's, or [`Retention::default`].
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// Asks `host` what only the program knows, and tells it what happens. Default: [`Silent`].
    pub fn host(mut self, host: impl Host) -> Self {
        self.host = Arc::new(host);
        self
    }

    /// Carries out no bulk replays: another process on the store does.
    pub fn without_bulk_replays(mut self) -> Self {
        self.carries_replays_out = false;
        self
    }

    /// Starts the API on the current tokio runtime: from now on the workers of its pipelines do as the store
    /// says about pauses, and bulk replays are carried out, whichever process began them. That ends with
    /// [`shutdown`](OperatorApi::shutdown), or once all clones of the API are dropped.
    ///
    /// # Errors
    ///
    /// The store cannot say which sources are paused.
    pub async fn start(self) -> Result<OperatorApi, StoreError> {
        let carries_replays_out = self.carries_replays_out;
        let api = self.build();
        api.follow_pauses().await?;
        // The tasks have an API of their own, so that they do not keep each other alive.
        let watching = api.clone();
        let watch = tokio::spawn(async move { watching.watch_pauses().await }).abort_handle();
        let (stop, carrying) = (Stop::new(), api.clone());
        let asked = stop.clone();
        let replays = carries_replays_out
            .then(|| tokio::spawn(async move { carrying.carry_out_replays(asked).await }));
        let tasks = Tasks { watch, stop, replays: Mutex::new(replays) };
        Ok(OperatorApi { tasks: Some(Arc::new(tasks)), ..api })
    }

    /// The API alone. That workers do as the store says, and that bulk replays are carried out, is left to the
    /// program: [`follow_pauses`](OperatorApi::follow_pauses), [`watch_pauses`](OperatorApi::watch_pauses) and
    /// [`carry_out_replays`](OperatorApi::carry_out_replays).
    #[must_use]
    pub fn build(self) -> OperatorApi {
        let Self { store, pipelines, clock, types, retention, host, .. } = self;
        let (bodies, changes) = (Bodies::default(), Changes::default());
        let inner = Inner { store, pipelines, clock, types, retention, host, bodies, changes };
        OperatorApi { inner: Arc::new(inner), tasks: None }
    }
}

/// The operator API over a store. Cheap to clone; all clones are one API.
///
/// Each call takes an [`Operator`], so that there is no answer before it is known who asks.
///
/// Where the login is a cookie, a page of another site can have a browser send a request with it. A change for
/// which the browser says that (`Sec-Fetch-Site`) is refused, where the request's
/// [headers](Request::headers) are given. Old browsers do not say it: give the cookie `SameSite=Strict`.
/// `Lax` is not enough, since `GET /webhooks/replay/{event_id}` changes something.
#[derive(Clone)]
pub struct OperatorApi {
    inner: Arc<Inner>,
    /// None where the program has tasks of its own.
    tasks: Option<Arc<Tasks>>,
}

struct Inner {
    store: Arc<dyn Store>,
    pipelines: BTreeMap<SourceName, Pipeline>,
    clock: Arc<dyn Clock>,
    types: Types,
    retention: Retention,
    host: Arc<dyn Host>,
    bodies: Bodies,
    changes: Changes,
}

/// What an API does by itself.
struct Tasks {
    watch: AbortHandle,
    stop: Stop,
    /// None where another process carries bulk replays out, and after the shutdown.
    replays: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.watch.abort();
        // What is run at this moment is run to its end.
        self.stop.stop();
    }
}

impl OperatorApi {
    /// The API over a service, with its pipelines, its clock and its retention. All pipelines have to be over
    /// one store, that of the first: what is listed is what that store holds. Where sources have stores of
    /// their own, make an API for each by [`over`](Self::over).
    pub fn of(service: &Service) -> OperatorApiBuilder {
        let pipelines = service.receivers().map(|receiver| receiver.pipeline().clone());
        let builder = Self::over(Arc::clone(service.pipeline().store()), pipelines);
        let builder = builder.retention(service.retention());
        OperatorApiBuilder { clock: Arc::clone(service.clock()), ..builder }
    }

    /// The API over `store` and the pipelines that run its events.
    pub fn over(
        store: Arc<dyn Store>,
        pipelines: impl IntoIterator<Item = Pipeline>,
    ) -> OperatorApiBuilder {
        let named = |pipeline: Pipeline| (pipeline.source().name().clone(), pipeline);
        OperatorApiBuilder {
            store,
            pipelines: pipelines.into_iter().map(named).collect(),
            clock: Arc::new(TokioClock::new()),
            types: Types::Any,
            retention: Retention::default(),
            host: Arc::new(Silent),
            carries_replays_out: true,
        }
    }

    /// Stops what the API does by itself: pauses are not followed any more, and the bulk replays that this process
    /// carries out are left to others, or to the next start, once the events in hand have been run. Then it waits
    /// for [changes that are under way](Self::changes_end). Call it before the shutdown of the service. Requests are
    /// still answered.
    pub async fn shutdown(&self) {
        self.stop_tasks().await;
        self.changes_end().await;
    }

    /// Waits until no change is under way that an operator has asked for, whether or not its answer is still waited
    /// for: a change that ended with its process would be in no record. A replay takes as long as its handler.
    pub async fn changes_end(&self) {
        self.inner.changes.end().await;
    }

    async fn stop_tasks(&self) {
        let Some(tasks) = &self.tasks else { return };
        tasks.watch.abort();
        tasks.stop.stop();
        let replays = tasks.replays.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(replays) = replays {
            // The task does not panic: each replay is a task of its own.
            let _ = replays.await;
        }
    }

    /// Answers a request whose body has arrived. See [`answer`](Self::answer).
    pub async fn respond(
        &self,
        operator: &Operator,
        request: Request<'_>,
        body: impl Into<Bytes>,
    ) -> Reply {
        let body = Ok::<_, std::convert::Infallible>(body.into());
        self.answer(operator, request, stream::iter([body])).await
    }

    /// Answers a request of an operator, and reads its body as it arrives: within 10 s, up to the longest
    /// length of the [route](crate::routes), and not at all if the head decides.
    ///
    /// Every answer is JSON or a problem document (RFC 9457), and says that it may not be stored.
    pub async fn answer<E>(
        &self,
        operator: &Operator,
        request: Request<'_>,
        body: impl Stream<Item = Result<Bytes, E>>,
    ) -> Reply {
        let reply = match routes::find(request.method, request.path) {
            Ok((route, named)) => {
                let done = self.carry_out(operator, request, route, named, body).await;
                done.unwrap_or_else(|problem| self.told(problem))
            }
            Err(reply) => reply,
        };
        reply.with_header("Cache-Control", "no-store")
    }

    async fn carry_out<E>(
        &self,
        operator: &Operator,
        request: Request<'_>,
        route: &Route,
        named: String,
        body: impl Stream<Item = Result<Bytes, E>>,
    ) -> Result<Reply, Problem> {
        if route.changes() {
            operator.may_change()?;
            if request.is_foreign {
                let detail = "A page of another site asks for this change";
                return Err(Problem::forbidden(detail));
            }
        }
        let parameters = request.parameters(route.query())?;
        let limit = route.longest_body();
        let body = match limit {
            0 => Bytes::new(),
            _ => self.inner.bodies.read(body, request.announced, limit).await?,
        };
        Box::pin(self.perform(operator, route.action, named, parameters, &body)).await
    }

    /// Tells the host why a request could not be answered, if that is not the request's fault.
    fn told(&self, problem: Problem) -> Reply {
        if let Some(error) = problem.error() {
            self.inner.host.happened(&Happening::Failed { error });
        }
        problem.into_reply()
    }

    /// Has the workers of this process do as the store says about pauses.
    ///
    /// # Errors
    ///
    /// The store does not answer: the workers go on as before.
    pub async fn follow_pauses(&self) -> Result<(), StoreError> {
        pausing::follow(self.store(), &self.inner.pipelines, &*self.inner.host).await
    }

    /// Does so again once a second, until it is dropped. For a program that [built](OperatorApiBuilder::build)
    /// the API without starting it.
    pub async fn watch_pauses(&self) {
        pausing::watch(self.store(), &self.inner.pipelines, &*self.inner.host).await;
    }

    /// The key of the event with that id. `?source=` of the parameters names its source. Without that the
    /// plain path's source is searched first, then all others.
    pub(crate) async fn key(
        &self,
        event_id: &str,
        mut parameters: Parameters,
    ) -> Result<EventKey, Problem> {
        let id: EventId = event_id.parse().map_err(|_| no_event())?;
        if let Some(source) = parameters.remove("source") {
            let wrong = |error| Problem::bad_request(&format!("source: {error}"));
            return Ok(EventKey { source: source.parse().map_err(wrong)?, id });
        }
        let plain = EventKey { source: SourceName::default(), id };
        if self.store().find(&plain).await?.is_some() {
            return Ok(plain);
        }
        let names = self.inner.pipelines.keys();
        let others: Vec<_> = names.filter(|name| !name.is_default()).cloned().collect();
        let found = find::among(self.store(), &plain.id, &others).await?;
        match found.as_slice() {
            [] => Err(no_event()),
            [source] => Ok(EventKey { source: source.clone(), ..plain }),
            several => {
                let named = find::listed(several);
                let detail = format!("Several sources have such an event: {named}. Add ?source=");
                Err(Problem::conflict(&detail))
            }
        }
    }

    /// The pipeline that runs events of that source.
    pub(crate) fn pipeline(&self, source: &SourceName) -> Result<&Pipeline, Problem> {
        self.inner.pipelines.get(source).ok_or_else(|| {
            // The source's CRM is not known here.
            let detail =
                format!("The source {source} is not configured, so its events cannot be run");
            Problem::conflict(&detail)
        })
    }

    pub(crate) fn is_configured(&self, source: &SourceName) -> bool {
        self.inner.pipelines.contains_key(source)
    }

    pub(crate) fn sends_dead_letters(&self, source: &SourceName) -> bool {
        self.inner.pipelines.get(source).is_none_or(Pipeline::sends_dead_letters)
    }

    pub(crate) fn store(&self) -> &dyn Store {
        &*self.inner.store
    }

    pub(crate) fn clock(&self) -> &dyn Clock {
        &*self.inner.clock
    }

    pub(crate) fn types(&self) -> Types {
        self.inner.types
    }

    pub(crate) fn retention(&self) -> &Retention {
        &self.inner.retention
    }

    pub(crate) fn host(&self) -> &dyn Host {
        &*self.inner.host
    }

    /// Makes a change to its end, also if the request's connection ends before.
    pub(crate) async fn to_its_end<T: Send + 'static>(
        &self,
        change: impl Future<Output = Result<T, Problem>> + Send + 'static,
    ) -> Result<T, Problem> {
        self.inner.changes.make(change).await
    }

    /// What reads the bodies of requests, for routes that a program adds: those that are waited for count
    /// together.
    #[must_use]
    pub fn bodies(&self) -> &Bodies {
        &self.inner.bodies
    }

    /// What records what an operator does.
    #[must_use]
    pub fn recorder<'a>(&'a self, operator: &'a Operator) -> Recorder<'a> {
        let (store, clock, host) = (self.store(), self.clock(), self.host());
        Recorder { store, clock, host, by: operator.name() }
    }
}

impl fmt::Debug for OperatorApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sources: Vec<_> = self.inner.pipelines.keys().map(SourceName::as_str).collect();
        f.debug_struct("OperatorApi").field("sources", &sources).finish_non_exhaustive()
    }
}

/// There is no such event.
pub(crate) fn no_event() -> Problem {
    Problem::not_found("Event not found in local store")
}

/// A success whose body is `answer`.
pub(crate) fn json(answer: &impl Serialize) -> Result<Reply, Problem> {
    let body = serde_json::to_vec(answer).map_err(|error| {
        let detail = "The answer cannot be written";
        Problem::new(500, "Internal Server Error", detail).because(error)
    })?;
    Ok(Reply::json(200, body))
}

/// The answer to a request whose operator is not known: 403. A program that takes the operator from what its
/// middleware has found out sends it where there is none, and never asks the API.
#[must_use]
pub fn no_operator() -> Reply {
    let detail = "It is not known which operator sends this request: the authentication in front of the \
                  operator API has to say so";
    Problem::forbidden(detail).into_reply().with_header("Cache-Control", "no-store")
}
