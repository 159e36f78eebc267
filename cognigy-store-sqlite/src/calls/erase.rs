//! Erases a person, a step at a time, so that deliveries need not wait for all of it.
//!
//! As in a purge, a reader thread finds what is to go, and the writer thread removes it. What is removed is
//! overwritten, and the log is emptied at the end.

use cognigy_core::{EventKey, Forgotten, Move, Person, State, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};

use crate::{
    calls::{conditions::WALK, contact_queue, purge::forget_body},
    error::SqliteError,
    file::write_batch::WriteBatch,
    row::{self, micros},
};

/// How many events one transaction erases.
pub(crate) const STEP: usize = 256;

/// What one step took.
#[derive(Debug, Default)]
pub(crate) struct Erased {
    pub(crate) keys: Vec<EventKey>,
    pub(crate) dead_letters: u64,
    pub(crate) sent: Vec<EventKey>,
}

/// The column that holds the person's id.
fn column(person: &Person) -> &'static str {
    match person {
        Person::ExternalId(_) => "external_id",
        Person::UserId(_) => "user_id",
    }
}

/// The person's next events after the one with the id `after`, and where to go on; none at the end.
///
/// Every event is looked at, some 20,000 at a time: an erasure does not rely on an index.
pub(crate) fn find(
    connection: &Connection,
    person: &Person,
    after: i64,
) -> Result<(Vec<i64>, Option<i64>), SqliteError> {
    let mut last = connection
        .prepare_cached("SELECT id FROM events WHERE id > ?1 ORDER BY id LIMIT 1 OFFSET ?2")?;
    let last: Option<i64> = last.query_row([after, WALK - 1], |row| row.get(0)).optional()?;
    let mut select = connection.prepare_cached(&format!(
        "SELECT id FROM events WHERE {} = ?1 AND id > ?2 AND id <= ?3 ORDER BY id LIMIT {STEP}",
        column(person)
    ))?;
    let ids = select
        .query_map(params![person.id(), after, last.unwrap_or(i64::MAX)], |row| row.get(0))?;
    let ids = ids.collect::<Result<Vec<i64>, _>>()?;
    let next = if ids.len() == STEP { ids.last().copied() } else { last };
    Ok((ids, next))
}

/// Writes the receipt. Returns its id.
pub(crate) fn begin(group: &WriteBatch<'_>, by: &str, now: Timestamp) -> Result<i64, SqliteError> {
    let mut insert = group
        .prepare("INSERT INTO erasures (erased_at, erased_by) VALUES (?1, ?2) RETURNING id")?;
    Ok(insert.query_row(params![micros(now), by], |row| row.get(0))?)
}

/// The entries of the record of what operators did whose filters name the person.
pub(crate) fn find_filters(
    connection: &Connection,
    person: &Person,
) -> Result<Vec<i64>, SqliteError> {
    let mut select = connection.prepare("SELECT id, filter FROM audit WHERE filter IS NOT NULL")?;
    let mut rows = select.query([])?;
    let mut named = Vec::<i64>::new();
    while let Some(row) = rows.next()? {
        if person.is_named_in_filter(&row.get::<_, String>(1)?) {
            named.push(row.get(0)?);
        }
    }
    Ok(named)
}

/// Takes the filters of these entries out of the record.
pub(crate) fn clear_filters(group: &WriteBatch<'_>, entries: &[i64]) -> Result<(), SqliteError> {
    let mut update = group.prepare("UPDATE audit SET filter = NULL WHERE id = ?1")?;
    entries.iter().try_for_each(|id| update.execute([id]).map(drop)).map_err(Into::into)
}

/// Erases those of `events` that are still the person's.
pub(crate) fn erase(
    group: &mut WriteBatch<'_>,
    receipt: i64,
    person: &Person,
    events: &[i64],
    now: Timestamp,
) -> Result<Erased, SqliteError> {
    let mut erased = Erased::default();
    for id in events {
        erase_one(group, person, *id, now, &mut erased)?;
    }
    group
        .prepare(
            "UPDATE erasures SET events = events + ?2, dead_letters = dead_letters + ?3
             WHERE id = ?1",
        )?
        .execute(params![
            receipt,
            i64::try_from(erased.keys.len()).unwrap_or(i64::MAX),
            i64::try_from(erased.dead_letters).unwrap_or(i64::MAX),
        ])?;
    Ok(erased)
}

fn erase_one(
    group: &mut WriteBatch<'_>,
    person: &Person,
    id: i64,
    now: Timestamp,
    erased: &mut Erased,
) -> Result<(), SqliteError> {
    let mut select = group.prepare(&format!(
        "SELECT source, event_id, state, forgotten IS NULL FROM events WHERE id = ?1 AND {} = ?2",
        column(person)
    ))?;
    let mut rows = select.query(params![id, person.id()])?;
    let Some(row) = rows.next()? else { return Ok(()) };
    let key = row::read_key(row, 0)?;
    let (state, has_body): (State, bool) = (row::read_state(row, 2)?, row.get(3)?);
    drop(rows);
    // Its place is found by the ids that are about to go.
    contact_queue::leave(group, id, now)?;
    if let Ok(to) = state.apply(Move::Erase) {
        group
            .prepare("UPDATE events SET state = ?2 WHERE id = ?1")?
            .execute(params![id, to.as_str()])?;
        group.moved(state, to);
    }
    if has_body {
        forget_body(group, id, Forgotten::Erased)?;
    }
    group
        .prepare(
            "UPDATE events SET forgotten = ?2, due_at = NULL, fence = fence + 1,
                               external_id = NULL, user_id = NULL, conversation = NULL
             WHERE id = ?1",
        )?
        .execute(params![id, Forgotten::Erased.as_str()])?;
    group.prepare("DELETE FROM contexts WHERE event = ?1")?.execute([id])?;
    group.prepare("UPDATE attempts SET error = NULL WHERE event = ?1")?.execute([id])?;
    let (letters, sent): (i64, i64) = group
        .prepare(
            "SELECT count(*) FILTER (WHERE due_at IS NOT NULL OR sent_at IS NOT NULL),
                    count(sent_at) FROM outbox WHERE event = ?1",
        )?
        .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
    group.prepare("DELETE FROM outbox WHERE event = ?1")?.execute([id])?;
    erased.dead_letters += letters.unsigned_abs();
    if sent > 0 {
        erased.sent.push(key.clone());
    }
    erased.keys.push(key);
    Ok(())
}

/// The quarantined bodies that name the person or one of the person's events.
pub(crate) fn find_quarantined(
    connection: &Connection,
    person: &Person,
    events: &[EventKey],
) -> Result<Vec<i64>, SqliteError> {
    let mut select =
        connection.prepare("SELECT id, source, event_id, body, headers FROM quarantine")?;
    let mut rows = select.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (source, event): (String, Option<String>) = (row.get(1)?, row.get(2)?);
        let is_of = |key: &EventKey| {
            key.source.as_str() == source && event.as_deref() == Some(key.id.as_str())
        };
        let body = row.get_ref(3)?.as_bytes().map_err(rusqlite::Error::from)?;
        let headers: Option<String> = row.get(4)?;
        if events.iter().any(is_of)
            || person.is_named_in(body)
            || headers.is_some_and(|headers| person.is_named_in(headers.as_bytes()))
        {
            found.push(row.get(0)?);
        }
    }
    Ok(found)
}

/// Removes quarantined bodies. Returns how many were still there.
pub(crate) fn discharge(
    group: &WriteBatch<'_>,
    receipt: i64,
    bodies: &[i64],
) -> Result<u64, SqliteError> {
    let mut count = 0;
    for id in bodies {
        count += group.prepare("DELETE FROM quarantine WHERE id = ?1")?.execute([id])? as u64;
    }
    group
        .prepare("UPDATE erasures SET quarantined = quarantined + ?2 WHERE id = ?1")?
        .execute(params![receipt, i64::try_from(count).unwrap_or(i64::MAX)])?;
    Ok(count)
}
