//! Filters in words: the same for the operator API and the command line.

use std::collections::BTreeMap;

use cognigy_core::{EventFilter, EventTime, EventType, Timestamp};

/// The names a filter can have, with what they mean.
pub(crate) const NAMES: [(&str, &str); 7] = [
    ("status", "pending, processing, processed, dead_lettering or dead_lettered"),
    ("type", "DIALOG_STARTED, USER_INPUT_RECEIVED, PROFILE_UPDATED or DIALOG_ENDED"),
    ("user", "Exactly this userId"),
    ("external_id", "Exactly this externalId"),
    ("from", "Received at or after this time (RFC 3339 or Unix)"),
    ("to", "Received before this time"),
    ("source", "From this source; the plain path's is cognigy. With ids: whose they are"),
];

/// A filter from its names and values. An empty value is no condition.
pub(crate) fn from_pairs(pairs: &BTreeMap<String, String>) -> Result<EventFilter, String> {
    let mut filter = EventFilter::default();
    for (name, value) in pairs.iter().filter(|(_, value)| !value.is_empty()) {
        let wrong = |problem: &str| format!("{name}: {problem}");
        match name.as_str() {
            "status" => filter.state = Some(value.parse().map_err(wrong)?),
            "type" => {
                let kind = EventType::from_contract(value);
                filter.kind = Some(kind.ok_or_else(|| wrong("is not a type of event"))?);
            }
            "user" => filter.user_id = Some(value.clone()),
            "external_id" => filter.external_id = Some(value.clone()),
            "from" => filter.from = Some(time(value).ok_or_else(|| wrong("is not a time"))?),
            "to" => filter.to = Some(time(value).ok_or_else(|| wrong("is not a time"))?),
            "source" => {
                filter.source = Some(value.parse().map_err(|error| format!("{name}: {error}"))?);
            }
            "q" => return Err("q: searching is not supported yet".to_owned()),
            _ => return Err(format!("{name:?} is not a filter")),
        }
    }
    Ok(filter)
}

fn time(text: &str) -> Option<Timestamp> {
    // In a query an unencoded `+` of an offset arrives as a space.
    let restored = text.replacen(' ', "+", usize::from(text.contains('T')));
    let json = match text.parse::<f64>() {
        Ok(_) => text.to_owned(),
        Err(_) => serde_json::to_string(&restored).ok()?,
    };
    EventTime::from_json(&json).ok().map(|time| time.instant())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(pairs: &[(&str, &str)]) -> Result<EventFilter, String> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        from_pairs(&pairs.iter().map(own).collect())
    }

    #[test]
    fn every_name_is_understood_and_no_other() {
        for (name, _) in NAMES {
            let value = match name {
                "status" => "pending",
                "type" => "DIALOG_ENDED",
                "source" => "shop",
                _ => "2026-01-01T00:00:00Z",
            };
            assert_ne!(filter(&[(name, value)]), Ok(EventFilter::default()), "{name}");
        }
        assert_eq!(filter(&[("user", "")]), Ok(EventFilter::default()));
        for pair in [
            ("status", "done"),
            ("type", "X"),
            ("from", "soon"),
            ("id", "1"),
            ("q", "x"),
            ("source", "The Shop"),
        ] {
            assert!(filter(&[pair]).is_err(), "{pair:?}");
        }
    }

    #[test]
    fn times_come_in_the_forms_of_events() {
        let expected = time("2026-01-01T00:00:00Z");
        assert!(expected.is_some());
        for text in ["1767225600", "1767225600000", "2026-01-01", "2026-01-01T01:00:00 01:00"] {
            assert_eq!(time(text), expected, "{text}");
        }
    }
}
