//! `POST /admin/purges`: forgets at once what is older than the retention.

use std::time::Duration;

use actix_web::HttpResponse;
use cognigy_core::Clock;
use serde_json::Value;

use super::{Answer, ProblemResponse, Shared, access::Change, bulk, request::WholeBody};
use crate::{
    audit::{Target, audit},
    purging,
};

/// How long a request may be, in bytes.
pub(super) const MAX_BODY: usize = 1024;

/// How long one request works. If more is to go, the answer says so.
const SPAN: Duration = Duration::from_secs(3);

/// Forgets for some seconds, by the retention that this server is set to.
pub(super) async fn purge(Change(operator): Change, service: Shared, body: WholeBody) -> Answer {
    let body = body.within(MAX_BODY)?;
    let bad = ProblemResponse::bad_request;
    let mut members = bulk::members(&body).map_err(|why| bad(&why))?;
    let dry_run = match members.remove("dry_run") {
        None => false,
        Some(Value::Bool(dry_run)) => dry_run,
        Some(_) => return Err(bad("dry_run: expected true or false")),
    };
    let after = match members.remove("cursor") {
        None => None,
        Some(Value::String(cursor)) if cursor.is_empty() => None,
        Some(cursor) => {
            let after = cursor.as_str().and_then(|cursor| cursor.parse().ok());
            Some(after.ok_or_else(|| bad("cursor: is not a next_cursor of this server"))?)
        }
    };
    if let Some((name, _)) = members.first_key_value() {
        return Err(bad(&format!(
            "{name:?} is not a member here: expected dry_run, cursor or neither"
        )));
    }
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
