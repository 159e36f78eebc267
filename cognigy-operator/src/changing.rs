//! What operators change. Each function refuses an operator who only reads, and makes the change and its record
//! to their end, whether or not the caller waits for them.

use cognigy_core::{Contact, EventKey, Person, QuarantineRetry, ReplayOutcome, Reply, SourceName};
use serde::Deserialize;

use crate::{
    Operator, OperatorApi,
    api::{json, no_event},
    audit::{Deed, Target},
    discards, erasing,
    host::Happening,
    pausing,
    problem::Problem,
    reading::not_quarantined,
    request::number,
    selection::{self, Selection},
    view::ErasureLine,
};

impl OperatorApi {
    /// Runs an event now, once. Yields what the CRM knew.
    ///
    /// # Errors
    ///
    /// The operator only reads, there is no such event or its body was forgotten, another run holds it, the
    /// run failed, or the store does not answer.
    pub async fn replay(
        &self,
        operator: &Operator,
        key: EventKey,
    ) -> Result<Option<Contact>, Problem> {
        operator.may_change()?;
        let pipeline = self.pipeline(&key.source)?.clone();
        let (api, operator) = (self.clone(), operator.clone());
        let run = self.to_its_end(async move {
            let outcome = pipeline.replay(&key, api.clock()).await;
            let told = match &outcome {
                Ok(ReplayOutcome::Replayed(_)) => "replayed",
                Ok(ReplayOutcome::Failed(_)) => "failed",
                Ok(ReplayOutcome::NotFound) => "not_found",
                Ok(ReplayOutcome::Forgotten) => "forgotten",
                Ok(ReplayOutcome::Busy) => {
                    let source = &key.source;
                    api.host().happened(&Happening::ReplayWasBusy { source });
                    "busy"
                }
                Ok(ReplayOutcome::Stopped) => "busy",
                Err(_) => "unknown: the store did not answer",
            };
            let (target, count) = (Target::Event(&key), Some(1));
            let deed = Deed { action: "replay", target, filter: None, count, outcome: told };
            api.recorder(&operator).record(deed).await;
            Ok(outcome)
        });
        let failed = |detail: &str| Problem::new(500, "Internal Server Error", detail);
        match run.await? {
            Ok(ReplayOutcome::Replayed(contact)) => Ok(contact),
            Ok(ReplayOutcome::Failed(reason)) => Err(failed(&format!("Replay failed: {reason}"))),
            Ok(ReplayOutcome::NotFound) => Err(no_event()),
            Ok(ReplayOutcome::Forgotten) => Err(Problem::new(
                410,
                "Gone",
                "The body of this event was forgotten; it cannot be run again",
            )),
            Ok(ReplayOutcome::Busy | ReplayOutcome::Stopped) => Err(Problem::conflict(
                "Another run of this event is under way, or an unfinished event of its contact comes first",
            )),
            Err(error) => {
                let detail = "The outcome could not be stored; a worker will run the event again";
                Err(Problem::unavailable(detail).because(error))
            }
        }
    }

    /// Removes a body that no event is to be made of from the quarantine.
    ///
    /// # Errors
    ///
    /// The operator only reads, there is no such item, or the store does not answer.
    pub async fn discard_quarantined(&self, operator: &Operator, id: &str) -> Result<(), Problem> {
        operator.may_change()?;
        let number = number(id).ok_or_else(not_quarantined)?;
        let (api, operator, id) = (self.clone(), operator.clone(), id.to_owned());
        self.to_its_end(async move {
            let found = api.store().discharge(number).await?;
            let outcome = if found { "discarded" } else { "not_found" };
            let (action, target) = ("quarantine_discard", Target::Named(&id));
            let deed = Deed { action, target, filter: None, count: Some(1), outcome };
            api.recorder(&operator).record(deed).await;
            if found { Ok(()) } else { Err(not_quarantined()) }
        })
        .await
    }

    /// Takes a body in quarantine in once more. Yields its event, and whether that was known already.
    ///
    /// # Errors
    ///
    /// The operator only reads, there is no such item, it stays in quarantine, or the store does not answer.
    pub async fn retry_quarantined(
        &self,
        operator: &Operator,
        id: &str,
    ) -> Result<(EventKey, bool), Problem> {
        operator.may_change()?;
        let item = self.quarantined(operator, id).await?;
        let id = item.id;
        let pipeline = self.pipeline(&item.source)?.clone();
        let (api, operator) = (self.clone(), operator.clone());
        let retried = self.to_its_end(async move {
            let retried = pipeline.retry_quarantined(id, api.clock().now()).await?;
            let outcome = match &retried {
                QuarantineRetry::Accepted(_) => "accepted",
                QuarantineRetry::Duplicate(_) => "duplicate",
                QuarantineRetry::Invalid(_) => "invalid",
                QuarantineRetry::Conflict(_) => "conflict",
                QuarantineRetry::NotFound => "not_found",
            };
            let named = id.to_string();
            let (action, target) = ("quarantine_retry", Target::Named(&named));
            let deed = Deed { action, target, filter: None, count: Some(1), outcome };
            api.recorder(&operator).record(deed).await;
            Ok(retried)
        });
        match retried.await? {
            QuarantineRetry::Accepted(key) => Ok((key, false)),
            QuarantineRetry::Duplicate(key) => Ok((key, true)),
            QuarantineRetry::Invalid(invalid) => {
                Err(Problem::conflict(&format!("Still in quarantine. {invalid}")))
            }
            QuarantineRetry::Conflict(_) => Err(Problem::conflict(
                "Still in quarantine: its event id is known with other content",
            )),
            QuarantineRetry::NotFound => Err(not_quarantined()),
        }
    }

    /// Pauses or resumes the workers of a source, for all processes on the store.
    ///
    /// # Errors
    ///
    /// The operator only reads, there is no such source here, or the store does not answer.
    pub async fn set_paused(
        &self,
        operator: &Operator,
        source: &str,
        paused: bool,
    ) -> Result<SourceName, Problem> {
        operator.may_change()?;
        let name = source.parse::<SourceName>().ok();
        let Some(name) = name.filter(|name| self.is_configured(name)) else {
            return Err(Problem::not_found("There is no such source"));
        };
        let (api, operator) = (self.clone(), operator.clone());
        self.to_its_end(async move {
            let (store, by) = (api.store(), operator.name());
            let changed = pausing::set(store, &name, paused, by, api.clock()).await?;
            // This process need not wait until it looks again.
            api.follow_pauses().await?;
            let action = if paused { "pause" } else { "resume" };
            let outcome = if changed { "done" } else { "unchanged" };
            let target = Target::Named(name.as_str());
            let deed = Deed { action, target, filter: None, count: None, outcome };
            api.recorder(&operator).record(deed).await;
            Ok(name)
        })
        .await
    }

    /// Drops the dead letters that a request selects, or only looks at them: `body` is JSON, with `ids` or
    /// filters, and perhaps `dry_run`.
    ///
    /// # Errors
    ///
    /// The operator only reads, the selection is malformed or empty, or the store does not answer.
    pub async fn discard(
        &self,
        operator: &Operator,
        body: &[u8],
    ) -> Result<discards::Outcome, Problem> {
        operator.may_change()?;
        let now = self.clock().now();
        let (selection, dry_run) = selection::selection(body, now, self.types())
            .map_err(|error| Problem::bad_request(&error))?;
        let filter: Option<serde_json::Value> = serde_json::from_slice(body).ok();
        let (api, operator) = (self.clone(), operator.clone());
        self.to_its_end(async move {
            let recorder = api.recorder(&operator);
            let discarded = match selection {
                Selection::Ids(keys) => discards::of_keys(&recorder, &keys, dry_run, now).await?,
                Selection::Filter(filter) => {
                    discards::matching(&recorder, &filter, dry_run, now).await?
                }
            };
            if !dry_run {
                let (action, outcome) = ("discard", "discarded");
                let (filter, count) = (filter.as_ref(), Some(discarded.count));
                let deed = Deed { action, target: Target::Selected, filter, count, outcome };
                recorder.record(deed).await;
            }
            Ok(discarded)
        })
        .await
    }

    /// Erases what is stored about a person. Yields the receipt.
    ///
    /// # Errors
    ///
    /// The operator only reads, or the store does not answer.
    pub async fn erase(
        &self,
        operator: &Operator,
        person: &Person,
    ) -> Result<ErasureLine, Problem> {
        operator.may_change()?;
        let (api, operator, person) = (self.clone(), operator.clone(), person.clone());
        self.to_its_end(async move {
            let erasure = api.store().erase(&person, operator.name(), api.clock().now()).await?;
            // By the number of its receipt: the person's id is gone, here too.
            let receipt = erasure.id.to_string();
            let (target, count) = (Target::Named(&receipt), Some(erasure.events));
            let deed = Deed { action: "erase", target, filter: None, count, outcome: "erased" };
            api.recorder(&operator).record(deed).await;
            Ok(erasing::receipt(erasure, |source| api.sends_dead_letters(source)))
        })
        .await
    }

    /// The same as a request asks for it, which may be a dry run.
    pub(crate) async fn erase_as_asked(
        &self,
        operator: &Operator,
        body: &[u8],
    ) -> Result<Reply, Problem> {
        let (person, dry_run) = person(body).ok_or_else(|| {
            Problem::bad_request(
                "expected a JSON object with the person's external_id or user_id, not empty, and beside it \
                 nothing but dry_run",
            )
        })?;
        match dry_run {
            true => json(&erasing::planned(self.store(), &person).await?),
            false => json(&self.erase(operator, &person).await?),
        }
    }
}

/// The person, by one of the two ids, and whether nothing is to be erased yet.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Named {
    external_id: Option<String>,
    user_id: Option<String>,
    #[serde(default)]
    dry_run: bool,
}

fn person(body: &[u8]) -> Option<(Person, bool)> {
    let named: Named = serde_json::from_slice(body).ok()?;
    let person = match (named.external_id, named.user_id) {
        (Some(id), None) => Person::ExternalId(id),
        (None, Some(id)) => Person::UserId(id),
        _ => return None,
    };
    Some((person, named.dry_run)).filter(|(person, _)| !person.id().is_empty())
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
