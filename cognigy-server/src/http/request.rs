//! What holds for every request to the operator API, once its operator is known.

use std::{convert::Infallible, sync::Arc, time::Duration};

use actix_web::{FromRequest, HttpRequest, dev, web};
use cognigy_core::Reply;
use futures_util::{FutureExt, future::LocalBoxFuture};
use tokio::sync::Semaphore;

use cognigy_operator::selection::MAX_SELECTION;

use super::{ProblemResponse, Shared, openapi, operator};

/// A body has to be complete within this time, as that of a delivery.
const DEADLINE: Duration = Duration::from_secs(10);

/// How many bodies that are not complete are waited for at once, of operators and of strangers, who can
/// only sign in. Each holds a connection, which deliveries need.
const UNFINISHED: usize = 64;

/// The places of bodies that are waited for.
#[derive(Clone)]
pub(crate) struct Unfinished {
    operators: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
}

impl Default for Unfinished {
    fn default() -> Self {
        let places = || Arc::new(Semaphore::new(UNFINISHED));
        Self { operators: places(), strangers: places() }
    }
}

/// The body of a request, or why there is none. Its length is bounded by the route's `PayloadConfig`.
pub(crate) struct WholeBody(Read);

enum Read {
    Done(Result<web::Bytes, actix_web::Error>),
    /// It did not come in time.
    TimedOut,
    /// Too many others are waited for.
    Crowded,
}

impl WholeBody {
    /// The body, for a route that takes so many bytes.
    pub(crate) fn within(self, limit: usize) -> Result<web::Bytes, ProblemResponse> {
        let read = match self.0 {
            Read::Done(read) => read,
            Read::TimedOut => {
                let detail = "The body was not complete within 10 s";
                return Err(ProblemResponse::new(408, "Request Timeout", detail));
            }
            Read::Crowded => {
                let detail = "Too many bodies are waited for: send the body together with its head";
                let problem = Reply::problem(503, "Service Unavailable", detail);
                return Err(ProblemResponse(problem.with_retry_after(1)));
            }
        };
        read.map_err(|error| match error.as_response_error().status_code().as_u16() {
            413 => {
                let may_be_shorter = limit == MAX_SELECTION;
                let hint = if may_be_shorter { "; a selection may be a filter" } else { "" };
                let detail = format!("The body is longer than {limit} bytes{hint}");
                ProblemResponse::new(413, "Content Too Large", &detail)
            }
            _ => ProblemResponse::bad_request("The body cannot be read"),
        })
    }
}

impl FromRequest for WholeBody {
    type Error = Infallible;
    type Future = LocalBoxFuture<'static, Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let mut body = Box::pin(web::Bytes::from_request(request, payload));
        let places = request.app_data::<Shared>().map(|service| match request.path() {
            "/console/sign-in" => Arc::clone(&service.unfinished.strangers),
            _ => Arc::clone(&service.unfinished.operators),
        });
        Box::pin(async move {
            // Most bodies arrive with their heads and need no wait.
            if let Some(read) = (&mut body).now_or_never() {
                return Ok(Self(Read::Done(read)));
            }
            let place = places.and_then(|places| places.try_acquire_owned().ok());
            let Some(_place) = place else { return Ok(Self(Read::Crowded)) };
            let read = tokio::time::timeout(DEADLINE, body).await;
            Ok(Self(read.map_or(Read::TimedOut, Read::Done)))
        })
    }
}

/// Refuses what the operation does not take: parameters that its description does not name, a path or a
/// query that is not UTF-8, and a body in a content coding.
pub(super) fn check(request: &HttpRequest) -> Result<(), ProblemResponse> {
    let head = operator::head_of(request);
    let pattern = request.match_pattern().unwrap_or_default();
    match openapi::parameters_of(request.method().as_str(), &pattern) {
        Some(known) => head.parameters(known).map(drop)?,
        // Pages are not described, and read their own parameters.
        None => head.check()?,
    }
    Ok(())
}
