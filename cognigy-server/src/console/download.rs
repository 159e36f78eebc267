//! Bodies to save: the bytes as they came, for which a page would have to spell some out.

use actix_web::{
    HttpRequest, HttpResponse,
    http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_TYPE, X_CONTENT_TYPE_OPTIONS},
    web::Bytes,
};

use super::{event, page::Shown, quarantine, session::Viewer};
use crate::http::{ProblemResponse, Shared};

/// The body of an event.
pub(super) async fn of_event(request: HttpRequest, viewer: Viewer, service: Shared) -> Shown {
    let key = event::key_of(&request)?;
    let event = service.app.api.event(&viewer.operator, &key).await?;
    Ok(saved(event.body.ok_or_else(not_shown)?.into()))
}

/// A body in quarantine.
pub(super) async fn of_item(request: HttpRequest, viewer: Viewer, service: Shared) -> Shown {
    let item = service.app.api.quarantined(&viewer.operator, &quarantine::id_of(&request)).await?;
    if !viewer.operator.role().sees_bodies() {
        return Err(not_shown().into());
    }
    Ok(saved(item.body))
}

fn not_shown() -> ProblemResponse {
    let detail = "There is no body here that your role shows";
    ProblemResponse::new(403, "Forbidden", detail)
}

/// A file that a browser saves and never shows.
fn saved(body: Bytes) -> HttpResponse {
    HttpResponse::Ok()
        .insert_header((CONTENT_TYPE, "application/octet-stream"))
        .insert_header((CONTENT_DISPOSITION, "attachment; filename=\"body\""))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .body(body)
}
