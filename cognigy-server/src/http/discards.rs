//! `POST /admin/discards`: drops dead letters, by ids or by a filter.

use actix_web::HttpResponse;
use cognigy_core::Clock;

use super::{
    Answer, ProblemResponse, Shared,
    access::{Change, Operator},
    bulk,
    request::WholeBody,
};
use crate::{
    app::App,
    audit::{Target, audit},
    discards,
};

/// The events of the selection that are not dead-lettered stay as they are.
pub(super) async fn discard(Change(operator): Change, service: Shared, body: WholeBody) -> Answer {
    let body = body.within(bulk::MAX_SELECTION)?;
    Ok(HttpResponse::Ok().json(discard_selected(&service.app, &operator, &body).await?))
}

/// Drops the dead letters that an operator's request selects, or only looks at them.
pub(crate) async fn discard_selected(
    app: &App,
    operator: &Operator,
    body: &[u8],
) -> Result<discards::Outcome, ProblemResponse> {
    let now = app.clock.now();
    let (selection, dry_run) = bulk::selection(body, now, app.types)
        .map_err(|error| ProblemResponse::bad_request(&error))?;
    let (store, by) = (&*app.store, &*operator.name);
    let discarded = match selection {
        bulk::Selection::Ids(keys) => discards::of_keys(store, &keys, dry_run, by, now).await?,
        bulk::Selection::Filter(filter) => {
            discards::matching(store, &filter, dry_run, by, now).await?
        }
    };
    if !dry_run {
        let filter = serde_json::from_slice(body).ok();
        let count = Some(discarded.count);
        audit(app, operator, "discard", Target::Selected, filter.as_ref(), count, "discarded")
            .await;
    }
    Ok(discarded)
}
