//! Runs events again: one at once, or many by the workers.

use cognigy_core::{EventKey, Move, ReplayClaim, Requeued, State, Timestamp};
use rusqlite::params;

use crate::{
    calls::{
        claim::{EventRow, LeaseWindow},
        contact_queue,
    },
    error::SqliteError,
    file::write_batch::WriteBatch,
    row::{self, micros},
};

pub(crate) fn replay(
    group: &mut WriteBatch<'_>,
    key: &EventKey,
    window: &LeaseWindow,
) -> Result<ReplayClaim, SqliteError> {
    let mut select = group.prepare(&format!(
        "SELECT {} FROM events WHERE source = ?1 AND event_id = ?2",
        EventRow::columns()
    ))?;
    let mut rows = select.query([key.source.as_str(), key.id.as_str()])?;
    let Some(row) = rows.next()? else { return Ok(ReplayClaim::NotFound) };
    let event = EventRow::read(row)?;
    drop(rows);
    if event.is_forgotten(group)? {
        return Ok(ReplayClaim::Forgotten);
    }
    let is_leased = event.due_at.is_some_and(|end| end > window.now);
    if event.state == State::Processing && is_leased {
        return Ok(ReplayClaim::Busy);
    }
    if !contact_queue::admit(group, event.id)? {
        return Ok(ReplayClaim::Busy);
    }
    Ok(ReplayClaim::Claimed(Box::new(event.claim_anew(group, window)?)))
}

pub(crate) fn requeue(
    group: &mut WriteBatch<'_>,
    keys: &[EventKey],
    now: Timestamp,
) -> Result<Vec<Requeued>, SqliteError> {
    keys.iter().map(|key| requeue_one(group, key, micros(now))).collect()
}

fn requeue_one(
    group: &mut WriteBatch<'_>,
    key: &EventKey,
    now: i64,
) -> Result<Requeued, SqliteError> {
    let mut select = group.prepare(
        "SELECT id, state, forgotten IS NOT NULL FROM events WHERE source = ?1 AND event_id = ?2",
    )?;
    let mut rows = select.query([key.source.as_str(), key.id.as_str()])?;
    let Some(row) = rows.next()? else { return Ok(Requeued::NotFound) };
    let (id, state) = (row.get::<_, i64>(0)?, row::read_state(row, 1)?);
    let is_forgotten = row.get(2)?;
    drop(rows);
    if is_forgotten {
        return Ok(Requeued::Forgotten);
    }
    match state {
        State::Processing => Ok(Requeued::Busy),
        State::Pending => {
            // NULL for an event that waits for another one of its contact; it stays NULL.
            group
                .prepare("UPDATE events SET due_at = min(due_at, ?2) WHERE id = ?1")?
                .execute([id, now])?;
            Ok(Requeued::Waiting)
        }
        State::Processed | State::DeadLettering | State::DeadLettered | State::Discarded => {
            let to = state.apply(Move::Replay)?;
            group
                .prepare(
                    "UPDATE events SET state = ?2, due_at = ?3, run = run + 1, attempt = 0
                     WHERE id = ?1",
                )?
                .execute(params![id, to.as_str(), now])?;
            group.moved(state, to);
            if !contact_queue::enter(group, id)? {
                group.prepare("UPDATE events SET due_at = NULL WHERE id = ?1")?.execute([id])?;
            }
            Ok(Requeued::Scheduled)
        }
    }
}
