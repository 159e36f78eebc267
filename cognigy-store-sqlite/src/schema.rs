//! The schema and how it grows: one file a version, each applied in one transaction together with
//! its number, so that a crash leaves the old version or the new one.

use rusqlite::{Connection, TransactionBehavior};

use crate::error::SqliteError;

/// The application id in the file's header, "cgnW": databases of other applications are refused.
const APPLICATION_ID: i64 = 0x6367_6e57;

/// The migrations from version n to n + 1. A released migration is never edited.
const MIGRATIONS: [&str; 7] = [
    include_str!("../migrations/0001_initial.sql"),
    include_str!("../migrations/0002_delivery_context.sql"),
    include_str!("../migrations/0003_correlation.sql"),
    include_str!("../migrations/0004_administration.sql"),
    include_str!("../migrations/0005_audit.sql"),
    include_str!("../migrations/0006_contacts.sql"),
    include_str!("../migrations/0007_search_index.sql"),
];

/// What a file holds.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// An empty database.
    Nothing,
    /// Ours, with the migrations up to this one applied.
    Older(usize),
    /// Ours, up to date.
    Current,
}

/// Examines a database. Refuses databases of other applications and of later versions.
pub(crate) fn inspect(connection: &Connection) -> Result<Found, SqliteError> {
    if connection.is_autocommit() {
        // Everything is read from one snapshot: between two reads another process may have made the
        // database, and its tables would then seem to belong to another application.
        return look(&*connection.unchecked_transaction()?);
    }
    look(connection)
}

fn look(connection: &Connection) -> Result<Found, SqliteError> {
    let pragma = |name| connection.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let (application, version) = (pragma("application_id")?, pragma("user_version")?);
    if application != APPLICATION_ID {
        let objects: i64 =
            connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        let is_empty = (application, version, objects) == (0, 0, 0);
        return if is_empty { Ok(Found::Nothing) } else { Err(SqliteError::Foreign) };
    }
    match usize::try_from(version) {
        Ok(version) if version < MIGRATIONS.len() => Ok(Found::Older(version)),
        Ok(version) if version == MIGRATIONS.len() => Ok(Found::Current),
        _ => Err(SqliteError::Newer { found: version, known: MIGRATIONS.len() }),
    }
}

/// Brings the database to the current schema.
pub(crate) fn migrate(connection: &mut Connection) -> Result<(), SqliteError> {
    loop {
        let step = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        // Read under the lock, because another process may be migrating too.
        let version = match inspect(&step)? {
            Found::Current => return Ok(()),
            Found::Nothing => 0,
            Found::Older(version) => version,
        };
        step.execute_batch(MIGRATIONS[version])?;
        step.pragma_update(None, "application_id", APPLICATION_ID)?;
        step.pragma_update(None, "user_version", i64::try_from(version + 1).unwrap_or(i64::MAX))?;
        step.commit()?;
    }
}

/// A new database in memory.
#[cfg(test)]
pub(crate) fn in_memory() -> Connection {
    let mut connection = Connection::open_in_memory().expect("memory");
    migrate(&mut connection).expect("a schema");
    connection
}

#[cfg(test)]
mod tests {
    use super::*;

    const SAMPLE: &str = "
        INSERT INTO events (state, due_at, fence, run, attempt, received_at, source, event_id, type,
                            event_time, timestamp_json)
        VALUES ('pending', 1, 0, 1, 0, 1, 'cognigy', 'e1', 'DIALOG_ENDED', 1, '1');
        INSERT INTO bodies (event, body) VALUES (1, x'7b7d');";

    /// A database as a program that knew `version` left it, with an event from version 1.
    fn database_at(version: usize) -> Connection {
        let connection = Connection::open_in_memory().unwrap();
        for (done, migration) in MIGRATIONS[..version].iter().enumerate() {
            connection.execute_batch(migration).unwrap();
            if done == 0 {
                connection.execute_batch(SAMPLE).unwrap();
                connection.pragma_update(None, "application_id", APPLICATION_ID).unwrap();
            }
        }
        connection.pragma_update(None, "user_version", i64::try_from(version).unwrap()).unwrap();
        connection
    }

    fn schema_of(connection: &Connection) -> Vec<String> {
        let mut statement = connection
            .prepare("SELECT coalesce(sql, name) FROM sqlite_schema ORDER BY type, name")
            .unwrap();
        statement.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect()
    }

    #[test]
    fn every_earlier_version_becomes_the_current_one_and_keeps_its_events() {
        let mut fresh = database_at(0);
        migrate(&mut fresh).unwrap();
        for version in 0..=MIGRATIONS.len() {
            let mut connection = database_at(version);
            migrate(&mut connection).unwrap();
            assert_eq!(inspect(&connection).unwrap(), Found::Current);
            assert_eq!(schema_of(&connection), schema_of(&fresh), "from version {version}");
            let events: i64 = connection
                .query_row("SELECT count(*) FROM webhook_events WHERE event_id = 'e1'", [], |row| {
                    row.get(0)
                })
                .unwrap();
            assert_eq!(events, i64::from(version > 0), "from version {version}");
        }
    }

    #[test]
    fn a_migration_that_fails_leaves_nothing_behind() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.pragma_update(None, "max_page_count", 5).unwrap();
        assert!(migrate(&mut connection).is_err());
        assert_eq!(inspect(&connection).unwrap(), Found::Nothing);
        connection.pragma_update(None, "max_page_count", 1000).unwrap();
        migrate(&mut connection).unwrap();
        assert_eq!(inspect(&connection).unwrap(), Found::Current);
    }
}
