//! Reads many events with what a search has to see of them.

use cognigy_core::{
    Contact, Cursor, EventFilter, LastFailure, SCAN_BYTES, ScanPage, ScanRequest, Scanned,
    search_index::{IndexedRange, terms_of},
};
use rusqlite::{Connection, OptionalExtension, Row};

use crate::{
    calls::{
        archive::read_summary,
        conditions::Conditions,
        search_index::{self, Candidates},
    },
    error::SqliteError,
    row::{self, timestamp, unreadable},
};

/// How much one scan looks at, in events that it reads or could have read.
const SCAN_COST: i64 = 4096;

/// The events that are dead-lettered, and the unfinished ones whose last attempt of the present run
/// failed.
///
/// The range of ids is said once more, so that not all dead letters are read for those of an hour.
const IS_FAILING: &str = "
    state NOT IN ('processed', 'discarded')
    AND events.id IN (
        SELECT id FROM events INDEXED BY events_dead
        WHERE state IN ('dead_lettering', 'dead_lettered') AND id BETWEEN LOWEST AND HIGHEST
        UNION ALL SELECT id FROM events WHERE due_at IS NOT NULL AND attempt > 0
        UNION ALL SELECT event FROM waiting)
    AND (SELECT error FROM attempts WHERE event = events.id AND run = events.run
         ORDER BY fence DESC LIMIT 1) IS NOT NULL AND ?";

/// [`IS_FAILING`], for the ids that a time leaves.
fn is_failing(conditions: &Conditions) -> String {
    let (lowest, highest) = conditions.range();
    IS_FAILING.replace("LOWEST", &lowest.to_string()).replace("HIGHEST", &highest.to_string())
}

/// A damaged body is left out: it hides no other event.
pub(crate) fn scan(
    connection: &Connection,
    request: &ScanRequest,
) -> Result<ScanPage, SqliteError> {
    let mut conditions = Conditions::of(connection, &request.filter, request.after)?;
    let mut scan = Scan { page: ScanPage::default(), bytes: 0, request };
    let terms = terms_of(&request.filter);
    if request.only_failing || (request.filter.words.is_none() && terms.is_empty()) {
        let is_failing = is_failing(&conditions);
        conditions.add(is_failing, request.only_failing.then_some(true));
        scan.add(connection, &conditions, &Candidates::All)?;
        return Ok(scan.page);
    }
    let (mut highest, lowest) = conditions.ends(connection, request.after)?;
    let mut looked_at = 0;
    while let Some(stretch) = search_index::next(connection, &terms, highest, lowest)? {
        if scan.add(connection, &conditions, &stretch.candidates)? {
            break;
        }
        highest = stretch.down_to - 1;
        looked_at += stretch.cost;
        if looked_at >= SCAN_COST {
            scan.page.next = Some(Cursor(stretch.down_to)).filter(|_| highest >= lowest);
            break;
        }
    }
    Ok(scan.page)
}

/// A page while it is filled.
struct Scan<'r> {
    page: ScanPage,
    bytes: usize,
    request: &'r ScanRequest,
}

impl Scan<'_> {
    /// Adds those of the candidates that match. Returns whether the page is full.
    fn add(
        &mut self,
        connection: &Connection,
        conditions: &Conditions,
        candidates: &Candidates,
    ) -> Result<bool, SqliteError> {
        let Self { page, bytes, request } = self;
        let rest = request.limit - page.events.len();
        let mut select = connection.prepare(&conditions.select(candidates, rest))?;
        let mut rows = select.query(conditions.values().as_slice())?;
        while let Some(row) = rows.next()? {
            if page.events.len() == request.limit || *bytes > SCAN_BYTES {
                page.next = page.events.last().map(|last| last.cursor);
                return Ok(true);
            }
            let scanned = read_scanned(connection, row, request.with_contents)?;
            *bytes += scanned.body.as_ref().map_or(0, bytes::Bytes::len);
            page.events.push(scanned);
        }
        Ok(false)
    }
}

/// How many events are read for the index in one query: some milliseconds, unless bodies are long.
const SOME: usize = 256;

/// Reads the newest events of a range with their contents: as many as one query should. Returns the id of the last
/// one, or none if there is no event.
pub(crate) fn some(
    connection: &Connection,
    range: IndexedRange,
    mut read: impl FnMut(Scanned),
) -> Result<Option<i64>, SqliteError> {
    let conditions = Conditions::of(connection, &EventFilter::default(), None)?;
    let candidates = Candidates::Between { lowest: range.first, highest: range.last };
    let mut select = connection.prepare(&conditions.select(&candidates, SOME))?;
    let mut rows = select.query([])?;
    let (mut last, mut count, mut bytes) = (None, 0, 0);
    while let Some(row) = rows.next()? {
        let scanned = read_scanned(connection, row, true)?;
        last = Some(scanned.cursor.0);
        bytes += scanned.body.as_ref().map_or(0, bytes::Bytes::len);
        read(scanned);
        count += 1;
        if count == SOME || bytes > SCAN_BYTES {
            break;
        }
    }
    Ok(last)
}

fn read_scanned(
    connection: &Connection,
    row: &Row<'_>,
    with_contents: bool,
) -> Result<Scanned, SqliteError> {
    let id = row.get(0)?;
    let (body, contact) = match with_contents {
        true => (shown_body(connection, id)?, contact(connection, id)?),
        false => (None, None),
    };
    let (event, failure) = (read_summary(row)?, last_failure(connection, id)?);
    Ok(Scanned { cursor: Cursor(id), event, body, contact, failure })
}

fn last_failure(connection: &Connection, event: i64) -> Result<Option<LastFailure>, SqliteError> {
    let mut select = connection.prepare_cached(
        "SELECT error, started_at FROM attempts
         WHERE event = ?1 AND run = (SELECT run FROM events WHERE id = ?1)
         ORDER BY fence DESC LIMIT 1",
    )?;
    let last = select
        .query_row([event], |row| Ok((row.get::<_, Option<String>>(0)?, row.get::<_, i64>(1)?)));
    let Some((Some(error), at)) = last.optional()? else { return Ok(None) };
    Ok(Some(LastFailure { error, at: timestamp(at)? }))
}

fn shown_body(connection: &Connection, event: i64) -> Result<Option<bytes::Bytes>, SqliteError> {
    let mut hidden = connection.prepare_cached(
        "SELECT coalesce(sensitive, 0) OR forgotten IS NOT NULL FROM events WHERE id = ?1",
    )?;
    if hidden.query_row([event], |row| row.get(0))? {
        return Ok(None);
    }
    match row::read_body(connection, event) {
        Ok(found) => Ok(found.map(|(body, _)| body)),
        Err(error) if error.is_damage() => Ok(None),
        Err(error) => Err(error),
    }
}

fn contact(connection: &Connection, event: i64) -> Result<Option<Contact>, SqliteError> {
    let mut select = connection.prepare_cached("SELECT json FROM contexts WHERE event = ?1")?;
    let json: Option<String> = select.query_row([event], |row| row.get(0)).optional()?;
    let contact = json.map(|json| Contact::from_json(&json)).transpose();
    contact.map_err(|error| unreadable("the CRM context", error))
}
