//! Keeps the index of words and contacts, and finds events by it.
//!
//! Triggers of the database note what changes beneath a segment: see `migrations/0007_search_index.sql`.

use cognigy_core::search_index::{
    IndexRequest, IndexedRange, IndexedSegment, LookUp, Offsets, SEGMENT_EVENTS, SegmentBuilder,
    SegmentPart, SegmentState, Term, next_range,
};
use rusqlite::{CachedStatement, Connection, OptionalExtension, params};

use crate::{
    calls::{conditions::WALK, scan},
    error::SqliteError,
    file::write_batch::WriteBatch,
    row::{micros, timestamp},
};

/// How many parts one transaction writes: some 60 kB, which hold up no delivery.
pub(crate) const PARTS: usize = 64;

/// In how many segments one stretch looks: some ten milliseconds.
const SEGMENTS: usize = 512;

/// A stretch with so many candidates ends.
const CANDIDATES: usize = 1000;

/// What looking into a segment costs, in events that are read instead.
const SEGMENT_COST: i64 = 4;

/// Of so many of the newest events it is asked which are old enough to be described.
const NEWEST: i64 = 200_000;

/// Which events can match.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Candidates {
    All,
    Between { lowest: i64, highest: i64 },
    These(Vec<i64>),
}

impl Candidates {
    /// As an SQL condition.
    pub(crate) fn condition(&self) -> Option<String> {
        match self {
            Self::All => None,
            Self::Between { lowest, highest } => {
                Some(format!("events.id BETWEEN {lowest} AND {highest}"))
            }
            Self::These(ids) => {
                let ids: Vec<_> = ids.iter().map(i64::to_string).collect();
                Some(format!("events.id IN ({})", ids.join(",")))
            }
        }
    }
}

/// What can match of the events from the highest id that was asked for down to an id.
#[derive(Debug)]
pub(crate) struct Stretch {
    pub(crate) candidates: Candidates,
    pub(crate) down_to: i64,
    /// About as many events could have been read.
    pub(crate) cost: i64,
}

/// The next stretch of the events from `highest` down to `lowest`. None if there is none.
pub(crate) fn next(
    connection: &Connection,
    terms: &[Term],
    highest: i64,
    lowest: i64,
) -> Result<Option<Stretch>, SqliteError> {
    if highest < lowest {
        return Ok(None);
    }
    let mut reader = SegmentReader::new(connection)?;
    // Without a term every event has to be read.
    let segment = if terms.is_empty() { None } else { reader.at_or_below(highest)? };
    let floor = segment.as_ref().map_or(i64::MIN, |it| it.range.last + 1);
    let Some(mut segment) = segment.filter(|it| it.range.last >= highest) else {
        let down_to = lowest.max(floor).max(highest.saturating_sub(WALK - 1));
        let candidates = Candidates::Between { lowest: down_to, highest };
        return Ok(Some(Stretch { candidates, down_to, cost: highest - down_to + 1 }));
    };
    let (mut ids, mut down_to, mut segments) = (Vec::new(), highest + 1, 0);
    loop {
        segments += 1;
        let range = segment.range;
        let found = reader.find(&segment, terms)?;
        for offset in found.iter().rev() {
            let id = range.first + i64::try_from(offset).unwrap_or_default();
            if id < down_to && id <= range.last && id >= lowest {
                ids.push(id);
            }
        }
        down_to = range.first.max(lowest);
        if segments == SEGMENTS || ids.len() > CANDIDATES || down_to == lowest {
            break;
        }
        match reader.at_or_below(down_to - 1)? {
            Some(next) if next.range.last == down_to - 1 => segment = next,
            _ => break,
        }
    }
    let cost = SEGMENT_COST * i64::try_from(segments).unwrap_or(WALK)
        + i64::try_from(ids.len()).unwrap_or(WALK);
    Ok(Some(Stretch { candidates: Candidates::These(ids), down_to, cost }))
}

/// The statements with which segments are read.
struct SegmentReader<'c> {
    segment: CachedStatement<'c>,
    parts: CachedStatement<'c>,
    late: CachedStatement<'c>,
}

/// A segment that describes events.
struct Built {
    range: IndexedRange,
    /// The events that it does not describe.
    undescribed: Option<Offsets>,
}

impl<'c> SegmentReader<'c> {
    fn new(connection: &'c Connection) -> Result<Self, SqliteError> {
        Ok(Self {
            segment: connection.prepare_cached(
                "SELECT first, last, undescribed FROM search_segments
                 WHERE first <= ?1 AND state = 'built' ORDER BY first DESC LIMIT 1",
            )?,
            // From the part before which the term cannot stand.
            parts: connection.prepare_cached(
                "SELECT term, entries FROM search_parts
                 WHERE segment = ?1 AND term < ?3 AND term >= coalesce(
                     (SELECT max(term) FROM search_parts WHERE segment = ?1 AND term <= ?2), ?2)
                 ORDER BY term",
            )?,
            late: connection
                .prepare_cached("SELECT event FROM search_late WHERE event BETWEEN ?1 AND ?2")?,
        })
    }

    fn at_or_below(&mut self, id: i64) -> Result<Option<Built>, SqliteError> {
        let built = self.segment.query_row([id], |row| {
            let range = IndexedRange { first: row.get(0)?, last: row.get(1)? };
            let undescribed: Option<Vec<u8>> = row.get(2)?;
            // What cannot be read may be any.
            let read = |bytes: Vec<u8>| Offsets::from_bytes(&bytes).unwrap_or_else(Offsets::all);
            Ok(Built { range, undescribed: undescribed.map(read) })
        });
        Ok(built.optional()?)
    }

    /// The events of a segment that have all of the terms, and those that it does not describe.
    fn find(&mut self, segment: &Built, terms: &[Term]) -> Result<Offsets, SqliteError> {
        let (range, mut all) = (segment.range, Offsets::all());
        for term in terms {
            let mut look_up = LookUp::new(term);
            let mut parts = self.parts.query(params![range.first, term.bytes, term.end()])?;
            while let Some(row) = parts.next()? {
                let blob = |column| row.get_ref(column)?.as_bytes().map_err(rusqlite::Error::from);
                look_up.read(blob(0)?, blob(1)?);
            }
            // Where a part cannot be read, each event may have the term.
            let Ok(found) = look_up.finish() else { return Ok(Offsets::all()) };
            all.keep(&found);
            if all.is_empty() {
                break;
            }
        }
        if let Some(undescribed) = &segment.undescribed {
            all.add(undescribed);
        }
        let mut late = self.late.query([range.first, range.last])?;
        while let Some(row) = late.next()? {
            if let Ok(offset) = usize::try_from(row.get::<_, i64>(0)? - range.first) {
                all.insert(offset);
            }
        }
        Ok(all)
    }
}

/// The range whose segment is to be made next.
pub(crate) fn plan(
    connection: &Connection,
    request: &IndexRequest,
) -> Result<Option<IndexedRange>, SqliteError> {
    let mut ends = connection.prepare_cached(
        "SELECT (SELECT min(id) FROM events),
                (SELECT max(id) FROM (SELECT id, received_at FROM events ORDER BY id DESC LIMIT ?2)
                 WHERE received_at <= ?1)",
    )?;
    let old_enough = micros(request.now - request.delay);
    let ends = ends.query_row([old_enough, NEWEST], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let (Some(first), Some(last)) = ends else { return Ok(None) };
    let mut select = connection.prepare_cached(
        "SELECT first, last, state, begun_at, EXISTS (
             SELECT 1 FROM search_late WHERE event BETWEEN first AND last)
         FROM search_segments WHERE last >= ?1 ORDER BY first DESC",
    )?;
    let mut rows = select.query([first])?;
    let mut segments = Vec::new();
    while let Some(row) = rows.next()? {
        let state = match row.get_ref(2)?.as_str().map_err(rusqlite::Error::from)? {
            "built" => SegmentState::Built { has_late_events: row.get(4)? },
            "dropped" => SegmentState::Dropped,
            _ => SegmentState::Begun,
        };
        let range = IndexedRange { first: row.get(0)?, last: row.get(1)? };
        let begun_at = timestamp(row.get(3)?)?;
        segments.push(IndexedSegment { range, state, begun_at });
    }
    Ok(next_range(&segments, IndexedRange { first, last }, request))
}

/// Begins a segment in the place of those within its range. Returns the token with which it is written: a
/// segment that was begun again, or dropped, has another. None if another process has begun a segment there since
/// this one was planned.
pub(crate) fn begin(
    group: &WriteBatch<'_>,
    range: IndexedRange,
    request: &IndexRequest,
) -> Result<Option<i64>, SqliteError> {
    let mut taken = group.prepare(
        "SELECT 1 FROM search_segments
         WHERE first BETWEEN ?1 - ?5 AND ?2 AND last >= ?1
           AND (first < ?1 OR last > ?2 OR (state = 'begun' AND begun_at > ?3 AND begun_at <= ?4))",
    )?;
    let (now, rest) = (micros(request.now), micros(request.now - request.rest));
    if taken.exists(params![range.first, range.last, rest, now, SEGMENT_EVENTS as i64])? {
        return Ok(None);
    }
    let ends = [range.first, range.last];
    group.prepare("DELETE FROM search_parts WHERE segment BETWEEN ?1 AND ?2")?.execute(ends)?;
    group.prepare("DELETE FROM search_segments WHERE first BETWEEN ?1 AND ?2")?.execute(ends)?;
    group.prepare("DELETE FROM search_late WHERE event BETWEEN ?1 AND ?2")?.execute(ends)?;
    // Segments all of whose events were purged.
    group
        .prepare("DELETE FROM search_segments WHERE last < (SELECT min(id) FROM events)")?
        .execute([])?;
    let mut insert = group.prepare(
        "INSERT INTO search_segments (first, last, state, token, begun_at)
         VALUES (?1, ?2, 'begun', random(), ?3) RETURNING token",
    )?;
    Ok(Some(insert.query_row([range.first, range.last, now], |row| row.get(0))?))
}

/// Reads events of a range from `highest` down, and adds them to the segment. Returns where to go on; none at the
/// end, or if the segment is not wanted any more.
///
/// Only some events at once: while a query runs, the log cannot be emptied of what is erased meanwhile.
pub(crate) fn describe(
    connection: &Connection,
    range: IndexedRange,
    highest: i64,
    token: i64,
    segment: &mut SegmentBuilder,
) -> Result<Option<i64>, SqliteError> {
    debug_assert!(range.last - range.first < SEGMENT_EVENTS as i64);
    let mut begun = connection.prepare_cached(IS_BEGUN)?;
    if !begun.exists([range.first, token])? {
        return Ok(None);
    }
    let rest = IndexedRange { last: highest, ..range };
    let lowest = scan::some(connection, rest, |scanned| segment.add(&scanned))?;
    Ok(lowest.map(|lowest| lowest - 1).filter(|next| *next >= range.first))
}

const IS_BEGUN: &str =
    "SELECT 1 FROM search_segments WHERE first = ?1 AND token = ?2 AND state = 'begun'";

/// Whether the segment is still the one that was begun.
fn is_begun(group: &WriteBatch<'_>, first: i64, token: i64) -> Result<bool, SqliteError> {
    Ok(group.prepare(IS_BEGUN)?.exists([first, token])?)
}

/// Writes parts of a segment. Returns whether it is still wanted.
pub(crate) fn write(
    group: &WriteBatch<'_>,
    first: i64,
    token: i64,
    parts: &[SegmentPart],
) -> Result<bool, SqliteError> {
    if !is_begun(group, first, token)? {
        return Ok(false);
    }
    let mut insert =
        group.prepare("INSERT INTO search_parts (segment, term, entries) VALUES (?1, ?2, ?3)")?;
    for part in parts {
        insert.execute(params![first, part.term, part.entries])?;
    }
    Ok(true)
}

/// From now on the segment describes its events.
pub(crate) fn finish(
    group: &WriteBatch<'_>,
    first: i64,
    token: i64,
    undescribed: &Offsets,
) -> Result<(), SqliteError> {
    let undescribed = (!undescribed.is_empty()).then(|| undescribed.to_bytes());
    group
        .prepare(
            "UPDATE search_segments SET state = 'built', undescribed = ?3
             WHERE first = ?1 AND token = ?2 AND state = 'begun'",
        )?
        .execute(params![first, token, undescribed])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use cognigy_core::testing::sample;

    use super::*;
    use crate::schema;

    fn range(first: i64, last: i64) -> IndexedRange {
        IndexedRange { first, last }
    }

    /// Two processes plan at the same time, and begin one after the other.
    #[test]
    fn what_was_planned_before_another_process_began_is_not_begun() {
        let connection = schema::in_memory();
        let group = WriteBatch::new(&connection);
        let at = |seconds| IndexRequest::at(sample::start() + chrono::Duration::seconds(seconds));
        assert!(begin(&group, range(0, 511), &at(0)).unwrap().is_some());
        assert_eq!(begin(&group, range(0, 511), &at(1)).unwrap(), None, "it is at work");
        assert!(begin(&group, range(0, 4095), &at(100)).unwrap().is_some());
        for within in [range(0, 511), range(512, 1023), range(3584, 4095)] {
            assert_eq!(begin(&group, within, &at(200)).unwrap(), None, "{within:?}");
        }
        assert!(begin(&group, range(4096, 4607), &at(200)).unwrap().is_some());
        let segments: i64 = connection
            .query_row("SELECT count(*) FROM search_segments", [], |row| row.get(0))
            .unwrap();
        assert_eq!(segments, 2);
    }
}
