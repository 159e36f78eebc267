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
    view::ErasureLine,
};

/// How long a request may be, in bytes. Ids of contacts are shorter, though a sender may give one of a body's size:
/// such a person is erased from the command line.
pub(super) const MAX_BODY: usize = 256 * 1024;

/// The person, by one of the two ids.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    external_id: Option<String>,
    user_id: Option<String>,
}

fn person(body: &[u8]) -> Option<Person> {
    let person = match serde_json::from_slice(body).ok()? {
        Request { external_id: Some(id), user_id: None } => Person::ExternalId(id),
        Request { external_id: None, user_id: Some(id) } => Person::UserId(id),
        _ => return None,
    };
    Some(person).filter(|person| !person.id().is_empty())
}

pub(super) async fn erase(Change(operator): Change, service: Shared, body: WholeBody) -> Answer {
    let body = body.within(MAX_BODY)?;
    let person = person(&body).ok_or_else(|| {
        ProblemResponse::bad_request(
            "expected a JSON object with the person's external_id or user_id, not empty",
        )
    })?;
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
    Ok(ErasureLine::from(erasure))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_person_is_named_by_one_id() {
        let ann = || Some("ann".to_owned());
        assert_eq!(person(br#"{"external_id":"ann"}"#), ann().map(Person::ExternalId));
        assert_eq!(person(br#"{"user_id":"ann"}"#), ann().map(Person::UserId));
        for body in [
            "",
            "{}",
            "[]",
            r#"{"external_id":""}"#,
            r#"{"external_id":7}"#,
            r#"{"external_id":"a","user_id":"b"}"#,
            r#"{"external_id":"a","external_id":"b"}"#,
            r#"{"external_id":"a","dry_run":true}"#,
        ] {
            assert_eq!(person(body.as_bytes()), None, "{body}");
        }
    }
}
