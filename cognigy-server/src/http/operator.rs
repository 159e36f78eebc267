//! The routes that `cognigy-operator` answers: it does so in other programs, too. Here each request's token says who
//! its operator is.

use actix_web::{HttpRequest, HttpResponse, web};
use cognigy_operator::{Operator, Problem, Request};

use super::{
    ProblemResponse, Shared,
    access::{Change, Reader},
    answer,
};

/// Answers an operator who reads.
pub(super) async fn read(
    Reader(operator): Reader,
    request: HttpRequest,
    service: Shared,
    body: web::Payload,
) -> HttpResponse {
    respond(&operator, &request, &service, body).await
}

/// Answers an operator who changes something.
pub(super) async fn change(
    Change(operator): Change,
    request: HttpRequest,
    service: Shared,
    body: web::Payload,
) -> HttpResponse {
    respond(&operator, &request, &service, body).await
}

async fn respond(
    operator: &Operator,
    request: &HttpRequest,
    service: &Shared,
    body: web::Payload,
) -> HttpResponse {
    answer(&service.app.api.answer(operator, head_of(request), body).await)
}

/// The head of a request, for the API.
pub(super) fn head_of(request: &HttpRequest) -> Request<'_> {
    Request::new(request.method().as_str(), request.uri().path())
        .query(request.query_string())
        .headers(request.headers())
}

/// The query's parameters, each at most once.
pub(crate) fn parameters(
    request: &HttpRequest,
) -> Result<cognigy_operator::Parameters, ProblemResponse> {
    Ok(cognigy_operator::parameters(request.query_string())?)
}

pub(crate) fn not_found() -> Problem {
    Problem::not_found("Event not found in local store")
}
