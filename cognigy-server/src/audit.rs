//! The record of what operators did: who, when, to what, and what it came to.

use cognigy_core::{AuditEntry, Clock, EventKey, Store, TokioClock};
use serde_json::{Value, json};

use crate::{app::App, http::Operator};

/// Who did what is done at the command line.
pub(crate) const COMMAND_LINE: &str = "command line";

/// The longest filter that is recorded, in bytes. A request may name thousands of ids.
const LONGEST_FILTER: usize = 4096;

/// What something was done to.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target<'a> {
    /// What the filter selects.
    Selected,
    /// An event. The entry is part of its history.
    Event(&'a EventKey),
    /// Anything else, by its name.
    Named(&'a str),
}

/// Records what an operator did. An error is logged: what was done is done.
pub(crate) async fn audit(
    app: &App,
    operator: &Operator,
    action: &str,
    target: Target<'_>,
    filter: Option<&Value>,
    count: Option<u64>,
    outcome: &str,
) {
    record(&*app.store, &operator.name, action, target, filter, count, outcome).await;
}

/// Records what was done at the command line.
pub(crate) async fn audit_command(
    store: &dyn Store,
    action: &str,
    target: Target<'_>,
    filter: Option<&Value>,
    count: Option<u64>,
    outcome: &str,
) {
    record(store, COMMAND_LINE, action, target, filter, count, outcome).await;
}

/// How many entries are written at once. The store writes those that come together in one step.
const AT_ONCE: usize = 64;

/// Records in the histories of events what was done to each as one of many. What was done to all of them has
/// an entry of its own.
pub(crate) async fn audit_each(
    store: &dyn Store,
    by: &str,
    action: &str,
    events: &[(EventKey, &'static str)],
) {
    for events in events.chunks(AT_ONCE) {
        let entries = events.iter().map(|(key, outcome)| {
            record(store, by, action, Target::Event(key), None, None, outcome)
        });
        futures_util::future::join_all(entries).await;
    }
}

async fn record(
    store: &dyn Store,
    by: &str,
    action: &str,
    target: Target<'_>,
    filter: Option<&Value>,
    count: Option<u64>,
    outcome: &str,
) {
    let (target, source) = match target {
        Target::Selected => (None, None),
        Target::Event(key) => (Some(key.id.as_str().to_owned()), Some(key.source.clone())),
        Target::Named(name) => (Some(name.to_owned()), None),
    };
    let entry = AuditEntry {
        at: TokioClock::new().now(),
        by: by.to_owned(),
        action: action.to_owned(),
        target,
        source,
        filter: filter.map(shortened),
        count,
        outcome: outcome.to_owned(),
    };
    if let Err(error) = store.append_audit(entry).await {
        let error = cognigy_core::report(&error);
        tracing::error!(by, action, outcome, error, "what an operator did could not be recorded");
    }
}

/// The filter as JSON. Of a long one, the names and how long it is.
fn shortened(filter: &Value) -> String {
    let text = filter.to_string();
    if text.len() <= LONGEST_FILTER {
        return text;
    }
    let names: Vec<_> = filter.as_object().into_iter().flatten().map(|(name, _)| name).collect();
    json!({ "too_long": true, "names": names, "bytes": text.len() }).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_filter_is_recorded_by_its_names() {
        assert_eq!(shortened(&json!({ "status": "pending" })), r#"{"status":"pending"}"#);
        let ids: Vec<_> = (0..1000).map(|number| format!("event-{number}")).collect();
        let text = shortened(&json!({ "ids": ids, "source": "shop" }));
        assert!(text.contains(r#""names":["ids","source"]"#) && text.len() < 100, "{text}");
    }
}
