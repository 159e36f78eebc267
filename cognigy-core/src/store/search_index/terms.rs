//! What events are found by: the words of their texts, and the ids of their contacts and conversations.

use std::collections::BTreeSet;

use sha2::{Digest, Sha256};

use crate::store::{EventFilter, Scanned};

/// A shorter beginning of a word is in too many events to be looked up.
const MIN_PREFIX_BYTES: usize = 3;

/// As many terms are looked up; the longest ones, which are the rarest.
const LOOKED_UP: usize = 3;

/// Words are described by so many bytes of theirs at most.
const WORD_BYTES: usize = 64;

/// How many bytes of an id's digest are kept. Two ids that share them are told apart by their events.
const DIGEST_BYTES: usize = 8;

/// What an event has to have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// The word or the key of the id.
    pub bytes: Vec<u8>,
    /// Whether the beginning of a word is enough.
    pub is_prefix: bool,
}

impl Term {
    /// For a word, or for what words begin with.
    pub(crate) fn of(word: &str, is_prefix: bool) -> Self {
        let cut = cut(word);
        // What is longer than what is described ends with it.
        Self { bytes: cut.as_bytes().to_vec(), is_prefix: is_prefix && cut.len() == word.len() }
    }

    /// The entries of a segment that this term can be are below this, and not below
    /// [`bytes`](Self::bytes).
    #[must_use]
    pub fn end(&self) -> Vec<u8> {
        let mut end = self.bytes.clone();
        // No byte of UTF-8 is 0xff, and a key of an id is never a prefix.
        end.push(if self.is_prefix { 0xff } else { 0 });
        end
    }
}

/// The terms that every event has which a filter matches: some of them, the rarest. None for a filter that
/// names neither words nor ids, or no word that can be looked up.
#[must_use]
pub fn terms_of(filter: &EventFilter) -> Vec<Term> {
    let ids = [&filter.external_id, &filter.user_id, &filter.conversation];
    let keys: Vec<_> = (1..).zip(ids).filter_map(|(kind, id)| key_of(kind, id.as_ref()?)).collect();
    if !keys.is_empty() {
        // An id names few events. Its words need not be looked up.
        return keys.into_iter().map(|bytes| Term { bytes, is_prefix: false }).collect();
    }
    let mut terms: Vec<_> = filter.words.iter().flat_map(|words| words.terms()).collect();
    terms.retain(|term| !term.is_prefix || term.bytes.len() >= MIN_PREFIX_BYTES);
    terms.sort_by_key(|term| std::cmp::Reverse(term.bytes.len()));
    terms.dedup();
    terms.truncate(LOOKED_UP);
    terms
}

/// How an id of a kind stands in a segment: apart from all words, which begin with letters and digits.
fn key_of(kind: u8, id: &str) -> Option<Vec<u8>> {
    let mut key = vec![kind];
    key.extend(Sha256::digest(id).get(..DIGEST_BYTES)?);
    Some(key)
}

/// Everything by which an event can be found.
pub(crate) fn all_of(scanned: &Scanned) -> BTreeSet<Vec<u8>> {
    let event = &scanned.event;
    let ids = [&event.external_id, &event.user_id, &event.conversation];
    let keys = (1..).zip(ids).filter_map(|(kind, id)| key_of(kind, id.as_ref()?));
    let mut terms: BTreeSet<_> = keys.collect();
    for text in lower_texts(scanned) {
        for word in words_of(&text).map(cut) {
            if !terms.contains(word.as_bytes()) {
                terms.insert(word.as_bytes().to_vec());
            }
        }
    }
    terms
}

/// The beginning of a word by which it is described.
fn cut(word: &str) -> &str {
    let end = (0..=WORD_BYTES.min(word.len())).rev().find(|end| word.is_char_boundary(*end));
    &word[..end.unwrap_or_default()]
}

/// The texts in which words are looked for, in lower case.
pub(crate) fn lower_texts(scanned: &Scanned) -> Vec<String> {
    let event = &scanned.event;
    let ids = [&event.external_id, &event.user_id, &event.conversation];
    let mut texts = vec![event.id.as_str().to_lowercase()];
    texts.extend(ids.into_iter().flatten().map(|id| id.to_lowercase()));
    texts.extend(scanned.failure.as_ref().map(|failure| failure.error.to_lowercase()));
    let contact = scanned.contact.as_ref().map(|contact| contact.as_json().as_bytes());
    for json in scanned.body.as_deref().into_iter().chain(contact) {
        if json.contains(&b'\\') {
            texts.extend(unescaped(json));
        }
        texts.push(String::from_utf8_lossy(json).to_lowercase());
    }
    texts
}

/// The strings of a JSON text without their escapes, in lower case.
fn unescaped(json: &[u8]) -> Option<String> {
    let mut rest = vec![serde_json::from_slice::<serde_json::Value>(json).ok()?];
    let mut text = String::new();
    while let Some(value) = rest.pop() {
        match value {
            serde_json::Value::String(string) => {
                text.push_str(&string.to_lowercase());
                text.push('\n');
            }
            serde_json::Value::Array(values) => rest.extend(values),
            serde_json::Value::Object(members) => {
                for (name, value) in members {
                    text.push_str(&name.to_lowercase());
                    text.push('\n');
                    rest.push(value);
                }
            }
            _ => {}
        }
    }
    Some(text)
}

/// The words of a text, in their order.
pub(crate) fn words_of(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let begin = rest.find(char::is_alphanumeric)?;
        let word = &rest[begin..];
        let mut chars = word.char_indices();
        let stands_alone = chars.next().is_some_and(|(_, first)| is_word_of_its_own(first));
        let end = chars
            .find(|(_, next)| stands_alone || !next.is_alphanumeric() || is_word_of_its_own(*next));
        let (word, after) = word.split_at(end.map_or(word.len(), |(end, _)| end));
        rest = after;
        Some(word)
    })
}

/// Whether a word can begin with the character `next` after `previous`.
pub(crate) fn begins_word(previous: Option<char>, next: char) -> bool {
    !next.is_alphanumeric()
        || is_word_of_its_own(next)
        || previous.is_none_or(|it| !it.is_alphanumeric() || is_word_of_its_own(it))
}

/// Characters of scripts that put no space between words: Chinese, Japanese, Thai, Lao, Burmese, Khmer.
fn is_word_of_its_own(character: char) -> bool {
    matches!(
        u32::from(character),
        0x0e00..=0x0eff
            | 0x1000..=0x109f
            | 0x1780..=0x17ff
            | 0x2e80..=0x9fff
            | 0xf900..=0xfaff
            | 0x20000..=0x3ffff
    )
}

#[cfg(test)]
mod tests {
    use super::{Term, begins_word, terms_of, words_of};
    use crate::store::{EventFilter, Words};

    #[test]
    fn a_text_has_words_also_where_a_script_has_no_spaces() {
        let words = |text| words_of(text).collect::<Vec<_>>();
        assert_eq!(words("order-17, ünd 4.5€"), ["order", "17", "ünd", "4", "5"]);
        assert_eq!(words("我想退款abc"), ["我", "想", "退", "款", "abc"]);
        assert_eq!(words("a退b"), ["a", "退", "b"]);
        assert!(words(" -- ").is_empty());
        let begins = |text: &str| {
            let mut previous = None;
            let begins = |next| previous.replace(next);
            let begins = text.chars().map(begins).zip(text.chars());
            begins.map(|(previous, next)| begins_word(previous, next)).collect::<Vec<_>>()
        };
        assert_eq!(begins("ab-c"), [true, false, true, true]);
        assert_eq!(begins("a退b"), [true, true, true]);
    }

    #[test]
    fn what_is_looked_up_is_few_and_rare() {
        let terms = |text: &str| {
            let filter = EventFilter { words: Words::of(text), ..EventFilter::default() };
            let shown = |term: Term| {
                let mark = if term.is_prefix { "*" } else { "" };
                String::from_utf8(term.bytes).unwrap() + mark
            };
            terms_of(&filter).into_iter().map(shown).collect::<Vec<_>>()
        };
        assert_eq!(terms("refund"), ["refund*"]);
        assert_eq!(terms("ab Order-17"), ["order"]);
        assert_eq!(
            terms("3f2504e0-4f89-11d3-9a0c-0305e82c3301"),
            ["0305e82c3301*", "3f2504e0", "4f89"]
        );
        assert!(terms("% ab").is_empty());
        // 64 bytes, and no half character.
        assert_eq!(terms(&"x".repeat(64)), ["x".repeat(64) + "*"]);
        assert_eq!(terms(&"x".repeat(65)), ["x".repeat(64)]);
        assert_eq!(terms(&"é".repeat(40)), ["é".repeat(32)]);
        assert_eq!(terms(&format!("x{}", "é".repeat(40))), [format!("x{}", "é".repeat(31))]);
    }

    #[test]
    fn the_ids_of_contacts_are_no_words() {
        let filter = EventFilter {
            external_id: Some("c-1".to_owned()),
            user_id: Some("c-1".to_owned()),
            words: Words::of("refund"),
            ..EventFilter::default()
        };
        let terms = terms_of(&filter);
        assert_eq!((terms.len(), terms[0].bytes.len(), terms[0].is_prefix), (2, 9, false));
        assert_ne!(terms[0], terms[1]);
    }
}
