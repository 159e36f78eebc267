//! The database file: opening it, setting connections up, and noticing that it is gone.

use std::{
    fs,
    io::{self, Read, Seek, SeekFrom, Write},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use rusqlite::{Connection, MAIN_DB, OpenFlags, config::DbConfig, hooks::Wal, wal::CheckpointMode};

use crate::{
    SqliteAccess, SqliteOptions,
    calls::contact_queue,
    config::{OLDEST_SQLITE, STATEMENT_CACHE, WAL_LIMIT},
    error::SqliteError,
    file::{
        location::{FileId, Location},
        lock_wait::LockWait,
        read_only::Reading,
        write_back::WriteBack,
    },
    schema::{self, Found},
};

/// How long to wait before opening is tried again while another process sets the database up.
const OPEN_PAUSE: Duration = Duration::from_millis(20);

/// How long a purge, and all deliveries with it, waits for queries that still need the log.
const EMPTY_LOG_PATIENCE: Duration = Duration::from_millis(100);

/// The last connection that closes a database writes the rest of its WAL back and deletes the WAL.
/// Here only a [`DatabaseConnection`] does so, and only if the WAL is trusted: see
/// [`write_back`](crate::write_back).
const NO_WRITE_BACK_AT_CLOSE: DbConfig = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;

/// Where the database is and how to open it.
#[derive(Debug, Clone)]
pub(crate) struct Database {
    location: Arc<Location>,
    pub(crate) options: SqliteOptions,
    pub(crate) write_back: Arc<WriteBack>,
    pub(crate) lock_wait: Arc<LockWait>,
}

/// An open connection and the files it was opened on.
#[derive(Debug)]
pub(crate) struct DatabaseConnection {
    pub(crate) connection: Connection,
    location: Arc<Location>,
    files: Files,
    busy_timeout: Duration,
    /// Pages in the WAL after this connection's latest commit.
    wal_pages: Arc<AtomicU32>,
    write_back: Arc<WriteBack>,
}

/// Shows that a connection works on the files to which the path leads.
#[derive(Debug)]
enum Files {
    /// The database, its log and the log's shared memory; all three exist while a connection of the
    /// usual kind is open.
    Three([FileId; 3]),
    /// The database; this process writes to none of its files.
    Unwritten(FileId, Reading),
}

impl Database {
    pub(crate) fn new(path: &Path, options: SqliteOptions) -> Result<Self, SqliteError> {
        let location = Arc::new(Location::new(path)?);
        Ok(Self { location, options, write_back: Arc::default(), lock_wait: Arc::default() })
    }

    /// Opens the database for writing, and makes it or brings it to the current schema first.
    pub(crate) fn set_up(&self) -> Result<DatabaseConnection, SqliteError> {
        must_be_recent(rusqlite::version_number())?;
        // SQLite does not wait for locks in every step of switching to WAL mode.
        let deadline = Instant::now() + self.options.busy_timeout;
        loop {
            match self.try_set_up() {
                Err(error) if error.is_busy() && Instant::now() < deadline => {
                    thread::sleep(OPEN_PAUSE);
                }
                result => return result,
            }
        }
    }

    fn try_set_up(&self) -> Result<DatabaseConnection, SqliteError> {
        self.location.prepare(self.options.access)?;
        let mut connection = self.connect(self.location.file(), WRITER)?;
        // Before the file is put into WAL mode, so that a refused file stays as it was. The WAL
        // that a crash left beside it is not written back either, because this connection does not
        // write back.
        let found = schema::inspect(&connection)?;
        if found == Found::Nothing && self.options.access != SqliteAccess::Create {
            return Err(self.location.missing());
        }
        self.prepare_writer(&connection)?;
        schema::migrate(&mut connection)?;
        contact_queue::agree(&mut connection, &self.options)?;
        let session = self.writing(connection)?;
        // An earlier process may have ended after a sync that failed.
        session.write_wal_again()?;
        Ok(session)
    }

    /// Opens the database for writing again. The file must exist: a new, empty one in its place
    /// would look healthy and hide that every event is gone.
    pub(crate) fn reopen(&self) -> Result<DatabaseConnection, SqliteError> {
        // Checked before opening, because SQLite would treat the log beside the file as its own.
        self.location.must_be_the_first()?;
        let connection = self.connect(self.location.file(), WRITER)?;
        self.must_be_current(&connection)?;
        self.prepare_writer(&connection)?;
        self.writing(connection)
    }

    /// Opens the database after a sync that failed: see [`write_back`](crate::write_back).
    pub(crate) fn begin_anew(
        &self,
        writer: Option<DatabaseConnection>,
    ) -> Result<DatabaseConnection, SqliteError> {
        self.write_back.close_all(writer);
        let session = self.reopen()?;
        session.write_wal_again()?;
        Ok(session)
    }

    pub(crate) fn open_reader(&self) -> Result<DatabaseConnection, SqliteError> {
        self.location.must_be_the_first()?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = self.connect(self.location.file(), flags)?;
        self.reading(&connection)?;
        self.session(connection)
    }

    /// Opens the database so that nothing in its folder is changed.
    pub(crate) fn open_unwritten(&self) -> Result<DatabaseConnection, SqliteError> {
        must_be_recent(rusqlite::version_number())?;
        self.location.prepare(SqliteAccess::Read)?;
        self.location.must_be_the_first()?;
        let (reading, uri) = Reading::of(&self.location)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY
            | OpenFlags::SQLITE_OPEN_NO_MUTEX
            | OpenFlags::SQLITE_OPEN_URI;
        let connection = self.connect(Path::new(&uri), flags)?;
        self.reading(&connection)?;
        let files = Files::Unwritten(self.location.database_id()?, reading);
        Ok(self.session_on(connection, files))
    }

    fn reading(&self, connection: &Connection) -> Result<(), SqliteError> {
        self.must_be_current(connection)?;
        connection.pragma_update(None, "query_only", true)?;
        set_cache(connection, self.options.reader_cache_kib)
    }

    fn connect(&self, path: &Path, flags: OpenFlags) -> Result<Connection, SqliteError> {
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(self.options.busy_timeout)?;
        connection.set_prepared_statement_cache_capacity(STATEMENT_CACHE);
        // Plans that do not depend on bound values; otherwise SQLite parses a cached statement
        // again whenever its values change, which took half the time of a duplicate.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.set_db_config(NO_WRITE_BACK_AT_CLOSE, true)?;
        // A mapped file turns an I/O error into a signal that kills the process.
        connection.pragma_update(None, "mmap_size", 0)?;
        connection.pragma_update(None, "temp_store", "memory")?;
        Ok(connection)
    }

    fn prepare_writer(&self, connection: &Connection) -> Result<(), SqliteError> {
        // SQLite silently opens a file that it may not write to for reading. It reports no error
        // even when a write transaction begins.
        if connection.is_readonly(MAIN_DB)? {
            return Err(SqliteError::ReadOnly);
        }
        let mode: String =
            connection.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
        if mode != "wal" {
            return Err(SqliteError::NoWal(mode));
        }
        connection.pragma_update(None, "synchronous", "full")?;
        // Where fsync leaves data in the drive's cache (macOS), this flushes the cache too.
        connection.pragma_update(None, "fullfsync", true)?;
        connection.pragma_update(None, "checkpoint_fullfsync", true)?;
        // Otherwise the commit that crosses SQLite's mark would write back while its callers wait;
        // see `checkpoint`.
        connection.pragma_update(None, "wal_autocheckpoint", 0)?;
        connection.pragma_update(None, "journal_size_limit", WAL_LIMIT)?;
        // Removed data is overwritten, not only unlinked from the tables.
        connection.pragma_update(None, "secure_delete", true)?;
        set_cache(connection, self.options.writer_cache_kib)
    }

    fn must_be_current(&self, connection: &Connection) -> Result<(), SqliteError> {
        match (schema::inspect(connection)?, self.options.access) {
            (Found::Current, _) => Ok(()),
            (Found::Nothing, SqliteAccess::Read) => Err(self.location.missing()),
            (Found::Older(found), SqliteAccess::Read) => Err(SqliteError::Older { found }),
            (Found::Nothing | Found::Older(_), _) => Err(SqliteError::NoSchema),
        }
    }

    /// A connection that writes. The files' names have to survive a power cut, too: SQLite syncs
    /// the folder when it has made the WAL, but does not check whether that worked.
    fn writing(&self, connection: Connection) -> Result<DatabaseConnection, SqliteError> {
        let mut session = self.session(connection)?;
        let counter = Arc::clone(&session.wal_pages);
        session.connection.wal_hook(Some(move |_: &mut Wal, pages| {
            counter.store(u32::try_from(pages).unwrap_or_default(), Ordering::Relaxed);
            Ok(())
        }))?;
        self.location.sync_folder().map_err(SqliteError::File)?;
        Ok(session)
    }

    fn session(&self, connection: Connection) -> Result<DatabaseConnection, SqliteError> {
        self.location.must_be_the_first()?;
        let files = Files::Three(file_ids(&self.location)?);
        Ok(self.session_on(connection, files))
    }

    fn session_on(&self, connection: Connection, files: Files) -> DatabaseConnection {
        DatabaseConnection {
            connection,
            location: Arc::clone(&self.location),
            files,
            busy_timeout: self.options.busy_timeout,
            wal_pages: Arc::default(),
            write_back: Arc::clone(&self.write_back),
        }
    }
}

const WRITER: OpenFlags = OpenFlags::SQLITE_OPEN_READ_WRITE.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

impl DatabaseConnection {
    /// Pages in the WAL after this connection's latest commit.
    pub(crate) fn wal_pages(&self) -> u32 {
        self.wal_pages.load(Ordering::Relaxed)
    }

    /// Writes back what is in the WAL, as far as no reader needs it. Never waits for a reader or a
    /// writer. Returns how many pages the WAL has and how many of them are written back, or `None`
    /// if another thread is writing back.
    pub(crate) fn checkpoint(&self) -> Result<(u32, u32), SqliteError> {
        let pages = |count| u32::try_from(count).unwrap_or_default();
        let written = self.write_back.perform(|| {
            Ok(self.connection.wal_checkpoint_v2(Some("main"), CheckpointMode::PASSIVE)?)
        })?;
        Ok(written.map_or((0, 0), |(all, done)| (pages(all), pages(done))))
    }

    /// Writes the whole log back and cuts it to nothing, so that what was overwritten in the
    /// database cannot be read in the log either. Returns whether that was possible: it does not
    /// wait for a query that still needs the log.
    pub(crate) fn empty_log(&self) -> bool {
        let emptied = self.write_back.perform(|| {
            self.connection.busy_timeout(EMPTY_LOG_PATIENCE)?;
            let emptied = self.connection.wal_checkpoint_v2(Some("main"), CheckpointMode::TRUNCATE);
            self.connection.busy_timeout(self.busy_timeout)?;
            Ok(emptied.map(drop)?)
        });
        matches!(emptied, Ok(Some(())))
    }

    /// Makes the content of the WAL durable, whatever happened to earlier syncs: it writes the same
    /// bytes to the same positions, under the write lock. SQLite locks the database and the shared
    /// memory, never the WAL itself, so that opening and closing the WAL here releases no lock.
    /// From then on the WAL may be written back.
    fn write_wal_again(&self) -> Result<(), SqliteError> {
        self.connection.execute_batch("BEGIN IMMEDIATE")?;
        let written = write_again(&self.location.companion("-wal")).map_err(SqliteError::File);
        self.connection.execute_batch("ROLLBACK")?;
        written?;
        self.write_back.trust();
        Ok(())
    }

    /// Fails if the path no longer leads to the files that are open: data that is written now would
    /// be lost when the process ends.
    pub(crate) fn must_be_in_place(&self) -> Result<(), SqliteError> {
        let in_place = match &self.files {
            Files::Three(files) => file_ids(&self.location).map(|found| found == *files),
            Files::Unwritten(file, _) => self.location.database_id().map(|found| found == *file),
        };
        match in_place {
            Ok(true) => Ok(()),
            Err(SqliteError::File(error)) if error.kind() != io::ErrorKind::NotFound => {
                Err(SqliteError::File(error))
            }
            _ => Err(SqliteError::Replaced),
        }
    }

    /// Whether the result of a read is valid: false if it was read without locks and another
    /// process has changed the database meanwhile.
    pub(crate) fn has_read_one_state(&self) -> bool {
        match &self.files {
            Files::Three(_) => true,
            Files::Unwritten(_, reading) => reading.still_holds(&self.location),
        }
    }
}

impl Drop for DatabaseConnection {
    fn drop(&mut self) {
        if self.write_back.is_trusted() {
            drop(self.connection.set_db_config(NO_WRITE_BACK_AT_CLOSE, false));
        }
    }
}

/// Refuses the linked SQLite if its version may damage a database.
fn must_be_recent(sqlite: i32) -> Result<(), SqliteError> {
    if sqlite < OLDEST_SQLITE { Err(SqliteError::OldSqlite(rusqlite::version())) } else { Ok(()) }
}

fn set_cache(connection: &Connection, kib: u32) -> Result<(), SqliteError> {
    // A negative size is in KiB, a positive one in pages.
    Ok(connection.pragma_update(None, "cache_size", -i64::from(kib))?)
}

/// Writes a file's own bytes over it, and syncs it.
fn write_again(path: &Path) -> io::Result<()> {
    let mut file = fs::OpenOptions::new().read(true).write(true).open(path)?;
    let mut part = vec![0; 1 << 20];
    loop {
        let place = file.stream_position()?;
        let length = file.read(&mut part)?;
        if length == 0 {
            return file.sync_all();
        }
        file.seek(SeekFrom::Start(place))?;
        file.write_all(&part[..length])?;
    }
}

fn file_ids(location: &Location) -> Result<[FileId; 3], SqliteError> {
    Ok([location.database_id()?, location.companion_id("-wal")?, location.companion_id("-shm")?])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pragma(connection: &Connection, name: &str) -> String {
        connection
            .pragma_query_value(None, name, |row| {
                row.get::<_, rusqlite::types::Value>(0).map(|value| format!("{value:?}"))
            })
            .unwrap()
    }

    #[test]
    fn an_sqlite_that_may_damage_a_database_is_refused() {
        must_be_recent(OLDEST_SQLITE).unwrap();
        assert!(matches!(must_be_recent(OLDEST_SQLITE - 1), Err(SqliteError::OldSqlite(_))));
    }

    #[test]
    fn a_commit_by_the_writer_is_synced() {
        let folder = tempfile::tempdir().unwrap();
        let database =
            Database::new(&folder.path().join("w.db"), SqliteOptions::default()).unwrap();
        let first = database.set_up().unwrap();
        for session in [first, database.reopen().unwrap()] {
            let pragma = |name| pragma(&session.connection, name);
            assert_eq!(pragma("journal_mode"), "Text(\"wal\")");
            assert_eq!(pragma("synchronous"), "Integer(2)", "2 is FULL");
            assert_eq!(pragma("fullfsync"), "Integer(1)");
            assert_eq!(pragma("mmap_size"), "Integer(0)");
            assert_eq!(pragma("busy_timeout"), "Integer(5000)");
            assert_eq!(pragma("wal_autocheckpoint"), "Integer(0)");
            assert_eq!(pragma("journal_size_limit"), "Integer(67108864)", "64 MiB");
            assert_eq!(pragma("secure_delete"), "Integer(1)");
            assert_eq!(pragma("auto_vacuum"), "Integer(0)");
            assert_eq!(pragma("cache_size"), "Integer(-8192)", "KiB, where it is negative");
        }
    }

    #[test]
    fn a_reader_cannot_write() {
        let folder = tempfile::tempdir().unwrap();
        let database =
            Database::new(&folder.path().join("w.db"), SqliteOptions::default()).unwrap();
        let _writer = database.set_up().unwrap();
        let reader = database.open_reader().unwrap();
        assert!(reader.connection.execute("DELETE FROM events", []).is_err());
    }

    #[test]
    fn only_a_database_of_this_schema_is_opened_again() {
        let folder = tempfile::tempdir().unwrap();
        let database =
            Database::new(&folder.path().join("w.db"), SqliteOptions::default()).unwrap();
        let opened = || [database.reopen(), database.open_reader()].map(Result::err);
        let session = database.set_up().unwrap();
        let writer = &session.connection;
        assert!(matches!(opened(), [None, None]));
        writer.pragma_update(None, "user_version", 99).unwrap();
        assert!(matches!(
            opened(),
            [Some(SqliteError::Newer { .. }), Some(SqliteError::Newer { .. })]
        ));
        writer.pragma_update(None, "user_version", 0).unwrap();
        assert!(matches!(opened(), [Some(SqliteError::NoSchema), Some(SqliteError::NoSchema)]));
        writer.pragma_update(None, "application_id", 1).unwrap();
        assert!(matches!(opened(), [Some(SqliteError::Foreign), Some(SqliteError::Foreign)]));
    }

    #[test]
    fn a_file_that_cannot_be_asked_about_is_not_taken_for_moved() {
        let place = tempfile::tempdir().unwrap();
        let folder = place.path().join("folder");
        fs::create_dir(&folder).unwrap();
        let session = Database::new(&folder.join("w.db"), SqliteOptions::default())
            .unwrap()
            .set_up()
            .unwrap();
        fs::rename(&folder, place.path().join("elsewhere")).unwrap();
        fs::write(&folder, "no folder").unwrap();
        assert!(matches!(session.must_be_in_place(), Err(SqliteError::File(_))));
    }

    #[test]
    fn a_moved_file_or_wal_is_noticed() {
        for suffix in ["", "-wal", "-shm"] {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("w.db");
            let session = Database::new(&path, SqliteOptions::default()).unwrap().set_up().unwrap();
            session.must_be_in_place().unwrap();
            let file = folder.path().join(format!("w.db{suffix}"));
            fs::rename(&file, folder.path().join("moved")).unwrap();
            assert!(matches!(session.must_be_in_place(), Err(SqliteError::Replaced)), "{suffix}");
            fs::copy(folder.path().join("moved"), &file).unwrap();
            assert!(matches!(session.must_be_in_place(), Err(SqliteError::Replaced)), "{suffix}");
        }
    }
}
