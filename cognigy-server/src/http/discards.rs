//! `POST /admin/discards`: drops dead letters, by ids or by a filter.

use actix_web::{HttpResponse, web};
use cognigy_core::Clock;

use super::{Answer, ProblemResponse, Shared, bulk, operator::Operator};
use crate::discards;

/// The events of the selection that are not dead-lettered stay as they are.
pub(super) async fn discard(_: Operator, service: Shared, body: web::Bytes) -> Answer {
    let app = &service.app;
    let now = app.clock.now();
    let (selection, dry_run) =
        bulk::selection(&body, now).map_err(|error| ProblemResponse::bad_request(&error))?;
    let discarded = match selection {
        bulk::Selection::Ids(keys) => discards::of_keys(&*app.store, &keys, dry_run, now).await?,
        bulk::Selection::Filter(filter) => {
            discards::matching(&*app.store, &filter, dry_run, now).await?
        }
    };
    Ok(HttpResponse::Ok().json(discarded))
}
