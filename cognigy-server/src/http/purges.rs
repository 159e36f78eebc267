//! `POST /admin/purges`: forgets at once what is older than the retention.

use std::time::Duration;

use actix_web::HttpResponse;
use cognigy_core::Clock;
use serde::Deserialize;

use super::{Answer, ProblemResponse, Shared, access::Change, request::WholeBody};
use crate::{
    audit::{Target, audit},
    purging,
};

/// How long a request may be, in bytes.
pub(super) const MAX_BODY: usize = 1024;

/// How long one request works. If more is to go, the answer says so.
const SPAN: Duration = Duration::from_secs(3);

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    #[serde(default)]
    dry_run: bool,
    cursor: Option<String>,
}

/// Forgets for some seconds, by the retention that this server is set to.
pub(super) async fn purge(Change(operator): Change, service: Shared, body: WholeBody) -> Answer {
    let body = body.within(MAX_BODY)?;
    let request = match body.is_empty() {
        true => Some(Request::default()),
        false => serde_json::from_slice(&body).ok(),
    };
    let bad = ProblemResponse::bad_request;
    let Request { dry_run, cursor } = request.ok_or_else(|| {
        bad("expected {} or a JSON object with dry_run, true or false, and the cursor to go on from")
    })?;
    let after = cursor.map(|cursor| cursor.parse()).transpose();
    let after = after.map_err(|_| bad("cursor: is not a next_cursor of this server"))?;
    let app = service.app.clone();
    let now = app.clock.now();
    if dry_run {
        return Ok(HttpResponse::Ok().json(purging::would(&*app.store, &app.settings, now).await?));
    }
    // A task of its own: what was begun is recorded even if the operator hangs up.
    let purged = tokio::spawn(async move {
        let outcome = purging::purge(&*app.store, &app.settings, now, after, SPAN, |_| {}).await?;
        let count = Some(outcome.purged);
        audit(&app, &operator, "purge", Target::Selected, None, count, "forgotten").await;
        Ok::<_, ProblemResponse>(outcome)
    });
    let broke_off = |_| ProblemResponse::new(500, "Internal Server Error", "The purge broke off");
    Ok(HttpResponse::Ok().json(purged.await.map_err(broke_off)??))
}
