//! Which events a request names: by their ids, or by a filter.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use cognigy_core::{EventFilter, EventKey, SourceName, Timestamp};
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor},
};
use serde_json::Value;

use crate::filter::{self, Types};

/// How many ids one request may name. For more there are filters.
const MAX_IDS: usize = 10_000;

/// How long a selection may be, in bytes: as many ids as may be named, of usual lengths.
pub const MAX_SELECTION: usize = 2 * 1024 * 1024;

/// The lowest rate of a bulk replay, in events a second: an event in 17 minutes.
pub const LEAST_RATE: f64 = 0.001;

/// The members of a JSON object in order. A map would keep only the last of two members with one
/// name.
struct Members(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Read;
        impl<'de> Visitor<'de> for Read {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Read)
    }
}

/// Which events a request names.
#[derive(Debug, Clone, PartialEq)]
pub enum Selection {
    /// Those with these keys, each once.
    Ids(Vec<EventKey>),
    /// All that match.
    Filter(EventFilter),
}

/// What a request asks for.
#[derive(Debug, Clone, PartialEq)]
pub struct Asked {
    /// Which events.
    pub selection: Selection,
    /// The most events a second.
    pub rate: Option<f64>,
    /// Whether nothing is to be done to them yet.
    pub dry_run: bool,
}

/// Which events `body` names, and whether nothing is to be done to them yet.
///
/// # Errors
///
/// What is wrong with the request, for its sender: it is malformed, names a rate, or names no condition.
pub fn selection(body: &[u8], now: Timestamp, types: Types) -> Result<(Selection, bool), String> {
    match asked(body, now, types)? {
        Asked { rate: Some(_), .. } => Err("rate: is not a filter".to_owned()),
        Asked { selection, dry_run, .. } => Ok((selection, dry_run)),
    }
}

/// What `body` asks for: `{"ids": […]}` or a filter with a condition, and beside it a rate and `dry_run`.
///
/// # Errors
///
/// What is wrong with the request, for its sender.
pub fn asked(body: &[u8], now: Timestamp, types: Types) -> Result<Asked, String> {
    match members(body).and_then(|members| asked_by(members, now, types))? {
        Asked { selection: Selection::Filter(filter), .. } if filter == EventFilter::default() => {
            // An empty object would replay all events.
            Err("name at least one condition, or ids".to_owned())
        }
        asked => Ok(asked),
    }
}

/// The members of the JSON object, each once. No body is an object without members.
///
/// # Errors
///
/// It is no object, or a member appears more than once.
pub fn members(body: &[u8]) -> Result<BTreeMap<String, Value>, String> {
    if body.is_empty() {
        return Ok(BTreeMap::new());
    }
    let Ok(Members(members)) = serde_json::from_slice(body) else {
        return Err("expected a JSON object: {\"ids\": […]} or a filter".to_owned());
    };
    let mut object = BTreeMap::new();
    for (name, value) in members {
        if object.contains_key(&name) {
            return Err(format!("{name:?} appears more than once"));
        }
        object.insert(name, value);
    }
    Ok(object)
}

/// What the members of a selection ask for. No condition means all events.
///
/// # Errors
///
/// What is wrong with the members, for the sender of the request.
pub fn asked_by(
    mut object: BTreeMap<String, Value>,
    now: Timestamp,
    types: Types,
) -> Result<Asked, String> {
    let rate = match object.remove("rate") {
        None => None,
        Some(rate) => {
            let rate = rate.as_f64().filter(|rate| *rate >= LEAST_RATE && rate.is_finite());
            Some(
                rate.ok_or_else(|| format!("rate: expected {LEAST_RATE} events a second or more"))?,
            )
        }
    };
    let dry_run = match object.remove("dry_run") {
        None => false,
        Some(Value::Bool(dry_run)) => dry_run,
        Some(_) => return Err("dry_run: expected true or false".to_owned()),
    };
    if let Some(ids) = object.get("ids") {
        let expected = || {
            "ids: expected a list of event ids, and beside it nothing but their source".to_owned()
        };
        let source = match object.get("source") {
            None => SourceName::default(),
            Some(name) => name
                .as_str()
                .and_then(|name| name.parse().ok())
                .ok_or("source: expected the name of a source")?,
        };
        let alone = object.keys().all(|name| name == "ids" || name == "source");
        let ids = ids.as_array().filter(|_| alone).ok_or_else(expected)?;
        if ids.len() > MAX_IDS {
            return Err(format!("ids: more than {MAX_IDS}; use a filter"));
        }
        let key =
            |id: &Value| Some(EventKey { source: source.clone(), id: id.as_str()?.parse().ok()? });
        let keys: Option<Vec<EventKey>> = ids.iter().map(key).collect();
        let mut keys = keys.ok_or_else(expected)?;
        // An id that is named twice is one event.
        let mut seen = BTreeSet::new();
        keys.retain(|key| seen.insert(key.id.clone()));
        let selection = Selection::Ids(keys);
        return Ok(Asked { selection, rate, dry_run });
    }
    let mut pairs = BTreeMap::new();
    for (name, value) in object {
        let Value::String(value) = value else { return Err(format!("{name}: expected a string")) };
        pairs.insert(name, value);
    }
    let filter = filter::from_pairs(&pairs, now, types)?;
    Ok(Asked { selection: Selection::Filter(filter), rate, dry_run })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn selection(body: &[u8]) -> Result<Selection, String> {
        super::asked(body, Timestamp::UNIX_EPOCH, Types::OfContract).map(|asked| asked.selection)
    }

    #[test]
    fn a_selection_is_ids_or_a_filter_with_a_condition() {
        assert!(
            matches!(selection(br#"{"ids":["a","b"]}"#), Ok(Selection::Ids(ids)) if ids.len() == 2)
        );
        assert!(matches!(selection(br#"{"status":"dead_lettered"}"#), Ok(Selection::Filter(_))));
        let dry = super::selection(
            br#"{"ids":["a"],"dry_run":true}"#,
            Timestamp::UNIX_EPOCH,
            Types::OfContract,
        );
        assert!(matches!(dry, Ok((Selection::Ids(_), true))));
        assert!(matches!(selection(br#"{"source":"shop"}"#), Ok(Selection::Filter(_))));
        let of_shop = selection(br#"{"ids":["a"],"source":"shop"}"#);
        assert!(matches!(of_shop, Ok(Selection::Ids(ids)) if ids[0].source.as_str() == "shop"));
        for body in [
            "",
            "[]",
            "{}",
            r#"{"status":""}"#,
            r#"{"status":"","from":"2026-01-01"}"#,
            r#"{"source":"","status":"dead_lettered"}"#,
            r#"{"ids":["a"],"source":""}"#,
            r#"{"status":"dead_lettered","status":"pending"}"#,
            r#"{"ids":"a"}"#,
            r#"{"ids":[1]}"#,
            r#"{"ids":[""]}"#,
            r#"{"ids":["a"],"status":"pending"}"#,
            r#"{"ids":["a"],"source":"The Shop"}"#,
            r#"{"state":"pending"}"#,
            r#"{"status":1}"#,
            r#"{"rate":5}"#,
            r#"{"ids":["a"],"rate":0}"#,
            r#"{"ids":["a"],"rate":-1}"#,
            r#"{"ids":["a"],"rate":"5"}"#,
            r#"{"dry_run":true}"#,
            r#"{"status":"pending","dry_run":"yes"}"#,
            r#"{"q":" "}"#,
        ] {
            assert!(selection(body.as_bytes()).is_err(), "{body}");
        }
    }
}
