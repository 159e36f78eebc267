//! The operator API as routes to mount behind an authentication of your own.

use actix_web::{
    HttpMessage, HttpRequest, HttpResponse,
    web::{self, Payload, ServiceConfig},
};
use cognigy_operator::{Operator, OperatorApi, Request, no_operator};

use crate::{Unread, response};

/// Adds the routes of the operator API: `/admin/…` and `/webhooks/replay/{event_id}`, to an application or a scope.
///
/// Who sends a request, a middleware of the program says: it puts an [`Operator`] into the extensions of each
/// request that it lets through. A request without one is answered with 403, so that routes whose middleware was
/// forgotten are closed.
///
/// Where the login of the program is a cookie, see [`OperatorApi`] on pages of other sites.
///
/// ```
/// use actix_web::{
///     Error, HttpMessage,
///     body::MessageBody,
///     dev::{ServiceRequest, ServiceResponse},
///     error::ErrorUnauthorized,
///     middleware::{Next, from_fn},
///     web::{self, ServiceConfig},
/// };
/// use cognigy_operator::{Operator, OperatorApi, Role};
///
/// /// Your own login. Here a proxy in front has checked who it is, and names the user.
/// fn operator_of(request: &ServiceRequest) -> Option<Operator> {
///     let user = request.headers().get("x-user")?.to_str().ok()?;
///     let role = if user == "anna" { Role::Operator } else { Role::Reader };
///     Some(Operator::new(user, role))
/// }
///
/// async fn authenticate<B: MessageBody>(
///     request: ServiceRequest,
///     next: Next<B>,
/// ) -> Result<ServiceResponse<B>, Error> {
///     let operator = operator_of(&request).ok_or_else(|| ErrorUnauthorized("who are you?"))?;
///     request.extensions_mut().insert(operator);
///     next.call(request).await
/// }
///
/// fn internal(api: &OperatorApi, config: &mut ServiceConfig) {
///     // `/internal/admin/events`, and so on.
///     let operators = web::scope("/internal").wrap(from_fn(authenticate));
///     config.service(operators.configure(cognigy_actix::configure_operator(api)));
/// }
/// ```
pub fn configure_operator(api: &OperatorApi) -> impl FnOnce(&mut ServiceConfig) + use<> {
    let api = api.clone();
    move |config| {
        for before in ["/admin/", "/webhooks/replay/"] {
            let api = api.clone();
            let answer = move |request: HttpRequest, body: Payload| {
                let api = api.clone();
                async move {
                    let rest = request.match_info().get("rest").unwrap_or_default();
                    let parts = rest.matches('/').count() + before.matches('/').count();
                    operate(&api, &request, end_of(request.uri().path(), parts), body).await
                }
            };
            let path = format!("{before}{{rest:.+}}");
            config.service(web::resource(path).route(web::to(answer)));
        }
    }
}

/// The last `parts` parts of a path, as they were sent. What is before them leads to the scope that the routes
/// are in. The router has decoded the path that it compares, but for slashes.
fn end_of(path: &str, parts: usize) -> &str {
    let slash = path.rmatch_indices('/').nth(parts.saturating_sub(1));
    slash.map_or(path, |(at, _)| &path[at..])
}

/// Answers a request to the operator API. For routes of your own: `path` is the end of the request's path, as it was
/// sent, from where the API is mounted, and begins with `/admin/` or `/webhooks/replay/`.
///
/// A body that is not read to its end, since its request is refused, ends the connection with the answer.
pub async fn operate(
    api: &OperatorApi,
    request: &HttpRequest,
    path: &str,
    body: Payload,
) -> HttpResponse {
    let (body, unread) = Unread::of(request.headers(), body);
    let operator = request.extensions().get::<Operator>().cloned();
    let reply = match operator {
        None => no_operator(),
        Some(operator) => {
            let asked = Request::new(request.method().as_str(), path)
                .query(request.query_string())
                .headers(request.headers());
            api.answer(&operator, asked, body).await
        }
    };
    let response = response(&reply);
    match unread {
        Some(unread) => response.map_body(|_, answer| unread.until_after(answer)),
        None => response,
    }
}

#[cfg(test)]
mod tests {
    use super::end_of;

    #[test]
    fn the_end_of_a_path_is_as_it_was_sent() {
        assert_eq!(end_of("/x/admin/events/a%2Fb", 3), "/admin/events/a%2Fb");
        assert_eq!(end_of("/admin/stats", 2), "/admin/stats");
        assert_eq!(end_of("/%61dmin/stats", 2), "/%61dmin/stats");
        assert_eq!(end_of("/stats", 2), "/stats");
    }
}
