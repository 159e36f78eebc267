//! Finds parts of a JSON text without rewriting them: a contact is handed on as the CRM wrote it.

use std::collections::HashMap;

use serde_json::value::RawValue;

/// A JSON text that was checked as a whole.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Json<'a>(&'a RawValue);

impl<'a> Json<'a> {
    pub(crate) fn parse(text: &'a str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text).map(Self)
    }

    /// The text, as it was written.
    pub(crate) fn text(self) -> &'a str {
        self.0.get()
    }

    /// The value at a JSON pointer (RFC 6901). The empty pointer names the whole.
    pub(crate) fn at(self, pointer: &str) -> Option<Json<'a>> {
        let mut value = self;
        for token in pointer.split('/').skip(1) {
            let token = token.replace("~1", "/").replace("~0", "~");
            value = match value.items() {
                Some(items) => *items.get(token.parse::<usize>().ok()?)?,
                None => value.members()?.remove(&token)?,
            };
        }
        Some(value)
    }

    /// The elements, of a list.
    pub(crate) fn items(self) -> Option<Vec<Json<'a>>> {
        let is_list = self.text().starts_with('[');
        let items = is_list.then(|| serde_json::from_str::<Vec<&RawValue>>(self.text()).ok())??;
        Some(items.into_iter().map(Json).collect())
    }

    fn members(self) -> Option<HashMap<String, Json<'a>>> {
        let members: HashMap<String, &RawValue> =
            self.is_object().then(|| serde_json::from_str(self.text()).ok())??;
        Some(members.into_iter().map(|(name, value)| (name, Json(value))).collect())
    }

    pub(crate) fn is_object(self) -> bool {
        self.text().starts_with('{')
    }

    pub(crate) fn is_null(self) -> bool {
        self.text() == "null"
    }

    /// Whether it is a list without elements, an object without members, or `null`.
    pub(crate) fn is_empty(self) -> bool {
        self.is_null()
            || self.items().is_some_and(|items| items.is_empty())
            || self.members().is_some_and(|members| members.is_empty())
    }

    /// A string's characters; a number or a boolean as it was written.
    pub(crate) fn scalar(self) -> Option<String> {
        match self.text().as_bytes().first()? {
            b'"' => serde_json::from_str(self.text()).ok(),
            b'{' | b'[' | b'n' => None,
            _ => Some(self.text().to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_part_is_found_and_keeps_its_text() {
        let text = r#"{"data": [ {"id":  1e400, "a/b": "\u00e9", "n": null}, [] ]}"#;
        let json = Json::parse(text).unwrap();
        assert_eq!(json.at("").unwrap().text(), text);
        assert_eq!(json.at("/data/0/id").unwrap().text(), "1e400");
        assert_eq!(json.at("/data/0/a~1b").unwrap().scalar().unwrap(), "é");
        assert!(json.at("/data/0/n").unwrap().is_null());
        assert!(json.at("/data/1").unwrap().is_empty());
        assert_eq!(json.at("/data").unwrap().items().unwrap().len(), 2);
        for pointer in ["/none", "/data/2", "/data/x", "/data/0/id/x", "/data/-1"] {
            assert!(json.at(pointer).is_none(), "{pointer}");
        }
    }

    #[test]
    fn only_scalars_are_texts() {
        for (json, text) in [
            ("\"a\"", Some("a")),
            ("12345678901234567890123", Some("12345678901234567890123")),
            ("true", Some("true")),
            ("null", None),
            ("{}", None),
            ("[]", None),
        ] {
            assert_eq!(Json::parse(json).unwrap().scalar().as_deref(), text);
        }
    }
}
