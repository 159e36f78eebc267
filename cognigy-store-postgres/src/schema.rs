//! The schema and how it grows while several versions of the program run.
//!
//! Every version of the schema is one migration, applied in one transaction together with its
//! number, under an advisory lock of the database. A migration first *expands*: what it adds does
//! not disturb programs that do not know of it, and they go on on the newer schema. Only a later
//! version *contracts*, removing what no program needs any more, and says from which version on
//! programs can use it: older ones then refuse.

use deadpool_postgres::{GenericClient, Object};

use crate::error::PostgresError;

/// Names our lock among the advisory locks of the database: "cgnW" and "mgrt".
const LOCK: i64 = 0x6367_6e57_6d67_7274;

/// One step of the schema.
struct Migration {
    sql: &'static str,
    /// The oldest version of the schema whose programs can go on after it.
    compatible_from: i32,
}

/// The migrations from version n to n + 1. A released migration is never edited.
const MIGRATIONS: [Migration; 7] = [
    Migration { sql: include_str!("../migrations/0001_initial.sql"), compatible_from: 1 },
    Migration { sql: include_str!("../migrations/0002_delivery_context.sql"), compatible_from: 1 },
    Migration { sql: include_str!("../migrations/0003_correlation.sql"), compatible_from: 1 },
    Migration { sql: include_str!("../migrations/0004_administration.sql"), compatible_from: 1 },
    Migration { sql: include_str!("../migrations/0005_audit.sql"), compatible_from: 1 },
    Migration { sql: include_str!("../migrations/0006_contacts.sql"), compatible_from: 1 },
    Migration { sql: include_str!("../migrations/0007_search_index.sql"), compatible_from: 1 },
];

/// The version this program was written for.
fn known() -> i32 {
    i32::try_from(MIGRATIONS.len()).unwrap_or(i32::MAX)
}

/// Brings the database to this program's schema, or finds that the program can work with the
/// existing one.
pub(crate) async fn migrate(connection: &mut Object) -> Result<(), PostgresError> {
    // First without the lock: a usual start finds nothing to do and needs no right to change the
    // schema.
    if version(&*connection).await? >= known() {
        return Ok(());
    }
    let step = connection.transaction().await?;
    // The statement waits for the lock as long as it takes: another process is migrating and may
    // build an index.
    step.batch_execute("SET LOCAL statement_timeout = 0; SET LOCAL lock_timeout = 0").await?;
    step.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    let done = version(&step).await?;
    // If another program's transaction holds a lock, the migration must not make all statements
    // behind it wait.
    step.batch_execute("SET LOCAL lock_timeout = '5s'").await?;
    if done == 0 {
        step.batch_execute(
            "CREATE TABLE cognigy_schema (
                 version integer NOT NULL,
                 compatible_from integer NOT NULL -- the oldest version whose programs can go on
             );
             INSERT INTO cognigy_schema VALUES (0, 0)",
        )
        .await?;
    }
    let done = usize::try_from(done).unwrap_or_default();
    for (version, migration) in (1..).zip(&MIGRATIONS).skip(done) {
        step.batch_execute(migration.sql).await?;
        step.execute(
            "UPDATE cognigy_schema SET version = $1, compatible_from = $2",
            &[&version, &migration.compatible_from],
        )
        .await?;
    }
    step.commit().await?;
    Ok(())
}

/// Fails unless the schema is one this program can work with as it is.
pub(crate) async fn must_be_current(client: &impl GenericClient) -> Result<(), PostgresError> {
    match version(client).await? {
        0 => Err(PostgresError::NoSchema),
        found if found < known() => Err(PostgresError::Older { found }),
        _ => Ok(()),
    }
}

/// The schema's version, 0 for a database without one. Refuses one this program is too old for.
async fn version(client: &impl GenericClient) -> Result<i32, PostgresError> {
    // Not by to_regclass, which may return a cached answer from before the wait for the lock.
    let there = client
        .query_one(
            "SELECT EXISTS (
                 SELECT 1 FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
                 WHERE relname = 'cognigy_schema' AND nspname = ANY (current_schemas(false)))",
            &[],
        )
        .await?;
    if !there.try_get::<_, bool>(0)? {
        return Ok(0);
    }
    let row = client.query_one("SELECT version, compatible_from FROM cognigy_schema", &[]).await?;
    let (found, compatible_from): (i32, i32) = (row.try_get(0)?, row.try_get(1)?);
    if compatible_from > known() {
        return Err(PostgresError::Newer { found, known: known() });
    }
    Ok(found)
}

/// Writes something and makes it durable.
pub(crate) async fn beat(connection: &Object) -> Result<(), PostgresError> {
    let sql = "UPDATE cognigy_heartbeat SET beats = beats + 1 WHERE id = 1";
    let beat = connection.prepare_cached(sql).await?;
    connection.execute(&beat, &[]).await?;
    Ok(())
}
