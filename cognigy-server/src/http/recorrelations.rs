//! `POST /admin/recorrelations`: asks the CRM again for events whose contact was not found then.

use cognigy_core::Clock;
use cognigy_operator::selection;
use serde_json::Value;

use super::{Answer, ProblemResponse, Shared, access::Change, bulk, request::WholeBody};
use crate::bulk_replays::Work;

/// Begins asking for those of the selected events whose contact is not known. It is carried out as a bulk
/// replay is, and listed among them.
pub(super) async fn begin(Change(operator): Change, service: Shared, body: WholeBody) -> Answer {
    let body = body.within(selection::MAX_SELECTION).await?;
    let bad = |error: String| ProblemResponse::bad_request(&error);
    let mut members = selection::members(&body).map_err(bad)?;
    let work = match members.remove("run") {
        None | Some(Value::Bool(false)) => Work::Recorrelate,
        Some(Value::Bool(true)) => Work::RecorrelateAndRun,
        Some(_) => return Err(bad("run: expected true or false".to_owned())),
    };
    let app = &service.app;
    let asked = selection::asked_by(members, app.clock.now(), app.types).map_err(bad)?;
    let filter = serde_json::from_slice(&body).ok();
    Ok(bulk::begun(bulk::begin_as_asked(asked, app, &operator, work, filter).await?))
}
