//! Reading a database without changing anything in its folder, whether other processes write to it
//! or not, and on a file system that cannot be written to.
//!
//! A usual read-only connection is not enough: SQLite makes a log and its shared memory where they
//! are missing, and writes to the shared memory where they are not. So the way of reading depends
//! on the files that exist:
//!
//! * A log with content: the shared memory is opened for reading only (`readonly_shm`). If a process
//!   has the database open, its index of the log is used, under the usual locks. If there is none,
//!   SQLite makes an index of its own in the memory of this process.
//! * No log, or an empty one: everything is in the database file, which is read as it is
//!   (`immutable`), without locks. If a process begins to write meanwhile, the result is discarded
//!   and read again: see [`Reading::still_holds`].
//!
//! The parameters are described in <https://sqlite.org/uri.html> and <https://sqlite.org/wal.html>.

use std::{fs, path::Path, time::SystemTime};

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_encode};

use crate::{
    error::SqliteError,
    file::location::{FileId, Location},
};

/// The characters that need no escape in a URI's path (RFC 3986, section 3.3).
const ESCAPED: &AsciiSet =
    &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// How to read a database that this process does not write to.
#[derive(Debug)]
pub(crate) struct Reading {
    /// For a database that is read without locks: what its files looked like when it was opened.
    unlocked: Option<[Stamp; 2]>,
}

/// Shows whether a file was changed; none where there is no file, or an empty log.
type Stamp = Option<(FileId, u64, Option<SystemTime>)>;

impl Reading {
    /// Examines the files and returns how to read them, as a URI for SQLite.
    pub(crate) fn of(location: &Location) -> Result<(Self, String), SqliteError> {
        let stamps = stamps(location);
        let unlocked = stamps[1].is_none();
        if !unlocked && !location.companion("-shm").exists() {
            return Err(SqliteError::NeedsRecovery(location.companion("-wal")));
        }
        let how = if unlocked { "immutable=1" } else { "readonly_shm=1" };
        let uri = format!("file:{}?mode=ro&{how}", encoded(location.file()));
        Ok((Self { unlocked: unlocked.then_some(stamps) }, uri))
    }

    /// Whether everything that was read since the opening is valid.
    pub(crate) fn still_holds(&self, location: &Location) -> bool {
        self.unlocked.is_none_or(|before| before == stamps(location))
    }
}

/// The stamps of the database and its log.
fn stamps(location: &Location) -> [Stamp; 2] {
    let stamp = |path: &Path| {
        let file = fs::metadata(path).ok()?;
        Some((FileId::of(&file), file.len(), file.modified().ok()))
    };
    let log = stamp(&location.companion("-wal")).filter(|(_, length, _)| *length > 0);
    [stamp(location.file()), log]
}

#[cfg(unix)]
fn encoded(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    percent_encode(path.as_os_str().as_bytes(), ESCAPED).to_string()
}

#[cfg(not(unix))]
fn encoded(path: &Path) -> String {
    percent_encode(path.to_string_lossy().replace('\\', "/").as_bytes(), ESCAPED).to_string()
}
