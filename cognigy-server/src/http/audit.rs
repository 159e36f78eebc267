//! The record of what operators did.

use std::collections::BTreeMap;

use actix_web::{HttpRequest, HttpResponse};
use cognigy_core::AuditPage;
use serde_json::json;

use super::{
    Answer, ProblemResponse, Shared,
    access::Reader,
    operator::{no_other, page, parameters},
};
use crate::{app::App, view::AuditLine};

pub(super) async fn list(_: Reader, request: HttpRequest, service: Shared) -> Answer {
    let found = entries(&service.app, parameters(&request)?).await?;
    let entries: Vec<_> = found.entries.into_iter().map(AuditLine::from).collect();
    let next = found.next.map(|cursor| cursor.to_string());
    Ok(HttpResponse::Ok().json(json!({ "entries": entries, "next_cursor": next })))
}

/// The page of the record that these parameters ask for.
pub(crate) async fn entries(
    app: &App,
    mut parameters: BTreeMap<String, String>,
) -> Result<AuditPage, ProblemResponse> {
    let page = page(&mut parameters)?;
    no_other(&parameters, &[])?;
    Ok(app.store.audited(None, page).await?)
}
