//! Pausing and resuming the workers of a source.

use actix_web::{HttpResponse, web};
use cognigy_core::SourceName;
use serde_json::json;

use super::{
    Answer, ProblemResponse, Shared,
    access::{Change, Operator},
};
use crate::{
    app::App,
    audit::{Target, audit},
    pausing,
};

pub(super) async fn pause(
    Change(operator): Change,
    service: Shared,
    source: web::Path<String>,
) -> Answer {
    set(&operator, &service, &source, true).await
}

pub(super) async fn resume(
    Change(operator): Change,
    service: Shared,
    source: web::Path<String>,
) -> Answer {
    set(&operator, &service, &source, false).await
}

async fn set(operator: &Operator, service: &Shared, source: &str, paused: bool) -> Answer {
    let name = set_paused(&service.app, operator, source, paused).await?;
    Ok(HttpResponse::Ok().json(json!({ "source": name.as_str(), "paused": paused })))
}

/// Pauses or resumes a source, for an operator.
pub(crate) async fn set_paused(
    app: &App,
    operator: &Operator,
    source: &str,
    paused: bool,
) -> Result<SourceName, ProblemResponse> {
    let name = source.parse::<SourceName>().ok();
    let known = name.filter(|name| app.pipelines.get(name).is_some());
    let Some(name) = known else {
        return Err(ProblemResponse::new(404, "Not Found", "There is no such source"));
    };
    let changed = pausing::set(&*app.store, &name, paused, &operator.name, &app.clock).await?;
    // This node need not wait until it looks again.
    pausing::follow(&*app.store, &app.pipelines).await?;
    let action = if paused { "pause" } else { "resume" };
    let outcome = if changed { "done" } else { "unchanged" };
    audit(app, operator, action, Target::Named(name.as_str()), None, None, outcome).await;
    Ok(name)
}
