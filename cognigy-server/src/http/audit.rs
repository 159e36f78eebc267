//! The record of what operators did.

use actix_web::{HttpRequest, HttpResponse};
use serde_json::json;

use super::{
    Answer, Shared,
    access::Reader,
    operator::{no_other, page, parameters},
};
use crate::view::AuditLine;

pub(super) async fn list(_: Reader, request: HttpRequest, service: Shared) -> Answer {
    let mut parameters = parameters(&request)?;
    let page = page(&mut parameters)?;
    no_other(&parameters, &[])?;
    let found = service.app.store.audited(None, page).await?;
    let entries: Vec<_> = found.entries.into_iter().map(AuditLine::from).collect();
    let next = found.next.map(|cursor| cursor.to_string());
    Ok(HttpResponse::Ok().json(json!({ "entries": entries, "next_cursor": next })))
}
