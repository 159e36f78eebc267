//! What a checked template is made of.

use serde::Deserialize;
use serde_json::Value;

use super::{Place, Rule, Text, Values, text::Body};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
pub(crate) enum Method {
    #[default]
    #[serde(rename = "GET")]
    Get,
    #[serde(rename = "POST")]
    Post,
}

/// Which keys a request can express.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct KeyRule {
    without: String,
    ascii: bool,
    max_chars: Option<usize>,
}

impl KeyRule {
    pub(crate) fn takes(&self, key: &str) -> bool {
        let taken = |c: char| !self.ascii || c == ' ' || c.is_ascii_graphic();
        key.chars().all(|c| taken(c) && !self.without.contains(c))
            && self.max_chars.is_none_or(|most| key.chars().count() <= most)
    }
}

/// What becomes of a key that a complete batch does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Missing {
    None,
    Ask,
}

/// The answers whose `Link` header leads to the record that another one was merged into.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Moved {
    pub(crate) status: Vec<u16>,
    pub(crate) rel: String,
}

#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(super) path: Text,
    /// The names of the parameters may hold the name of a field.
    pub(super) query: Vec<(Text, Text)>,
    pub(super) body: Option<Body>,
}

/// A request with all values in it, below the base URL.
#[derive(Debug)]
pub(crate) struct Rendered {
    pub(crate) path: String,
    pub(crate) query: Option<String>,
    pub(crate) body: Option<Value>,
}

impl Request {
    /// `None` where a value would change which path it is.
    pub(crate) fn render(&self, values: Values<'_>) -> Option<Rendered> {
        let path = self.path.render(Place::Path, values);
        // `Url` would take `.` and `..` for steps in the path, and servers take `//` for `/`.
        if path.split('/').skip(1).any(|segment| matches!(segment, "" | "." | "..")) {
            return None;
        }
        let query: Vec<_> = self
            .query
            .iter()
            .map(|(name, text)| {
                let name = name.render(Place::Header, values);
                format!("{name}={}", text.render(Place::Query, values))
            })
            .collect();
        let query = (!query.is_empty()).then(|| query.join("&"));
        let body = self.body.as_ref().map(|body| body.render(values));
        Some(Rendered { path, query, body })
    }

    pub(super) fn texts(&self) -> impl Iterator<Item = &Text> {
        let body = self.body.iter().flat_map(Body::texts);
        let query = self.query.iter().flat_map(|(name, text)| [name, text]);
        std::iter::once(&self.path).chain(query).chain(body)
    }
}

/// Where a record is in an answer, and how it is checked.
#[derive(Debug, Clone)]
pub(crate) struct Found {
    pub(crate) status: Vec<u16>,
    pub(crate) pointer: Text,
    pub(crate) verify: Option<Text>,
}

#[derive(Debug, Clone)]
pub(crate) struct LookUp {
    pub(crate) request: Request,
    pub(crate) key: KeyRule,
    pub(crate) found: Found,
    pub(crate) absent: Vec<Rule>,
    pub(crate) ambiguous: Vec<Rule>,
    pub(crate) moved: Option<Moved>,
    pub(crate) confirm: Option<Confirm>,
}

impl LookUp {
    pub(super) fn names_field(&self) -> bool {
        self.request.texts().any(Text::holds_field)
            || self.found.verify.iter().any(Text::holds_field)
            || self.confirm.iter().any(|it| it.found.verify.iter().any(Text::holds_field))
    }
}

/// The second request, for each record of the first answer.
#[derive(Debug, Clone)]
pub(crate) struct Confirm {
    pub(crate) request: Request,
    pub(crate) id: Text,
    pub(crate) found: Found,
    pub(crate) most: usize,
}

#[derive(Debug, Clone)]
pub(crate) struct Batch {
    pub(crate) most: usize,
    pub(crate) request: Request,
    pub(crate) separator: String,
    pub(crate) key: KeyRule,
    pub(crate) found: Found,
    pub(crate) complete: Option<Rule>,
    pub(crate) missing: Missing,
}

impl Batch {
    pub(crate) fn missing_is_unknown(&self) -> bool {
        self.missing == Missing::None
    }
}

impl Found {
    pub(super) fn texts(&self) -> impl Iterator<Item = &Text> {
        std::iter::once(&self.pointer).chain(&self.verify)
    }
}
