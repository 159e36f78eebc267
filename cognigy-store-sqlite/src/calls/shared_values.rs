//! Small texts that all processes on the file share.

use rusqlite::{Connection, OptionalExtension, params};

use crate::{error::SqliteError, file::write_batch::WriteBatch};

pub(crate) fn read(connection: &Connection, name: &str) -> Result<Option<String>, SqliteError> {
    let mut select =
        connection.prepare_cached("SELECT value FROM shared_values WHERE name = ?1")?;
    Ok(select.query_row([name], |row| row.get(0)).optional()?)
}

/// Whether `expected` was the value, and `new` is it now.
pub(crate) fn replace(
    group: &WriteBatch<'_>,
    name: &str,
    expected: Option<&str>,
    new: Option<&str>,
) -> Result<bool, SqliteError> {
    if read(group.connection(), name)?.as_deref() != expected {
        return Ok(false);
    }
    match new {
        Some(new) => group
            .prepare("INSERT OR REPLACE INTO shared_values (name, value) VALUES (?1, ?2)")?
            .execute(params![name, new])?,
        None => group.prepare("DELETE FROM shared_values WHERE name = ?1")?.execute([name])?,
    };
    Ok(true)
}
