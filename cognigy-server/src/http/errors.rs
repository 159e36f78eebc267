//! `GET /admin/errors`: what fails, and how often.

use actix_web::{HttpRequest, HttpResponse};
use cognigy_core::{Clock, error_groups};
use serde_json::json;

use super::{
    Answer, ProblemResponse, Shared,
    access::Reader,
    operator::{no_other, parameters},
};
use crate::{filter, view::ErrorLine};

/// The parameters of this route. Each means what it means as a filter.
const PARAMETERS: [&str; 3] = ["source", "from", "to"];

pub(super) async fn list(_: Reader, request: HttpRequest, service: Shared) -> Answer {
    let app = &service.app;
    let parameters = parameters(&request)?;
    no_other(&parameters, &PARAMETERS)?;
    let filter = filter::from_pairs(&parameters, app.clock.now(), app.types)
        .map_err(|error| ProblemResponse::bad_request(&error))?;
    let groups = error_groups(&*app.store, filter.source, filter.from, filter.to).await?;
    let groups: Vec<_> = groups.into_iter().map(ErrorLine::from).collect();
    Ok(HttpResponse::Ok().json(json!({ "groups": groups })))
}
