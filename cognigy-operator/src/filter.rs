//! Filters as names and values, the same for the operator API and the command line.

mod duration;

use std::collections::BTreeMap;

use cognigy_core::{EventFilter, EventTime, EventType, State, Timestamp, Words};

pub use duration::duration;

/// The names of filters and their meaning.
pub const NAMES: [(&str, &str); 11] = [
    ("status", "pending, processing, processed, dead_lettering, dead_lettered or discarded"),
    (
        "type",
        "DIALOG_STARTED, USER_INPUT_RECEIVED, PROFILE_UPDATED, DIALOG_ENDED, or a type of the source's own",
    ),
    ("user", "Exactly this userId"),
    ("external_id", "Exactly this externalId"),
    (
        "from",
        "Received at or after this time (RFC 3339, Unix time, or a duration such as 1h: that long ago)",
    ),
    ("to", "Received before this time"),
    (
        "source",
        "From this source; the source of the plain path is cognigy. With ids: the source of those ids",
    ),
    ("conversation", "Of exactly this conversation"),
    ("correlation", "not_asked, matched, none, ambiguous or failed: what asking the CRM came to"),
    (
        "error",
        "Dead-lettered or being retried, with a last error of this class (see the command errors)",
    ),
    (
        "q",
        "With all of these words, or words that begin so, in any case: in the body, the ids, the contact or the last error",
    ),
];

/// Which types of events there may be. If there are only the contract's, another name is a mistake.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Types {
    /// Those of the contract.
    OfContract,
    /// Those of the contract, and others that sources have.
    Any,
}

/// Makes a filter from names and values, at `now`. An empty value is refused: without it the filter
/// would select more.
///
/// # Errors
///
/// What is wrong with them, for the operator who wrote them.
pub fn from_pairs(
    pairs: &BTreeMap<String, String>,
    now: Timestamp,
    types: Types,
) -> Result<EventFilter, String> {
    let mut filter = EventFilter::default();
    for (name, value) in pairs {
        let wrong = |problem: &str| format!("{name}: {problem}");
        if value.is_empty() && NAMES.iter().any(|(known, _)| known == name) {
            return Err(wrong("is empty; leave it out, or name what to look for"));
        }
        if value.len() > LONGEST {
            return Err(wrong(&format!("is longer than {LONGEST} bytes")));
        }
        match name.as_str() {
            "status" => filter.state = Some(state(value).map_err(|problem| wrong(&problem))?),
            "type" => filter.kind = Some(kind(value, types).map_err(|problem| wrong(&problem))?),
            "user" => filter.user_id = Some(value.clone()),
            "external_id" => filter.external_id = Some(value.clone()),
            "from" => filter.from = Some(time(value, now).ok_or_else(|| wrong(NO_TIME))?),
            "to" => filter.to = Some(time(value, now).ok_or_else(|| wrong(NO_TIME))?),
            "source" => {
                filter.source = Some(value.parse().map_err(|error| format!("{name}: {error}"))?);
            }
            "conversation" => filter.conversation = Some(value.clone()),
            "correlation" => {
                filter.correlation =
                    Some(value.parse().map_err(|error| format!("{name}: {error}"))?);
            }
            "error" => filter.error = Some(value.clone()),
            "q" => {
                let words = Words::of(value).ok_or_else(|| wrong("has no word"))?;
                filter.words = Some(words);
            }
            _ => return Err(format!("{name:?} is not a filter")),
        }
    }
    Ok(filter)
}

/// How long a value may be, in bytes. A longer one does not fit into a request's head either.
const LONGEST: usize = 64 * 1024;

const NO_TIME: &str = "is not a time: expected one such as 2026-01-31T12:00:00Z, Unix seconds, or a \
                       duration such as 1h for that long ago";

fn state(text: &str) -> Result<State, String> {
    text.parse().map_err(|_| {
        format!("{text:?} is not a status; there are {}", listed(&State::ALL.map(State::as_str)))
    })
}

fn kind(text: &str, types: Types) -> Result<EventType, String> {
    if types == Types::Any {
        return Ok(EventType::from_name(text));
    }
    EventType::from_contract(text).ok_or_else(|| {
        let known: Vec<_> = EventType::CONTRACT.iter().map(EventType::as_str).collect();
        format!("{text:?} is not a type of event; there are {}", listed(&known))
    })
}

/// `a, b and c`
fn listed(names: &[&str]) -> String {
    match names {
        [] => String::new(),
        [name] => (*name).to_owned(),
        [names @ .., last] => format!("{} and {last}", names.join(", ")),
    }
}

fn time(text: &str, now: Timestamp) -> Option<Timestamp> {
    if let Ok(ago) = duration(text) {
        return now.checked_sub_signed(chrono::TimeDelta::from_std(ago).ok()?);
    }
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

    fn now() -> Timestamp {
        time("2026-01-01T00:00:00Z", Timestamp::UNIX_EPOCH).unwrap()
    }

    fn filter(pairs: &[(&str, &str)]) -> Result<EventFilter, String> {
        let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
        from_pairs(&pairs.iter().map(own).collect(), now(), Types::OfContract)
    }

    #[test]
    fn every_name_is_understood_and_no_other() {
        for (name, _) in NAMES {
            let value = match name {
                "status" => "pending",
                "type" => "DIALOG_ENDED",
                "source" => "shop",
                "correlation" => "matched",
                _ => "2026-01-01T00:00:00Z",
            };
            assert_ne!(filter(&[(name, value)]), Ok(EventFilter::default()), "{name}");
            let beside = if name == "user" { ("external_id", "c1") } else { ("user", "u1") };
            let refused = filter(&[beside, (name, "")]).unwrap_err();
            assert!(refused.starts_with(&format!("{name}: is empty")), "{refused}");
        }
        for pair in [
            ("status", "done"),
            ("type", "X"),
            ("from", "soon"),
            ("id", "1"),
            ("q", " "),
            ("q", ""),
            ("correlation", "maybe"),
            ("source", "The Shop"),
        ] {
            assert!(filter(&[pair]).is_err(), "{pair:?}");
        }
    }

    #[test]
    fn sources_with_types_of_their_own_are_searched_by_those() {
        let pairs = BTreeMap::from([("type".to_owned(), "com.example.order".to_owned())]);
        let found = from_pairs(&pairs, now(), Types::Any).unwrap();
        assert_eq!(found.kind, Some(EventType::from_name("com.example.order")));
        assert!(from_pairs(&pairs, now(), Types::OfContract).is_err());
    }

    #[test]
    fn a_refusal_lists_what_there_is() {
        let refused = filter(&[("status", "done")]).unwrap_err();
        assert_eq!(
            refused,
            "status: \"done\" is not a status; there are pending, processing, processed, \
             dead_lettering, dead_lettered and discarded"
        );
        let refused = filter(&[("type", "dialog_ended")]).unwrap_err();
        assert!(refused.ends_with("PROFILE_UPDATED and DIALOG_ENDED"), "{refused}");
    }

    #[test]
    fn times_come_in_the_forms_of_events_and_as_how_long_ago() {
        for text in ["1767225600", "1767225600000", "2026-01-01", "2026-01-01T01:00:00 01:00", "0s"]
        {
            assert_eq!(time(text, now()), Some(now()), "{text}");
        }
        let ago = |text| time(text, now()).map(|time| (now() - time).num_seconds());
        assert_eq!((ago("1h"), ago("30d"), ago("-1h")), (Some(3600), Some(2_592_000), None));
    }
}
