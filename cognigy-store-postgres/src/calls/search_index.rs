//! Keeps the index of words and contacts, and finds events by it.
//!
//! Triggers of the database note what changes beneath a segment: see `migrations/0007_search_index.sql`.

use std::{collections::HashMap, ops::RangeInclusive};

use cognigy_core::search_index::{
    IndexRequest, IndexedRange, IndexedSegment, LookUp, Offsets, SegmentBuilder, SegmentPart,
    SegmentState, Term, next_range,
};
use deadpool_postgres::{Object, Transaction};
use tokio_postgres::IsolationLevel;

use crate::{
    calls::{conditions::WALK, scan},
    error::PostgresError,
    row::{Private, read},
};

/// How many parts one transaction writes: some 60 kB.
pub(crate) const PARTS: usize = 64;

/// In how many segments the first stretch looks, and any later one at most. A common word is found in the
/// first ones.
const SEGMENTS: RangeInclusive<i64> = 8..=512;

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
    pub(crate) fn is_empty(&self) -> bool {
        matches!(self, Self::These(ids) if ids.is_empty())
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

/// A walk from the newest event down to the oldest that passes over those that cannot match.
#[derive(Debug)]
pub(crate) struct IndexWalk<'t> {
    terms: &'t [Term],
    highest: i64,
    lowest: i64,
    segments: i64,
}

/// A segment that describes events.
struct Built {
    range: IndexedRange,
    /// The events that it does not describe, and those that it does not describe any more.
    unknown: Offsets,
}

impl<'t> IndexWalk<'t> {
    pub(crate) fn new(terms: &'t [Term], (highest, lowest): (i64, i64)) -> Self {
        Self { terms, highest, lowest, segments: *SEGMENTS.start() }
    }

    pub(crate) fn is_at_end(&self) -> bool {
        self.highest < self.lowest
    }

    /// The next stretch. None if there is none.
    pub(crate) async fn next(
        &mut self,
        connection: &mut Object,
    ) -> Result<Option<Stretch>, PostgresError> {
        if self.is_at_end() {
            return Ok(None);
        }
        let stretch = self.stretch(connection).await?;
        self.highest = stretch.down_to - 1;
        Ok(Some(stretch))
    }

    async fn stretch(&mut self, connection: &mut Object) -> Result<Stretch, PostgresError> {
        let Self { terms, highest, lowest, segments } = *self;
        // Without a term every event has to be read.
        if terms.is_empty() {
            return Ok(read_all(highest, lowest));
        }
        // One state of the index: between two looks, a segment may be dropped.
        let begin = connection.build_transaction().isolation_level(IsolationLevel::RepeatableRead);
        let index = begin.read_only(true).start().await?;
        let built = segments_below(&index, highest, lowest, segments).await?;
        let Some(newest) = built.first().filter(|newest| newest.range.last >= highest) else {
            let floor = built.first().map_or(lowest, |newest| lowest.max(newest.range.last + 1));
            return Ok(read_all(highest, floor));
        };
        // Those that follow one another.
        let mut first = newest.range.last + 1;
        let follows = |segment: &&Built| {
            std::mem::replace(&mut first, segment.range.first) == segment.range.last + 1
        };
        let built: Vec<_> = built.iter().take_while(follows).collect();
        let found = look_up(&index, &built, terms).await?;
        self.segments = (segments * 4).min(*SEGMENTS.end());
        let (mut ids, mut down_to, mut looked_at) = (Vec::new(), highest + 1, 0);
        for (segment, mut offsets) in built.into_iter().zip(found) {
            let IndexedRange { first, last } = segment.range;
            offsets.add(&segment.unknown);
            for offset in offsets.iter().rev() {
                let id = first + i64::try_from(offset).unwrap_or_default();
                if id < down_to && id <= last && id >= lowest {
                    ids.push(id);
                }
            }
            down_to = first.max(lowest);
            looked_at += SEGMENT_COST;
            if ids.len() > CANDIDATES {
                break;
            }
        }
        let cost = looked_at + i64::try_from(ids.len()).unwrap_or(WALK);
        Ok(Stretch { candidates: Candidates::These(ids), down_to, cost })
    }
}

fn read_all(highest: i64, floor: i64) -> Stretch {
    let down_to = floor.max(highest.saturating_sub(WALK - 1));
    let candidates = Candidates::Between { lowest: down_to, highest };
    Stretch { candidates, down_to, cost: highest - down_to + 1 }
}

/// The segments that describe events from `highest` down to `lowest`, the newest first.
async fn segments_below(
    index: &Transaction<'_>,
    highest: i64,
    lowest: i64,
    limit: i64,
) -> Result<Vec<Built>, PostgresError> {
    let select = index
        .prepare_cached(
            "SELECT first, last, undescribed FROM cognigy_search_segments
             WHERE first <= $1 AND last >= $2 AND state = 'built' ORDER BY first DESC LIMIT $3",
        )
        .await?;
    let mut built = Vec::new();
    for row in &index.query(&select, &[&highest, &lowest, &limit]).await? {
        let range = IndexedRange { first: read(row, "first")?, last: read(row, "last")? };
        let undescribed: Option<&[u8]> = read(row, "undescribed")?;
        // What cannot be read may be any.
        let unknown = undescribed.map(|it| Offsets::from_bytes(it).unwrap_or_else(Offsets::all));
        built.push(Built { range, unknown: unknown.unwrap_or_else(Offsets::none) });
    }
    let (Some(newest), Some(oldest)) = (built.first(), built.last()) else { return Ok(built) };
    let late = index
        .prepare_cached("SELECT event FROM cognigy_search_late WHERE event BETWEEN $1 AND $2")
        .await?;
    for row in &index.query(&late, &[&oldest.range.first, &newest.range.last]).await? {
        let event: i64 = read(row, "event")?;
        let place = built.partition_point(|it| it.range.first > event);
        if let Some(segment) = built.get_mut(place)
            && let Ok(offset) = usize::try_from(event - segment.range.first)
        {
            segment.unknown.insert(offset);
        }
    }
    Ok(built)
}

/// The parts in which a term can stand: from the one before which it cannot.
const PARTS_WITH: &str = "
SELECT segments.first, parts.term, parts.entries
FROM unnest($1::bigint[]) AS segments (first)
CROSS JOIN LATERAL (
    SELECT term, entries FROM cognigy_search_parts
    WHERE segment = segments.first AND term < $3 AND term >= coalesce((
        SELECT term FROM cognigy_search_parts
        WHERE segment = segments.first AND term <= $2 ORDER BY term DESC LIMIT 1), $2)
    ORDER BY term OFFSET 0) AS parts
ORDER BY segments.first, parts.term";

/// The events of each segment that have all of the terms.
async fn look_up(
    index: &Transaction<'_>,
    segments: &[&Built],
    terms: &[Term],
) -> Result<Vec<Offsets>, PostgresError> {
    let select = index.prepare_cached(PARTS_WITH).await?;
    let mut all: HashMap<i64, Offsets> =
        segments.iter().map(|segment| (segment.range.first, Offsets::all())).collect();
    for term in terms {
        let firsts: Vec<_> = all.keys().copied().collect();
        let (from, to) = (Private(&term.bytes), Private(term.end()));
        let mut look_ups: HashMap<_, _> =
            firsts.iter().map(|first| (*first, LookUp::new(term))).collect();
        for row in &index.query(&select, &[&firsts, &from, &to]).await? {
            if let Some(look_up) = look_ups.get_mut(&read::<i64>(row, "first")?) {
                look_up.read(read(row, "term")?, read(row, "entries")?);
            }
        }
        for (first, look_up) in look_ups {
            // Where a part cannot be read, each event may have the term.
            let (Ok(found), Some(offsets)) = (look_up.finish(), all.get_mut(&first)) else {
                continue;
            };
            offsets.keep(&found);
            if offsets.is_empty() {
                all.remove(&first);
            }
        }
    }
    let of = |segment: &&Built| all.remove(&segment.range.first).unwrap_or_else(Offsets::none);
    Ok(segments.iter().map(of).collect())
}

/// The range whose segment is to be made next.
pub(crate) async fn plan(
    connection: &Object,
    request: &IndexRequest,
) -> Result<Option<IndexedRange>, PostgresError> {
    let ends = "SELECT (SELECT min(id) FROM cognigy_events) AS first,
                       (SELECT max(id) FROM (SELECT id, received_at FROM cognigy_events
                                             ORDER BY id DESC LIMIT $2) AS newest
                        WHERE received_at <= $1) AS last";
    let old_enough = request.now - request.delay;
    let row = connection.query_one(ends, &[&old_enough, &NEWEST]).await?;
    let (Some(first), Some(last)) = (read(&row, "first")?, read(&row, "last")?) else {
        return Ok(None);
    };
    let select = connection
        .prepare_cached(
            "SELECT first, last, state, begun_at, EXISTS (
                 SELECT FROM cognigy_search_late WHERE event BETWEEN first AND last) AS has_late
             FROM cognigy_search_segments WHERE last >= $1 ORDER BY first DESC",
        )
        .await?;
    let mut segments = Vec::new();
    for row in &connection.query(&select, &[&first]).await? {
        let state = match read::<&str>(row, "state")? {
            "built" => SegmentState::Built { has_late_events: read(row, "has_late")? },
            "dropped" => SegmentState::Dropped,
            _ => SegmentState::Begun,
        };
        let range = IndexedRange { first: read(row, "first")?, last: read(row, "last")? };
        segments.push(IndexedSegment { range, state, begun_at: read(row, "begun_at")? });
    }
    Ok(next_range(&segments, IndexedRange { first, last }, request))
}

/// Names our lock among the advisory locks of the database: "cgnW" and "indx".
const LOCK: i64 = 0x6367_6e57_696e_6478;

/// Begins a segment in the place of those within its range. Returns the token with which it is written: a
/// segment that was begun again, or dropped, has another. None if another process has begun a segment there since
/// this one was planned.
pub(crate) async fn begin(
    connection: &mut Object,
    range: IndexedRange,
    request: &IndexRequest,
) -> Result<Option<i64>, PostgresError> {
    let begin = connection.transaction().await?;
    // Of two processes, the second sees what the first has begun.
    begin.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    let taken = "SELECT FROM cognigy_search_segments
                 WHERE first <= $2 AND last >= $1
                   AND (first < $1 OR last > $2
                        OR (state = 'begun' AND begun_at > $3 AND begun_at <= $4)) LIMIT 1";
    let (now, rest) = (request.now, request.now - request.rest);
    let taken = begin.query_opt(taken, &[&range.first, &range.last, &rest, &now]).await?;
    if taken.is_some() {
        return Ok(None);
    }
    let ends: [&(dyn tokio_postgres::types::ToSql + Sync); 2] = [&range.first, &range.last];
    for sql in [
        "DELETE FROM cognigy_search_segments WHERE first BETWEEN $1 AND $2",
        "DELETE FROM cognigy_search_parts WHERE segment BETWEEN $1 AND $2",
        "DELETE FROM cognigy_search_late WHERE event BETWEEN $1 AND $2",
    ] {
        begin.execute(sql, &ends).await?;
    }
    // Segments all of whose events were purged.
    begin
        .execute(
            "DELETE FROM cognigy_search_segments WHERE last < (SELECT min(id) FROM cognigy_events)",
            &[],
        )
        .await?;
    let insert = "INSERT INTO cognigy_search_segments (first, last, state, token, begun_at)
                  VALUES ($1, $2, 'begun', nextval('cognigy_fences'), $3) RETURNING token";
    let row = begin.query_one(insert, &[&range.first, &range.last, &now]).await?;
    let token = read(&row, "token")?;
    begin.commit().await?;
    Ok(Some(token))
}

/// A transaction that began before this one has ended. Every one after it knows what was begun before.
pub(crate) async fn horizon(connection: &Object) -> Result<i64, PostgresError> {
    let select = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS horizon";
    read(&connection.query_one(select, &[]).await?, "horizon")
}

/// Whether all transactions before `horizon` have ended, so that none of them can still add an event to a
/// range or change one without a note.
pub(crate) async fn has_passed(connection: &Object, horizon: i64) -> Result<bool, PostgresError> {
    let select = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint >= $1 AS passed";
    read(&connection.query_one(select, &[&horizon]).await?, "passed")
}

/// Reads the events of a range, and makes their segment: its parts, and the events that it does not describe. None if
/// it is not wanted any more.
pub(crate) async fn describe(
    connection: &Object,
    range: IndexedRange,
    token: i64,
) -> Result<Option<(Vec<SegmentPart>, Offsets)>, PostgresError> {
    let mut segment = SegmentBuilder::new(range.first);
    let mut rest = range;
    let begun = connection
        .prepare_cached(
            "SELECT FROM cognigy_search_segments
             WHERE first = $1 AND token = $2 AND state = 'begun'",
        )
        .await?;
    while connection.query_opt(&begun, &[&range.first, &token]).await?.is_some() {
        let events = scan::read_range(connection, rest).await?;
        events.iter().for_each(|event| segment.add(event));
        match events.last() {
            Some(last) if last.cursor.0 > range.first => rest.last = last.cursor.0 - 1,
            _ => return Ok(Some(segment.finish())),
        }
    }
    Ok(None)
}

/// Writes parts of a segment. Returns whether it is still wanted.
pub(crate) async fn write(
    connection: &mut Object,
    first: i64,
    token: i64,
    parts: &[SegmentPart],
) -> Result<bool, PostgresError> {
    let write = connection.transaction().await?;
    // An erasure waits for the lock, and then finds what is written here.
    let lock = "SELECT FROM cognigy_search_segments
                WHERE first = $1 AND token = $2 AND state = 'begun' FOR UPDATE";
    if write.query_opt(lock, &[&first, &token]).await?.is_none() {
        return Ok(false);
    }
    let terms: Vec<_> = parts.iter().map(|part| &part.term[..]).collect();
    let entries: Vec<_> = parts.iter().map(|part| &part.entries[..]).collect();
    write
        .execute(
            // An earlier try may have written them.
            "INSERT INTO cognigy_search_parts (segment, term, entries)
             SELECT $1, term, entries FROM unnest($2::bytea[], $3::bytea[]) AS part (term, entries)
             ON CONFLICT DO NOTHING",
            &[&first, &Private(terms), &Private(entries)],
        )
        .await?;
    write.commit().await?;
    Ok(true)
}

/// From now on the segment describes its events.
pub(crate) async fn finish(
    connection: &Object,
    first: i64,
    token: i64,
    undescribed: &Offsets,
) -> Result<(), PostgresError> {
    let undescribed = (!undescribed.is_empty()).then(|| undescribed.to_bytes());
    let finish = "UPDATE cognigy_search_segments SET state = 'built', undescribed = $3
                  WHERE first = $1 AND token = $2 AND state = 'begun'";
    connection.execute(finish, &[&first, &token, &undescribed]).await?;
    Ok(())
}
