//! Records an event, once.

use bytes::Bytes;
use cognigy_core::{IncomingEvent, Recorded, Timestamp};
use rusqlite::{Connection, OptionalExtension, params};
use sha2::{Digest, Sha256};

use crate::{
    calls::contact_queue::{self, QueuePosition},
    error::SqliteError,
    file::write_batch::WriteBatch,
    row::micros,
};

/// Inserts the event, or compares it with the stored event of its key. Never an upsert, which would
/// hide which event was first.
pub(crate) fn record(
    group: &mut WriteBatch<'_>,
    event: &IncomingEvent,
    now: Timestamp,
) -> Result<Recorded, SqliteError> {
    let now = micros(now);
    let id = group.next_event_id()?;
    let parts = &event.parts;
    let place = contact_queue::place_for(group, event)?;
    let due_at = (!matches!(place, QueuePosition::Behind(_))).then_some(now);
    let inserted = group
        .prepare(
            "INSERT INTO events (id, state, due_at, fence, run, attempt, received_at, source, event_id,
                                 type, event_time, timestamp_json, external_id, user_id, conversation,
                                 sensitive)
             VALUES (?1, 'pending', ?2, 0, 1, 0, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12)
             ON CONFLICT (source, event_id) DO NOTHING",
        )?
        .execute(params![
            id,
            due_at,
            now,
            event.key.source.as_str(),
            event.key.id.as_str(),
            parts.kind.as_str(),
            micros(parts.time.instant()),
            parts.time.as_json(),
            parts.external_id,
            parts.user_id,
            parts.conversation,
            parts.sensitive.then_some(1),
        ])?;
    if inserted == 0 {
        return compare(group.connection(), event);
    }
    group
        .prepare("INSERT INTO bodies (event, body, headers) VALUES (?1, ?2, ?3)")?
        .execute(params![id, &event.body[..], event.context.to_json()])?;
    contact_queue::take(group, &place, event.key.source.as_str(), id)?;
    group.appeared(&parts.kind);
    Ok(Recorded::New)
}

fn compare(connection: &Connection, event: &IncomingEvent) -> Result<Recorded, SqliteError> {
    let mut select = connection.prepare_cached(
        "SELECT body, forgotten IS NOT NULL FROM events JOIN bodies ON bodies.event = events.id
         WHERE source = ?1 AND event_id = ?2",
    )?;
    let key = params![event.key.source.as_str(), event.key.id.as_str()];
    let differing = select
        .query_row(key, |row| {
            let stored = row.get_ref(0)?.as_bytes()?;
            if row.get(1)? {
                // Only its digest is left.
                let is_same = stored == &Sha256::digest(&event.body)[..];
                return Ok((!is_same).then(Bytes::new));
            }
            Ok((stored != event.body).then(|| Bytes::copy_from_slice(stored)))
        })
        .optional()?;
    Ok(match differing {
        Some(None) => Recorded::Identical,
        Some(Some(stored)) => Recorded::Differs { stored },
        // The stored body is lost. As a conflict the delivery goes into quarantine, where its bytes
        // can still be read; after an error the sender would repeat it for ever.
        None => Recorded::Differs { stored: Bytes::new() },
    })
}
