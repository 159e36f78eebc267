//! Reading JSON objects member by member: what is there, once, and of which kind.
//!
//! The texts of the errors are the same for every format.

use std::{borrow::Cow, collections::HashSet};

use serde_json::value::RawValue;

use crate::event::{
    EventId, EventTime, EventType, InvalidEvent,
    json::{Key, MAX_JSON_DEPTH, Members, is_too_deep},
};

/// The text of a body: UTF-8 that does not nest too deep. Whether it is JSON is not checked.
pub(super) fn text_of(body: &[u8]) -> Result<&str, InvalidEvent> {
    let text =
        std::str::from_utf8(body).map_err(|_| InvalidEvent::new("body", "is not valid UTF-8"))?;
    if is_too_deep(text) {
        let message = format!("nests deeper than {MAX_JSON_DEPTH} levels");
        return Err(InvalidEvent::new("body", message));
    }
    Ok(text)
}

/// The error for a body that is not JSON.
pub(super) fn not_json(error: &serde_json::Error) -> InvalidEvent {
    // The position helps a sender; serde_json's own message could quote content.
    let message = format!("is not valid JSON (line {}, column {})", error.line(), error.column());
    InvalidEvent::new("body", message)
}

/// The error for a body that is not a JSON object: `error` is what parsing it gave.
pub(super) fn not_an_object(text: &str, error: &serde_json::Error) -> InvalidEvent {
    match text.trim_start().starts_with('{') {
        true => not_json(error),
        false => InvalidEvent::new("body", "must be a JSON object"),
    }
}

/// Names a key that came twice. A key can be megabytes; the answer should not be.
pub(super) fn repeated(key: &str) -> InvalidEvent {
    InvalidEvent::new(key.chars().take(64).collect::<String>(), "appears more than once")
}

/// The JSON value in `text`, as it is written.
pub(super) fn value(text: &str) -> Result<&str, InvalidEvent> {
    let value: &RawValue = serde_json::from_str(text).map_err(|error| not_json(&error))?;
    if value.get().starts_with('{') {
        Object::of_text(text)?;
    }
    Ok(value.get())
}

/// A JSON object whose values are unread.
pub(super) struct Object<'a> {
    /// What stands before its keys in the names of fields: nothing at the top level.
    path: String,
    members: Vec<(Cow<'a, str>, &'a RawValue)>,
}

impl<'a> Object<'a> {
    /// The object that `text` is.
    ///
    /// # Errors
    ///
    /// It is not a JSON object, or one of its keys comes twice.
    pub(super) fn of_text(text: &'a str) -> Result<Self, InvalidEvent> {
        let Members(members) =
            serde_json::from_str(text).map_err(|error| not_an_object(text, &error))?;
        let mut keys = HashSet::with_capacity(members.len());
        if let Some((key, _)) = members.iter().find(|(key, _)| !keys.insert(key.as_ref())) {
            return Err(repeated(key));
        }
        drop(keys);
        Ok(Self { path: String::new(), members })
    }

    /// The object `json` that is the value of `key` in this one; `None` if it is another kind of value.
    /// Its own keys may come twice.
    pub(super) fn nested(&self, key: &str, json: &'a str) -> Option<Self> {
        let Members(members) = serde_json::from_str(json).ok()?;
        Some(Self { path: self.path_of(key) + ".", members })
    }

    /// The name of the field `key` in error messages.
    pub(super) fn path_of(&self, key: &str) -> String {
        format!("{}{key}", self.path)
    }

    /// Each value of `key`; more than one only in a nested object.
    pub(super) fn all(&self, key: &str) -> impl Iterator<Item = &'a str> {
        self.members.iter().filter(move |(name, _)| name == key).map(|(_, value)| value.get())
    }

    /// The value of `key` as it is written. `null` counts as absent.
    ///
    /// # Errors
    ///
    /// The key comes twice.
    pub(super) fn get(&self, key: &str) -> Result<Option<&'a str>, String> {
        let mut values = self.all(key);
        let value = values.next();
        match values.next() {
            Some(_) => Err("appears more than once".to_owned()),
            None => Ok(value.filter(|json| *json != "null")),
        }
    }

    /// Whether `key` is there, with any value.
    pub(super) fn has(&self, key: &str) -> bool {
        self.all(key).next().is_some()
    }
}

/// A string.
pub(super) fn string(json: &str) -> Result<Cow<'_, str>, String> {
    if !json.starts_with('"') {
        return Err("must be a string".to_owned());
    }
    // A string that serde_json skipped over can still fail here: a lone surrogate escape.
    serde_json::from_str::<Key<'_>>(json)
        .map(|Key(text)| text)
        .map_err(|_| "must be a valid Unicode string".to_owned())
}

/// A string, or a number as it is written.
pub(super) fn text(json: &str) -> Result<String, String> {
    match json.as_bytes().first() {
        Some(b'-' | b'0'..=b'9') => Ok(json.to_owned()),
        Some(b'"') => string(json).map(Cow::into_owned),
        _ => Err("must be a string or a number".to_owned()),
    }
}

/// A string that is not empty, or a number as it is written.
pub(super) fn filled(json: &str) -> Result<String, String> {
    match text(json)? {
        text if text.is_empty() => Err("must not be empty".to_owned()),
        text => Ok(text),
    }
}

/// An event's id: a string.
pub(super) fn id(json: &str) -> Result<EventId, String> {
    string(json)?.parse().map_err(|error| format!("{error}"))
}

/// An event's type: a string with any name that can be one.
pub(super) fn kind(json: &str) -> Result<EventType, String> {
    kind_named(&string(json)?)
}

/// The type `name`. A name keeps the rules for ids: it is shown in lists and used in filters.
pub(super) fn kind_named(name: &str) -> Result<EventType, String> {
    name.parse::<EventId>().map_err(|error| error.to_string())?;
    Ok(EventType::from_name(name))
}

/// An event's time.
pub(super) fn time(json: &str) -> Result<EventTime, String> {
    EventTime::from_json(json).map_err(|error| error.to_string())
}
