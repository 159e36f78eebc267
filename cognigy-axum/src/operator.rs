//! The operator API as routes to nest behind an authentication of your own.

use axum::{Router, extract::Request, routing::any};
use cognigy_operator::{Operator, OperatorApi, Request as Asked, no_operator};

use crate::Answer;

/// The routes of the operator API: `/admin/…` and `/webhooks/replay/{event_id}`, to `nest` or `merge`.
///
/// Who sends a request, a middleware of the program says: it puts an [`Operator`] into the extensions of each
/// request that it lets through. A request without one is answered with 403, so that routes whose middleware was
/// forgotten are closed.
///
/// Where the login of the program is a cookie, see [`OperatorApi`] on pages of other sites.
///
/// ```
/// use axum::{
///     Router,
///     body::Body,
///     extract::Request,
///     http::{HeaderMap, StatusCode},
///     middleware::{self, Next},
///     response::Response,
/// };
/// use cognigy_operator::{Operator, OperatorApi, Role};
///
/// /// Your own login. Here a proxy in front has checked who it is, and names the user.
/// fn operator_of(headers: &HeaderMap) -> Option<Operator> {
///     let user = headers.get("x-user")?.to_str().ok()?;
///     let role = if user == "anna" { Role::Operator } else { Role::Reader };
///     Some(Operator::new(user, role))
/// }
///
/// async fn authenticate(mut request: Request, next: Next) -> Result<Response, StatusCode> {
///     let operator = operator_of(request.headers()).ok_or(StatusCode::UNAUTHORIZED)?;
///     request.extensions_mut().insert(operator);
///     Ok(next.run(request).await)
/// }
///
/// fn internal(api: &OperatorApi) -> Router {
///     let operators = cognigy_axum::operator_router(api).layer(middleware::from_fn(authenticate));
///     // `/internal/admin/events`, and so on.
///     Router::new().nest("/internal", operators)
/// }
/// ```
pub fn operator_router<S: Clone + Send + Sync + 'static>(api: &OperatorApi) -> Router<S> {
    let api = api.clone();
    let answer = move |request: Request| {
        let api = api.clone();
        async move { operate(&api, request).await }
    };
    // Not a fallback: a router that has one cannot be merged with the program's own.
    Router::new()
        .route("/admin/{*rest}", any(answer.clone()))
        .route("/webhooks/replay/{*rest}", any(answer))
}

/// Answers a request to the operator API. For routes of your own: the request's path has to begin where the API
/// is nested, with `/admin/` or `/webhooks/replay/`.
pub async fn operate(api: &OperatorApi, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    let Some(operator) = parts.extensions.get::<Operator>() else { return Answer(no_operator()) };
    let asked = Asked::new(parts.method.as_str(), parts.uri.path())
        .query(parts.uri.query().unwrap_or_default())
        .headers(&parts.headers);
    Answer(api.answer(operator, asked, body.into_data_stream()).await)
}
