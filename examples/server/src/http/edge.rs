//! What happens to every request on its way in, and to every answer on its way out.

use std::sync::Arc;

use actix_web::{
    Error,
    body::BoxBody,
    dev::{ServiceRequest, ServiceResponse},
    http::{
        ConnectionType,
        header::{CACHE_CONTROL, HeaderValue},
    },
    middleware::Next,
};

use super::{Shared, connections::State, paths, unknown_path, unread, upgrade};

/// The way of each request. Its connection is busy with it until its answer is there.
pub(crate) async fn pass(
    mut request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let _busy = request.conn_data::<Arc<State>>().map(State::begin);
    let mut ends = upgrade::decline(&mut request);
    let unread = unread::hold(&mut request);
    let private = paths::is_private(request.uri().path());
    let mut response = if paths::is_plain(request.uri().path()) {
        next.call(request).await?
    } else {
        // The body goes with the request, unread.
        request.into_response(unknown_path().await)
    };
    if private {
        let no_store = HeaderValue::from_static("no-store");
        response.headers_mut().insert(CACHE_CONTROL, no_store);
    }
    // While the server is stopping each connection ends with its answer, so that a balancer's pool of
    // kept connections empties before they are cut.
    ends |= response.request().app_data::<Shared>().is_some_and(|app| app.readiness.is_stopping());
    if ends {
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    Ok(match unread {
        Some(body) => response.map_body(|_, answer| body.until_after(answer)),
        None => response,
    })
}
