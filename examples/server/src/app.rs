//! Wiring: settings become a store, the sources over it, and what the routes need.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use cognigy_core::{DeadLetterSink, EventOrder, Failure, Store, TokioClock};
#[cfg(feature = "postgres")]
use cognigy_store_postgres::{PostgresOptions, PostgresStore};
use cognigy_store_sqlite::{SqliteOptions, SqliteStore};

use crate::{
    http::{AdminToken, BulkReplays, Readiness, TrustedProxies},
    refusals::Refusals,
    settings::{Database, SettingError, Settings},
    sources::Sources,
    telemetry::Telemetry,
};

/// What every route shares.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) sources: Arc<Sources>,
    pub(crate) clock: TokioClock,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) admin: AdminToken,
    pub(crate) readiness: Readiness,
    pub(crate) replays: BulkReplays,
    pub(crate) trusted: TrustedProxies,
    pub(crate) refusals: Arc<Refusals>,
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
    /// Whoever read stdout has left before the end; nobody is there to be told.
    #[error("nobody reads the output")]
    Unread,
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
    /// Opens the store and the clients. `sink` replaces the queues that are set; `order` is what the
    /// store is to keep from now on, if that is for this command to say.
    pub(crate) async fn build(
        settings: &Settings,
        sink: Option<Arc<dyn DeadLetterSink>>,
        order: Option<EventOrder>,
    ) -> Result<Self, StartError> {
        let telemetry = Telemetry::new().map_err(|error| StartError::failed("metrics", &error))?;
        let store = open_store(settings, order).await?;
        let sources = Sources::build(settings, &store, sink.as_ref()).await?;
        Ok(Self {
            store,
            sources: Arc::new(sources),
            clock: TokioClock::new(),
            telemetry: Arc::new(telemetry),
            admin: AdminToken::new(settings.admin_token.as_ref().map(|token| token.as_str())),
            readiness: Readiness::default(),
            replays: BulkReplays(Arc::new(Mutex::new(HashMap::new()))),
            trusted: TrustedProxies::new(&settings.trusted_proxies),
            refusals: Arc::default(),
        })
    }
}

/// Opens the store that is set, to keep `order` from now on, or whatever order it keeps.
pub(crate) async fn open_store(
    settings: &Settings,
    order: Option<EventOrder>,
) -> Result<Arc<dyn Store>, StartError> {
    match &settings.database {
        Database::Sqlite(path) => {
            let options = SqliteOptions { order, ..SqliteOptions::default() };
            let store = SqliteStore::open_with(path, options).await.map_err(|error| {
                StartError::failed(&format!("cannot open {}", path.display()), &error)
            })?;
            Ok(Arc::new(store))
        }
        Database::Postgres(url) => open_postgres(url.as_str(), order).await,
    }
}

#[cfg(feature = "postgres")]
async fn open_postgres(url: &str, order: Option<EventOrder>) -> Result<Arc<dyn Store>, StartError> {
    let options = PostgresOptions { order, ..PostgresOptions::default() };
    // The URL holds a password, so the message names the setting.
    let store = PostgresStore::open_with(url, options)
        .await
        .map_err(|error| StartError::failed("COGNIGY_DATABASE_URL", &error))?;
    Ok(Arc::new(store))
}

#[cfg(not(feature = "postgres"))]
#[allow(clippy::unused_async)]
async fn open_postgres(_: &str, _: Option<EventOrder>) -> Result<Arc<dyn Store>, StartError> {
    Err(StartError::Failed("COGNIGY_DATABASE_URL: this build has no PostgreSQL support".to_owned()))
}

impl From<Failure> for StartError {
    fn from(failure: Failure) -> Self {
        Self::Failed(failure.report())
    }
}
