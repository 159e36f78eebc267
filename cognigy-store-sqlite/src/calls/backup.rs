//! A copy of the whole database, made while it is in use.

use std::{fs::File, path::Path, thread, time::Duration};

use rusqlite::{
    Connection,
    backup::{Backup, StepResult},
};

use crate::error::SqliteError;

/// How many pages are copied at a time: a mebibyte, after which others get the disk.
const PAGES: i32 = 256;
const PAUSE: Duration = Duration::from_millis(1);

/// Copies the database into the empty file at `to`, and syncs it. `connection` is within a transaction,
/// so that all pages are from one state, however much is written meanwhile.
pub(crate) fn copy(connection: &Connection, to: &Path) -> Result<(), SqliteError> {
    // The transaction's state is that of its first reading.
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    let mut copy = Connection::open(to)?;
    // A copy that is not completed is of no use, so that no journal is needed to roll it back.
    copy.pragma_update(None, "journal_mode", "OFF")?;
    copy.pragma_update(None, "synchronous", "OFF")?;
    let backup = Backup::new(connection, &mut copy)?;
    while backup.step(PAGES)? != StepResult::Done {
        thread::sleep(PAUSE);
    }
    drop(backup);
    drop(copy);
    File::open(to).and_then(|file| file.sync_all()).map_err(SqliteError::File)
}
