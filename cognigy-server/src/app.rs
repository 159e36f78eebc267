//! Wiring: a deployment becomes a store, the pipelines over it, and what the routes need.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use cognigy_core::{EventOrder, Store, TokioClock};

use crate::{
    deployment::Deployment,
    error::StartError,
    http::{AdminToken, BulkReplays, Readiness, TrustedProxies},
    pipelines::Pipelines,
    refusals::Refusals,
    store::{self, Access},
    telemetry::Telemetry,
};

/// What every route shares.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) pipelines: Arc<Pipelines>,
    pub(crate) clock: TokioClock,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) admin: AdminToken,
    pub(crate) readiness: Readiness,
    pub(crate) replays: BulkReplays,
    pub(crate) trusted: TrustedProxies,
    pub(crate) refusals: Arc<Refusals>,
}

impl App {
    /// Opens the store and the clients. The store keeps `order` from now on, if the command has a say
    /// in that.
    pub(crate) async fn build(
        deployment: &Deployment,
        access: Access,
        order: Option<EventOrder>,
    ) -> Result<Self, StartError> {
        let settings = &deployment.settings;
        let telemetry = Telemetry::new().map_err(|error| StartError::failed("metrics", &error))?;
        let store = store::open(deployment, access, order).await?;
        let pipelines = Pipelines::build(deployment, &store).await?;
        Ok(Self {
            store,
            pipelines: Arc::new(pipelines),
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
