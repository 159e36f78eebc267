//! The sources of this deployment. Each has a pipeline, limits and counters of its own over the one
//! store, and in `serve` a worker, so that nothing that is slow at one holds up another.

use std::{collections::BTreeMap, sync::Arc};

use cognigy_core::{CognigyFormat, DeadLetterSink, KeepInStore, Pipeline, SourceName, Store};
use cognigy_crm_http::{CoalescingCrm, HttpCrm};
#[cfg(feature = "sqs")]
use cognigy_sink_sqs::{SqsOptions, SqsSink, SqsSource};

use crate::{
    app::StartError,
    http::{Bodies, Budget, Shares},
    settings::{Settings, SourceSettings},
    telemetry::SourceTelemetry,
};

/// A source at work.
pub(crate) struct Source {
    pub(crate) pipeline: Pipeline,
    pub(crate) telemetry: Arc<SourceTelemetry>,
    pub(crate) crm: HttpCrm,
    /// Attempts in flight at once.
    pub(crate) concurrency: usize,
    /// Where it takes deliveries; nowhere without a secret.
    pub(crate) path: Option<String>,
    /// Takes in its bodies.
    pub(crate) bodies: Bodies,
    /// Deliveries whose bodies are there and that have no answer yet.
    pub(crate) places: Budget,
}

/// All of them, by name.
pub(crate) struct Sources(BTreeMap<SourceName, Arc<Source>>);

impl Sources {
    /// Makes every source that is set, over `store`. `sink` replaces the queues that are set.
    pub(crate) async fn build(
        settings: &Settings,
        store: &Arc<dyn Store>,
        sink: Option<&Arc<dyn DeadLetterSink>>,
    ) -> Result<Self, StartError> {
        let count = settings.all().count();
        let unfinished = crate::http::unfinished_requests();
        let mut sources = BTreeMap::new();
        for source in settings.all() {
            let sink = match sink {
                Some(sink) => Arc::clone(sink),
                None => dead_letter_sink(source, settings.proxy_from_env).await?,
            };
            let built =
                Source::build(source, settings, (count, &unfinished), Arc::clone(store), sink)?;
            sources.insert(source.name.clone(), Arc::new(built));
        }
        Ok(Self(sources))
    }

    /// The source of that name, if it is configured.
    pub(crate) fn get(&self, name: &SourceName) -> Option<&Arc<Source>> {
        self.0.get(name)
    }

    /// Each of them.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Source>> {
        self.0.values()
    }

    /// All pipelines.
    #[cfg(feature = "sqs")]
    pub(crate) fn pipelines(&self) -> Vec<Pipeline> {
        self.iter().map(|source| source.pipeline.clone()).collect()
    }
}

impl Source {
    fn build(
        source: &SourceSettings,
        settings: &Settings,
        (count, unfinished): (usize, &Arc<Shares>),
        store: Arc<dyn Store>,
        sink: Arc<dyn DeadLetterSink>,
    ) -> Result<Self, StartError> {
        let metrics = |error| StartError::failed("metrics", &error);
        let telemetry = Arc::new(SourceTelemetry::new(&source.name).map_err(metrics)?);
        let crm = crm(source, settings.proxy_from_env)?;
        let look_ups = CoalescingCrm::new(crm.clone()).remembering(source.crm.cache);
        telemetry.count_spared(look_ups.clone()).map_err(metrics)?;
        let pipeline = Pipeline::builder(core_source(source))
            .store(store)
            .crm(look_ups)
            .dead_letters(sink)
            .observer(Arc::clone(&telemetry))
            .retry(source.retry)
            .lease(settings.lease)
            .max_lost_leases(settings.max_lost_leases)
            .quarantine_limits(source.quarantine)
            .max_body_bytes(source.max_body_bytes)
            .build();
        Ok(Self {
            pipeline,
            telemetry,
            crm,
            concurrency: source.crm.concurrency,
            path: source.webhook.is_some().then(|| source.path()),
            bodies: Bodies::new(source.max_body_bytes, count, unfinished),
            places: Budget::of(source.max_in_flight.unwrap_or(usize::MAX)),
        })
    }
}

/// The source as it is set. Commands that take no deliveries need no secret.
fn core_source(source: &SourceSettings) -> cognigy_core::Source {
    let name = source.name.clone();
    match &source.webhook {
        Some(webhook) => cognigy_core::Source::new(name, webhook.verifier(), CognigyFormat),
        None => cognigy_core::Source::without_intake(name, CognigyFormat),
    }
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

/// Whose a thing is, for error messages.
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
    // Events can be taken in without the queue; dead letters wait in the outbox until it is there.
    // Nor need the other sources wait until it has answered.
    let (asked, name) = (sink.clone(), source.name.clone());
    tokio::spawn(async move {
        if let Err(failure) = asked.check().await {
            let (error, source) = (failure.report(), name.as_str());
            tracing::error!(source, error, "the dead-letter queue does not answer");
        }
    });
    Ok(Arc::new(sink))
}

/// The queue that a source's dead letters are in, to take them back from.
#[cfg(feature = "sqs")]
pub(crate) async fn dead_letter_source(
    source: &SourceSettings,
    settings: &Settings,
) -> Result<SqsSource, StartError> {
    let queue_url = source.sqs_dlq_url.as_ref().ok_or_else(|| source.missing("sqs_dlq_url"))?;
    let options = SqsOptions::default().proxy_from_env(settings.proxy_from_env);
    let queue = SqsSource::connect_with(queue_url, options).await;
    Ok(queue.map_err(|error| source.wrong("sqs_dlq_url", &error.to_string()))?)
}

/// A build without SQS reads no queue's URL.
#[cfg(not(feature = "sqs"))]
#[allow(clippy::unused_async)]
async fn dead_letter_sink(
    _: &SourceSettings,
    _: bool,
) -> Result<Arc<dyn DeadLetterSink>, StartError> {
    Ok(Arc::new(KeepInStore))
}
