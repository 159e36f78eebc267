//! `POST /admin/redrives`: brings dead letters back from the queue.

use actix_web::HttpResponse;
use cognigy_core::SourceName;
use serde::Deserialize;

use super::{Answer, ProblemResponse, Shared, access::Change, request::WholeBody};
use crate::{
    audit::{Target, audit},
    redriving,
};

/// How long a request may be, in bytes.
pub(super) const MAX_BODY: usize = 1024;

/// How many messages one request takes back at most, so that it ends in some seconds.
pub(super) const MAX_MESSAGES: u64 = 1000;

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    source: Option<String>,
    max: Option<u64>,
}

/// Takes messages back from the queue of a source. The workers run their events again.
pub(super) async fn redrive(Change(operator): Change, service: Shared, body: WholeBody) -> Answer {
    let body = body.within(MAX_BODY)?;
    let request = match body.is_empty() {
        true => Some(Request::default()),
        false => serde_json::from_slice(&body).ok(),
    };
    let in_range = |max: u64| (1..=MAX_MESSAGES).contains(&max);
    let request = request.filter(|it: &Request| it.max.is_none_or(in_range));
    let Request { source, max } = request.ok_or_else(|| {
        let detail = format!(
            "expected {{}} or a JSON object with source, the name of one, and max, from 1 to {MAX_MESSAGES}"
        );
        ProblemResponse::bad_request(&detail)
    })?;
    let app = service.app.clone();
    let name = source.map_or(Ok(SourceName::default()), |name| name.parse());
    let of = name.ok().and_then(|name| app.settings.source(&name).cloned());
    let Some(of) = of else {
        return Err(ProblemResponse::new(404, "Not Found", "There is no such source"));
    };
    if of.sqs_dlq_url.is_none() {
        let detail =
            format!("The source {} has no queue: its dead letters are in the store", of.name);
        return Err(ProblemResponse::new(409, "Conflict", &detail));
    }
    // A task of its own: what was begun goes on to its end even if the operator hangs up.
    let redriven = tokio::spawn(async move {
        let outcome = redriving::redrive(&app, &of, max.or(Some(MAX_MESSAGES)), |_| {}).await;
        let (count, told) = match &outcome {
            Ok(outcome) => (Some(outcome.requeued + outcome.stored), "done"),
            Err(_) => (None, "broke_off"),
        };
        audit(&app, &operator, "redrive", Target::Named(of.name.as_str()), None, count, told).await;
        outcome
    });
    match redriven.await {
        Ok(Ok(outcome)) => Ok(HttpResponse::Ok().json(outcome)),
        Ok(Err(error)) => {
            let detail = format!("The redrive broke off: {error}");
            Err(ProblemResponse::new(502, "Bad Gateway", &detail))
        }
        Err(_) => Err(ProblemResponse::new(500, "Internal Server Error", "The redrive broke off")),
    }
}
