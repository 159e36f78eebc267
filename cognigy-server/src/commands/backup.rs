//! `backup`: copy the database to a file, with or without a running server.

use std::{
    io::ErrorKind,
    path::{Path, PathBuf},
};

use clap::ArgMatches;
use cognigy_store_sqlite::{SqliteAccess, SqliteOptions, SqliteStore};

use crate::{deployment::Deployment, error::StartError, output::say, settings::Database};

pub(super) async fn run(
    arguments: &ArgMatches,
    deployment: &Deployment,
) -> Result<bool, StartError> {
    let file = arguments.get_one::<PathBuf>("file").ok_or_else(|| {
        // clap has made sure of it.
        StartError::Usage("name the file to write".to_owned())
    })?;
    let database = match deployment.database() {
        Some(Database::Sqlite(path)) => path,
        Some(Database::Postgres(_)) => {
            let file = file.display();
            return Err(StartError::Usage(format!(
                "a database in PostgreSQL is backed up by its own tools: umask 077 && pg_dump \
                 --format=custom --file={file} \"$COGNIGY_DATABASE_URL\", and pg_restore brings it back"
            )));
        }
        None => {
            let why = "the program brings its own store: back that up by its own tools";
            return Err(StartError::Usage(why.to_owned()));
        }
    };
    if file.symlink_metadata().is_ok() {
        return Err(exists(file));
    }
    let options = SqliteOptions { access: SqliteAccess::Read, ..SqliteOptions::default() };
    let store = SqliteStore::open_with(database, options).await;
    let store = store.map_err(|error| {
        StartError::failed(&format!("cannot open {}", database.display()), &error)
    })?;
    let what = format!("cannot write {}", file.display());
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    let folder = folder.unwrap_or(Path::new("."));
    // Under another name until it is complete: no one takes half of it for a backup. Only its owner can
    // read it.
    let copy = tempfile::Builder::new().prefix(".cognigy-backup-").tempfile_in(folder);
    let copy = copy.map_err(|error| StartError::failed(&what, &error))?;
    store.back_up(copy.path()).await.map_err(|error| StartError::failed(&what, &error))?;
    let bytes = copy.as_file().metadata().map(|file| file.len()).unwrap_or_default();
    copy.persist_noclobber(file).map_err(|error| match error.error.kind() {
        ErrorKind::AlreadyExists => exists(file),
        _ => StartError::failed(&what, &error.error),
    })?;
    std::fs::File::open(folder)
        .and_then(|folder| folder.sync_all())
        .map_err(|error| StartError::failed(&what, &error))?;
    say!("{}: {bytes} bytes", file.display())?;
    Ok(true)
}

fn exists(file: &Path) -> StartError {
    let file = file.display();
    StartError::Failed(format!(
        "{file} is there already, and a backup overwrites nothing: name another file"
    ))
}
