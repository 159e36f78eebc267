//! The Python page's database, read and never written.

use std::path::Path;

use bytes::Bytes;
use chrono::{DateTime, NaiveDateTime};
use cognigy_core::{ImportedEnd, Timestamp};
use rusqlite::{Connection, OpenFlags, OptionalExtension, types::ValueRef};

use crate::error::StartError;

/// How many rows are read at once.
const ROWS: usize = 500;

/// The database of the page.
pub(super) struct Database {
    connection: Connection,
    name: String,
}

/// An event as the page kept it.
pub(super) struct Row {
    pub(super) number: i64,
    /// Empty where the column holds no text.
    pub(super) event_id: String,
    /// The bytes of the payload.
    pub(super) body: Bytes,
    processed_at: Option<Timestamp>,
    status: String,
}

/// What an event becomes here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    Processed,
    GivenUp,
    Pending,
}

impl End {
    /// In the order in which they are imported.
    pub(super) const ALL: [Self; 3] = [Self::Processed, Self::GivenUp, Self::Pending];

    /// By the status that the page gave it. What is not known is given up: an operator decides.
    fn of(status: &str) -> Self {
        match status.trim().to_ascii_lowercase().as_str() {
            "processed" | "replayed" | "success" | "succeeded" | "done" => Self::Processed,
            "pending" | "received" | "accepted" | "processing" => Self::Pending,
            _ => Self::GivenUp,
        }
    }

    /// The status that it has here.
    pub(super) fn status(self) -> &'static str {
        match self {
            Self::Processed => "processed",
            Self::GivenUp => "dead_lettered",
            Self::Pending => "pending",
        }
    }
}

impl Row {
    pub(super) fn end(&self) -> End {
        End::of(&self.status)
    }

    pub(super) fn imported_end(&self) -> ImportedEnd {
        match self.end() {
            End::Processed => ImportedEnd::Processed(self.processed_at),
            End::GivenUp => {
                let reason = format!("the Python page had left it as {:?}", self.status);
                ImportedEnd::GivenUp(self.processed_at, reason)
            }
            End::Pending => ImportedEnd::Pending,
        }
    }
}

impl Database {
    /// Opens it for reading. This server's own database is not one: it has a view of that name.
    pub(super) fn open(file: &Path) -> Result<Self, StartError> {
        let name = file.display().to_string();
        if !file.is_file() {
            return Err(StartError::Failed(format!("{name}: there is no such file")));
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let failed = |error| StartError::failed(&name, &error);
        let connection = Connection::open_with_flags(file, flags).map_err(failed)?;
        let kind = "SELECT type FROM sqlite_master WHERE name = 'webhook_events'";
        let kind: Option<String> =
            connection.query_row(kind, [], |row| row.get(0)).optional().map_err(failed)?;
        match kind.as_deref() {
            Some("table") => Ok(Self { connection, name }),
            Some(_) => {
                let why = "is a database of this server, and not one of the Python page";
                Err(StartError::Failed(format!("{name}: {why}")))
            }
            None => Err(StartError::Failed(format!(
                "{name}: has no table webhook_events: it is not a database of the Python page"
            ))),
        }
    }

    /// How many rows there are.
    pub(super) fn count(&self) -> Result<u64, StartError> {
        let count = "SELECT count(*) FROM webhook_events";
        let count = self.connection.query_row(count, [], |row| row.get::<_, i64>(0));
        count.map(i64::unsigned_abs).map_err(|error| StartError::failed(&self.name, &error))
    }

    /// The next rows after the one with that number.
    pub(super) fn rows(&self, after: Option<i64>) -> Result<Vec<Row>, StartError> {
        self.read(after).map_err(|error| StartError::failed(&self.name, &error))
    }

    fn read(&self, after: Option<i64>) -> rusqlite::Result<Vec<Row>> {
        let mut select = self.connection.prepare_cached(&format!(
            "SELECT rowid, event_id, raw_payload, processed_at, status FROM webhook_events
             WHERE ?1 IS NULL OR rowid > ?1 ORDER BY rowid LIMIT {ROWS}"
        ))?;
        let rows = select.query_map([after], |row| {
            Ok(Row {
                number: row.get(0)?,
                event_id: text(row.get_ref(1)?),
                body: Bytes::copy_from_slice(bytes(row.get_ref(2)?)),
                processed_at: time(&text(row.get_ref(3)?)),
                status: text(row.get_ref(4)?),
            })
        })?;
        rows.collect()
    }
}

/// What a column holds; SQLite lets any column hold anything.
fn bytes(value: ValueRef<'_>) -> &[u8] {
    match value {
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => bytes,
        ValueRef::Null | ValueRef::Integer(_) | ValueRef::Real(_) => b"",
    }
}

fn text(value: ValueRef<'_>) -> String {
    String::from_utf8_lossy(bytes(value)).into_owned()
}

/// A time as Python's `isoformat` or SQLite's `CURRENT_TIMESTAMP` writes it; without an offset it is UTC.
fn time(text: &str) -> Option<Timestamp> {
    let text = text.trim();
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.into());
    }
    let forms = ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"];
    let read = |form: &&str| NaiveDateTime::parse_from_str(text, form).ok();
    forms.iter().find_map(read).map(|time| time.and_utc())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_of_the_page_has_an_end_here_and_an_unknown_one_is_for_an_operator() {
        for (status, end) in [
            ("processed", End::Processed),
            (" Processed ", End::Processed),
            ("replayed", End::Processed),
            ("pending", End::Pending),
            ("failed", End::GivenUp),
            ("", End::GivenUp),
            ("on fire", End::GivenUp),
        ] {
            assert_eq!(End::of(status), end, "{status:?}");
        }
    }

    #[test]
    fn times_are_read_as_python_and_sqlite_write_them() {
        let expected = Some("2026-03-01T12:00:00Z".parse().unwrap());
        for text in [
            "2026-03-01T12:00:00Z",
            "2026-03-01T13:00:00+01:00",
            "2026-03-01T12:00:00",
            "2026-03-01T12:00:00.000000",
            "2026-03-01 12:00:00",
            "2026-03-01 12:00:00+00:00",
        ] {
            assert_eq!(time(text), expected, "{text}");
        }
        assert_eq!((time(""), time("yesterday")), (None, None));
    }
}
