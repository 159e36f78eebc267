//! A segment as a store keeps it: its terms in order, cut into parts, each with the events that have it.
//!
//! A part is: a checksum, four bytes of the SHA-256 digest of all that follows and of the part's first term; how long
//! the first term of the next part is, and that term, or 0 if no part follows; and entries. An entry is: how many bytes
//! its term shares with the term before, how many more it has, and these; how many events have it, and their
//! distances from one another. Numbers are LEB128. Where more than [`MANY`] events have a term, a bit for each event
//! of the segment is shorter, and takes the place of the distances.
//!
//! The first part begins with the empty term. So each look-up begins in a part, and knows whether a part is missing.

use std::collections::HashMap;

use sha2::{Digest, Sha256};

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

/// How many bytes of a part's digest it begins with.
const CHECKSUM: usize = 4;

/// What a term costs beside its bytes while a segment is made.
const TERM_OVERHEAD: usize = 64;

/// Entries of a segment that follow one another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SegmentPart {
    /// Where it begins: no entry of an earlier part is equal or higher.
    pub term: Vec<u8>,
    /// Its bytes, for a [`LookUp`].
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
        let mut parts = vec![SegmentPart { term: Vec::new(), entries: Vec::new() }];
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
        let mut next: Vec<u8> = Vec::new();
        for part in parts.iter_mut().rev() {
            let mut rest = Vec::with_capacity(part.entries.len() + next.len() + 2);
            write_number(&mut rest, next.len());
            rest.extend(&next);
            rest.append(&mut part.entries);
            part.entries = [&checksum(&part.term, &rest)[..], &rest].concat();
            next.clone_from(&part.term);
        }
        (parts, self.unread)
    }
}

fn checksum(term: &[u8], rest: &[u8]) -> [u8; CHECKSUM] {
    let digest = Sha256::new().chain_update(term).chain_update(rest).finalize();
    [digest[0], digest[1], digest[2], digest[3]]
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

/// A part of a segment is missing, or not as [`SegmentBuilder`] made it. All events of the segment have to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a part of the search index is missing or damaged")]
pub struct Damaged;

/// Looks a term up in the parts of one segment.
///
/// To be [read](Self::read) are, in order: the last part that does not begin after the term, and those after it that
/// begin before [`Term::end`].
#[derive(Debug)]
pub struct LookUp<'t> {
    term: &'t Term,
    found: Offsets,
    /// Where the next part begins; none before the first one.
    next: Option<Vec<u8>>,
    is_at_end: bool,
    is_damaged: bool,
}

impl<'t> LookUp<'t> {
    /// Begins to look for a term.
    #[must_use]
    pub fn new(term: &'t Term) -> Self {
        let found = Offsets::none();
        Self { term, found, next: None, is_at_end: false, is_damaged: false }
    }

    /// Reads a part, which begins at `begin`.
    pub fn read(&mut self, begin: &[u8], part: &[u8]) {
        let is_next = match &self.next {
            None => !self.is_at_end && *begin <= self.term.bytes[..],
            Some(next) => begin == next,
        };
        if !is_next || self.find(begin, part).is_err() {
            self.is_damaged = true;
        }
    }

    /// The events that have the term.
    ///
    /// # Errors
    ///
    /// [`Damaged`] if a part was missing or damaged.
    pub fn finish(self) -> Result<Offsets, Damaged> {
        let is_done = self.is_at_end || self.next.is_some_and(|next| next >= self.term.end());
        if is_done && !self.is_damaged { Ok(self.found) } else { Err(Damaged) }
    }

    fn find(&mut self, begin: &[u8], part: &[u8]) -> Result<(), Damaged> {
        let (sum, rest) = part.split_at_checked(CHECKSUM).ok_or(Damaged)?;
        if sum != checksum(begin, rest) {
            return Err(Damaged);
        }
        let mut rest = Rest(rest);
        let length = rest.number()?;
        self.is_at_end = length == 0;
        self.next = (length > 0).then(|| rest.bytes(length).map(<[u8]>::to_vec)).transpose()?;
        let mut current = Vec::new();
        while !rest.0.is_empty() {
            let shared = rest.number()?;
            if shared > current.len() {
                return Err(Damaged);
            }
            current.truncate(shared);
            let more = rest.number()?;
            current.extend(rest.bytes(more)?);
            let is_wanted = match self.term.is_prefix {
                true => current.starts_with(&self.term.bytes),
                false => current == self.term.bytes,
            };
            let count = rest.number()?;
            if count > MANY {
                let offsets = Offsets::from_bytes(rest.bytes(Offsets::BYTES)?).ok_or(Damaged)?;
                if is_wanted {
                    self.found.add(&offsets);
                }
                continue;
            }
            let mut offset = 0;
            for _ in 0..count {
                offset += rest.number()?;
                if is_wanted {
                    self.found.insert(offset);
                }
            }
        }
        Ok(())
    }
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

    use super::{CHECKSUM, Damaged, LookUp, Offsets, SegmentBuilder, SegmentPart, Term};
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

    /// As a store looks a term up.
    fn look_up(parts: &[SegmentPart], term: &Term) -> Result<Offsets, Damaged> {
        let begin = parts.partition_point(|part| part.term <= term.bytes).saturating_sub(1);
        let mut look_up = LookUp::new(term);
        for part in parts[begin..].iter().take_while(|part| part.term < term.end()) {
            look_up.read(&part.term, &part.entries);
        }
        look_up.finish()
    }

    fn events_with(parts: &[SegmentPart], term: &Term) -> Vec<usize> {
        look_up(parts, term).unwrap().iter().collect()
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
    fn a_part_that_is_damaged_or_missing_is_noticed_by_each_look_up_that_needs_it() {
        let text = |id: i64| format!("all w{id}");
        let (parts, _) = segment(&(100..1000).map(|id| event(id, &text(id))).collect::<Vec<_>>());
        assert!(parts.len() > 5, "{}", parts.len());
        let terms: Vec<_> = (100..1000).map(|id| word(&format!("w{id}"))).collect();
        let terms: Vec<_> =
            terms.into_iter().chain([beginning("w"), word("a"), word("zz")]).collect();
        let expected: Vec<_> = terms.iter().map(|term| look_up(&parts, term).unwrap()).collect();
        let mut noticed = 0;
        let mut check = |damaged: &[SegmentPart]| {
            for (term, expected) in terms.iter().zip(&expected) {
                match look_up(damaged, term) {
                    Ok(found) => assert_eq!(found, *expected, "{term:?}"),
                    Err(Damaged) => noticed += 1,
                }
            }
        };
        for number in 0..parts.len() {
            let mut fewer = parts.clone();
            fewer.remove(number);
            check(&fewer);
            let length = parts[number].entries.len();
            for place in [0, CHECKSUM, CHECKSUM + 1, length / 2, length - 1] {
                let mut changed = parts.clone();
                changed[number].entries[place] ^= 0x10;
                check(&changed);
                changed[number].entries.truncate(place);
                check(&changed);
            }
        }
        assert!(noticed > parts.len() * 10, "{noticed}");
        assert_eq!(look_up(&[], &word("a")), Err(Damaged));
        assert!(events_with(&segment(&[]).0, &word("a")).is_empty());
    }
}
