//! `GET /admin/errors`: what fails, and how often.

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse};
use cognigy_core::{Clock, ErrorGroup, error_groups};
use serde_json::json;

use super::{
    Answer, ProblemResponse, Shared,
    access::Reader,
    operator::{no_other, parameters},
};
use crate::{app::App, filter, view::ErrorLine};

/// The parameters of this route. Each means what it means as a filter.
const PARAMETERS: [&str; 3] = ["source", "from", "to"];

pub(super) async fn list(_: Reader, request: HttpRequest, service: Shared) -> Answer {
    let groups = groups(&service.app, &parameters(&request)?).await?;
    let groups: Vec<_> = groups.into_iter().map(ErrorLine::from).collect();
    Ok(HttpResponse::Ok().json(json!({ "groups": groups })))
}

/// The groups of errors that these parameters ask for.
pub(crate) async fn groups(
    app: &App,
    parameters: &BTreeMap<String, String>,
) -> Result<Vec<ErrorGroup>, ProblemResponse> {
    no_other(parameters, &PARAMETERS)?;
    let filter = filter::from_pairs(parameters, app.clock.now(), app.types)
        .map_err(|error| ProblemResponse::bad_request(&error))?;
    Ok(error_groups(&*app.store, filter.source, filter.from, filter.to).await?)
}
