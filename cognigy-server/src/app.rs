//! Wiring: a deployment becomes a store, the pipelines over it, and counters.

use std::sync::Arc;

use cognigy_core::{EventOrder, Store, TokioClock};
use cognigy_operator::OperatorApi;
use cognigy_service::{Admission, admission::TrustedProxies};

use crate::{
    deployment::Deployment,
    error::StartError,
    host::Counting,
    http::MAX_CONNECTIONS,
    pipelines::Pipelines,
    purging,
    settings::Settings,
    store::{self, Access},
    telemetry::{Refusals, Telemetry},
};

/// What runs events: shared by the routes of a server, and made by the commands that run events.
#[derive(Clone)]
pub(crate) struct App {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) pipelines: Arc<Pipelines>,
    pub(crate) clock: TokioClock,
    pub(crate) telemetry: Arc<Telemetry>,
    pub(crate) trusted: TrustedProxies,
    pub(crate) refusals: Arc<Refusals>,
    pub(crate) settings: Arc<Settings>,
    /// The operator API over the store.
    pub(crate) api: OperatorApi,
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
        let telemetry = Telemetry::new(deployment.store_kind());
        let telemetry = telemetry.map_err(|error| StartError::failed("metrics", &error))?;
        if let Some(traces) = &deployment.traces {
            let metrics = |error| StartError::failed("metrics", &error);
            telemetry.register(traces.spans.clone()).map_err(metrics)?;
        }
        let store = store::open(deployment, access, order).await?;
        let refusals = Arc::default();
        let (clock, trusted) = (TokioClock::new(), TrustedProxies::new(&settings.trusted_proxies));
        let admission = Admission::new(settings.all().count())
            .clock(clock)
            .trusted_proxies(trusted.clone())
            .max_unfinished(MAX_CONNECTIONS);
        let pipelines = Pipelines::build(deployment, &store, &refusals, &admission).await?;
        let pipelines = Arc::new(pipelines);
        let sources = pipelines.iter().map(|source| source.pipeline.clone());
        let api = OperatorApi::over(Arc::clone(&store), sources)
            .clock(clock)
            .types(settings.types())
            .retention(purging::retention(settings))
            .host(Counting(Arc::clone(&pipelines)))
            .build();
        Ok(Self {
            store,
            pipelines,
            clock,
            telemetry: Arc::new(telemetry),
            trusted,
            refusals,
            settings: Arc::new(settings.clone()),
            api,
        })
    }
}
