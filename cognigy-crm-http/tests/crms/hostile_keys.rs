//! Contact keys that try to be something else.

use cognigy_crm_http::{CrmPreset, CrmPreset::*};
use percent_encoding::percent_decode_str;

use crate::{
    Told, crm, find_key, record,
    stand_in::{Act, Seen, StandIn, json},
};

/// The answer of a CRM whose only contact has this external id.
fn holding(preset: CrmPreset, id: &str, seen: &Seen) -> Act {
    let (record, answer) = record(preset, id);
    let filtered = preset == Dynamics && seen.target().contains("$filter=");
    json("200 OK", &if filtered { format!(r#"{{"value":[{record}]}}"#) } else { answer })
}

async fn with(preset: CrmPreset, id: &'static str) -> StandIn {
    StandIn::start(move |_, seen| holding(preset, id, seen)).await
}

const HOSTILE: [&str; 22] = [
    "%",
    "%27",
    "'",
    "' OR Name != '",
    "/../",
    "../..",
    "a/b",
    "*",
    "\\",
    "\\'",
    ",",
    "a,b",
    "a\nb",
    "a\r\nX-Evil: 1",
    "😀",
    "a b",
    "a&b=c#d?e",
    "\"",
    "{external_id}",
    "a+b",
    "\u{0}",
    "é",
];

/// The text that stands between `before` and `after` in the decoded target.
fn between<'t>(target: &'t str, before: &str, after: &str) -> Option<&'t str> {
    target.split_once(before)?.1.rsplit_once(after).map(|(key, _)| key)
}

/// The key that the CRM reads in a request, as its documents say to read it.
fn read(preset: CrmPreset, target: &str) -> String {
    let decode = |text: &str| percent_decode_str(text).decode_utf8().unwrap().into_owned();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let parameter = |name: &str| {
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(it, _)| *it == name).map(|(_, value)| decode(value))
    };
    let last = || decode(path.rsplit('/').next().unwrap());
    match preset {
        HubSpot | Intercom => last(),
        Zoho => parameter("ids").unwrap_or_else(last),
        Salesforce => {
            let q = parameter("q").unwrap();
            let literal = between(&q, " = '", "' LIMIT 2").unwrap();
            let mut chars = literal.chars();
            let mut key = String::new();
            while let Some(c) = chars.next() {
                assert!(c != '\'' && c != '\n' && c != '\r', "the literal ends early: {q}");
                key.push(match c {
                    '\\' => match chars.next().unwrap() {
                        'n' => '\n',
                        'r' => '\r',
                        other => other,
                    },
                    c => c,
                });
            }
            key
        }
        Zendesk => match parameter("external_ids") {
            Some(ids) => {
                assert!(!ids.contains(','), "two ids: {ids}");
                ids
            }
            None => parameter("external_id").unwrap(),
        },
        Dynamics => {
            let filter = parameter("$filter");
            let text = filter.clone().unwrap_or_else(|| decode(path));
            let (before, after) =
                if filter.is_some() { ("new_extid eq '", "'") } else { ("(new_extid='", "')") };
            let literal = between(&text, before, after).unwrap().replace("''", "\u{1}");
            assert!(!literal.contains('\''), "the literal ends early: {text}");
            if filter.is_none() {
                assert!(
                    !literal.contains(['/', '<', '*', '%', '&', ':', '\\', '?', '+']),
                    "{text}"
                );
            }
            literal.replace('\u{1}', "'")
        }
        Pipedrive => parameter("term").unwrap(),
        Freshdesk => parameter("unique_external_id").unwrap(),
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_hostile_key_arrives_exactly_as_it_is() {
    for preset in CrmPreset::ALL {
        let server = with(preset, "another").await;
        let crm = crm(preset, &server);
        for key in HOSTILE {
            let before = server.seen().len();
            let told = find_key(&crm, key).await;
            let seen = server.seen();
            assert_eq!(seen.len(), before + 1, "{preset} {key:?}: {told:?}");
            assert_eq!(read(preset, seen[before].target()), key, "{preset}");
            assert_eq!(seen[before].header("x-evil"), None);
            if preset != Pipedrive {
                assert!(matches!(told, Told::NoContact), "{preset} {key:?}: {told:?}");
            }
        }
    }
}

#[tokio::test]
async fn a_key_of_dots_is_asked_in_another_form_or_declined() {
    for preset in CrmPreset::ALL {
        let server = with(preset, "another").await;
        let crm = crm(preset, &server);
        for key in [".", ".."] {
            let before = server.seen().len();
            let told = find_key(&crm, key).await;
            if matches!(preset, HubSpot | Intercom) {
                assert!(told.is_permanent(), "{preset}");
                assert_eq!(told.message(), "this CRM cannot be asked for such a contact key");
                assert_eq!(server.accepted(), 0, "{preset}");
            } else {
                assert_eq!(read(preset, server.seen()[before].target()), key, "{preset}");
            }
        }
    }
}

#[tokio::test]
async fn a_key_that_no_url_can_hold_is_declined() {
    for preset in CrmPreset::ALL {
        let server = with(preset, "another").await;
        let crm = crm(preset, &server);
        for key in ["k".repeat(10_000), "😀".repeat(2500)] {
            let told = find_key(&crm, &key).await;
            assert!(told.is_permanent(), "{preset}");
            assert_eq!(told.message(), "the contact key is too long to ask the CRM for");
        }
        assert_eq!(server.accepted(), 0);
    }
}

#[tokio::test]
async fn a_record_that_a_hostile_key_names_is_found() {
    for preset in CrmPreset::ALL {
        if preset == Pipedrive {
            continue;
        }
        let asked = move |_, seen: &Seen| holding(preset, &read(preset, seen.target()), seen);
        let server = StandIn::start(asked).await;
        let crm = crm(preset, &server);
        for key in HOSTILE {
            let found = record(preset, key).0;
            assert_eq!(find_key(&crm, key).await, Told::Contact(found), "{preset} {key:?}");
        }
        let before = server.seen().len();
        assert!(find_key(&crm, "").await.is_permanent());
        assert_eq!(server.seen().len(), before);
    }
}
