//! Whether deliveries can be recorded: does what a delivery needs, and undoes it.

use rusqlite::params;

use crate::{error::SqliteError, file::write_batch::WriteBatch};

/// Inserts a row into every table that a delivery writes, and undoes it: a lock, a trigger or a
/// lost table shows here as it would for a delivery. Then it makes a write durable.
pub(crate) fn ready(group: &mut WriteBatch<'_>) -> Result<(), SqliteError> {
    let id = group.next_event_id()?;
    let connection = group.connection();
    connection.execute_batch("SAVEPOINT probe")?;
    // No source has an empty name.
    group
        .prepare(
            "INSERT INTO events (id, state, due_at, fence, run, attempt, received_at, source, event_id,
                                 type, event_time, timestamp_json, external_id, user_id, conversation)
             VALUES (?1, 'pending', 0, 0, 1, 0, 0, '', '', '', 0, '0', NULL, NULL, NULL)",
        )?
        .execute([id])?;
    group
        .prepare("INSERT INTO bodies (event, body, headers) VALUES (?1, x'', NULL)")?
        .execute([id])?;
    if group.order()?.is_kept() {
        group.prepare("INSERT INTO lanes VALUES ('', '', ?1, 0)")?.execute([id])?;
        group.prepare("INSERT INTO waiting VALUES ('', '', ?1)")?.execute([id])?;
    }
    group
        .prepare(
            "INSERT INTO quarantine (source, reason, event_id, detail, received_at, digest, body, headers)
             VALUES ('', '', NULL, '', 0, x'', x'', NULL)",
        )?
        .execute([])?;
    group
        .prepare("INSERT INTO tallies (dimension, name, count) VALUES (?1, ?1, 1)")?
        .execute(params![""])?;
    connection.execute_batch("ROLLBACK TO probe; RELEASE probe")?;
    group.beat()?;
    Ok(())
}
