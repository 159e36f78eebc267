//! Texts with placeholders: `{external_id}`, `{external_id|soql}`, `{fields}`, `{version}`.

use std::collections::BTreeMap;

use serde_json::Value;

use super::escape;

/// The language of the text that surrounds a contact key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Language {
    /// `|plain`: the text has no syntax of its own.
    Plain,
    /// `|odata`: inside a quoted string.
    OData,
    /// `|soql`: inside a quoted string.
    Soql,
    /// `|criteria`: a value in a search of Zoho CRM.
    Criteria,
}

impl Language {
    fn named(name: &str) -> Option<Self> {
        Some(match name {
            "plain" => Self::Plain,
            "odata" => Self::OData,
            "soql" => Self::Soql,
            "criteria" => Self::Criteria,
            _ => return None,
        })
    }

    fn escape(self, key: &str) -> String {
        match self {
            Self::Plain => key.to_owned(),
            Self::OData => escape::odata(key),
            Self::Soql => escape::soql(key),
            Self::Criteria => escape::criteria(key),
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    Literal(String),
    /// The contact key; of a batch, all of them with the separator between them.
    Key(Option<Language>),
    /// The CRM's own id of a candidate that is to be confirmed.
    RecordId,
    /// The name of the field with the external id.
    Field,
    /// The names of all fields asked for, with commas between them.
    Fields,
    Variable(String),
}

/// A text with placeholders.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Text(Vec<Piece>);

/// Where a text stands. It decides how values are encoded, so that a template cannot forget to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    Path,
    Query,
    Json,
    Header,
    Pointer,
}

/// What replaces the placeholders that are the same for every look-up.
#[derive(Debug, Clone, Default)]
pub(crate) struct Names {
    pub(crate) external_id_field: String,
    pub(crate) fields: Vec<String>,
    pub(crate) variables: BTreeMap<String, String>,
}

/// What replaces all placeholders.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Values<'a> {
    pub(crate) names: &'a Names,
    pub(crate) keys: &'a [&'a str],
    pub(crate) separator: &'a str,
    pub(crate) record_id: &'a str,
}

impl<'a> Values<'a> {
    pub(crate) fn new(names: &'a Names, keys: &'a [&'a str]) -> Self {
        Self { names, keys, separator: ",", record_id: "" }
    }
}

impl Text {
    /// Reads a text for `place`. Refused are unknown filters, stray braces, and a contact key whose
    /// surroundings have a syntax but whose placeholder names no language: it would not be escaped.
    pub(crate) fn parse(text: &str, place: Place) -> Result<Self, String> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let (before, from) = rest.split_at(open);
            let end = from.strip_prefix('{').and_then(|inside| inside.find('}'));
            let inside =
                end.map(|end| &from[1..=end]).ok_or("has a brace without its other one")?;
            if !before.is_empty() {
                pieces.push(Piece::Literal(before.to_owned()));
            }
            pieces.push(placeholder(inside)?);
            rest = &from[inside.len() + 2..];
        }
        if !rest.is_empty() {
            pieces.push(Piece::Literal(rest.to_owned()));
        }
        let text = Self(pieces);
        text.check_key(place)?;
        Ok(text)
    }

    fn check_key(&self, place: Place) -> Result<(), String> {
        if matches!(place, Place::Header | Place::Pointer) && self.holds_key() {
            return Err("cannot hold {external_id}".to_owned());
        }
        for (n, piece) in self.0.iter().enumerate() {
            if *piece != Piece::Key(None) {
                continue;
            }
            let before = n.checked_sub(1).map(|n| &self.0[n]);
            let (before, after) = (before, self.0.get(n + 1));
            let alone = match place {
                Place::Path => {
                    let ends = matches!(before, Some(Piece::Literal(text)) if text.ends_with('/'));
                    let begins = match after {
                        Some(Piece::Literal(text)) => text.starts_with('/'),
                        Some(_) => false,
                        None => true,
                    };
                    ends && begins
                }
                _ => before.is_none() && after.is_none(),
            };
            if !alone {
                return Err("has text around {external_id}, which must name the language of that \
                     text: {external_id|odata}, |soql, |criteria, or |plain"
                    .to_owned());
            }
        }
        Ok(())
    }

    pub(crate) fn holds_key(&self) -> bool {
        self.0.iter().any(|piece| matches!(piece, Piece::Key(_)))
    }

    pub(crate) fn holds_field(&self) -> bool {
        self.0.contains(&Piece::Field)
    }

    pub(crate) fn holds_record_id(&self) -> bool {
        self.0.contains(&Piece::RecordId)
    }

    /// The variables that it names.
    pub(crate) fn variables(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|piece| match piece {
            Piece::Variable(name) => Some(name.as_str()),
            _ => None,
        })
    }

    /// The text with all values in it, encoded for `place`.
    pub(crate) fn render(&self, place: Place, values: Values<'_>) -> String {
        let names = values.names;
        let mut text = String::new();
        for piece in &self.0 {
            match piece {
                Piece::Literal(literal) if place == Place::Query => {
                    text += &escape::url_literal(literal);
                }
                Piece::Literal(literal) => text += literal,
                Piece::Key(language) => {
                    let separator = match place {
                        Place::Query => escape::url_literal(values.separator),
                        _ => values.separator.to_owned(),
                    };
                    let language = language.unwrap_or(Language::Plain);
                    let keys = values.keys.iter();
                    let keys: Vec<_> =
                        keys.map(|key| encode(place, &language.escape(key))).collect();
                    text += &keys.join(&separator);
                }
                Piece::RecordId => text += &encode(place, values.record_id),
                Piece::Field if place == Place::Pointer => {
                    text += &escape::pointer(&names.external_id_field);
                }
                // Names hold only letters, digits, `_`, `-` and `.`: they are the same everywhere.
                Piece::Field => text += &names.external_id_field,
                Piece::Fields => text += &names.fields.join(","),
                Piece::Variable(name) => {
                    text += names.variables.get(name).map_or("", String::as_str);
                }
            }
        }
        text
    }

    /// Whether its own characters stay as they are in the path of a URL.
    pub(crate) fn is_url_path(&self) -> bool {
        self.0.iter().all(|piece| match piece {
            Piece::Literal(text) => {
                !text.contains(['^', '`', '|', '"', '<', '>', '\\', '?', '#', ' '])
            }
            _ => true,
        })
    }

    fn is_only(&self, piece: &Piece) -> bool {
        self.0.len() == 1 && self.0[0] == *piece
    }
}

fn placeholder(inside: &str) -> Result<Piece, String> {
    let (name, filter) = match inside.split_once('|') {
        Some((name, filter)) => (name, Some(filter)),
        None => (inside, None),
    };
    let language = match filter {
        None => None,
        Some(filter) => Some(Language::named(filter).ok_or_else(|| {
            format!("has the unknown filter `{filter}`; known are odata, soql, criteria and plain")
        })?),
    };
    if language.is_some() && name != "external_id" {
        return Err(format!("has a filter on {{{name}}}; only {{external_id}} takes one"));
    }
    Ok(match name {
        "external_id" => Piece::Key(language),
        "external_id_field" => Piece::Field,
        "fields" => Piece::Fields,
        "record_id" => Piece::RecordId,
        _ => Piece::Variable(name.to_owned()),
    })
}

fn encode(place: Place, value: &str) -> String {
    match place {
        Place::Path | Place::Query => escape::url_value(value),
        Place::Json | Place::Header | Place::Pointer => value.to_owned(),
    }
}

/// A JSON body whose strings are texts. A list with a single element that holds the contact key is
/// repeated for each key, and `["{fields}"]` becomes the list of all fields.
#[derive(Debug, Clone)]
pub(crate) enum Body {
    Text(Text),
    Constant(Value),
    List(Vec<Body>),
    Object(BTreeMap<String, Body>),
}

impl Body {
    pub(crate) fn parse(value: &Value) -> Result<Self, String> {
        Ok(match value {
            Value::String(text) => Self::Text(Text::parse(text, Place::Json)?),
            Value::Array(items) => {
                Self::List(items.iter().map(Self::parse).collect::<Result<_, _>>()?)
            }
            Value::Object(members) => Self::Object(
                members
                    .iter()
                    .map(|(name, value)| Ok((name.clone(), Self::parse(value)?)))
                    .collect::<Result<_, String>>()?,
            ),
            constant => Self::Constant(constant.clone()),
        })
    }

    pub(crate) fn texts(&self) -> Vec<&Text> {
        match self {
            Self::Text(text) => vec![text],
            Self::Constant(_) => vec![],
            Self::List(items) => items.iter().flat_map(Self::texts).collect(),
            Self::Object(members) => members.values().flat_map(Self::texts).collect(),
        }
    }

    pub(crate) fn render(&self, values: Values<'_>) -> Value {
        match self {
            Self::Text(text) => text.render(Place::Json, values).into(),
            Self::Constant(value) => value.clone(),
            Self::List(items) => match items.as_slice() {
                [Self::Text(text)] if text.is_only(&Piece::Fields) => {
                    values.names.fields.iter().map(String::as_str).collect()
                }
                [item] if item.texts().iter().any(|text| text.holds_key()) => values
                    .keys
                    .iter()
                    .map(|key| item.render(Values { keys: &[key], ..values }))
                    .collect(),
                items => items.iter().map(|item| item.render(values)).collect(),
            },
            Self::Object(members) => Value::Object(
                members.iter().map(|(name, value)| (name.clone(), value.render(values))).collect(),
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use serde_json::json;

    use super::*;

    fn names() -> Names {
        Names {
            external_id_field: "Account.ext".to_owned(),
            fields: vec!["a".to_owned(), "b".to_owned()],
            variables: [("version".to_owned(), "v9".to_owned())].into(),
        }
    }

    fn render(text: &str, place: Place, keys: &[&str]) -> String {
        let names = names();
        Text::parse(text, place).unwrap().render(place, Values::new(&names, keys))
    }

    #[test]
    fn values_are_encoded_for_the_place_they_stand_in() {
        assert_eq!(render("/{version}/c/{external_id}", Place::Path, &["a/b"]), "/v9/c/a%2Fb");
        assert_eq!(
            render("/c(k='{external_id|odata}')", Place::Path, &["a'b"]),
            "/c(k='a%27%27b')"
        );
        assert_eq!(
            render("x = '{external_id|soql}'", Place::Query, &["a'b"]),
            "x%20%3D%20%27a%5C%27b%27"
        );
        assert_eq!(render("{external_id}", Place::Json, &["a\"b"]), "a\"b");
        assert_eq!(render("/p/{external_id_field}", Place::Pointer, &[]), "/p/Account/ext");
        assert_eq!(render("C.{external_id_field}", Place::Header, &[]), "C.Account.ext");
        assert_eq!(render("{fields}", Place::Query, &[]), "a,b");
    }

    #[test]
    fn the_keys_of_a_batch_are_escaped_one_by_one() {
        let names = names();
        let text = Text::parse("IN ('{external_id|soql}')", Place::Query).unwrap();
        let values = Values { separator: "','", ..Values::new(&names, &["a'", "b,c"]) };
        assert_eq!(text.render(Place::Query, values), "IN%20(%27a%5C%27%27,%27b%2Cc%27)");
    }

    #[test]
    fn a_body_is_json_whatever_the_key_holds() {
        let body = json!({"in": [{"id": "{external_id}"}], "f": ["{fields}"], "n": [1, 2], "k": "{external_id}"});
        let names = names();
        let body = Body::parse(&body).unwrap();
        let rendered = body.render(Values::new(&names, &["\"},{"]));
        assert_eq!(
            rendered,
            json!({"in": [{"id": "\"},{"}], "f": ["a", "b"], "n": [1, 2], "k": "\"},{"})
        );
        let rendered = body.render(Values::new(&names, &["x", "y"]));
        assert_eq!(rendered["in"], json!([{"id": "x"}, {"id": "y"}]));
    }

    #[test]
    fn a_key_within_other_text_must_name_its_language() {
        for (text, place) in [
            ("/c('{external_id}')", Place::Path),
            ("/c/x{external_id}", Place::Path),
            ("/c/{external_id}x", Place::Path),
            ("/c/{external_id}{version}", Place::Path),
            ("x = '{external_id}'", Place::Query),
            ("id:{external_id}", Place::Json),
            ("{external_id}", Place::Header),
            ("/{external_id}", Place::Pointer),
        ] {
            assert!(Text::parse(text, place).is_err(), "{text}");
        }
        for text in ["{", "}", "{a", "a}", "{external_id|sql}", "{fields|soql}"] {
            assert!(Text::parse(text, Place::Query).is_err(), "{text}");
        }
        assert!(Text::parse("x{external_id|plain}", Place::Query).is_ok());
    }
}
