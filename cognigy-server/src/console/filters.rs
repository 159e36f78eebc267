//! The form for the filters of `/admin/events`, and what it selects.

use std::collections::BTreeMap;

use actix_web::HttpRequest;
use cognigy_core::{Correlation, State};
use maud::{Markup, html};
use serde_json::Value;

use super::{page::Sorry, session::Viewer, text::link};
use crate::{app::App, filter, http::parameters};

pub(super) type Pairs = BTreeMap<String, String>;

/// The parameters of a page. A field that is left blank is no condition.
pub(super) fn pairs_of(request: &HttpRequest) -> Result<Pairs, Sorry> {
    let mut pairs = parameters(request)?;
    pairs.retain(|_, value| !value.trim().is_empty());
    Ok(pairs)
}

/// The address of a page with these parameters.
pub(super) fn address(path: &str, pairs: &Pairs) -> String {
    let pairs: Vec<_> = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    link(path, &pairs)
}

/// The body of a request to the operator API that selects the same.
pub(super) fn selection(pairs: &Pairs, more: &[(&str, Value)]) -> Vec<u8> {
    let pairs = pairs.iter().map(|(name, value)| (name.as_str(), Value::from(value.as_str())));
    let all: serde_json::Map<String, Value> = pairs
        .chain(more.iter().map(|(name, value)| (*name, value.clone())))
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    Value::Object(all).to_string().into_bytes()
}

/// What a filter asks for, in words.
pub(super) fn in_words(pairs: &Pairs) -> Markup {
    let conditions = pairs.iter().filter(|(name, _)| *name != "cursor" && *name != "limit");
    html! {
        ul.conditions {
            @for (name, value) in conditions {
                li { span.name { (name) } " " (super::text::user(value)) }
            }
        }
    }
}

/// The meaning of a filter, as the operator API tells it.
fn help(name: &str) -> &'static str {
    filter::NAMES.iter().find(|(known, _)| *known == name).map_or("", |(_, help)| help)
}

fn text(pairs: &Pairs, name: &str, label: &str, placeholder: &str) -> Markup {
    let (id, about) = (format!("f-{name}"), format!("f-{name}-help"));
    html! {
        div.field {
            label for=(id) { (label) }
            input id=(id) name=(name) value=(pairs.get(name).map_or("", String::as_str))
                placeholder=[(!placeholder.is_empty()).then_some(placeholder)]
                aria-describedby=(about) autocomplete="off" spellcheck="false";
            span.spoken id=(about) { (help(name)) }
        }
    }
}

fn choice(pairs: &Pairs, name: &str, label: &str, values: &[String]) -> Markup {
    let (id, chosen) = (format!("f-{name}"), pairs.get(name).map_or("", String::as_str));
    let is_other = !chosen.is_empty() && values.iter().all(|value| value != chosen);
    html! {
        div.field {
            label for=(id) { (label) }
            select id=(id) name=(name) {
                option value="" { "any" }
                @for value in values {
                    option value=(value) selected[value == chosen] { (value) }
                }
                @if is_other { option value=(chosen) selected { (super::text::Seen(chosen)) } }
            }
        }
    }
}

/// The form. The filters that are used most come first, and the others open if one of them is used.
pub(super) fn form(app: &App, viewer: &Viewer, path: &str, pairs: &Pairs) -> Markup {
    const OTHERS: [&str; 7] =
        ["user", "external_id", "conversation", "correlation", "error", "from", "to"];
    let sources = app.pipelines.iter().map(|source| source.telemetry.label().to_owned());
    let sources: Vec<String> = sources.collect();
    let states = State::ALL.map(|state| state.as_str().to_owned());
    let correlations = Correlation::ALL.map(|it| it.as_str().to_owned());
    let is_open = OTHERS.iter().any(|name| pairs.contains_key(*name));
    html! {
        form.filters method="get" action=(path) role="search" aria-label="Filter" {
            div.row {
                @if viewer.operator.role().sees_bodies() {
                    (text(pairs, "q", "Words", "in body, ids, contact, error"))
                }
                (choice(pairs, "status", "Status", &states))
                (text(pairs, "type", "Type", "USER_INPUT_RECEIVED"))
                @if sources.len() > 1 || pairs.contains_key("source") {
                    (choice(pairs, "source", "Source", &sources))
                }
            }
            details open[is_open] {
                summary { "More filters" }
                div.row {
                    (text(pairs, "external_id", "External id", ""))
                    (text(pairs, "user", "User id", ""))
                    (text(pairs, "conversation", "Conversation", ""))
                    (choice(pairs, "correlation", "Correlation", &correlations))
                    (text(pairs, "error", "Error class", ""))
                    (text(pairs, "from", "Received from", "1h, 2026-01-31, Unix time"))
                    (text(pairs, "to", "Received before", "10m, 2026-01-31"))
                }
            }
            div.actions {
                button.main { "Show" }
                @if !pairs.is_empty() { a.button href=(path) { "Clear" } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_is_the_body_that_the_api_takes() {
        let pairs = Pairs::from([("status".to_owned(), "pending".to_owned())]);
        let body = selection(&pairs, &[("dry_run", true.into())]);
        assert_eq!(body, br#"{"dry_run":true,"status":"pending"}"#);
        assert_eq!(address("/x", &pairs), "/x?status=pending");
    }
}
