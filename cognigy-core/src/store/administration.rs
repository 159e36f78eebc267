//! What operators do to stored events beside running them again: drop dead letters, erase a person, and
//! read many events with what a search has to see of them.

use async_trait::async_trait;
use bytes::Bytes;

use super::{Cursor, EventFilter, EventSummary, search_index::IndexRequest};
use crate::{
    event::{EventKey, Timestamp},
    ports::{Contact, StoreError},
};

/// How much of bodies one scan returns, in bytes, beyond its first event.
pub const SCAN_BYTES: usize = 4 * 1024 * 1024;

/// The answer to one key of a discard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Discarded {
    /// Its dead letter is dropped: the event is `discarded`.
    Done,
    /// It is neither `dead_lettering` nor `dead_lettered`, so that there is nothing to drop.
    NotDeadLettered,
    /// Nothing is stored under that key.
    NotFound,
}

/// Which events a scan reads, and what of them.
#[derive(Debug, Clone)]
pub struct ScanRequest {
    /// The conditions. Its error means nothing here, and its words only that events without them may be left
    /// out.
    pub filter: EventFilter,
    /// Only events that are `dead_lettering` or `dead_lettered`, or unfinished after a failed attempt of
    /// their run.
    pub only_failing: bool,
    /// Whether to read bodies and the CRM's answers.
    pub with_contents: bool,
    /// The most events.
    pub limit: usize,
    /// Where the scan before ended; `None` for the first one.
    pub after: Option<Cursor>,
}

/// What one scan read.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ScanPage {
    /// Events that match, the newest first. There may be none although further ones match.
    pub events: Vec<Scanned>,
    /// Where to go on; none if no further event matches.
    pub next: Option<Cursor>,
}

/// An event as a scan reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scanned {
    /// Where a scan after this event begins.
    pub cursor: Cursor,
    /// The event without its body.
    pub event: EventSummary,
    /// The received bytes; none unless asked for, of sensitive events, and once they were forgotten.
    pub body: Option<Bytes>,
    /// What the CRM knew; none unless asked for.
    pub contact: Option<Contact>,
    /// How the last attempt of its present run failed.
    pub failure: Option<LastFailure>,
}

/// How an attempt failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastFailure {
    /// Its error.
    pub error: String,
    /// When it began.
    pub at: Timestamp,
}

/// A person, by one of the ids that events carry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Person {
    /// By the `externalId`.
    ExternalId(String),
    /// By the `userId`.
    UserId(String),
}

impl Person {
    /// The id.
    #[must_use]
    pub fn id(&self) -> &str {
        match self {
            Self::ExternalId(id) | Self::UserId(id) => id,
        }
    }

    /// Whether a body in quarantine names the person: a value of its JSON is the id, or, where the body
    /// is not JSON, the id stands in it as a word.
    #[must_use]
    pub fn is_named_in(&self, body: &[u8]) -> bool {
        let id = self.id();
        let Ok(json) = serde_json::from_slice::<serde_json::Value>(body) else {
            let text = String::from_utf8_lossy(body);
            let is_part = |c: Option<char>| c.is_some_and(char::is_alphanumeric);
            return text.match_indices(id).any(|(at, _)| {
                !is_part(text[..at].chars().next_back())
                    && !is_part(text[at + id.len()..].chars().next())
            });
        };
        let mut rest = vec![json];
        while let Some(value) = rest.pop() {
            match value {
                serde_json::Value::String(string) if string == id => return true,
                serde_json::Value::Number(number) if number.to_string() == id => return true,
                serde_json::Value::Array(values) => rest.extend(values),
                serde_json::Value::Object(members) => {
                    rest.extend(members.into_iter().map(|(_, value)| value));
                }
                _ => {}
            }
        }
        false
    }

    /// Whether a filter that an operator used names the person: by one of its values, or by a word of a
    /// search.
    #[must_use]
    pub fn is_named_in_filter(&self, filter: &str) -> bool {
        let words = serde_json::from_str::<serde_json::Value>(filter).ok();
        let words = words.as_ref().and_then(|filter| filter.get("q")?.as_str());
        self.is_named_in(filter.as_bytes())
            || words.is_some_and(|words| self.is_named_in(words.as_bytes()))
    }
}

/// The receipt of an erasure: what went. It does not say whose it was.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Erasure {
    /// Names it in this store.
    pub id: i64,
    /// Events whose content went.
    pub events: u64,
    /// Quarantined bodies that went.
    pub quarantined: u64,
    /// Dead letters of these events that went from the outbox and from its history.
    pub dead_letters: u64,
    /// The events of those dead letters that the sink had taken before: what it did with them is outside
    /// this store.
    pub sent: Vec<EventKey>,
}

/// What operators do to stored events beside running them again.
///
/// ```
/// use cognigy_core::{
///     Administration, EventArchive, EventFilter, EventStore, PageRequest, Person, Words,
///     memory::MemoryStore, testing::sample,
/// };
///
/// # fn main() -> Result<(), cognigy_core::StoreError> {
/// # futures_executor::block_on(async {
/// let (store, now) = (MemoryStore::new(), sample::start());
/// store.record(sample::incoming(sample::body_from("customer-7", "e1")), now).await?;
///
/// let receipt = store.erase(&Person::ExternalId("customer-7".to_owned()), "anna", now).await?;
/// assert_eq!(receipt.events, 1);
///
/// let all = PageRequest { limit: 50, after: None };
/// let words = EventFilter { words: Words::of("customer-7"), ..EventFilter::default() };
/// assert!(store.list(&words, all).await?.events.is_empty());
/// # Ok(())
/// # })
/// # }
/// ```
#[async_trait]
pub trait Administration: Send + Sync + 'static {
    /// Drops the dead letters of events. One answer for each key, in order.
    ///
    /// ## Contract
    /// * A `dead_lettering` or `dead_lettered` event becomes `discarded`; its history and its body stay.
    /// * Its dead letters that the sink does not have yet are never sent.
    /// * A contact that was stopped by it goes on.
    /// * A discarded event can be run again, and is purged like a processed one.
    /// * Events in other states do not change.
    ///
    /// # Errors
    ///
    /// The store could not discard, or cannot say whether it did. The caller may ask again: an event that is
    /// discarded already is `NotDeadLettered` then.
    async fn discard(
        &self,
        keys: &[EventKey],
        now: Timestamp,
    ) -> Result<Vec<Discarded>, StoreError>;

    /// Erases the content of all stored events of a person, and keeps a receipt that names `by`.
    ///
    /// ## Contract
    /// * Source, id, type, times and states of the events stay, and the digests of their bodies: a
    ///   repetition of a delivery is `Identical`.
    /// * Bodies, kept headers, the CRM's answers, the ids of the contact and of the conversation, errors
    ///   and dead letters of the events go, and so do quarantined bodies that name the person or one of
    ///   the events.
    /// * An event that was not processed becomes `discarded`. A worker that holds it loses its claim, and
    ///   the contact's other events do not wait for it.
    /// * An erased event cannot be run again. An event that comes later is a new one.
    /// * Where the store keeps files of its own, nothing of what went can be read in them.
    ///
    /// # Errors
    ///
    /// The store could not finish: some of the person's events may be erased. Ask again until it succeeds; the receipt
    /// of the last call counts what was left for it.
    async fn erase(&self, person: &Person, by: &str, now: Timestamp)
    -> Result<Erasure, StoreError>;

    /// Events that match, newest first, with what a search has to see of them.
    ///
    /// ## Contract
    /// * Following `next` yields every event that matches and was there at the start exactly once.
    /// * The answer ends early rather than hold more than [`SCAN_BYTES`] of bodies beyond its first event.
    ///   It may also end early, even without an event, rather than look at too many events.
    /// * Sensitive and forgotten bodies are left out.
    ///
    /// # Errors
    ///
    /// The store could not be read. Asking again harms nothing.
    async fn scan(&self, request: &ScanRequest) -> Result<ScanPage, StoreError>;

    /// Describes some events in the index by which [`scan`](Self::scan) and
    /// [`list`](super::EventArchive::list) find words and contacts without reading everything. Returns whether
    /// more is to do now. A store without an index has nothing to do.
    ///
    /// One step takes some hundred milliseconds and holds up no delivery. It may be called, or not,
    /// at any time and by several processes at once.
    ///
    /// ## Contract
    /// * What lists and scans find is the same before and after it, and whatever is stored, run again,
    ///   purged or erased later.
    /// * Once a purge or an erasure has ended, nothing of what went can be read in the index.
    ///
    /// # Errors
    ///
    /// The store could not be read or written. Lists read what is not described; the next call goes on.
    async fn index(&self, request: &IndexRequest) -> Result<bool, StoreError> {
        let _ = request;
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::Person;

    #[test]
    fn a_body_names_a_person_by_a_value_that_is_the_id() {
        let ann = Person::ExternalId("c-1".to_owned());
        for body in [r#"{"externalId":"c-1"}"#, r#"{"a":[{"b":"\u0063-1"}]}"#, "not JSON: c-1."] {
            assert!(ann.is_named_in(body.as_bytes()), "{body}");
        }
        for body in [r#"{"externalId":"c-11"}"#, r#"{"c-1":1}"#, "xc-1", "c-1x", "", "{}"] {
            assert!(!ann.is_named_in(body.as_bytes()), "{body}");
        }
        assert!(Person::UserId("7".to_owned()).is_named_in(br#"{"userId":7}"#));
    }
}
