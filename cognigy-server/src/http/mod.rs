//! The routes of the contract's HTTP table, and the listeners that serve them.

mod access;
mod connection;
mod connections;
mod edge;
mod guard;
mod listen;
mod open_connections;
mod openapi;
mod operator;
mod parts;
mod paths;
mod probes;
mod redrives;
mod request;
mod upgrade;
mod webhook;

use std::sync::Arc;

use actix_web::{
    HttpResponse, ResponseError,
    http::{ConnectionType, StatusCode, header},
    web,
};
use cognigy_actix::response as answer;
use cognigy_core::{Reply, StoreError};
use cognigy_operator::{Bodies, Happening, Problem};
use cognigy_service::{Readiness, Workers, method_not_allowed};

pub(crate) use listen::{Listening, Size, bind, serve};

use crate::{
    app::App,
    console::{self, Console},
    pipelines::Pipelines,
    settings::Settings,
    telemetry::Hints,
};
pub(crate) use access::{Refused, Tokens, bearer_of};
pub(crate) use operator::{not_found, parameters};
pub(crate) use request::WholeBody;

/// Connections held at once; the next ones wait in the kernel's backlog until one is closed. At
/// some 35 KiB each, idle or not, a flood of them costs 150 MB and not the machine.
pub(crate) const MAX_CONNECTIONS: usize = 4096;

/// What the routes of all listeners share: the app, and what only requests need.
#[derive(Clone)]
pub(crate) struct Service {
    pub(crate) app: App,
    pub(crate) tokens: Tokens,
    readiness: Readiness,
    pub(crate) workers: Workers,
    hints: Arc<Hints>,
    /// The bodies of those who sign in.
    strangers: Bodies,
    pub(crate) console: Arc<Console>,
}

impl Service {
    pub(crate) fn new(app: App, settings: &Settings) -> Self {
        let tokens = Tokens::new(&settings.operators);
        let readiness = Readiness::default();
        let console = Arc::new(Console::new(settings));
        let (workers, strangers) = (Workers::default(), Bodies::default());
        Self { app, tokens, readiness, workers, hints: Arc::default(), strangers, console }
    }

    /// The process is stopping: it is not ready any more.
    pub(crate) fn stop(&self) {
        self.readiness.stop();
    }

    /// Whether the process is stopping.
    pub(crate) fn is_stopping(&self) -> bool {
        self.readiness.is_stopping()
    }
}

/// What a listener serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Routes {
    /// Deliveries and the operators' routes.
    All,
    /// Deliveries only: operators have a listener of their own.
    Deliveries,
    /// The operators' routes only.
    Operators,
}

impl Routes {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::All | Self::Deliveries => "public",
            Self::Operators => "operators",
        }
    }
}

/// Adds routes to an actix-web application. Every listener has the probes.
fn configure(config: &mut web::ServiceConfig, routes: Routes, pipelines: &Pipelines) {
    if routes != Routes::Operators {
        deliveries(config, pipelines);
    }
    if routes != Routes::Deliveries {
        operators(config);
        console::configure(config, resource);
    }
    config
        .service(
            resource("/healthz", "GET, HEAD")
                .route(web::get().to(probes::healthz))
                .route(web::head().to(probes::healthz)),
        )
        .service(
            resource("/readyz", "GET, HEAD")
                .route(web::get().to(probes::readyz))
                .route(web::head().to(probes::readyz)),
        )
        .default_service(web::to(unknown_path));
}

/// Each configured source has a path.
fn deliveries(config: &mut web::ServiceConfig, pipelines: &Pipelines) {
    for source in pipelines.iter() {
        if let Some(path) = &source.path {
            let mut paths = vec![path.clone()];
            if source.token_in_path {
                paths.push(format!("{path}/{{token}}"));
            }
            for path in paths {
                let shakes_hands = source.pipeline.source().shakes_hands();
                let allowed = if shakes_hands { "POST, OPTIONS" } else { "POST" };
                let mut resource = resource(&path, allowed)
                    .app_data(web::Data::from(Arc::clone(source)))
                    .route(web::post().to(webhook::receive));
                if shakes_hands {
                    let options = web::method(actix_web::http::Method::OPTIONS);
                    resource = resource.route(options.to(webhook::shake_hands));
                }
                config.service(resource);
            }
        }
    }
}

fn operators(config: &mut web::ServiceConfig) {
    config
        .service(
            resource("/webhooks/replay/{event_id:.+}", "GET, POST")
                .route(web::post().to(operator::change))
                .route(web::get().to(operator::change)),
        )
        .service(resource("/admin/events", "GET").route(web::get().to(operator::read)))
        .service(
            resource("/admin/events/{event_id:.+}", "GET").route(web::get().to(operator::read)),
        )
        .service(
            resource("/admin/replays", "GET, POST")
                .route(web::get().to(operator::read))
                .route(web::post().to(operator::change)),
        )
        .service(
            resource("/admin/replays/{id}", "GET, DELETE")
                .route(web::get().to(operator::read))
                .route(web::delete().to(operator::change)),
        )
        .service(resource("/admin/quarantine", "GET").route(web::get().to(operator::read)))
        .service(
            resource("/admin/quarantine/{id}", "GET, DELETE")
                .route(web::get().to(operator::read))
                .route(web::delete().to(operator::change)),
        )
        .service(
            resource("/admin/quarantine/{id}/retry", "POST")
                .route(web::post().to(operator::change)),
        )
        .service(
            resource("/admin/sources/{source}/pause", "POST")
                .route(web::post().to(operator::change)),
        )
        .service(
            resource("/admin/sources/{source}/resume", "POST")
                .route(web::post().to(operator::change)),
        )
        .service(resource("/admin/audit", "GET").route(web::get().to(operator::read)))
        .service(resource("/admin/openapi.json", "GET").route(web::get().to(openapi::openapi)))
        .service(resource("/admin/errors", "GET").route(web::get().to(operator::read)))
        .service(resource("/admin/contacts/{key:.+}", "GET").route(web::get().to(operator::read)))
        .service(resource("/admin/discards", "POST").route(web::post().to(operator::change)))
        .service(resource("/admin/erasures", "POST").route(web::post().to(operator::change)))
        .service(resource("/admin/purges", "POST").route(web::post().to(operator::change)))
        .service(resource("/admin/rehearsals", "POST").route(web::post().to(operator::change)))
        .service(resource("/admin/redrives", "POST").route(web::post().to(redrives::redrive)))
        .service(resource("/admin/recorrelations", "POST").route(web::post().to(operator::change)))
        .service(resource("/admin/stats", "GET").route(web::get().to(operator::read)))
        .service(
            resource("/metrics", "GET, HEAD")
                .route(web::get().to(probes::metrics))
                .route(web::head().to(probes::metrics)),
        );
}

async fn unknown_path() -> HttpResponse {
    answer(&cognigy_service::not_found())
}

/// A resource that answers other methods than `allowed` with a 405 that names those
/// (RFC 9110, section 15.5.6).
fn resource(path: &str, allowed: &'static str) -> actix_web::Resource {
    let refuse = move || async move { answer(&method_not_allowed(allowed)) };
    web::resource(path).default_service(web::to(refuse))
}

/// The problem document that a handler answers with when it cannot go on.
#[derive(Debug)]
pub(crate) struct ProblemResponse(Reply);

impl ProblemResponse {
    pub(crate) fn new(status: u16, title: &'static str, detail: &str) -> Self {
        Self(Reply::problem(status, title, detail))
    }

    pub(crate) fn bad_request(detail: &str) -> Self {
        Self::new(400, "Bad Request", detail)
    }

    /// Its status, its title and its detail, for an answer in another form.
    pub(crate) fn told(&self) -> (u16, String, String) {
        let problem: serde_json::Value = serde_json::from_slice(self.0.body()).unwrap_or_default();
        let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
        (self.0.status(), text("title"), text("detail"))
    }
}

impl std::fmt::Display for ProblemResponse {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "problem {}", self.0.status())
    }
}

impl ResponseError for ProblemResponse {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.0.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = answer(&self.0);
        if self.0.status() == 401 {
            let challenge = header::HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
            // So each guess costs a connection.
            response.head_mut().set_connection_type(ConnectionType::Close);
        }
        if matches!(self.0.status(), 408 | 503) {
            // The rest of the body may still come (RFC 9110, section 15.5.9).
            response.head_mut().set_connection_type(ConnectionType::Close);
        }
        response
    }
}

impl From<Problem> for ProblemResponse {
    fn from(problem: Problem) -> Self {
        if let Some(error) = problem.error() {
            Happening::Failed { error }.log();
        }
        Self(problem.into_reply())
    }
}

impl From<StoreError> for ProblemResponse {
    fn from(error: StoreError) -> Self {
        Self::from(Problem::from(error))
    }
}

type Answer = Result<HttpResponse, ProblemResponse>;
pub(crate) type Shared = web::Data<Service>;
