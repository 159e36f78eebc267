//! The webhook route: it reads the whole body in time and hands it to the pipeline.

use std::{net::IpAddr, sync::Arc, time::Instant};

use actix_web::{HttpRequest, HttpResponse, http::header, web};
use cognigy_core::{Clock, Intake, RawDelivery, Received, Reply, WebhookHandshake};

use super::{Service, Shared, answer, body, connections::State};
use crate::{admission::UNKNOWN, app::App, pipelines::SourcePipeline};

/// Takes a delivery in.
pub(super) async fn receive(
    request: HttpRequest,
    payload: web::Payload,
    service: Shared,
    source: web::Data<SourcePipeline>,
) -> HttpResponse {
    let started = Instant::now();
    let app = &service.app;
    let from = sender_of(&request, app);
    let received = match take_in(&request, payload, from, &service, &source).await {
        Ok(received) => received,
        Err(refused) => refused.into(),
    };
    received.in_scope(|intake| {
        source.pipeline.observe_delivery(intake, Some(from), Some(started.elapsed()));
    });
    answer(&source.pipeline.source().reply(&received.intake))
}

/// Answers a sender of CloudEvents that asks whether it may send (CloudEvents webhooks, section 4). The
/// callback URL that it may name is not fetched: anyone can ask.
pub(super) async fn shake_hands(request: HttpRequest) -> HttpResponse {
    let header = |name: &str| {
        let mut values = request.headers().get_all(name);
        let value = values.next().and_then(|value| value.to_str().ok());
        value.filter(|_| values.next().is_none())
    };
    let handshake = WebhookHandshake {
        origin: header("webhook-request-origin"),
        rate: header("webhook-request-rate"),
        callback: header("webhook-request-callback"),
    };
    match handshake.answer() {
        Ok(headers) => {
            let mut response = HttpResponse::Ok();
            for (name, value) in headers {
                response.insert_header((name, value));
            }
            response.finish()
        }
        Err(error) => answer(&Reply::problem(400, "Bad Request", &error.to_string())),
    }
}

/// The sender's address, which limits and log lines use.
pub(super) fn sender_of(request: &HttpRequest, app: &App) -> IpAddr {
    let socket = request.peer_addr().map_or(UNKNOWN, |peer| peer.ip());
    app.trusted.sender(socket, request.headers())
}

/// Reads the body and hands it to the pipeline. `Err` is the outcome of a delivery that is refused
/// before.
async fn take_in(
    request: &HttpRequest,
    payload: web::Payload,
    from: IpAddr,
    service: &Service,
    source: &SourcePipeline,
) -> Result<Received, Intake> {
    let app = &service.app;
    if let Some(refused) = source.pipeline.refuse_by_head(request.headers()) {
        return Err(refused);
    }
    let announced = request
        .headers()
        .get(header::CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse().ok());
    // The reservation lasts until the event is stored, since its body is in memory until then.
    let (body, _reservation) = body::read(&source.bodies, payload, announced, from).await?;
    if let Some(connection) = request.conn_data::<Arc<State>>() {
        connection.body_is_complete();
    }
    // Only a complete body takes a slot: a body that does not come must not keep other deliveries out.
    let _slot = source.slots.reserve(1)?;
    let mut raw = RawDelivery::new(request.headers(), body).peer(from);
    if source.looks_at_target {
        raw = raw.target(request.uri().to_string());
    }
    let now = app.clock.now();
    let refused = raw.clone();
    let received = source.pipeline.take(raw, now).await;
    if let Intake::Unsigned(_) = received.intake
        && service.hints.may_be_given()
        && let Some(fits) = source.made_for(&refused, now)
    {
        let source = source.telemetry.label();
        tracing::warn!(source, peer = %from, fits, "a delivery was refused that fits other settings");
    }
    Ok(received)
}
