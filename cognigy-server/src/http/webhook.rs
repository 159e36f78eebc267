//! The webhook route: it hands each request to its source's receiver.

use std::{
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use actix_web::{HttpRequest, HttpResponse, error::PayloadError, web};
use bytes::Bytes;
use cognigy_core::Request;
use cognigy_service::{Head, admission::UNKNOWN};
use futures_util::Stream;

use super::{Shared, answer, connections::State};
use crate::{app::App, pipelines::SourcePipeline};

/// Takes a delivery in.
pub(super) async fn receive(
    request: HttpRequest,
    payload: web::Payload,
    service: Shared,
    source: web::Data<SourcePipeline>,
) -> HttpResponse {
    let target = source.looks_at_target.then(|| request.uri().to_string());
    let peer = request.peer_addr().map(|peer| peer.ip());
    let head =
        Head::new(request.headers()).target(target.as_deref().unwrap_or_default()).peer(peer);
    let body = Watched { payload, connection: request.conn_data::<Arc<State>>() };
    let hint = |refused: &Request<'_>, from: IpAddr| {
        if service.hints.may_be_given()
            && let Some(fits) = source.made_for(refused)
        {
            let source = source.telemetry.label();
            let message = "a delivery was refused that fits other settings";
            tracing::warn!(source, peer = %from, fits, "{message}");
        }
    };
    answer(&source.receiver.receive_with(head, body, hint).await)
}

/// Answers a sender that asks whether it may send.
pub(super) async fn shake_hands(
    request: HttpRequest,
    payload: web::Payload,
    source: web::Data<SourcePipeline>,
) -> HttpResponse {
    let head = Head::new(request.headers()).method(request.method().as_str());
    answer(&source.receiver.answer(head, payload).await)
}

/// The sender's address, which limits and log lines use.
pub(super) fn sender_of(request: &HttpRequest, app: &App) -> IpAddr {
    let socket = request.peer_addr().map_or(UNKNOWN, |peer| peer.ip());
    app.trusted.sender(socket, &request.headers())
}

/// A body whose connection is told when it is complete.
struct Watched<'c> {
    payload: web::Payload,
    connection: Option<&'c Arc<State>>,
}

impl Stream for Watched<'_> {
    type Item = Result<Bytes, PayloadError>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let next = Pin::new(&mut this.payload).poll_next(context);
        if let (Poll::Ready(None), Some(connection)) = (&next, this.connection) {
            connection.body_is_complete();
        }
        next
    }
}
