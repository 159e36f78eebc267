//! A segment as a store keeps it: its terms in order, cut into parts, each with the events that have it.
//!
//! An entry of a part is: how many bytes its term shares with the term before, how many more it has, and
//! these; how many events have it, and their distances from one another. Numbers are LEB128. Where more than
//! [`MANY`] events have a term, a bit for each event of the segment is shorter, and takes the place of the
//! distances.

use std::collections::HashMap;

use super::{Offsets, Term, terms::all_of};
use crate::store::Scanned;

/// A part ends once it has so many bytes: SQLite keeps rows of this size on the pages of their tree.
const PART_BYTES: usize = 800;

/// From here on a bit for each event is shorter than the distances.
const MANY: usize = 512;

/// An event with more terms is not described: it is read by every search.
const EVENT_TERMS: usize = 4000;

/// How much of terms a segment collects, in bytes. What does not fit is not described.
const SEGMENT_BYTES: usize = 8 * 1024 * 1024;

/// What a term costs beside its bytes while a segment is made.
const TERM_OVERHEAD: usize = 64;

/// Entries of a segment that follow one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentPart {
    /// The first term.
    pub term: Vec<u8>,
    /// The entries, for [`find`].
    pub entries: Vec<u8>,
}

/// Makes a segment from its events.
#[derive(Debug)]
pub struct SegmentBuilder {
    first: i64,
    terms: HashMap<Vec<u8>, Vec<u16>>,
    bytes: usize,
    unread: Offsets,
}

impl SegmentBuilder {
    /// For a segment that begins with this id.
    #[must_use]
    pub fn new(first: i64) -> Self {
        Self { first, terms: HashMap::new(), bytes: 0, unread: Offsets::none() }
    }

    /// Adds an event, scanned with its contents. The order does not matter. An event outside of the
    /// segment is ignored.
    pub fn add(&mut self, scanned: &Scanned) {
        let offset = scanned.cursor.0.checked_sub(self.first).and_then(|it| u16::try_from(it).ok());
        let Some(offset) = offset else { return };
        let terms = all_of(scanned);
        let size: usize = terms.iter().map(|term| term.len() + TERM_OVERHEAD).sum();
        if terms.len() > EVENT_TERMS || self.bytes + size > SEGMENT_BYTES {
            self.unread.insert(offset.into());
            return;
        }
        for term in terms {
            self.bytes += 2;
            let events = self.terms.entry(term).or_insert_with_key(|term| {
                self.bytes += term.len() + TERM_OVERHEAD;
                Vec::new()
            });
            events.push(offset);
        }
    }

    /// The parts, in order, and the events that are not described, which every search has to read.
    #[must_use]
    pub fn finish(self) -> (Vec<SegmentPart>, Offsets) {
        let mut terms: Vec<_> = self.terms.into_iter().collect();
        terms.sort_unstable();
        let mut parts = Vec::<SegmentPart>::new();
        let mut last = Vec::new();
        for (term, mut events) in terms {
            events.sort_unstable();
            events.dedup();
            match parts.last_mut() {
                Some(part) if part.entries.len() < PART_BYTES => {
                    write_entry(&mut part.entries, &last, &term, &events);
                }
                _ => {
                    let mut entries = Vec::with_capacity(PART_BYTES * 2);
                    write_entry(&mut entries, &[], &term, &events);
                    parts.push(SegmentPart { term: term.clone(), entries });
                }
            }
            last = term;
        }
        (parts, self.unread)
    }
}

fn write_entry(entries: &mut Vec<u8>, last: &[u8], term: &[u8], events: &[u16]) {
    let shared = last.iter().zip(term).take_while(|(one, other)| one == other).count();
    write_number(entries, shared);
    write_number(entries, term.len() - shared);
    entries.extend(&term[shared..]);
    write_number(entries, events.len());
    if events.len() > MANY {
        let mut offsets = Offsets::none();
        events.iter().for_each(|offset| offsets.insert((*offset).into()));
        entries.extend(offsets.to_bytes());
        return;
    }
    let mut before = 0;
    for offset in events {
        write_number(entries, usize::from(offset - before));
        before = *offset;
    }
}

fn write_number(entries: &mut Vec<u8>, mut number: usize) {
    loop {
        let [low, ..] = number.to_le_bytes();
        number >>= 7;
        if number == 0 {
            return entries.push(low);
        }
        entries.push(low | 0x80);
    }
}

/// A part that is not as [`SegmentBuilder`] made it. Its segment describes nothing then, and has to be made
/// anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a part of the search index is damaged")]
pub struct Damaged;

/// Adds the events that have `term` according to the entries of a part.
///
/// # Errors
///
/// [`Damaged`] if these are not the entries of a part.
pub fn find(entries: &[u8], term: &Term, found: &mut Offsets) -> Result<(), Damaged> {
    let mut rest = Rest(entries);
    let mut current = Vec::new();
    while !rest.0.is_empty() {
        let shared = rest.number()?;
        if shared > current.len() {
            return Err(Damaged);
        }
        current.truncate(shared);
        let more = rest.number()?;
        current.extend(rest.bytes(more)?);
        let is_wanted = match term.is_prefix {
            true => current.starts_with(&term.bytes),
            false => current == term.bytes,
        };
        let count = rest.number()?;
        if count > MANY {
            let offsets = Offsets::from_bytes(rest.bytes(Offsets::none().to_bytes().len())?);
            let offsets = offsets.ok_or(Damaged)?;
            if is_wanted {
                found.add(&offsets);
            }
            continue;
        }
        let mut offset = 0;
        for _ in 0..count {
            offset += rest.number()?;
            if is_wanted {
                found.insert(offset);
            }
        }
    }
    Ok(())
}

/// What is not read yet.
struct Rest<'a>(&'a [u8]);

impl<'a> Rest<'a> {
    fn bytes(&mut self, length: usize) -> Result<&'a [u8], Damaged> {
        let (bytes, rest) = self.0.split_at_checked(length).ok_or(Damaged)?;
        self.0 = rest;
        Ok(bytes)
    }

    /// A number of at most 21 bits: none is larger.
    fn number(&mut self) -> Result<usize, Damaged> {
        let mut number = 0;
        for shift in [0, 7, 14] {
            let byte = self.bytes(1)?[0];
            number |= usize::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Damaged)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::{Damaged, Offsets, SegmentBuilder, SegmentPart, Term, find};
    use crate::{
        event::{EventType, State},
        ports::Contact,
        store::{Cursor, EventSummary, LastFailure, Scanned},
        testing::sample,
    };

    fn event(id: i64, body: &str) -> Scanned {
        Scanned {
            cursor: Cursor(id),
            event: EventSummary {
                source: "cognigy".parse().unwrap(),
                id: format!("e{id}").parse().unwrap(),
                kind: EventType::DialogEnded,
                state: State::Pending,
                time: sample::start().into(),
                external_id: None,
                user_id: None,
                conversation: None,
                correlation: Default::default(),
                received_at: sample::start(),
                processed_at: None,
            },
            body: Some(body.to_owned().into()),
            contact: None,
            failure: None,
        }
    }

    fn segment(events: &[Scanned]) -> (Vec<SegmentPart>, Offsets) {
        let mut builder = SegmentBuilder::new(100);
        events.iter().for_each(|event| builder.add(event));
        builder.finish()
    }

    /// As a store looks a term up: in the part before which it cannot stand, and in those after it.
    fn events_with(parts: &[SegmentPart], term: &Term) -> Vec<usize> {
        let begin = parts.partition_point(|part| part.term <= term.bytes).saturating_sub(1);
        let mut found = Offsets::none();
        for part in parts[begin..].iter().take_while(|part| part.term < term.end()) {
            find(&part.entries, term, &mut found).unwrap();
        }
        found.iter().collect()
    }

    fn word(word: &str) -> Term {
        Term { bytes: word.as_bytes().to_vec(), is_prefix: false }
    }

    fn beginning(word: &str) -> Term {
        Term { is_prefix: true, ..super::tests::word(word) }
    }

    #[test]
    fn each_term_is_found_in_just_the_events_that_have_it() {
        let text = |offset: usize| {
            let id = offset + 100;
            format!("all w{id} thirds{} x{}", id % 3, "y".repeat(id % 7))
        };
        let (parts, unread) =
            segment(&(100..).zip(0..2000).map(|(id, n)| event(id, &text(n))).collect::<Vec<_>>());
        assert!(unread.is_empty() && parts.len() > 20, "{}", parts.len());
        let mut expected = BTreeMap::<String, Vec<usize>>::new();
        for offset in 0..2000 {
            for word in text(offset).split(' ').chain([&*format!("e{}", offset + 100)]) {
                expected.entry(word.to_owned()).or_default().push(offset);
            }
        }
        for (term, events) in &expected {
            assert_eq!(events_with(&parts, &word(term)), *events, "{term}");
        }
        assert_eq!(events_with(&parts, &beginning("thirds")).len(), 2000);
        let all: Vec<_> = [109].into_iter().chain(1990..2000).collect();
        assert_eq!(events_with(&parts, &beginning("w209")), all);
        for absent in ["a", "al", "alle", "w", "zz", ""] {
            assert!(events_with(&parts, &word(absent)).is_empty(), "{absent}");
        }
    }

    #[test]
    fn ids_contacts_and_errors_are_described_too_and_hidden_bodies_are_not() {
        let mut one = event(101, "");
        one.body = None;
        one.contact = Contact::from_json(r#"{"name":"M\u00fcller"}"#).ok();
        one.failure = Some(LastFailure { error: "Timed OUT".to_owned(), at: sample::start() });
        one.event.user_id = Some("Ann@example.com".to_owned());
        let (parts, _) = segment(&[one, event(4, "before"), event(100_000, "far")]);
        for found in ["müller", "out", "ann", "com", "e101"] {
            assert_eq!(events_with(&parts, &word(found)), [1], "{found}");
        }
        for absent in ["before", "far"] {
            assert!(events_with(&parts, &word(absent)).is_empty(), "{absent}");
        }
    }

    #[test]
    fn an_event_with_too_many_words_is_left_to_be_read() {
        let many: Vec<_> = (0..5000).map(|n| format!("m{n}")).collect();
        let (parts, unread) = segment(&[event(100, &many.join(" ")), event(101, "few")]);
        assert_eq!(unread.iter().collect::<Vec<_>>(), [0]);
        assert_eq!(events_with(&parts, &word("few")), [1]);
    }

    #[test]
    fn a_damaged_part_is_noticed_or_finds_something_else_but_breaks_nothing() {
        let (parts, _) = segment(&(100..1000).map(|id| event(id, "all")).collect::<Vec<_>>());
        let entries = &parts[0].entries;
        let mut found = Offsets::none();
        for length in 1..entries.len() {
            let _ = find(&entries[..length], &word("all"), &mut found);
        }
        for place in 0..entries.len() {
            let mut changed = entries.clone();
            changed[place] ^= 0x55;
            let _ = find(&changed, &word("all"), &mut found);
        }
        assert_eq!(find(&[0, 200], &word("all"), &mut found), Err(Damaged));
        assert_eq!(find(&[9, 1, b'a', 0], &word("all"), &mut found), Err(Damaged));
    }
}
