//! `POST /admin/redrives`: brings dead letters back from the queue.

use actix_web::HttpResponse;
use cognigy_core::SourceName;
use cognigy_operator::selection;
use serde_json::Value;

use super::{Answer, ProblemResponse, Shared, access::Change, request::WholeBody};
use crate::{
    audit::{Target, audit},
    redriving,
};

/// How long a request may be, in bytes.
pub(super) const MAX_BODY: usize = 1024;

/// How many messages one request takes back at most, so that it ends in some seconds.
pub(super) const MAX_MESSAGES: u64 = 1000;

/// Takes messages back from the queue of a source. The workers run their events again.
pub(super) async fn redrive(Change(operator): Change, service: Shared, body: WholeBody) -> Answer {
    let body = body.within(MAX_BODY).await?;
    let bad = ProblemResponse::bad_request;
    let mut members = selection::members(&body).map_err(|why| bad(&why))?;
    let max = match members.remove("max") {
        None => None,
        Some(max) => {
            let max = whole_number(&max).filter(|max| (1..=MAX_MESSAGES).contains(max));
            let wrong = || bad(&format!("max: expected a number from 1 to {MAX_MESSAGES}"));
            Some(max.ok_or_else(wrong)?)
        }
    };
    let name = match members.remove("source") {
        None => Some(SourceName::default()),
        Some(Value::String(name)) => name.parse().ok(),
        Some(_) => return Err(bad("source: expected the name of a source")),
    };
    if let Some((name, _)) = members.first_key_value() {
        return Err(bad(&format!(
            "{name:?} is not a member here: expected source, max or neither"
        )));
    }
    let app = service.app.clone();
    let of = name.and_then(|name| app.settings.source(&name).cloned());
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

/// A whole number, which JSON may write as `7` or as `7.0`.
fn whole_number(value: &Value) -> Option<u64> {
    let fraction = || value.as_f64().filter(|number| number.fract() == 0.0 && *number >= 0.0);
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    value.as_u64().or_else(|| fraction().map(|number| number as u64))
}
