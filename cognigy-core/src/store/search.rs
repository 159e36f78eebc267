//! Finds events by words and by the class of their error, and groups failures: for every store alike, from
//! what it [scans](Administration::scan).
//!
//! No store has an index of words. A search reads events from the newest to the oldest, as many as
//! [`SEARCHED`] for each page. A page may therefore be short, or empty, and still have a next one.

use std::collections::BTreeMap;

use super::{
    Administration, Cursor, ErrorClass, EventFilter, EventPage, PAGE_BYTES, PageRequest,
    ScanRequest, Scanned,
};
use crate::{
    event::{EventKey, SourceName, Timestamp},
    ports::StoreError,
};

/// How many events one page of a search reads: about a second's work.
pub const SEARCHED: usize = 20_000;

/// How many failures are grouped at most, the newest ones.
pub const GROUPED: usize = 200_000;

/// How many groups of errors there are at most, the largest ones.
const GROUPS: usize = 500;

/// How many events a group names.
const SAMPLE: usize = 5;

/// How many events a store scans in one call: with their bodies, and without.
const SCANNED: [usize; 2] = [500, 5000];

/// Words to look for. An event has to have all of them, in any case: in its body, its ids, the CRM's
/// answer or its last error. Part of a longer word counts too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Words(Vec<String>);

impl Words {
    /// The words of a text: what stands between its spaces, without punctuation at the ends, unless it is
    /// nothing else. None for a blank text.
    #[must_use]
    pub fn of(text: &str) -> Option<Self> {
        let lower = text.to_lowercase();
        let word = |word: &str| {
            let inner = word.trim_matches(|c: char| !c.is_alphanumeric());
            (if inner.is_empty() { word } else { inner }).to_owned()
        };
        let mut words: Vec<_> = lower.split_whitespace().map(word).collect();
        words.sort_unstable();
        words.dedup();
        (!words.is_empty()).then_some(Self(words))
    }

    /// Whether the event has all of them.
    #[must_use]
    pub fn are_in(&self, scanned: &Scanned) -> bool {
        let event = &scanned.event;
        let ids = [&event.external_id, &event.user_id, &event.conversation];
        let mut texts = vec![event.id.as_str().to_lowercase()];
        texts.extend(ids.into_iter().flatten().map(|id| id.to_lowercase()));
        texts.extend(scanned.failure.as_ref().map(|failure| failure.error.to_lowercase()));
        let json = scanned.contact.as_ref().map(|contact| contact.as_json().as_bytes());
        for json in scanned.body.as_deref().into_iter().chain(json) {
            let text = String::from_utf8_lossy(json);
            if text.contains('\\') {
                texts.extend(unescaped(json));
            }
            texts.push(text.to_lowercase());
        }
        self.0.iter().all(|word| texts.iter().any(|text| text.contains(word.as_str())))
    }
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

/// For stores: the page of a filter that names words or an error.
///
/// # Errors
///
/// As [`Administration::scan`].
pub async fn search<S: Administration + ?Sized>(
    store: &S,
    filter: &EventFilter,
    page: PageRequest,
) -> Result<EventPage, StoreError> {
    let mut found = EventPage::default();
    if page.limit == 0 {
        return Ok(found);
    }
    let mut request = ScanRequest {
        only_failing: filter.error.is_some(),
        with_contents: filter.words.is_some(),
        filter: filter.clone(),
        limit: SCANNED[usize::from(filter.words.is_none())],
        after: page.after,
    };
    let (mut read, mut bytes) = (0, 0);
    while read < SEARCHED {
        let scanned = store.scan(&request).await?;
        if scanned.is_empty() {
            return Ok(found);
        }
        for one in scanned {
            if is_searched(&one, filter) {
                if found.events.len() == page.limit || bytes > PAGE_BYTES {
                    found.next = request.after;
                    return Ok(found);
                }
                bytes += one.event.page_bytes();
                found.events.push(one.event);
            }
            request.after = Some(one.cursor);
            read += 1;
        }
    }
    found.next = request.after;
    Ok(found)
}

fn is_searched(scanned: &Scanned, filter: &EventFilter) -> bool {
    let has_error = |class: &String| {
        scanned.failure.as_ref().is_some_and(|last| ErrorClass::of(&last.error).name == *class)
    };
    filter.error.as_ref().is_none_or(has_error)
        && filter.words.as_ref().is_none_or(|words| words.are_in(scanned))
}

/// Failures of one class.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErrorGroup {
    /// What their errors have in common.
    pub class: ErrorClass,
    /// How many events failed so last.
    pub count: u64,
    /// When the first of these attempts began.
    pub first: Timestamp,
    /// When the last of these attempts began.
    pub last: Timestamp,
    /// Some of the events, the newest first.
    pub sample: Vec<EventKey>,
}

/// Groups the events that are dead-lettered or being retried by the class of their last error, the largest
/// group first. Of more than [`GROUPED`] such events the newest are grouped.
///
/// # Errors
///
/// As [`Administration::scan`].
pub async fn error_groups<S: Administration + ?Sized>(
    store: &S,
    source: Option<SourceName>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
) -> Result<Vec<ErrorGroup>, StoreError> {
    let mut groups = BTreeMap::<String, ErrorGroup>::new();
    let mut request = ScanRequest {
        filter: EventFilter { source, from, to, ..EventFilter::default() },
        only_failing: true,
        with_contents: false,
        limit: SCANNED[1],
        after: None,
    };
    let mut read = 0;
    while read < GROUPED {
        let scanned = store.scan(&request).await?;
        let Some(last) = scanned.last() else { break };
        request.after = Some(last.cursor);
        read += scanned.len();
        for one in scanned {
            let Some(failure) = one.failure else { continue };
            let (at, class) = (failure.at, ErrorClass::of(&failure.error));
            let group = groups.entry(class.name.clone()).or_insert_with(|| ErrorGroup {
                class,
                count: 0,
                first: at,
                last: at,
                sample: Vec::new(),
            });
            group.count += 1;
            group.first = group.first.min(at);
            group.last = group.last.max(at);
            if group.sample.len() < SAMPLE {
                group.sample.push(EventKey { source: one.event.source, id: one.event.id });
            }
        }
    }
    let mut groups: Vec<_> = groups.into_values().collect();
    groups.sort_by(|one, other| {
        (other.count, other.last, &one.class).cmp(&(one.count, one.last, &other.class))
    });
    groups.truncate(GROUPS);
    Ok(groups)
}

/// Where a scan goes on after the event with this handle.
#[must_use]
pub(crate) fn before(after: Option<Cursor>) -> i64 {
    after.map_or(i64::MAX, |cursor| cursor.0)
}

#[cfg(test)]
mod tests {
    use super::Words;

    #[test]
    fn any_text_has_words_unless_it_is_blank() {
        let words = |text: &str| Words::of(text).map(|words| words.0);
        assert_eq!(words("Refund, order-17!"), Some(vec!["order-17".into(), "refund".into()]));
        assert_eq!(words("%_ '"), Some(vec!["%_".into(), "'".into()]));
        assert_eq!(words("Ä"), Some(vec!["ä".into()]));
        assert_eq!((words(""), words(" \t")), (None, None));
    }
}
