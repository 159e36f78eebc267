//! What holds for every request to the operator API, once its operator is known.

use std::convert::Infallible;

use actix_web::{FromRequest, HttpRequest, dev, http::header::CONTENT_LENGTH, web};
use cognigy_operator::Bodies;
use futures_util::future::{Ready, ready};

use super::{ProblemResponse, Shared, openapi, operator};

/// The body of a request, to be read as a whole.
pub(crate) struct WholeBody {
    body: dev::Payload,
    announced: Option<usize>,
    bodies: Bodies,
}

impl WholeBody {
    /// The body, for a route that takes so many bytes.
    pub(crate) async fn within(self, limit: usize) -> Result<web::Bytes, ProblemResponse> {
        Ok(self.bodies.read(self.body, self.announced, limit).await?)
    }
}

impl FromRequest for WholeBody {
    type Error = Infallible;
    type Future = Ready<Result<Self, Infallible>>;

    fn from_request(request: &HttpRequest, payload: &mut dev::Payload) -> Self::Future {
        let service = request.app_data::<Shared>();
        let bodies = service.map(|service| match request.path() {
            // Strangers can only sign in, and take no place of the operators.
            "/console/sign-in" => service.strangers.clone(),
            _ => service.app.api.bodies().clone(),
        });
        let length = request.headers().get(CONTENT_LENGTH);
        let announced = length.and_then(|length| length.to_str().ok()?.parse().ok());
        let bodies = bodies.unwrap_or_default();
        ready(Ok(Self { body: payload.take(), announced, bodies }))
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
