//! The record of what operators did: who, when, to what, and what it came to.

use cognigy_core::{AuditEntry, Clock, EventKey, Store};
use serde_json::{Value, json};

use crate::host::{Happening, Host};

/// The longest filter that is recorded, in bytes. A request may name thousands of ids.
const LONGEST_FILTER: usize = 4096;

/// How many entries are written at once. The store writes those that come together in one step.
const AT_ONCE: usize = 64;

/// What something was done to.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// What the filter selects.
    Selected,
    /// An event. The entry is part of its history.
    Event(&'a EventKey),
    /// Anything else, by its name.
    Named(&'a str),
}

/// What was done.
#[derive(Debug, Clone, Copy)]
pub struct Deed<'a> {
    /// Its name, such as `replay`.
    pub action: &'a str,
    /// What it was done to.
    pub target: Target<'a>,
    /// The selection, if there was one.
    pub filter: Option<&'a Value>,
    /// To how many things it was done. None where that means nothing, and for an event that was one of many.
    pub count: Option<u64>,
    /// What it came to, in a few words.
    pub outcome: &'a str,
}

/// Records what one operator does.
#[derive(Clone, Copy)]
pub struct Recorder<'a> {
    /// Where it is recorded.
    pub store: &'a dyn Store,
    /// Tells when it ended.
    pub clock: &'a dyn Clock,
    /// Is told if the store does not keep an entry: what was done is done.
    pub host: &'a dyn Host,
    /// The operator's name.
    pub by: &'a str,
}

impl Recorder<'_> {
    /// Records what was done just now.
    pub async fn record(&self, deed: Deed<'_>) {
        let (target, source) = match deed.target {
            Target::Selected => (None, None),
            Target::Event(key) => (Some(key.id.as_str().to_owned()), Some(key.source.clone())),
            Target::Named(name) => (Some(name.to_owned()), None),
        };
        let entry = AuditEntry {
            at: self.clock.now(),
            by: self.by.to_owned(),
            action: deed.action.to_owned(),
            target,
            source,
            filter: deed.filter.map(shortened),
            count: deed.count,
            outcome: deed.outcome.to_owned(),
        };
        if let Err(error) = self.store.append_audit(entry.clone()).await {
            self.host.happened(&Happening::NotRecorded { entry: &entry, error: &error });
        }
    }

    /// Records in the histories of events what was done to each as one of many. What was done to all of
    /// them has an entry of its own.
    pub async fn record_each(&self, action: &str, events: &[(EventKey, &'static str)]) {
        for events in events.chunks(AT_ONCE) {
            let entries = events.iter().map(|(key, outcome)| {
                let target = Target::Event(key);
                self.record(Deed { action, target, filter: None, count: None, outcome })
            });
            futures_util::future::join_all(entries).await;
        }
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
