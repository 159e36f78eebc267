//! Where the database is: the given path, the file to which it leads, and whether that file exists.
//!
//! SQLite creates what it does not find, and it deletes a write-ahead log whose database it finds
//! empty: a database that was only moved away for a moment would lose every event that was not yet
//! written back. So SQLite never creates the file here. [`Location::prepare`] does, where that is
//! allowed, and not while the log of another database lies beside it.

use std::{
    ffi::OsString,
    fs, io,
    path::{Path, PathBuf},
    sync::OnceLock,
    time::SystemTime,
};

use crate::{SqliteAccess, error::SqliteError};

/// The path of a database, absolute, and what is known about the file there.
#[derive(Debug)]
pub(crate) struct Location {
    /// The given path, made absolute.
    named: PathBuf,
    /// The path after all symbolic links: SQLite keeps the log and the shared memory beside this
    /// one.
    file: PathBuf,
    /// The file that was opened first. No other one is opened at this path later.
    first_opened: OnceLock<FileId>,
}

/// Identifies a file: device, inode, and the time of its creation where the file system tells it,
/// because the inode number of a deleted file is soon used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileId(u64, u64, Option<SystemTime>);

/// What SQLite keeps beside a database. Without the database none of it may be touched.
const COMPANIONS: [&str; 3] = ["-wal", "-shm", "-journal"];

/// As many links as Linux follows (`path_resolution(7)`).
const MAX_LINKS: usize = 40;

impl Location {
    pub(crate) fn new(path: &Path) -> Result<Self, SqliteError> {
        // Absolute, so that it names the same file when the process changes its directory.
        let named = std::path::absolute(path).map_err(SqliteError::File)?;
        let file = follow_links(&named).map_err(SqliteError::File)?;
        Ok(Self { named, file, first_opened: OnceLock::new() })
    }

    /// The path behind all symbolic links.
    pub(crate) fn file(&self) -> &Path {
        &self.file
    }

    /// The path of one of the files that SQLite keeps beside the database.
    pub(crate) fn companion(&self, suffix: &str) -> PathBuf {
        let mut name = OsString::from(&self.file);
        name.push(suffix);
        name.into()
    }

    /// Makes sure that there is a file to open; makes an empty one where `access` allows it.
    pub(crate) fn prepare(&self, access: SqliteAccess) -> Result<(), SqliteError> {
        if self.file.is_dir() {
            return Err(SqliteError::Folder(self.file.clone()));
        }
        if self.length()?.is_some_and(|length| length > 0) {
            return Ok(());
        }
        let companions: Vec<_> =
            COMPANIONS.into_iter().filter(|suffix| self.companion(suffix).exists()).collect();
        // Checked again, because another process may have made the database in between.
        let length = self.length()?;
        if length.is_some_and(|length| length > 0) {
            return Ok(());
        }
        // An empty database with a journal is one whose creation was interrupted; SQLite rolls it
        // back.
        let orphans = companions.iter().any(|suffix| length.is_none() || *suffix != "-journal");
        if orphans {
            let beside = companions.iter().map(|suffix| self.companion(suffix)).collect();
            return Err(SqliteError::Orphans { database: self.named.clone(), beside });
        }
        match (access, length) {
            (SqliteAccess::Create, None) => self.create(),
            (SqliteAccess::Create, Some(_)) => Ok(()),
            (SqliteAccess::Write | SqliteAccess::Read, _) => Err(self.missing()),
        }
    }

    /// The error that there is no database here.
    pub(crate) fn missing(&self) -> SqliteError {
        SqliteError::Missing(self.named.clone())
    }

    /// Creates an empty file that only its owner can read and write, whatever the umask. SQLite
    /// gives the log and the shared memory the same permissions.
    fn create(&self) -> Result<(), SqliteError> {
        let failed = |error: io::Error| match error.kind() {
            io::ErrorKind::NotFound => SqliteError::NoFolder(self.file.clone()),
            _ => SqliteError::File(error),
        };
        let mut options = fs::OpenOptions::new();
        options.write(true).create_new(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, OWNER_ONLY);
        let file = match options.open(&self.file) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => return Ok(()),
            file => file.map_err(failed)?,
        };
        #[cfg(unix)]
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(OWNER_ONLY))
            .map_err(SqliteError::File)?;
        drop(file);
        // The file's name has to be on the disk before a log exists: a log alone would be treated
        // as an orphan.
        self.sync_folder().map_err(SqliteError::File)
    }

    /// Makes the names of the files durable.
    #[cfg(unix)]
    pub(crate) fn sync_folder(&self) -> io::Result<()> {
        self.file.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())
    }

    /// Elsewhere a folder cannot be synced.
    #[cfg(not(unix))]
    pub(crate) fn sync_folder(&self) -> io::Result<()> {
        Ok(())
    }

    /// Notes which file was opened, or fails if it is not the one that was opened first.
    pub(crate) fn must_be_the_first(&self) -> Result<(), SqliteError> {
        match (self.database_id(), self.first_opened.get()) {
            (Ok(found), _) if *self.first_opened.get_or_init(|| found) == found => Ok(()),
            (Err(SqliteError::File(error)), None) => Err(SqliteError::File(error)),
            (Err(SqliteError::File(error)), _) if error.kind() != io::ErrorKind::NotFound => {
                Err(SqliteError::File(error))
            }
            _ => Err(SqliteError::Replaced),
        }
    }

    /// The file to which the given path leads now.
    pub(crate) fn database_id(&self) -> Result<FileId, SqliteError> {
        fs::metadata(&self.named).map(|file| FileId::of(&file)).map_err(SqliteError::File)
    }

    /// One of the files beside it.
    pub(crate) fn companion_id(&self, suffix: &str) -> Result<FileId, SqliteError> {
        fs::metadata(self.companion(suffix))
            .map(|file| FileId::of(&file))
            .map_err(SqliteError::File)
    }

    /// In bytes; none where there is no file.
    fn length(&self) -> Result<Option<u64>, SqliteError> {
        match fs::metadata(&self.named) {
            Ok(file) => Ok(Some(file.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(SqliteError::File(error)),
        }
    }
}

/// Read and write for the owner, nothing for others.
#[cfg(unix)]
const OWNER_ONLY: u32 = 0o600;

impl FileId {
    #[cfg(unix)]
    pub(crate) fn of(file: &fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self(file.dev(), file.ino(), file.created().ok())
    }

    /// Elsewhere an open file cannot be deleted or replaced.
    #[cfg(not(unix))]
    pub(crate) fn of(_: &fs::Metadata) -> Self {
        Self(0, 0, None)
    }
}

/// Where `path` leads, even if no file exists there yet.
fn follow_links(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MAX_LINKS {
        match fs::canonicalize(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            found => return found,
        }
        // No file exists, or a link points to a missing file: the file will be where the link
        // points.
        let Ok(target) = fs::read_link(&path) else { break };
        let folder = path.parent().unwrap_or(Path::new("/"));
        path = folder.join(target);
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else { return Ok(path) };
    Ok(match fs::canonicalize(folder) {
        Ok(folder) => folder.join(name),
        Err(_) => path,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn a_link_to_a_file_that_is_not_there_yet_is_followed() {
        let folder = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(folder.path()).unwrap().join("elsewhere/w.db");
        fs::create_dir(real.parent().unwrap()).unwrap();
        let link = folder.path().join("link.db");
        std::os::unix::fs::symlink("elsewhere/w.db", &link).unwrap();
        let location = Location::new(&link).unwrap();
        assert_eq!(location.file(), real);
        assert_eq!(location.companion("-wal"), real.with_extension("db-wal"));
        location.prepare(SqliteAccess::Create).unwrap();
        assert!(real.exists());
    }

    #[test]
    #[cfg(unix)]
    fn a_folder_that_cannot_be_synced_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let location = |path: &str| Location::new(&folder.path().join(path)).unwrap();
        location("w.db").sync_folder().unwrap();
        location("gone/w.db").sync_folder().unwrap_err();
    }

    #[test]
    fn nothing_is_created_beside_what_another_database_left() {
        for suffix in COMPANIONS {
            for empty in [false, true] {
                let folder = tempfile::tempdir().unwrap();
                let location = Location::new(&folder.path().join("w.db")).unwrap();
                fs::write(location.companion(suffix), "frames").unwrap();
                if empty {
                    fs::write(location.file(), "").unwrap();
                }
                let prepared = location.prepare(SqliteAccess::Create);
                if empty && suffix == "-journal" {
                    prepared.unwrap();
                } else {
                    let named = matches!(prepared, Err(SqliteError::Orphans { beside, .. })
                        if beside == [location.companion(suffix)]);
                    assert!(named, "{suffix}, {empty}");
                    assert_eq!(location.file().exists(), empty);
                }
            }
        }
    }
}
