//! Finds events by words and by the class of their error, and groups failures: for every store alike, from
//! what it [scans](Administration::scan).
//!
//! A search goes through the events from the newest to the oldest, and looks at [`SEARCHED`] of them at most
//! for each page. A page may therefore be short, or empty, and still have a next one. A store that keeps an
//! [index](crate::search_index) looks at those events only that can match.

use std::collections::BTreeMap;

use super::{
    Administration, Cursor, ErrorClass, EventFilter, EventPage, PAGE_BYTES, PageRequest,
    ScanRequest, Scanned,
    search_index::{Term, begins_word, lower_texts, words_of},
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
/// answer or its last error. The beginning of a longer word counts too.
///
/// ```
/// use cognigy_core::{EventFilter, Words};
///
/// // An event with "Refunds for ORDER-17" has both, one with "prerefund order-17" only one.
/// let filter = EventFilter { words: Words::of("refund order-17"), ..EventFilter::default() };
/// assert_eq!(filter.words, Words::of("  ORDER-17, Refund!"));
/// assert_eq!(Words::of(" "), None);
/// ```
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
        let texts = lower_texts(scanned);
        self.0.iter().all(|word| texts.iter().any(|text| begins_in(text, word)))
    }

    /// What every event has that has all of them.
    pub(super) fn terms(&self) -> impl Iterator<Item = Term> {
        self.0.iter().flat_map(|word| {
            let mut words = words_of(word).peekable();
            // Only at the end may the event's word be longer.
            std::iter::from_fn(move || Some(Term::of(words.next()?, words.peek().is_none())))
        })
    }
}

/// Whether `word` stands in the text where a word begins.
fn begins_in(text: &str, word: &str) -> bool {
    let Some(first) = word.chars().next() else { return true };
    text.match_indices(word).any(|(at, _)| begins_word(text[..at].chars().next_back(), first))
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
    let mut bytes = 0;
    for _ in 0..SEARCHED / request.limit {
        let scan = store.scan(&request).await?;
        for one in scan.events {
            if is_searched(&one, filter) {
                if found.events.len() == page.limit || bytes > PAGE_BYTES {
                    found.next = request.after;
                    return Ok(found);
                }
                bytes += one.event.page_bytes();
                found.events.push(one.event);
            }
            request.after = Some(one.cursor);
        }
        if scan.next.is_none() {
            return Ok(found);
        }
        request.after = scan.next;
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
        let scan = store.scan(&request).await?;
        read += scan.events.len();
        for one in scan.events {
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
        if scan.next.is_none() {
            break;
        }
        request.after = scan.next;
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
    use super::{Words, begins_in};

    #[test]
    fn a_word_is_found_where_it_begins_a_word() {
        for text in ["refund", "refunds", "a refund", "x-refund", "\"refund\"", "退refund"] {
            assert!(begins_in(text, "refund"), "{text}");
        }
        for text in ["", "refun", "prerefund", "1refund"] {
            assert!(!begins_in(text, "refund"), "{text}");
        }
        assert!(begins_in("prerefund, refund", "refund") && begins_in("我想退款", "退款"));
        assert!(begins_in("50%", "%") && begins_in("a", ""));
    }

    #[test]
    fn any_text_has_words_unless_it_is_blank() {
        let words = |text: &str| Words::of(text).map(|words| words.0);
        assert_eq!(words("Refund, order-17!"), Some(vec!["order-17".into(), "refund".into()]));
        assert_eq!(words("%_ '"), Some(vec!["%_".into(), "'".into()]));
        assert_eq!(words("Ä"), Some(vec!["ä".into()]));
        assert_eq!((words(""), words(" \t")), (None, None));
    }
}
