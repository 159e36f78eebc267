//! The routes of the contract's HTTP table.

mod bulk;
mod operator;
mod probes;
pub(crate) mod view;
mod webhook;

use actix_web::{
    HttpRequest, HttpResponse, ResponseError,
    http::{StatusCode, header},
    web,
};
use cognigy_core::{Failure, Reply, StoreError};

pub(crate) use bulk::BulkReplays;
pub(crate) use operator::AdminToken;
pub(crate) use probes::Readiness;
pub(crate) use webhook::BodyBudget;

use crate::app::App;

/// Adds every route to an actix-web application.
pub(crate) fn routes(config: &mut web::ServiceConfig) {
    let only = |resource: actix_web::Resource| resource.default_service(web::to(wrong_method));
    config
        .service(only(web::resource("/webhooks/cognigy").route(web::post().to(webhook::receive))))
        .service(only(
            web::resource("/webhooks/replay/{event_id:.+}")
                .route(web::post().to(operator::replay))
                .route(web::get().to(operator::replay)),
        ))
        .service(only(web::resource("/admin/events").route(web::get().to(operator::list))))
        .service(only(
            web::resource("/admin/events/{event_id:.+}").route(web::get().to(operator::show)),
        ))
        .service(only(web::resource("/admin/replays").route(web::post().to(bulk::begin))))
        .service(only(web::resource("/admin/replays/{id}").route(web::get().to(bulk::progress))))
        .service(only(
            web::resource("/admin/quarantine").route(web::get().to(operator::quarantine)),
        ))
        .service(only(
            web::resource("/admin/quarantine/{id}/retry")
                .route(web::post().to(operator::retry_quarantined)),
        ))
        .service(only(web::resource("/admin/stats").route(web::get().to(operator::stats))))
        .service(only(web::resource("/healthz").route(web::get().to(probes::healthz))))
        .service(only(web::resource("/readyz").route(web::get().to(probes::readyz))))
        .service(only(web::resource("/metrics").route(web::get().to(probes::metrics))))
        .default_service(web::to(unknown_path));
}

async fn unknown_path() -> HttpResponse {
    answer(&Reply::problem(404, "Not Found", "There is nothing at this path"))
}

async fn wrong_method(_request: HttpRequest) -> HttpResponse {
    answer(&Reply::problem(405, "Method Not Allowed", "This path does not take this method"))
}

/// A core reply as actix-web's.
fn answer(reply: &Reply) -> HttpResponse {
    let status = StatusCode::from_u16(reply.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    for (name, value) in reply.headers() {
        response.insert_header((name, value));
    }
    if reply.closes_connection() {
        response.force_close();
    }
    response.body(reply.body().clone())
}

/// A problem to answer with, where a handler cannot go on.
#[derive(Debug)]
struct Problem(Reply);

impl Problem {
    fn new(status: u16, title: &'static str, detail: &str) -> Self {
        Self(Reply::problem(status, title, detail))
    }

    fn bad_request(detail: &str) -> Self {
        Self::new(400, "Bad Request", detail)
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "problem {}", self.0.status())
    }
}

impl ResponseError for Problem {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.0.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }

    fn error_response(&self) -> HttpResponse {
        let mut response = answer(&self.0);
        if self.0.status() == 401 {
            let challenge = header::HeaderValue::from_static("Bearer");
            response.headers_mut().insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let report = Failure::from(error).report();
        tracing::error!(error = report, "the store could not answer an operator");
        Self(
            Reply::problem(503, "Service Unavailable", "The store cannot answer now")
                .with_retry_after(1),
        )
    }
}

type Answer = Result<HttpResponse, Problem>;
type Shared = web::Data<App>;
