//! Reads many events with what a search has to see of them.

use cognigy_core::{Contact, Cursor, LastFailure, SCAN_BYTES, ScanRequest, Scanned};
use rusqlite::{Connection, OptionalExtension};

use crate::{
    calls::archive::{Conditions, read_summary},
    error::SqliteError,
    row::{self, timestamp, unreadable},
};

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
) -> Result<Vec<Scanned>, SqliteError> {
    let mut conditions = Conditions::of(connection, &request.filter, request.after)?;
    let is_failing = is_failing(&conditions);
    conditions.add(is_failing, request.only_failing.then_some(true));
    let mut select = connection.prepare(&conditions.select(request.limit))?;
    let mut rows = select.query(conditions.values().as_slice())?;
    let (mut scanned, mut bytes) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        if scanned.len() == request.limit || bytes > SCAN_BYTES {
            break;
        }
        let id: i64 = row.get(0)?;
        let event = read_summary(row)?;
        let failure = last_failure(connection, id)?;
        let (body, contact) = match request.with_contents {
            true => (shown_body(connection, id)?, contact(connection, id)?),
            false => (None, None),
        };
        bytes += body.as_ref().map_or(0, bytes::Bytes::len);
        scanned.push(Scanned { cursor: Cursor(id), event, body, contact, failure });
    }
    Ok(scanned)
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
