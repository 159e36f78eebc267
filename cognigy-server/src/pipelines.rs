//! The pipelines of this deployment, one for each source. Each has limits and counters of its own over
//! the one store, and in `serve` a worker, so that a slow source does not hold up another.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use async_trait::async_trait;
use cognigy_core::{
    Authenticator, BoxError, CrmClient, DEFAULT_ATTEMPT_TIMEOUT, DeadLetterSink, KeepInStore,
    Pipeline, Request, Source, SourceName, Store,
};
use cognigy_crm_http::{CoalescingCrm, HttpCrm, StoredToken, TemplateCrm, TokenStore};
use cognigy_handler_http::ForwardHandler;
use cognigy_service::{Admission, Receiver};
#[cfg(feature = "sqs")]
use cognigy_sink_sqs::{SqsOptions, SqsSink, SqsSource};

use crate::{
    deployment::Deployment,
    error::StartError,
    http::MAX_CONNECTIONS,
    settings::{Credential, ForwardSettings, Settings, SourceSettings, Webhook},
    telemetry::{Refusals, SourceTelemetry},
};

/// A source at work.
pub(crate) struct SourcePipeline {
    pub(crate) pipeline: Pipeline,
    pub(crate) telemetry: Arc<SourceTelemetry>,
    /// The CRM that is set. None where the embedding program brings its own.
    pub(crate) http_crm: Option<HttpCrm>,
    /// Attempts in flight at once.
    pub(crate) concurrency: usize,
    /// The path at which it takes deliveries. None without a secret.
    pub(crate) path: Option<String>,
    /// Whether a credential stands in the path or in the query, and whether it ends the path.
    pub(crate) looks_at_target: bool,
    pub(crate) token_in_path: bool,
    /// What else a refused delivery may have been made for, by name.
    alternatives: Vec<(String, Arc<dyn Authenticator>)>,
    /// Takes its deliveries in.
    pub(crate) receiver: Receiver,
}

/// The pipelines of all sources, by name.
pub(crate) struct Pipelines(BTreeMap<SourceName, Arc<SourcePipeline>>);

impl Pipelines {
    /// Makes the pipeline of every source that is set, over `store`.
    pub(crate) async fn build(
        deployment: &Deployment,
        store: &Arc<dyn Store>,
        refusals: &Arc<Refusals>,
        admission: &Admission,
    ) -> Result<Self, StartError> {
        let Deployment { settings, adapters, .. } = deployment;
        let mut pipelines = BTreeMap::new();
        for source in settings.all() {
            let sink = match &adapters.dead_letters {
                Some(sink) => Arc::clone(sink),
                None => dead_letter_sink(source, settings.proxy_from_env).await?,
            };
            let telemetry = SourceTelemetry::new(&source.name, Arc::clone(refusals));
            let telemetry = telemetry.map_err(|error| StartError::failed("metrics", &error))?;
            let telemetry = Arc::new(telemetry);
            let built =
                SourcePipeline::build(source, deployment, admission, store, sink, telemetry)?;
            pipelines.insert(source.name.clone(), Arc::new(built));
        }
        Ok(Self(pipelines))
    }

    /// The pipeline of the source with that name, if the source is configured.
    pub(crate) fn get(&self, name: &SourceName) -> Option<&Arc<SourcePipeline>> {
        self.0.get(name)
    }

    /// The pipelines in the order of their sources' names.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<SourcePipeline>> + Clone {
        self.0.values()
    }

    /// The core's pipelines.
    #[cfg(feature = "sqs")]
    pub(crate) fn all(&self) -> Vec<Pipeline> {
        self.iter().map(|source| source.pipeline.clone()).collect()
    }
}

impl SourcePipeline {
    fn build(
        source: &SourceSettings,
        deployment: &Deployment,
        admission: &Admission,
        store: &Arc<dyn Store>,
        sink: Arc<dyn DeadLetterSink>,
        telemetry: Arc<SourceTelemetry>,
    ) -> Result<Self, StartError> {
        let Deployment { settings, adapters, .. } = deployment;
        let metrics = |error| StartError::failed("metrics", &error);
        let mut with_tokens: Option<TemplateCrm> = None;
        let (crm, http_crm): (Arc<dyn CrmClient>, _) = match &adapters.crm {
            Some(crm) => (Arc::clone(crm), None),
            None => match &source.crm.product {
                Some(product) => {
                    let tokens = Arc::new(StoredTokens(Arc::clone(store)));
                    let crm = product.client(settings.proxy_from_env, tokens);
                    let what = || format!("CRM{}", of(source));
                    let crm = crm.map_err(|error| StartError::failed(&what(), &error))?;
                    with_tokens = Some(crm.clone());
                    (Arc::new(crm), None)
                }
                None => {
                    let crm = crm(source, settings.proxy_from_env)?;
                    (Arc::new(crm.clone()), Some(crm))
                }
            },
        };
        let requests = move || with_tokens.as_ref().and_then(TemplateCrm::token_requests);
        telemetry.count_tokens(move || requests().unwrap_or_default()).map_err(metrics)?;
        telemetry.previous_secret(source.webhook.as_ref().is_some_and(|it| it.previous.is_some()));
        let look_ups = CoalescingCrm::new(crm).remembering(source.crm.cache);
        telemetry.count_spared(look_ups.clone()).map_err(metrics)?;
        let forward = source.forward.as_ref();
        let forward = forward.map(|it| forward_handler(source, it, settings.proxy_from_env));
        let tracer = deployment.tracer();
        let handler = adapters.handler_of(&source.name, forward.transpose()?, tracer.clone());
        let mut pipeline = Pipeline::builder(core_source(source))
            .store(Arc::clone(store))
            .crm(look_ups)
            .handler(handler)
            .on_ambiguous(source.crm.on_ambiguous)
            .breaker(source.crm.breaker)
            .dead_letters(sink)
            .observer(Arc::clone(&telemetry))
            .retry(source.retry)
            .lease(settings.lease)
            .attempt_timeout(attempt_timeout(source))
            .max_lost_leases(settings.max_lost_leases)
            .quarantine_limits(source.quarantine)
            .max_body_bytes(source.max_body_bytes);
        if let Some(tracer) = tracer {
            pipeline = pipeline.tracer(tracer);
        }
        let pipeline = pipeline.build();
        let pipeline = pipeline
            .map_err(|error| StartError::failed(&format!("source {}", source.name), &error))?;
        let limit = source.max_in_flight;
        let receiver = Receiver::new(pipeline.clone(), admission, limit.unwrap_or(usize::MAX));
        let limit = limit.unwrap_or(MAX_CONNECTIONS);
        telemetry.watch_slots(receiver.watch_in_flight(), limit).map_err(metrics)?;
        Ok(Self {
            pipeline,
            telemetry,
            http_crm,
            concurrency: source.crm.concurrency,
            path: source.webhook.is_some().then(|| source.path()),
            looks_at_target: source.webhook.as_ref().is_some_and(Webhook::looks_at_target),
            token_in_path: source.webhook.as_ref().is_some_and(Webhook::is_in_path),
            alternatives: alternatives(source, settings),
            receiver,
        })
    }
}

impl SourcePipeline {
    /// The setting or the source for which a delivery that was refused would have been right, if there is
    /// one. For operators only. It computes some thirty signatures, so that it must not be done for each
    /// refused delivery of a flood.
    pub(crate) fn made_for(&self, refused: &Request<'_>) -> Option<&str> {
        let fits = |(_, one): &&(String, Arc<dyn Authenticator>)| one.authenticate(refused).is_ok();
        self.alternatives.iter().find(fits).map(|(name, _)| name.as_str())
    }
}

/// What a delivery that `source` refuses may have been made for: another scheme with the same secret, or
/// another source.
fn alternatives(
    source: &SourceSettings,
    settings: &Settings,
) -> Vec<(String, Arc<dyn Authenticator>)> {
    let mut found = source.webhook.as_ref().map(Webhook::alternatives).unwrap_or_default();
    for other in settings.all().filter(|other| other.name != source.name) {
        if let Some(webhook) = &other.webhook
            && !matches!(webhook.credential, Credential::Address)
        {
            found.push((format!("the source {}", other.name), webhook.authenticator()));
        }
    }
    found
}

/// Keeps the tokens of OAuth in the store, for all processes that share it.
struct StoredTokens(Arc<dyn Store>);

#[async_trait]
impl TokenStore for StoredTokens {
    async fn load(&self, name: &str) -> Result<Option<StoredToken>, BoxError> {
        Ok(self.0.shared_value(&token_name(name)).await?.map(StoredToken::new))
    }

    async fn replace(
        &self,
        name: &str,
        expected: Option<&StoredToken>,
        new: &StoredToken,
    ) -> Result<bool, BoxError> {
        let expected = expected.map(StoredToken::expose);
        let new = Some(new.expose());
        Ok(self.0.replace_shared_value(&token_name(name), expected, new).await?)
    }
}

/// The name of a token among the shared values.
fn token_name(name: &str) -> String {
    format!("crm-token/{name}")
}

/// The source as it is set. Commands that take no deliveries need no secret.
fn core_source(source: &SourceSettings) -> Source {
    let (name, format) = (source.name.clone(), Arc::clone(&source.bodies.format));
    let built = match &source.webhook {
        Some(webhook) => Source::new(name, webhook.authenticator(), format),
        None => Source::without_intake(name, format),
    };
    built.trust_traceparent(source.trusts_traceparent)
}

fn crm(source: &SourceSettings, proxy_from_env: bool) -> Result<HttpCrm, StartError> {
    let crm = &source.crm;
    let mut builder = HttpCrm::builder(&crm.base_url).timeout(crm.timeout).not_found(crm.not_found);
    if let Some(token) = &crm.token {
        builder = builder.bearer_token(token.as_str());
    }
    if proxy_from_env {
        builder = builder.proxy_from_env();
    }
    let what = || format!("CRM{}", of(source));
    builder.build().map_err(|error| StartError::failed(&what(), &error))
}

fn forward_handler(
    source: &SourceSettings,
    settings: &ForwardSettings,
    proxy_from_env: bool,
) -> Result<ForwardHandler, StartError> {
    let mut builder = ForwardHandler::builder(settings.url.as_str())
        .secret(settings.secret.as_str())
        .timeout(settings.timeout);
    if let Some(types) = &settings.types {
        builder = builder.types(types.iter().cloned());
    }
    if proxy_from_env {
        builder = builder.proxy_from_env();
    }
    builder.build().map_err(|error| StartError::failed(&format!("forward{}", of(source)), &error))
}

/// How long an attempt may take: both requests in full, and some room.
fn attempt_timeout(source: &SourceSettings) -> Duration {
    let forward = source.forward.as_ref().map_or(Duration::ZERO, |forward| forward.timeout);
    DEFAULT_ATTEMPT_TIMEOUT.max((source.crm.timeout + forward).saturating_mul(2))
}

/// The source that an error message is about.
fn of(source: &SourceSettings) -> String {
    if source.name.is_default() { String::new() } else { format!(" of source {}", source.name) }
}

#[cfg(feature = "sqs")]
async fn dead_letter_sink(
    source: &SourceSettings,
    proxy_from_env: bool,
) -> Result<Arc<dyn DeadLetterSink>, StartError> {
    let Some(queue_url) = &source.sqs_dlq_url else { return Ok(Arc::new(KeepInStore)) };
    let options = SqsOptions::default().proxy_from_env(proxy_from_env);
    let sink = SqsSink::connect_with(queue_url, options)
        .await
        .map_err(|error| source.wrong("sqs_dlq_url", &error.to_string()))?;
    // The server starts and takes events in even if the queue does not answer: until it does, dead
    // letters wait in the store's outbox. The check runs in a task of its own, so that a slow queue
    // delays no other source.
    let (asked, name) = (sink.clone(), source.name.clone());
    tokio::spawn(async move {
        if let Err(failure) = asked.check().await {
            let (error, source) = (failure.report(), name.as_str());
            tracing::error!(source, error, "the dead-letter queue does not answer");
        }
    });
    Ok(Arc::new(sink))
}

/// The queue that a source's dead letters are taken back from.
#[cfg(feature = "sqs")]
pub(crate) async fn dead_letter_source(
    source: &SourceSettings,
    proxy_from_env: bool,
) -> Result<SqsSource, StartError> {
    let queue_url = source.sqs_dlq_url.as_ref().ok_or_else(|| source.missing("sqs_dlq_url"))?;
    let options = SqsOptions::default().proxy_from_env(proxy_from_env);
    let queue = SqsSource::connect_with(queue_url, options).await;
    Ok(queue.map_err(|error| source.wrong("sqs_dlq_url", &error.to_string()))?)
}

/// A build without SQS has no queue: dead letters stay in the store.
#[cfg(not(feature = "sqs"))]
#[allow(clippy::unused_async)]
async fn dead_letter_sink(
    _: &SourceSettings,
    _: bool,
) -> Result<Arc<dyn DeadLetterSink>, StartError> {
    Ok(Arc::new(KeepInStore))
}
