//! Wiring: settings become a pipeline, its adapters and what the routes need.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use cognigy_core::{
    DeadLetterSink, Failure, KeepInStore, Pipeline, Secret, SignatureVerifier, Store, TokioClock,
};
use cognigy_crm_http::{CoalescingCrm, HttpCrm};
use cognigy_store_sqlite::SqliteStore;

use crate::{
    http::{AdminToken, BodyBudget, BulkReplays, Readiness},
    settings::{Database, SettingError, Settings},
    telemetry::Telemetry,
};

/// What every route shares.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) pipeline: Pipeline,
    pub(crate) clock: TokioClock,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) admin: AdminToken,
    pub(crate) bodies: BodyBudget,
    pub(crate) max_body_bytes: usize,
    pub(crate) readiness: Readiness,
    pub(crate) replays: BulkReplays,
    pub(crate) crm: HttpCrm,
}

/// Why a command could not start.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StartError {
    /// A setting is wrong: wrong use, not a failure.
    #[error("{0}")]
    Setting(#[from] SettingError),
    /// The command was asked for in a way that makes no sense.
    #[error("{0}")]
    Usage(String),
    /// Something that was set right does not work.
    #[error("{0}")]
    Failed(String),
}

impl StartError {
    pub(crate) fn failed(what: &str, error: &dyn std::error::Error) -> Self {
        Self::Failed(format!("{what}: {}", chain(error)))
    }
}

/// An error and its causes in one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

impl App {
    /// Opens the store and the clients. `sink` replaces the one that is set.
    pub(crate) async fn build(
        settings: &Settings,
        sink: Option<Arc<dyn DeadLetterSink>>,
    ) -> Result<Self, StartError> {
        let telemetry =
            Arc::new(Telemetry::new().map_err(|error| StartError::failed("metrics", &error))?);
        let sink = match sink {
            Some(sink) => sink,
            None => dead_letter_sink(settings).await?,
        };
        let crm = crm(settings)?;
        let look_ups = CoalescingCrm::new(crm.clone()).remembering(settings.crm.cache);
        telemetry
            .count_spared(look_ups.clone())
            .map_err(|error| StartError::failed("metrics", &error))?;
        let pipeline = Pipeline::builder(verifier(settings)?)
            .store(open_store(settings).await?)
            .crm(look_ups)
            .dead_letters(sink)
            .observer(Arc::clone(&telemetry))
            .retry(settings.retry)
            .lease(settings.lease)
            .max_body_bytes(settings.max_body_bytes)
            .build();
        Ok(Self {
            pipeline,
            clock: TokioClock::new(),
            telemetry,
            admin: AdminToken::new(settings.admin_token.as_ref().map(|token| token.as_str())),
            bodies: BodyBudget::for_bodies_of(settings.max_body_bytes),
            max_body_bytes: settings.max_body_bytes,
            readiness: Readiness::default(),
            replays: BulkReplays(Arc::new(Mutex::new(HashMap::new()))),
            crm,
        })
    }
}

/// The verifier that is set. Commands that take nothing in need none; they get one nobody can
/// sign for.
fn verifier(settings: &Settings) -> Result<SignatureVerifier, StartError> {
    if let Some(webhook) = &settings.webhook {
        return Ok(webhook.verifier());
    }
    let unguessable = format!("{:?}", (std::time::SystemTime::now(), std::process::id()));
    Secret::new(unguessable)
        .map(|secret| SignatureVerifier::new(&secret))
        .map_err(|error| StartError::failed("signature", &error))
}

/// Opens the store that is set.
pub(crate) async fn open_store(settings: &Settings) -> Result<Arc<dyn Store>, StartError> {
    match &settings.database {
        Database::Sqlite(path) => {
            let store = SqliteStore::open(path).await.map_err(|error| {
                StartError::failed(&format!("cannot open {}", path.display()), &error)
            })?;
            Ok(Arc::new(store))
        }
        Database::Postgres(url) => open_postgres(url.as_str()).await,
    }
}

#[cfg(feature = "postgres")]
async fn open_postgres(url: &str) -> Result<Arc<dyn Store>, StartError> {
    // The URL holds a password, so the message names the setting.
    let store = cognigy_store_postgres::PostgresStore::open(url)
        .await
        .map_err(|error| StartError::failed("COGNIGY_DATABASE_URL", &error))?;
    Ok(Arc::new(store))
}

#[cfg(not(feature = "postgres"))]
#[allow(clippy::unused_async)]
async fn open_postgres(_: &str) -> Result<Arc<dyn Store>, StartError> {
    Err(StartError::Failed("COGNIGY_DATABASE_URL: this build has no PostgreSQL support".to_owned()))
}

fn crm(settings: &Settings) -> Result<HttpCrm, StartError> {
    let crm = &settings.crm;
    let mut builder = HttpCrm::builder(&crm.base_url).timeout(crm.timeout).not_found(crm.not_found);
    if let Some(token) = &crm.token {
        builder = builder.bearer_token(token.as_str());
    }
    builder.build().map_err(|error| StartError::failed("CRM", &error))
}

#[cfg(feature = "sqs")]
async fn dead_letter_sink(settings: &Settings) -> Result<Arc<dyn DeadLetterSink>, StartError> {
    let Some(queue_url) = &settings.sqs_dlq_url else { return Ok(Arc::new(KeepInStore)) };
    let sink = cognigy_sink_sqs::SqsSink::connect(queue_url)
        .await
        .map_err(|error| StartError::failed("SQS_DLQ_URL", &error))?;
    // Events can be taken in without the queue; dead letters wait in the outbox until it is there.
    if let Err(failure) = sink.check().await {
        tracing::error!(error = failure.report(), "the dead-letter queue does not answer");
    }
    Ok(Arc::new(sink))
}

#[cfg(not(feature = "sqs"))]
#[allow(clippy::unused_async)]
async fn dead_letter_sink(settings: &Settings) -> Result<Arc<dyn DeadLetterSink>, StartError> {
    match settings.sqs_dlq_url {
        Some(_) => Err(StartError::Failed("SQS_DLQ_URL: this build has no SQS support".to_owned())),
        None => Ok(Arc::new(KeepInStore)),
    }
}

impl From<Failure> for StartError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure.report())
    }
}
