//! Whether a server works on the database: `serve` announces it, and commands beside it ask.
//!
//! Each process with workers holds a shared lock. The kernel or the database server releases it
//! however the process ends, so the answer is never out of date, and no row has to be written or
//! renewed. For an SQLite file the lock is `flock` on an empty file beside it. It is not on the
//! database itself, because closing that file would end SQLite's own locks. On PostgreSQL it is an
//! advisory lock. Events are safe whatever the answer is: claims and leases protect them.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

#[cfg(feature = "postgres")]
use cognigy_store_postgres::WorkerPresence;
use tokio::task::JoinHandle;

use crate::{deployment::Deployment, error::StartError, settings::Database};

/// The pause before the lock is tried again while a command asks.
const AGAIN: Duration = Duration::from_millis(100);

/// How often a command asks before it believes that the lock is held: another command that asks
/// holds it for microseconds.
const QUESTIONS: u32 = 5;

/// Announces that this process works on the database, until it is dropped.
pub(crate) enum Presence {
    File(JoinHandle<()>),
    #[cfg(feature = "postgres")]
    Postgres {
        _lock: WorkerPresence,
    },
}

impl Presence {
    /// Announces this process once the database exists. None if this process has no workers, or if
    /// the embedding program brings its own store.
    pub(crate) fn announce(deployment: &Deployment) -> Option<Self> {
        if !deployment.settings.worker {
            return None;
        }
        match deployment.database()? {
            Database::Sqlite(path) => {
                let path = path.clone();
                // Tried at once, so that a command which is run right after the start sees the server.
                let mut lock = hold(&path);
                Some(Self::File(tokio::spawn(async move {
                    while lock.is_err() {
                        tokio::time::sleep(AGAIN).await;
                        lock = hold(&path);
                    }
                    std::future::pending().await
                })))
            }
            #[cfg(feature = "postgres")]
            Database::Postgres(url) => {
                // Opening the store reports what is wrong with the URL.
                Some(Self::Postgres { _lock: WorkerPresence::announce(url.as_str()).ok()? })
            }
            #[cfg(not(feature = "postgres"))]
            Database::Postgres(_) => None,
        }
    }

    /// Whether any process has announced that it works on the database that is set.
    pub(crate) async fn is_announced(deployment: &Deployment) -> Result<bool, StartError> {
        let Some(database) = deployment.database() else { return Ok(false) };
        match database {
            Database::Sqlite(path) => {
                for _ in 0..QUESTIONS {
                    let is_held = is_held(path).map_err(|error| {
                        let path = path.display();
                        let what = format!(
                            "cannot see whether a server works on {path} (--here and --hand-over \
                             need not)"
                        );
                        StartError::failed(&what, &error)
                    })?;
                    if !is_held {
                        return Ok(false);
                    }
                    tokio::time::sleep(AGAIN / 5).await;
                }
                Ok(true)
            }
            #[cfg(feature = "postgres")]
            Database::Postgres(url) => Ok(WorkerPresence::is_announced(url.as_str()).await?),
            #[cfg(not(feature = "postgres"))]
            Database::Postgres(_) => Ok(false),
        }
    }
}

impl Drop for Presence {
    fn drop(&mut self) {
        match self {
            Self::File(task) => task.abort(),
            #[cfg(feature = "postgres")]
            Self::Postgres { .. } => {}
        }
    }
}

/// The lock's file. If the database's path is a link, it stands beside the database itself.
fn lock_file(database: &Path) -> io::Result<PathBuf> {
    let mut path = database.canonicalize()?.into_os_string();
    path.push(".worker");
    Ok(path.into())
}

fn hold(database: &Path) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(lock_file(database)?)?;
    file.try_lock_shared().map_err(io::Error::from)?;
    Ok(file)
}

/// Creates no file: without the file no server has worked on the database yet.
fn is_held(database: &Path) -> io::Result<bool> {
    let file = match lock_file(database).and_then(File::open) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file?,
    };
    match file.try_lock() {
        Ok(()) => Ok(false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lock_is_seen_through_a_link_and_ends_with_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let (database, link) = (folder.path().join("a.db"), folder.path().join("link.db"));
        assert!(!is_held(&database).unwrap(), "no database, and none is made");
        assert!(hold(&database).is_err() && !database.exists());
        std::fs::write(&database, "").unwrap();
        std::os::unix::fs::symlink(&database, &link).unwrap();
        assert!(!is_held(&link).unwrap());
        assert!(!folder.path().join("a.db.worker").exists(), "asking makes nothing");
        let (one, other) = (hold(&database).unwrap(), hold(&link).unwrap());
        drop(one);
        assert!(is_held(&database).unwrap() && is_held(&link).unwrap());
        drop(other);
        assert!(!is_held(&database).unwrap());
    }
}
