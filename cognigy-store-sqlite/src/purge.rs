//! Forgetting what is old and finished.
//!
//! A reader looks for it, the writer removes it: the search may pass over any number of events that
//! have to stay, and intake should not wait for that.

use cognigy_core::{State, Timestamp};
use rusqlite::{Connection, params};

use crate::{
    archive::Arrivals,
    error::Problem,
    group::Group,
    lanes::CONTACT,
    row::{self, micros, sql_limit},
};

/// What makes an event go; `?1` is the time. One that was given up and stops its contact has to stay:
/// with it gone, nobody could let the others go.
fn is_old() -> String {
    format!(
        "events.received_at < ?1
         AND events.state IN ('processed', 'dead_lettered')
         AND NOT EXISTS (SELECT 1 FROM outbox
                         WHERE outbox.event = events.id AND outbox.due_at IS NOT NULL)
         AND NOT EXISTS (SELECT 1 FROM lanes
                         WHERE lanes.source = events.source AND lanes.contact = {CONTACT}
                           AND lanes.head = events.id)"
    )
}

/// The oldest events that can go.
pub(crate) fn find(
    connection: &Connection,
    before: Timestamp,
    limit: usize,
) -> Result<Vec<i64>, Problem> {
    let last = Arrivals::around(connection, before)?.last;
    let mut select = connection.prepare_cached(&format!(
        "SELECT id FROM events WHERE {} AND id <= ?2 ORDER BY id LIMIT ?3",
        is_old()
    ))?;
    let ids =
        select.query_map(params![micros(before), last, sql_limit(limit)], |row| row.get(0))?;
    Ok(ids.collect::<Result<_, _>>()?)
}

/// Removes those of `events` that still can go, and as many quarantined bodies as `limit` allows.
pub(crate) fn remove(
    group: &mut Group<'_>,
    events: &[i64],
    before: Timestamp,
    limit: usize,
) -> Result<u64, Problem> {
    let mut removed = 0;
    if !events.is_empty() {
        group.remember_last_event()?;
    }
    for id in events {
        removed += u64::from(remove_event(group, *id, before)?);
    }
    group
        .prepare(
            "DELETE FROM quarantine WHERE id IN (
                 SELECT id FROM quarantine WHERE received_at < ?1 ORDER BY id LIMIT ?2)",
        )?
        .execute(params![micros(before), sql_limit(limit)])?;
    Ok(removed)
}

fn remove_event(group: &mut Group<'_>, id: i64, before: Timestamp) -> Result<bool, Problem> {
    let mut delete = group.prepare(&format!(
        "DELETE FROM events WHERE {} AND id = ?2 RETURNING type, state",
        is_old()
    ))?;
    let mut rows = delete.query([micros(before), id])?;
    let Some(row) = rows.next()? else { return Ok(false) };
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
    Ok(true)
}
