//! The JSON rules that serde_json leaves open: how deep, and when two texts say the same.

use std::{borrow::Cow, fmt};

use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;

/// The deepest nesting of objects and arrays that is accepted. One less than serde_json's own
/// recursion limit, so that whatever is accepted can be parsed into any type later.
pub const MAX_JSON_DEPTH: usize = 127;

/// Whether brackets nest deeper than [`MAX_JSON_DEPTH`]. Looks at brackets outside strings only, so
/// it works in one pass, without recursion, on text that need not be valid.
pub(crate) fn is_too_deep(text: &str) -> bool {
    let mut depth = 0_usize;
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        match byte {
            b'{' | b'[' => {
                depth += 1;
                if depth > MAX_JSON_DEPTH {
                    return true;
                }
            }
            b'}' | b']' => depth = depth.saturating_sub(1),
            b'"' => loop {
                match bytes.next() {
                    Some(b'\\') => {
                        bytes.next();
                    }
                    None | Some(b'"') => break,
                    Some(_) => {}
                }
            },
            _ => {}
        }
    }
    false
}

/// Whether two bodies say the same: equal bytes, or equal JSON, whatever the order of keys, the
/// white space and the escapes. Numbers are compared exactly, as decimals, so that two amounts that
/// differ beyond a double's precision stay different. What is not JSON equals only itself.
///
/// ```
/// use cognigy_core::same_content;
///
/// assert!(same_content(br#"{"a":1,"b":"\u0041"}"#, br#"{ "b": "A", "a": 1 }"#));
/// assert!(!same_content(br#"{"amount":0.1}"#, br#"{"amount":0.10000000000000001}"#));
/// assert!(!same_content(b"not JSON", b"not  JSON"));
/// ```
#[must_use]
pub fn same_content(one: &[u8], other: &[u8]) -> bool {
    if one == other {
        return true;
    }
    let parse = |body| serde_json::from_slice::<&RawValue>(body).ok();
    match (parse(one), parse(other)) {
        (Some(one), Some(other)) => same_value(one, other).unwrap_or(false),
        _ => false,
    }
}

/// `None` where a value turns out not to be readable (a lone surrogate in a string, say).
fn same_value(one: &RawValue, other: &RawValue) -> Option<bool> {
    let (one, other) = (one.get(), other.get());
    if one == other {
        return Some(true);
    }
    let kind = |text: &str| match text.as_bytes()[0] {
        b'0'..=b'9' => b'-',
        byte => byte,
    };
    if kind(one) != kind(other) {
        return Some(false);
    }
    match kind(one) {
        b'{' => {
            let (mut one, mut other): (Members<'_>, Members<'_>) = (read(one)?, read(other)?);
            one.0.sort_by(|a, b| a.0.cmp(&b.0));
            other.0.sort_by(|a, b| a.0.cmp(&b.0));
            all_same(
                one.0,
                other.0,
                |(a_key, a), (b_key, b)| {
                    if a_key == b_key { same_value(a, b) } else { Some(false) }
                },
            )
        }
        b'[' => all_same(read::<Vec<&RawValue>>(one)?, read(other)?, same_value),
        b'"' => Some(read::<Cow<'_, str>>(one)? == read::<Cow<'_, str>>(other)?),
        b'-' => Some(Decimal::of(one)? == Decimal::of(other)?),
        _ => Some(false),
    }
}

fn read<'a, T: Deserialize<'a>>(text: &'a str) -> Option<T> {
    serde_json::from_str(text).ok()
}

fn all_same<T>(one: Vec<T>, other: Vec<T>, same: impl Fn(T, T) -> Option<bool>) -> Option<bool> {
    if one.len() != other.len() {
        return Some(false);
    }
    for (a, b) in one.into_iter().zip(other) {
        if !same(a, b)? {
            return Some(false);
        }
    }
    Some(true)
}

/// An object's members in order, repeated keys included, values unread.
pub(crate) struct Members<'a>(pub(crate) Vec<(Cow<'a, str>, &'a RawValue)>);

impl<'de> Deserialize<'de> for Members<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Members<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut members = Vec::new();
                while let Some((Key(key), value)) = map.next_entry()? {
                    members.push((key, value));
                }
                Ok(Members(members))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

/// An object key, borrowed where it has no escapes (serde's own `Cow` always copies).
#[derive(serde::Deserialize)]
pub(crate) struct Key<'a>(#[serde(borrow)] pub(crate) Cow<'a, str>);

/// A JSON number, exactly: sign, significant digits without surrounding zeros, power of ten.
#[derive(PartialEq, Eq)]
struct Decimal {
    negative: bool,
    digits: String,
    exponent: i64,
}

impl Decimal {
    fn of(text: &str) -> Option<Self> {
        let (negative, text) = text.strip_prefix('-').map_or((false, text), |rest| (true, rest));
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let all = format!("{whole}{fraction}");
        let significant = all.trim_end_matches('0');
        if significant.trim_start_matches('0').is_empty() {
            return Some(Self { negative: false, digits: String::new(), exponent: 0 });
        }
        let dropped = i64::try_from(all.len() - significant.len()).ok()?;
        let exponent = exponent
            .parse::<i64>()
            .ok()?
            .checked_sub(i64::try_from(fraction.len()).ok()?)?
            .checked_add(dropped)?;
        Some(Self { negative, digits: significant.trim_start_matches('0').to_owned(), exponent })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_json_is_the_same_content() {
        for (one, other) in [
            (r#"{"a":1,"b":[true,null]}"#, "{ \"b\" : [ true , null ] ,\n \"a\" : 1.0 }"),
            (r#"{"a":"\u00e9\n"}"#, "{\"a\":\"é\\u000a\"}"),
            ("[1e2, -0, 0.50]", "[100, 0, 5E-1]"),
        ] {
            assert!(same_content(one.as_bytes(), other.as_bytes()), "{one} {other}");
        }
    }

    #[test]
    fn other_json_is_other_content() {
        for (one, other) in [
            (r#"{"a":1}"#, r#"{"a":2}"#),
            (r#"{"a":1}"#, r#"{"a":1,"b":1}"#),
            (r#"{"a":1}"#, r#"{"a":"1"}"#),
            ("[1,2]", "[2,1]"),
            ("[true]", "[false]"),
            ("[0.1000000000000000055511151231257827]", "[0.1]"),
            ("[9007199254740993]", "[9007199254740992]"),
            ("not json", "not  json"),
        ] {
            assert!(!same_content(one.as_bytes(), other.as_bytes()), "{one} {other}");
        }
    }

    #[test]
    fn depth_counts_brackets_outside_strings() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(!is_too_deep(&nested(MAX_JSON_DEPTH)));
        assert!(is_too_deep(&nested(MAX_JSON_DEPTH + 1)));
        assert!(!is_too_deep(&format!(r#"{{"a":"\"{}"}}"#, "[".repeat(500))));
        assert!(!is_too_deep(&format!("[{}{{}}]", "[],{},".repeat(500))), "side by side");
        assert!(serde_json::from_str::<serde_json::Value>(&nested(MAX_JSON_DEPTH)).is_ok());
    }
}
