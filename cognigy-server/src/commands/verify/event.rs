//! What has to hold for an event, as the operator API shows it.

use std::time::Duration;

use cognigy_core::{SourceName, Timestamp};
use serde_json::Value;

use crate::settings::Settings;

/// What events are held against.
pub(super) struct Rules {
    /// The sources whose bodies have the event's id as `eventId`.
    native: Vec<SourceName>,
    /// The sources whose workers are paused: their events may wait.
    paused: Vec<String>,
    now: Timestamp,
    bound: Duration,
}

impl Rules {
    pub(super) fn new(settings: &Settings, stats: &Value, now: Timestamp, bound: Duration) -> Self {
        let paused = stats["paused"].as_object().into_iter().flatten();
        Self {
            native: settings.native_sources(),
            paused: paused.map(|(name, _)| name.clone()).collect(),
            now,
            bound,
        }
    }

    /// The rules that an event breaks, each with what is wrong.
    pub(super) fn broken_by(&self, event: &Value) -> Vec<(&'static str, String)> {
        let mut broken = Vec::new();
        let status = event["status"].as_str().unwrap_or_default();
        let attempts = event["attempts"].as_array().map_or(&[][..], Vec::as_slice);
        let is_forgotten = event["forgotten"].is_string();
        let mut rule = |holds: bool, name: &'static str, detail: &str| {
            if !holds {
                broken.push((name, detail.to_owned()));
            }
        };
        let has_ended = matches!(status, "processed" | "dead_lettered" | "discarded");
        rule(
            !has_ended || event["next_attempt_at"].is_null(),
            "state",
            "it has ended, and another attempt is due",
        );
        rule(
            status != "processed" || event["processed_at"].is_string(),
            "state",
            "it is processed, and the time at which it was is missing",
        );
        rule(
            status != "processed" || succeeded(attempts),
            "state",
            "it is processed, and none of its attempts succeeded, nor was it imported so",
        );
        rule(
            (status == "dead_lettering") == event["dead_letter"].is_object(),
            "state",
            "whether its dead letter waits does not agree with its status",
        );
        rule(
            event["correlation"] != "matched" || !event["crm_context"].is_null() || is_forgotten,
            "state",
            "its contact was found, and is missing",
        );
        rule(in_order(attempts), "attempts", "its attempts are not numbered in order");
        let hidden = is_forgotten || event["sensitive"] == true;
        let body = event["body"].as_str().filter(|body| !body.is_empty());
        rule(body.is_some() || hidden, "body", "its body is missing");
        if let Some(body) = body.filter(|_| self.is_native(event)) {
            // No more of it: a body may hold numbers and texts that this program cannot.
            let read: Named = serde_json::from_str(body).unwrap_or_default();
            let same = read.id.as_deref() == event["event_id"].as_str();
            rule(same, "body", "its body is another event's");
        }
        broken
    }

    fn is_native(&self, event: &Value) -> bool {
        let source = source_of(event);
        self.native.contains(&source)
    }

    /// The event seems to be stuck.
    pub(super) fn suspicion(&self, event: &Value) -> Option<Suspicion> {
        let source = source_of(event);
        if self.paused.iter().any(|paused| *paused == source.as_str()) {
            return None;
        }
        let status = event["status"].as_str()?;
        let since = match status {
            // Without a time it waits for another event of its contact.
            "pending" => moment(&event["next_attempt_at"])?,
            "processing" => last_activity(event)?,
            "dead_lettering" => moment(&event["dead_letter"]["next_try_at"])?,
            _ => return None,
        };
        let late = (self.now - since).to_std().ok().filter(|late| *late > self.bound)?;
        let detail = format!("{status}, and nothing has happened to it for {} s", late.as_secs());
        let id = event["event_id"].as_str()?.to_owned();
        Some(Suspicion { id, source, seen: mark(event), detail })
    }
}

/// What a body has to say.
#[derive(Default, serde::Deserialize)]
struct Named {
    #[serde(rename = "eventId")]
    id: Option<String>,
}

/// An event that seems to be stuck.
pub(super) struct Suspicion {
    id: String,
    source: SourceName,
    /// What changes when something happens to it.
    seen: Value,
    detail: String,
}

impl Suspicion {
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    pub(super) fn source(&self) -> &SourceName {
        &self.source
    }

    /// Whether a worker has the event: its attempt may last.
    pub(super) fn is_running(&self) -> bool {
        self.seen[0] == "processing"
    }

    pub(super) fn detail(self) -> String {
        self.detail
    }

    /// Whether nothing has happened to the event since.
    pub(super) fn stands(&self, event: &Value) -> bool {
        mark(event) == self.seen
    }
}

fn mark(event: &Value) -> Value {
    serde_json::json!([
        event["status"],
        event["next_attempt_at"],
        event["attempts"].as_array().map_or(0, Vec::len),
        event["dead_letter"],
    ])
}

pub(super) fn source_of(event: &Value) -> SourceName {
    event["source"].as_str().and_then(|name| name.parse().ok()).unwrap_or_default()
}

fn moment(value: &Value) -> Option<Timestamp> {
    chrono::DateTime::parse_from_rfc3339(value.as_str()?).ok().map(Timestamp::from)
}

fn last_activity(event: &Value) -> Option<Timestamp> {
    let attempts = event["attempts"].as_array()?;
    let last = attempts.last().and_then(|attempt| moment(&attempt["started_at"]));
    last.or_else(|| moment(&event["received_at"]))
}

fn succeeded(attempts: &[Value]) -> bool {
    attempts
        .iter()
        .any(|attempt| matches!(attempt["outcome"].as_str(), Some("succeeded" | "imported")))
}

/// Whether runs and, in each, numbers rise.
fn in_order(attempts: &[Value]) -> bool {
    let place = |attempt: &Value| (attempt["run"].as_u64(), attempt["number"].as_u64());
    attempts.windows(2).all(|pair| place(&pair[0]) <= place(&pair[1]))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rules() -> Rules {
        Rules {
            native: vec![SourceName::default()],
            paused: vec!["paused".to_owned()],
            now: Timestamp::from_timestamp(10_000, 0).unwrap(),
            bound: Duration::from_secs(900),
        }
    }

    fn processed() -> Value {
        json!({
            "event_id": "e1", "status": "processed", "processed_at": "1970-01-01T00:00:01Z",
            "received_at": "1970-01-01T00:00:00Z", "next_attempt_at": null, "correlation": "matched",
            "crm_context": {"name": "Ada"}, "body": "{\"eventId\":\"e1\"}",
            "attempts": [
                {"run": 1, "number": 1, "outcome": "failed_transient", "started_at": "1970-01-01T00:00:00Z"},
                {"run": 1, "number": 2, "outcome": "succeeded", "started_at": "1970-01-01T00:00:01Z"},
            ],
        })
    }

    fn with(changes: Value) -> Value {
        let mut event = processed();
        for (name, value) in changes.as_object().unwrap() {
            event[name] = value.clone();
        }
        event
    }

    #[test]
    fn each_rule_is_broken_by_what_breaks_it_alone() {
        let rules = rules();
        assert_eq!(rules.broken_by(&processed()), []);
        for (changes, name) in [
            (json!({"next_attempt_at": "1970-01-01T00:00:01Z"}), "state"),
            (json!({"processed_at": null}), "state"),
            (json!({"attempts": []}), "state"),
            (json!({"status": "dead_lettering"}), "state"),
            (json!({"dead_letter": {"status": "unsent"}}), "state"),
            (json!({"crm_context": null}), "state"),
            (json!({"body": null}), "body"),
            (json!({"body": "{\"eventId\":\"e2\"}"}), "body"),
            (json!({"body": "{\"eventId\""}), "body"),
        ] {
            let broken = rules.broken_by(&with(changes.clone()));
            assert_eq!(broken.len(), 1, "{changes}: {broken:?}");
            assert_eq!(broken[0].0, name, "{changes}");
        }
        let mut swapped = processed();
        swapped["attempts"].as_array_mut().unwrap().reverse();
        assert_eq!(rules.broken_by(&swapped)[0].0, "attempts");
        // Others may look so.
        for changes in [
            json!({"body": null, "forgotten": "erased", "crm_context": null}),
            json!({"body": null, "sensitive": true}),
            json!({"attempts": [
                {"run": 2, "number": 1, "outcome": "imported", "started_at": "1970-01-01T00:00:00Z"},
            ]}),
            json!({"body": "{\"payload\":{\"input\":1e999,\"x\":\"\\ud800\"},\"eventId\":\"e1\"}"}),
            json!({"body": "{\"eventId\":\"e2\"}", "source": "shop"}),
            json!({"status": "dead_lettering", "dead_letter": {"status": "unsent"}}),
        ] {
            assert_eq!(rules.broken_by(&with(changes.clone())), [], "{changes}");
        }
    }

    #[test]
    fn an_event_is_stuck_once_nothing_has_happened_for_longer_than_the_bound() {
        let rules = rules();
        let time =
            |seconds: i64| json!(Timestamp::from_timestamp(seconds, 0).unwrap().to_rfc3339());
        let attempts = json!([{"run": 1, "number": 1, "started_at": time(9_000)}]);
        let letter = |at| json!({"next_try_at": time(at)});
        for (changes, is_stuck) in [
            (json!({"status": "pending", "next_attempt_at": time(9_200)}), false),
            (json!({"status": "pending", "next_attempt_at": time(9_000)}), true),
            (json!({"status": "pending", "next_attempt_at": time(20_000)}), false),
            (json!({"status": "pending"}), false),
            (
                json!({"status": "pending", "next_attempt_at": time(9_000), "source": "paused"}),
                false,
            ),
            (json!({"status": "processing", "attempts": attempts}), true),
            (json!({"status": "processing", "attempts": [], "received_at": time(9_500)}), false),
            (json!({"status": "dead_lettering", "dead_letter": letter(9_000)}), true),
            (json!({"status": "dead_lettering", "dead_letter": letter(9_500)}), false),
            (json!({"status": "dead_lettered"}), false),
        ] {
            let event = with(changes.clone());
            let suspicion = rules.suspicion(&event);
            assert_eq!(suspicion.is_some(), is_stuck, "{changes}");
            let Some(suspicion) = suspicion else { continue };
            assert!(suspicion.stands(&event));
            assert!(!suspicion.stands(&with(json!({"status": "processed"}))));
        }
    }
}
