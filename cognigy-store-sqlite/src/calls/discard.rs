//! Drops dead letters.

use cognigy_core::{Discarded, EventKey, Move, State, Timestamp};
use rusqlite::params;

use crate::{calls::contact_queue, error::SqliteError, file::write_batch::WriteBatch, row};

pub(crate) fn discard(
    group: &mut WriteBatch<'_>,
    keys: &[EventKey],
    now: Timestamp,
) -> Result<Vec<Discarded>, SqliteError> {
    keys.iter().map(|key| discard_one(group, key, now)).collect()
}

fn discard_one(
    group: &mut WriteBatch<'_>,
    key: &EventKey,
    now: Timestamp,
) -> Result<Discarded, SqliteError> {
    let mut select =
        group.prepare("SELECT id, state FROM events WHERE source = ?1 AND event_id = ?2")?;
    let mut rows = select.query([key.source.as_str(), key.id.as_str()])?;
    let Some(row) = rows.next()? else { return Ok(Discarded::NotFound) };
    let (id, state): (i64, State) = (row.get(0)?, row::read_state(row, 1)?);
    drop(rows);
    let Ok(to) = state.apply(Move::Discard) else { return Ok(Discarded::NotDeadLettered) };
    group
        .prepare("UPDATE events SET state = ?2 WHERE id = ?1")?
        .execute(params![id, to.as_str()])?;
    group.moved(state, to);
    // What was not sent stays as history, with neither a due time nor a time of sending.
    group
        .prepare("UPDATE outbox SET due_at = NULL WHERE event = ?1 AND due_at IS NOT NULL")?
        .execute([id])?;
    contact_queue::leave(group, id, now)?;
    Ok(Discarded::Done)
}
