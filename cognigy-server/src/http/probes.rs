//! Probes and metrics: is the process alive, can it take events, what has it counted. They need no
//! token.

use actix_web::HttpResponse;
use cognigy_core::{Clock, Reply};

use super::{Shared, answer};
use crate::telemetry::Seen;

pub(super) async fn healthz(service: Shared) -> HttpResponse {
    answer(&cognigy_service::liveness(&service.workers.ended()))
}

pub(super) async fn readyz(service: Shared) -> HttpResponse {
    let store = std::slice::from_ref(&service.app.store);
    answer(&cognigy_service::readiness(service.readiness.check(store).await))
}

pub(super) async fn metrics(service: Shared) -> HttpResponse {
    let app = &service.app;
    // If the store does not answer, the counters are still right, and the store's gauges keep their
    // last values.
    let seen = Seen::of(app).await;
    let sources = app.pipelines.iter().map(|source| &*source.telemetry);
    match app.telemetry.render(sources, &seen, app.clock.now()) {
        Ok(text) => HttpResponse::Ok().content_type("text/plain; version=0.0.4").body(text),
        Err(error) => {
            tracing::error!(%error, "metrics could not be written");
            answer(&Reply::problem(500, "Internal Server Error", "Metrics could not be written"))
        }
    }
}
