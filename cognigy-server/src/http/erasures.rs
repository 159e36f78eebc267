//! `POST /admin/erasures`: erases what is stored about a person.

use actix_web::HttpResponse;
use cognigy_core::{Clock, Person};
use serde::Deserialize;

use super::{
    Answer, ProblemResponse, Shared,
    access::{Change, Operator},
    request::WholeBody,
};
use crate::{
    app::App,
    audit::{Target, audit},
    erasing,
    view::ErasureLine,
};

/// How long a request may be, in bytes. Ids of contacts are shorter, though a sender may give one of a body's size:
/// such a person is erased from the command line.
pub(super) const MAX_BODY: usize = 256 * 1024;

/// The person, by one of the two ids, and whether nothing is to be erased yet.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    external_id: Option<String>,
    user_id: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

fn person(body: &[u8]) -> Option<(Person, bool)> {
    let request: Request = serde_json::from_slice(body).ok()?;
    let person = match (request.external_id, request.user_id) {
        (Some(id), None) => Person::ExternalId(id),
        (None, Some(id)) => Person::UserId(id),
        _ => return None,
    };
    Some((person, request.dry_run)).filter(|(person, _)| !person.id().is_empty())
}

pub(super) async fn erase(Change(operator): Change, service: Shared, body: WholeBody) -> Answer {
    let body = body.within(MAX_BODY)?;
    let (person, dry_run) = person(&body).ok_or_else(|| {
        ProblemResponse::bad_request(
            "expected a JSON object with the person's external_id or user_id, not empty, and beside it \
             nothing but dry_run",
        )
    })?;
    if dry_run {
        return Ok(HttpResponse::Ok().json(erasing::planned(&*service.app.store, &person).await?));
    }
    Ok(HttpResponse::Ok().json(erase_person(&service.app, &operator, &person).await?))
}

/// Erases what is stored about a person, for an operator. Yields the receipt.
pub(crate) async fn erase_person(
    app: &App,
    operator: &Operator,
    person: &Person,
) -> Result<ErasureLine, ProblemResponse> {
    let erasure = app.store.erase(person, &operator.name, app.clock.now()).await?;
    // By the number of its receipt: the person's id is gone, here too.
    let receipt = erasure.id.to_string();
    let (target, count) = (Target::Named(&receipt), Some(erasure.events));
    audit(app, operator, "erase", target, None, count, "erased").await;
    let sends = |source: &_| app.pipelines.get(source).is_none_or(|it| it.sends_dead_letters);
    Ok(erasing::receipt(erasure, sends))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_named_by_one_id() {
        let ann = "ann".to_owned();
        let by_external_id = Person::ExternalId(ann.clone());
        assert_eq!(person(br#"{"external_id":"ann"}"#), Some((by_external_id.clone(), false)));
        assert_eq!(person(br#"{"user_id":"ann"}"#), Some((Person::UserId(ann), false)));
        let dry_run = br#"{"external_id":"ann","dry_run":true}"#;
        assert_eq!(person(dry_run), Some((by_external_id, true)));
        for body in [
            "",
            "{}",
            "[]",
            r#"{"external_id":""}"#,
            r#"{"external_id":7}"#,
            r#"{"external_id":"a","user_id":"b"}"#,
            r#"{"external_id":"a","external_id":"b"}"#,
            r#"{"external_id":"a","dry_run":"yes"}"#,
            r#"{"external_id":"a","source":"shop"}"#,
        ] {
            assert_eq!(person(body.as_bytes()), None, "{body}");
        }
    }
}
