//! Removes what is old and finished.
//!
//! A reader thread finds the events, the writer thread removes them: the search may pass over any
//! number of events that have to stay, and deliveries should not wait for that. What is removed is
//! overwritten (`PRAGMA secure_delete`), and the log, which still holds it, is emptied once nothing
//! is left to remove.

use cognigy_core::{Forgotten, PurgeRequest, Purged, QuarantineReason, State, Timestamp};
use rusqlite::{Connection, params};
use sha2::{Digest, Sha256};

use crate::{
    calls::{conditions::Arrivals, contact_queue::CONTACT},
    error::SqliteError,
    file::write_batch::WriteBatch,
    row::{self, micros, sql_limit, unreadable},
};

/// Which events are removed; `?1` is the time for processed and discarded ones, `?2` for dead-lettered ones, or
/// NULL. An event that was given up and stops its contact has to stay: without it, the contact's
/// other events could not be unblocked.
fn is_old() -> String {
    format!(
        "events.received_at < CASE events.state WHEN 'processed' THEN ?1
                                                WHEN 'discarded' THEN ?1
                                                WHEN 'dead_lettered' THEN ?2 END
         AND NOT EXISTS (SELECT 1 FROM outbox
                         WHERE outbox.event = events.id AND outbox.due_at IS NOT NULL)
         AND NOT EXISTS (SELECT 1 FROM lanes
                         WHERE lanes.source = events.source AND lanes.contact = {CONTACT}
                           AND lanes.head = events.id)"
    )
}

/// Which quarantined bodies are removed; the times are those of events.
const IS_OLD_BODY: &str = "received_at < CASE reason WHEN 'conflict' THEN ?2 ELSE ?1 END";

/// The two times, as the statements take them.
fn times(request: &PurgeRequest) -> (i64, Option<i64>) {
    (micros(request.before), request.unresolved_before.map(micros))
}

/// Every event after this id was received too late to be removed.
fn last_to_look_at(connection: &Connection, request: &PurgeRequest) -> Result<i64, SqliteError> {
    let latest: Timestamp =
        request.unresolved_before.into_iter().fold(request.before, Timestamp::max);
    Ok(Arrivals::around(connection, latest)?.last)
}

/// The oldest events that can be removed, after those that were examined before.
pub(crate) fn find(
    connection: &Connection,
    request: &PurgeRequest,
) -> Result<Vec<i64>, SqliteError> {
    let from = request.after.map_or(i64::MIN, |cursor| cursor.0);
    let last = last_to_look_at(connection, request)?;
    let (before, unresolved_before) = times(request);
    let mut select = connection.prepare_cached(&format!(
        "SELECT id FROM events WHERE {} AND id > ?3 AND id <= ?4 ORDER BY id LIMIT ?5",
        is_old()
    ))?;
    let values = params![before, unresolved_before, from, last, sql_limit(request.limit)];
    let ids = select.query_map(values, |row| row.get(0))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

/// Counts everything that can be removed.
pub(crate) fn count(
    connection: &Connection,
    request: &PurgeRequest,
) -> Result<Purged, SqliteError> {
    let last = last_to_look_at(connection, request)?;
    let (before, unresolved_before) = times(request);
    let mut counted = Purged::default();
    let mut events = connection.prepare_cached(&format!(
        "SELECT state, count(*) FROM events WHERE {} AND id <= ?3 GROUP BY state",
        is_old()
    ))?;
    let mut rows = events.query(params![before, unresolved_before, last])?;
    while let Some(row) = rows.next()? {
        counted.events.insert(row::read_state(row, 0)?, row.get::<_, i64>(1)?.unsigned_abs());
    }
    let mut bodies = connection.prepare_cached(&format!(
        "SELECT reason, count(*) FROM quarantine WHERE {IS_OLD_BODY} GROUP BY reason"
    ))?;
    let mut rows = bodies.query(params![before, unresolved_before])?;
    while let Some(row) = rows.next()? {
        let reason = read_reason(&row.get::<_, String>(0)?)?;
        counted.quarantined.insert(reason, row.get::<_, i64>(1)?.unsigned_abs());
    }
    Ok(counted)
}

fn read_reason(name: &str) -> Result<QuarantineReason, SqliteError> {
    QuarantineReason::from_name(name).ok_or_else(|| unreadable("the reason", "is unknown"))
}

/// Removes those of `events` that still can be removed, and as many quarantined bodies as the limit
/// allows.
pub(crate) fn remove(
    group: &mut WriteBatch<'_>,
    events: &[i64],
    request: &PurgeRequest,
) -> Result<Purged, SqliteError> {
    let mut purged = Purged::default();
    if !events.is_empty() {
        group.remember_last_event()?;
    }
    for id in events {
        if let Some(state) = remove_event(group, *id, request)? {
            *purged.events.entry(state).or_default() += 1;
        }
    }
    let (before, unresolved_before) = times(request);
    let mut bodies = group.prepare(&format!(
        "DELETE FROM quarantine WHERE id IN (
             SELECT id FROM quarantine WHERE {IS_OLD_BODY} ORDER BY id LIMIT ?3) RETURNING reason"
    ))?;
    let mut rows = bodies.query(params![before, unresolved_before, sql_limit(request.limit)])?;
    while let Some(row) = rows.next()? {
        let reason = read_reason(&row.get::<_, String>(0)?)?;
        *purged.quarantined.entry(reason).or_default() += 1;
    }
    Ok(purged)
}

/// Replaces the bodies of sensitive events that were processed before `before` by their digests. Returns
/// how many it replaced.
pub(crate) fn forget_sensitive(
    group: &WriteBatch<'_>,
    before: Timestamp,
    limit: usize,
) -> Result<u64, SqliteError> {
    let mut select = group.prepare(
        "SELECT id FROM events INDEXED BY events_sensitive
         WHERE sensitive = 1 AND forgotten IS NULL AND state = 'processed' AND processed_at < ?1
         LIMIT ?2",
    )?;
    let ids = select.query_map(params![micros(before), sql_limit(limit)], |row| row.get(0))?;
    let ids = ids.collect::<Result<Vec<i64>, _>>()?;
    for id in &ids {
        forget_body(group, *id, Forgotten::Sensitive)?;
    }
    Ok(ids.len() as u64)
}

/// Leaves the digest of an event's body in its place.
pub(crate) fn forget_body(
    group: &WriteBatch<'_>,
    id: i64,
    why: Forgotten,
) -> Result<(), SqliteError> {
    let (body, _) = row::read_body(group.connection(), id)?.unwrap_or_default();
    group
        .prepare("UPDATE bodies SET body = ?2, headers = NULL WHERE event = ?1")?
        .execute(params![id, &Sha256::digest(&body)[..]])?;
    group
        .prepare("UPDATE events SET forgotten = ?2 WHERE id = ?1")?
        .execute(params![id, why.as_str()])?;
    Ok(())
}

/// Returns the state in which the event was.
fn remove_event(
    group: &mut WriteBatch<'_>,
    id: i64,
    request: &PurgeRequest,
) -> Result<Option<State>, SqliteError> {
    let (before, unresolved_before) = times(request);
    let mut delete = group.prepare(&format!(
        "DELETE FROM events WHERE {} AND id = ?3 RETURNING type, state",
        is_old()
    ))?;
    let mut rows = delete.query(params![before, unresolved_before, id])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let (kind, state): (_, State) = (row::read_kind(row, 0)?, row::read_state(row, 1)?);
    drop(rows);
    for table in [
        "DELETE FROM bodies WHERE event = ?1",
        "DELETE FROM contexts WHERE event = ?1",
        "DELETE FROM attempts WHERE event = ?1",
        "DELETE FROM outbox WHERE event = ?1",
    ] {
        group.prepare(table)?.execute([id])?;
    }
    group.vanished(kind, state);
    Ok(Some(state))
}
