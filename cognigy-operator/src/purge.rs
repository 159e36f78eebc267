//! `POST /admin/purges`: forgets at once what is older than the retention.

use std::time::Duration;

use serde_json::Value;

use crate::{
    Operator, OperatorApi,
    audit::{Deed, Target},
    problem::Problem,
    purging::{self, Outcome},
    selection,
};

/// How long one request works. If more is to go, the answer says so.
const SPAN: Duration = Duration::from_secs(3);

impl OperatorApi {
    /// Forgets for some seconds what is older than the retention: `body` is JSON, perhaps with `dry_run`, or
    /// with the `cursor` of the answer before.
    ///
    /// # Errors
    ///
    /// The operator only reads, the request is malformed, or the store does not answer.
    pub async fn purge(&self, operator: &Operator, body: &[u8]) -> Result<Outcome, Problem> {
        operator.may_change()?;
        let bad = Problem::bad_request;
        let mut members = selection::members(body).map_err(|why| bad(&why))?;
        let dry_run = match members.remove("dry_run") {
            None => false,
            Some(Value::Bool(dry_run)) => dry_run,
            Some(_) => return Err(bad("dry_run: expected true or false")),
        };
        let after = match members.remove("cursor") {
            None => None,
            Some(Value::String(cursor)) if cursor.is_empty() => None,
            Some(cursor) => {
                let after = cursor.as_str().and_then(|cursor| cursor.parse().ok());
                Some(after.ok_or_else(|| bad("cursor: is not a next_cursor of this server"))?)
            }
        };
        if let Some((name, _)) = members.first_key_value() {
            return Err(bad(&format!(
                "{name:?} is not a member here: expected dry_run, cursor or neither"
            )));
        }
        let now = self.clock().now();
        if dry_run {
            return Ok(purging::would(self.store(), self.retention(), now).await?);
        }
        let (api, operator) = (self.clone(), operator.clone());
        self.to_its_end(async move {
            let (store, retention) = (api.store(), api.retention());
            let outcome = purging::purge(store, retention, now, after, SPAN, |_| {}).await?;
            let (target, count) = (Target::Selected, Some(outcome.purged));
            let deed = Deed { action: "purge", target, filter: None, count, outcome: "forgotten" };
            api.recorder(&operator).record(deed).await;
            Ok(outcome)
        })
        .await
    }
}
