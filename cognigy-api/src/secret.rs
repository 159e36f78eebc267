//! Secrets, and masking them in foreign text.

use std::fmt;

use serde_json::Value;
use url::form_urlencoded;
use zeroize::Zeroizing;

const MASK: &str = "[redacted]";

/// A text that is wiped from memory when dropped and never printed.
#[derive(Clone)]
pub(crate) struct SecretText(Zeroizing<String>);

impl SecretText {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("…")
    }
}

/// Masks the secrets of a request in its answer: an API may repeat the request that it refuses.
pub(crate) struct Redactor(Vec<Zeroizing<String>>);

impl Redactor {
    pub(crate) fn new<'a>(secrets: impl IntoIterator<Item = &'a SecretText>) -> Self {
        let mut forms: Vec<_> =
            secrets.into_iter().flat_map(|secret| written_forms(secret.expose())).collect();
        forms.retain(|form| !form.is_empty());
        // Longest first: a form may be part of another one.
        forms.sort_by_key(|form| std::cmp::Reverse(form.len()));
        Self(forms)
    }

    pub(crate) fn text(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), MASK))
    }

    /// Masks in decoded JSON, where it does not matter how the API escaped its characters.
    pub(crate) fn json(&self, value: Value) -> Value {
        match value {
            Value::String(text) => Value::String(self.text(&text)),
            Value::Array(items) => items.into_iter().map(|item| self.json(item)).collect(),
            Value::Object(fields) => fields
                .into_iter()
                .map(|(name, value)| (self.text(&name), self.json(value)))
                .collect(),
            other => other,
        }
    }
}

/// As it is, as the form of a token request holds it, and as JSON holds it.
fn written_forms(secret: &str) -> [Zeroizing<String>; 3] {
    let json = Value::from(secret).to_string();
    [
        secret.to_owned(),
        form_urlencoded::byte_serialize(secret.as_bytes()).collect(),
        json[1..json.len() - 1].to_owned(),
    ]
    .map(Zeroizing::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_is_masked_in_every_form_it_was_sent_in() {
        let secrets = ["a b\"c/ü", "a b", ""].map(SecretText::new);
        let redactor = Redactor::new(&secrets);
        for text in ["x a b\"c/ü y", "x a+b%22c%2F%C3%BC y", "x a b\\\"c/ü y", "x a b y"] {
            assert_eq!(redactor.text(text), "x [redacted] y", "{text}");
        }
        let json = serde_json::json!({"k": ["a b\"c/ü", 1, null], "a b": {"n": "<a b>"}});
        let masked = serde_json::json!({"k": [MASK, 1, null], MASK: {"n": "<[redacted]>"}});
        assert_eq!(redactor.json(json), masked);
        assert_eq!(format!("{secrets:?}"), "[…, …, …]");
    }
}
