//! `POST /admin/rehearsals`: how replays would end, without running them.

use actix_web::HttpResponse;
use cognigy_core::Clock;
use cognigy_operator::selection;

use super::{Answer, ProblemResponse, Shared, access::Change, request::WholeBody};
use crate::{
    find,
    rehearsing::{self, MAX_EVENTS},
};

/// Rehearses the selected events, at most the newest [`MAX_EVENTS`]. It changes nothing, but asks the CRM: a
/// reader may not have it do that.
pub(super) async fn rehearse(Change(_): Change, service: Shared, body: WholeBody) -> Answer {
    let body = body.within(selection::MAX_SELECTION).await?;
    let app = &service.app;
    let (selection, dry_run) = selection::selection(&body, app.clock.now(), app.types)
        .map_err(|error| ProblemResponse::bad_request(&error))?;
    if dry_run {
        return Err(ProblemResponse::bad_request("dry_run: a rehearsal changes nothing"));
    }
    let (keys, more) = match selection {
        selection::Selection::Ids(keys) => (keys, false),
        selection::Selection::Filter(filter) => {
            find::newest(&*app.store, &filter, MAX_EVENTS).await?
        }
    };
    Ok(HttpResponse::Ok().json(rehearsing::rehearse(app, keys, more).await?))
}
