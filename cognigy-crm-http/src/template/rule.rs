//! Rules about answers: a status and, if given, something that the body or a header holds.

use std::time::{Duration, SystemTime};

use cognigy_http::MAX_RETRY_AFTER;
use reqwest::header::{HeaderMap, HeaderName};
use serde::Deserialize;

use super::TemplateError;
use crate::json::Json;

/// Matches an answer if everything it names is so.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rule {
    status: Vec<u16>,
    /// The place in the body that the conditions are about.
    pointer: Option<String>,
    /// The header that the conditions are about, instead of the body.
    header: Option<String>,
    /// The text or number there, in any case of its ASCII letters: these are codes, not contact keys.
    equals: Option<String>,
    starts_with: Option<String>,
    contains: Option<String>,
    is: Option<Shape>,
    /// A list of at least so many elements.
    min_items: Option<usize>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Shape {
    /// An empty list, an empty object, or `null`.
    Empty,
    /// No such member.
    Missing,
}

impl Rule {
    /// A rule with conditions on a text: `equals`, `starts_with` and `contains`.
    pub(super) fn about(
        status: Vec<u16>,
        pointer: Option<String>,
        header: Option<String>,
        [equals, starts_with, contains]: [Option<String>; 3],
    ) -> Self {
        Self { status, pointer, header, equals, starts_with, contains, is: None, min_items: None }
    }

    pub(super) fn check(&self, key: &str) -> Result<(), TemplateError> {
        let refuse = |part: &str, why: &str| Err(TemplateError::new(format!("{key}.{part}"), why));
        if self.status.is_empty() {
            return refuse("status", "must name at least one status");
        }
        let texts = [&self.equals, &self.starts_with, &self.contains];
        let about_text = texts.iter().any(|text| text.is_some());
        let about_body = self.is.is_some() || self.min_items.is_some();
        if let Some(pointer) = &self.pointer {
            super::check_pointer(pointer)
                .map_err(|why| TemplateError::new(format!("{key}.pointer"), why))?;
        }
        if self.header.as_ref().is_some_and(|name| HeaderName::try_from(name).is_err()) {
            return refuse("header", "is not the name of a header");
        }
        match (&self.pointer, &self.header) {
            (Some(_), Some(_)) => refuse("header", "cannot stand beside `pointer`"),
            (Some(_), None) if !about_text && !about_body => refuse(
                "pointer",
                "needs a condition: equals, starts_with, contains, is or min_items",
            ),
            (None, Some(_)) if !about_text || about_body => {
                refuse("header", "needs a condition: equals, starts_with or contains")
            }
            (None, None) if about_text || about_body => {
                refuse("pointer", "is missing: the rule has a condition")
            }
            _ => Ok(()),
        }
    }

    /// Whether `status`, `headers` and `body` (where it is JSON) are what the rule describes.
    pub(crate) fn matches(&self, status: u16, headers: &HeaderMap, body: Option<Json<'_>>) -> bool {
        if !self.status.contains(&status) {
            return false;
        }
        if let Some(name) = &self.header {
            return headers
                .get(name)
                .and_then(|value| value.to_str().ok())
                .is_some_and(|text| self.is_told(text));
        }
        let Some(pointer) = &self.pointer else { return true };
        // A body that is not JSON says nothing, not even that something is missing in it.
        let Some(body) = body else { return false };
        let Some(value) = body.at(pointer) else { return self.is == Some(Shape::Missing) };
        let enough = |least: usize| value.items().is_some_and(|items| items.len() >= least);
        match self.is {
            Some(Shape::Missing) => return false,
            Some(Shape::Empty) if !value.is_empty() => return false,
            _ => {}
        }
        if self.min_items.is_some_and(|least| !enough(least)) {
            return false;
        }
        let about_text =
            self.equals.is_some() || self.starts_with.is_some() || self.contains.is_some();
        !about_text || value.scalar().is_some_and(|text| self.is_told(&text))
    }

    fn is_told(&self, text: &str) -> bool {
        self.equals.as_ref().is_none_or(|it| it.eq_ignore_ascii_case(text.trim()))
            && self.starts_with.as_ref().is_none_or(|it| text.starts_with(it.as_str()))
            && self.contains.as_ref().is_none_or(|it| text.contains(it.as_str()))
    }
}

/// A rule for answers that say "not now".
#[derive(Debug, Clone)]
pub(crate) struct Throttled {
    pub(crate) rule: Rule,
    pub(crate) class: Class,
    pub(crate) reset: Option<Reset>,
}

/// What is used up.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Class {
    /// The requests of a few seconds or minutes.
    #[default]
    Short,
    /// The requests of a day or so.
    Quota,
}

/// The header that says when requests are taken again, where a CRM sends no `Retry-After`.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Reset {
    header: String,
    unit: Unit,
}

#[derive(Debug, Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Unit {
    /// The header has the seconds to wait.
    Seconds,
    /// The header has a point in time, in seconds since 1970.
    Epoch,
}

impl Reset {
    pub(super) fn check(&self, key: &str) -> Result<(), TemplateError> {
        match HeaderName::try_from(&self.header) {
            Ok(_) => Ok(()),
            Err(_) => {
                Err(TemplateError::new(format!("{key}.header"), "is not the name of a header"))
            }
        }
    }

    /// The wait from `now` on. A value that is no whole number is ignored, and so is a point in time
    /// that has passed.
    pub(crate) fn wait(&self, headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
        let seconds: u64 = headers.get(&self.header)?.to_str().ok()?.trim().parse().ok()?;
        let seconds = Duration::from_secs(seconds);
        let wait = match self.unit {
            Unit::Seconds => seconds,
            Unit::Epoch => seconds.checked_sub(now.duration_since(SystemTime::UNIX_EPOCH).ok()?)?,
        };
        Some(wait.min(MAX_RETRY_AFTER))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn rule(toml: &str) -> Rule {
        toml::from_str(toml).unwrap()
    }

    #[test]
    fn a_rule_matches_if_all_it_names_is_so() {
        let none = HeaderMap::new();
        let matches = |toml: &str, status, body: &str| {
            rule(toml).check("it").unwrap();
            rule(toml).matches(status, &none, Json::parse(body).ok())
        };
        let coded = "status = [404]\npointer = '/0/code'\nequals = 'NOT_FOUND'";
        assert!(matches(coded, 404, r#"[{"code":"not_found"}]"#));
        assert!(!matches(coded, 400, r#"[{"code":"not_found"}]"#));
        for body in ["[]", "{}", "", "<html>", r#"[{"code":"NOT_FOUND_"}]"#, r#"[{"code":null}]"#] {
            assert!(!matches(coded, 404, body), "{body}");
        }
        assert!(matches("status = [204]", 204, ""));
        let empty = "status = [200]\npointer = '/d'\nis = 'empty'";
        assert!(matches(empty, 200, r#"{"d":[]}"#) && !matches(empty, 200, r#"{"d":[1]}"#));
        assert!(!matches(empty, 200, "{}"), "what is missing is not empty");
        let missing = "status = [200]\npointer = '/d'\nis = 'missing'";
        assert!(matches(missing, 200, "{}") && !matches(missing, 200, "<html>"));
        let several = "status = [200]\npointer = '/d'\nmin_items = 2";
        assert!(matches(several, 200, r#"{"d":[1,2]}"#) && !matches(several, 200, r#"{"d":[1]}"#));
        let words = "status = [403]\npointer = '/m'\nstarts_with = 'Ab'\ncontains = 'cd'";
        assert!(matches(words, 403, r#"{"m":"Ab cd"}"#) && !matches(words, 403, r#"{"m":"Ab"}"#));
    }

    #[test]
    fn a_rule_may_be_about_a_header() {
        let rule = rule("status = [429]\nheader = 'X-Left'\nequals = '0'");
        rule.check("it").unwrap();
        let headers = |value: &'static str| {
            HeaderMap::from_iter([(HeaderName::from_static("x-left"), value.parse().unwrap())])
        };
        assert!(rule.matches(429, &headers("0"), None));
        assert!(!rule.matches(429, &headers("1"), None));
        assert!(!rule.matches(429, &HeaderMap::new(), None));
    }

    #[test]
    fn a_rule_that_says_nothing_is_refused() {
        for toml in [
            "status = []",
            "status = [404]\npointer = '/a'",
            "status = [404]\nequals = 'a'",
            "status = [404]\nheader = 'x'",
            "status = [404]\nheader = 'x y'\nequals = 'a'",
            "status = [404]\nheader = 'x'\npointer = '/a'\nequals = 'a'",
            "status = [404]\npointer = 'a'\nequals = 'a'",
        ] {
            assert!(rule(toml).check("it").is_err(), "{toml}");
        }
    }

    #[test]
    fn a_reset_is_read_in_either_unit() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let wait = |unit: &str, value: &str| {
            let reset: Reset = toml::from_str(&format!("header='x'\nunit='{unit}'")).unwrap();
            let headers =
                HeaderMap::from_iter([(HeaderName::from_static("x"), value.parse().unwrap())]);
            reset.wait(&headers, now).map(|wait| wait.as_secs())
        };
        assert_eq!(wait("seconds", "7"), Some(7));
        assert_eq!(wait("epoch", "1007"), Some(7));
        assert_eq!(wait("epoch", "999"), None);
        assert_eq!(wait("seconds", "-1"), None);
        assert_eq!(wait("seconds", "99999999999"), Some(MAX_RETRY_AFTER.as_secs()));
    }
}
