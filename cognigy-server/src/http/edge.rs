//! What happens to every request on its way in, and to every answer on its way out.

use std::sync::Arc;

use actix_web::{
    Error,
    body::{BodySize, BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::{
        ConnectionType,
        header::{CACHE_CONTROL, CONTENT_LENGTH, HeaderMap, HeaderValue, TRANSFER_ENCODING},
    },
    middleware::Next,
};

use cognigy_actix::Unread;

use super::{Shared, connections::State, paths, unknown_path, upgrade};

/// The approximate length of an answer's head in bytes.
const HEAD: usize = 256;

/// Passes each request on. The connection counts the request until its answer exists.
pub(crate) async fn pass(
    mut request: ServiceRequest,
    next: Next<BoxBody>,
) -> Result<ServiceResponse<BoxBody>, Error> {
    let connection = request.conn_data::<Arc<State>>().cloned();
    let _request = connection.as_ref().map(State::begin);
    if let Some(connection) = &connection {
        connection.room_for_an_answer().await;
        if has_body(request.headers()) {
            connection.reads_a_body();
        }
    }
    let mut ends = upgrade::decline(&mut request);
    let unread = Unread::hold(&mut request);
    let private = paths::is_private(request.uri().path());
    let mut response = if paths::is_plain(request.uri().path()) {
        next.call(request).await?
    } else {
        // The body is dropped with the request, unread.
        request.into_response(unknown_path().await)
    };
    if private {
        let no_store = HeaderValue::from_static("no-store");
        response.headers_mut().insert(CACHE_CONTROL, no_store);
    }
    // While the server is stopping, each connection ends with its answer. So a balancer's pool of
    // kept connections empties before they are cut.
    ends |= response.request().app_data::<Shared>().is_some_and(|it| it.readiness.is_stopping());
    if ends {
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    if let (Some(connection), BodySize::Sized(bytes)) =
        (connection, response.response().body().size())
    {
        connection.answered(HEAD + usize::try_from(bytes).unwrap_or(usize::MAX / 2));
    }
    Ok(match unread {
        Some(body) => response.map_body(|_, answer| body.until_after(answer)),
        None => response,
    })
}

fn has_body(headers: &HeaderMap) -> bool {
    headers.contains_key(TRANSFER_ENCODING)
        || headers.get(CONTENT_LENGTH).is_some_and(|length| length != "0")
}
