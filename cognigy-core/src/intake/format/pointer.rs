//! JSON pointers (RFC 6901): where in a body an operator says that a field is.

use std::{borrow::Cow, fmt, str::FromStr};

use serde_json::value::RawValue;

use crate::event::json::Members;

/// A JSON pointer (RFC 6901), such as `/data/customer/id`: each token, after a `/`, names a member of an
/// object or counts an element of an array from 0. `~1` stands for a `/` in a name and `~0` for a `~`.
/// The empty pointer is the whole document.
///
/// ```
/// use cognigy_core::JsonPointer;
///
/// let pointer: JsonPointer = "/data/customer/id".parse()?;
/// assert_eq!(pointer.to_string(), "/data/customer/id");
/// assert!("data.customer.id".parse::<JsonPointer>().is_err());
/// # Ok::<(), cognigy_core::InvalidJsonPointer>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JsonPointer {
    text: Box<str>,
    tokens: Vec<Box<str>>,
}

/// Not a JSON pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InvalidJsonPointer {
    /// It is not empty and does not begin with `/`.
    #[error("a JSON pointer must begin with `/`, for example `/data/customer/id`")]
    NoSlash,
    /// It has a `~` that neither `0` nor `1` follows.
    #[error("in a JSON pointer, `~` must be written `~0`, and a `/` in a name `~1`")]
    Tilde,
}

impl FromStr for JsonPointer {
    type Err = InvalidJsonPointer;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.split('/');
        if parts.next().is_some_and(|before| !before.is_empty()) {
            return Err(InvalidJsonPointer::NoSlash);
        }
        let tokens = parts.map(unescape).collect::<Result<_, _>>()?;
        Ok(Self { text: text.into(), tokens })
    }
}

fn unescape(token: &str) -> Result<Box<str>, InvalidJsonPointer> {
    let mut parts = token.split('~');
    let mut name = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (character, rest) = match part.as_bytes().first() {
            Some(b'0') => ('~', &part[1..]),
            Some(b'1') => ('/', &part[1..]),
            _ => return Err(InvalidJsonPointer::Tilde),
        };
        name.push(character);
        name.push_str(rest);
    }
    Ok(name.into())
}

impl fmt::Display for JsonPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl JsonPointer {
    /// The names and numbers, unescaped.
    pub(super) fn tokens(&self) -> &[Box<str>] {
        &self.tokens
    }
}

/// Where pointers look.
pub(super) trait PointerRoot {
    /// The JSON text of the value that `tokens` lead to, if there is one.
    ///
    /// # Errors
    ///
    /// Two values could be meant.
    fn find(&self, tokens: &[Box<str>]) -> Result<Option<Cow<'_, str>>, &'static str>;
}

/// A JSON text.
impl PointerRoot for &str {
    fn find(&self, tokens: &[Box<str>]) -> Result<Option<Cow<'_, str>>, &'static str> {
        Ok(follow(self, tokens)?.map(Cow::Borrowed))
    }
}

/// The value in `json` that `tokens` lead to. `json` is valid and nests no deeper than is allowed.
pub(super) fn follow<'a>(
    json: &'a str,
    tokens: &[Box<str>],
) -> Result<Option<&'a str>, &'static str> {
    let mut value = json.trim_ascii();
    for token in tokens {
        let next = match value.as_bytes().first() {
            Some(b'{') => member(value, token)?,
            Some(b'[') => element(value, token),
            _ => None,
        };
        match next {
            Some(next) => value = next,
            None => return Ok(None),
        }
    }
    Ok(Some(value))
}

fn member<'a>(object: &'a str, name: &str) -> Result<Option<&'a str>, &'static str> {
    let Members(members) = serde_json::from_str(object)
        .map_err(|_| "leads through an object whose keys are not valid Unicode")?;
    let mut named = members.into_iter().filter(|(key, _)| key == name).map(|(_, value)| value);
    let value = named.next();
    match named.next() {
        Some(_) => Err("leads through a key that appears more than once"),
        None => Ok(value.map(RawValue::get)),
    }
}

fn element<'a>(array: &'a str, index: &str) -> Option<&'a str> {
    // RFC 6901, section 4: digits, without a leading zero.
    let is_index = index == "0" || !index.starts_with('0');
    if !is_index || !index.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let elements: Vec<&RawValue> = serde_json::from_str(array).ok()?;
    elements.get(index.parse::<usize>().ok()?).map(|element| element.get())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn find(json: &str, pointer: &str) -> Option<String> {
        let pointer: JsonPointer = pointer.parse().unwrap();
        follow(json, pointer.tokens()).unwrap().map(ToOwned::to_owned)
    }

    #[test]
    fn the_examples_of_the_rfc_are_found() {
        let json = r#" {"foo": ["bar", "baz"], "": 0, "a/b": 1, "c%d": 2, "e^f": 3, "g|h": 4,
            "i\\j": 5, "k\"l": 6, " ": 7, "m~n": 8} "#;
        for (pointer, expected) in [
            ("/foo", r#"["bar", "baz"]"#),
            ("/foo/0", "\"bar\""),
            ("/", "0"),
            ("/a~1b", "1"),
            ("/c%d", "2"),
            ("/e^f", "3"),
            ("/g|h", "4"),
            ("/i\\j", "5"),
            ("/k\"l", "6"),
            ("/ ", "7"),
            ("/m~0n", "8"),
            ("", json.trim()),
        ] {
            assert_eq!(find(json, pointer).as_deref(), Some(expected), "{pointer}");
        }
        assert_eq!(find(r#"{"~1":1}"#, "/~01").as_deref(), Some("1"), "~01 is ~1, not a slash");
    }

    #[test]
    fn what_is_not_there_is_not_found() {
        let json = r#"{"a":[10,20],"b":{"c":null}}"#;
        for pointer in [
            "/x",
            "/a/2",
            "/a/-",
            "/a/01",
            "/a/+1",
            "/a/",
            "/a/0/0",
            "/b/c/d",
            "//",
            "/a/99999999999999999999",
        ] {
            assert_eq!(find(json, pointer), None, "{pointer}");
        }
        assert_eq!(find(json, "/b/c").as_deref(), Some("null"));
    }

    #[test]
    fn a_key_that_comes_twice_on_the_way_is_ambiguous() {
        let pointer: JsonPointer = "/a/b".parse().unwrap();
        assert!(follow(r#"{"a":{"b":1,"b":1}}"#, pointer.tokens()).is_err());
        assert!(follow(r#"{"a":{"b":1,"c":1,"c":1}}"#, pointer.tokens()).is_ok());
        assert!(follow(r#"{"a":{"\ud800":1}}"#, pointer.tokens()).is_err());
    }

    #[test]
    fn what_is_no_pointer_is_refused_with_the_reason() {
        for text in ["a", "#/a", " /a", "~"] {
            assert_eq!(text.parse::<JsonPointer>(), Err(InvalidJsonPointer::NoSlash), "{text}");
        }
        for text in ["/~", "/a~2", "/~~0", "/a~/b"] {
            assert_eq!(text.parse::<JsonPointer>(), Err(InvalidJsonPointer::Tilde), "{text}");
        }
    }
}
