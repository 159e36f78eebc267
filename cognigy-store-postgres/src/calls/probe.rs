//! Whether deliveries can be recorded: does what a delivery needs, and undoes it.

use deadpool_postgres::Object;

use crate::{
    calls::contact_queue::{self, OrderHint},
    error::PostgresError,
    schema,
    server::partitions,
};

/// A row in every table that a delivery writes. No source has an empty name, and no committed event
/// has this row's id, which the statement has drawn itself.
fn insert_sql(keeps_order: bool) -> String {
    let lanes = match keeps_order {
        true => {
            ", lanes AS (INSERT INTO cognigy_lanes (lane, opened_by) SELECT -id, id FROM event)"
        }
        false => "",
    };
    format!(
        "WITH event AS (
    INSERT INTO cognigy_events (received_at, source, event_id, type, timestamp_json, conversation)
    VALUES (statement_timestamp(), '', '', '', '0', NULL) RETURNING id, received_at
), queue AS (
    INSERT INTO cognigy_queue (event, received_at, source, due_at, run, attempt)
    SELECT id, received_at, '', received_at, 1, 0 FROM event
), bodies AS (
    INSERT INTO cognigy_bodies (event, received_at, body, headers)
    SELECT id, received_at, '', NULL FROM event
), quarantine AS (
    INSERT INTO cognigy_quarantine (source, reason, detail, received_at, digest, body, headers)
    VALUES ('', '', '', statement_timestamp(), '', '', NULL)
), tallies AS (
    INSERT INTO cognigy_tallies (dimension, name, count) VALUES ('', '', 0)
){lanes}
SELECT FROM event"
    )
}

/// Inserts a row into every table that a delivery writes, and undoes it: a lock or a lost table
/// shows here as it would for a delivery. Then it makes a write durable.
pub(crate) async fn ready(connection: &mut Object, order: &OrderHint) -> Result<(), PostgresError> {
    match insert(connection, order.holds()).await {
        Err(problem) if problem.lacks_partition() => {
            partitions::prepare_days(connection).await?;
            insert(connection, order.holds()).await?;
        }
        result => result?,
    }
    schema::beat(connection).await
}

async fn insert(connection: &mut Object, keeps_order: bool) -> Result<(), PostgresError> {
    let transaction = connection.transaction().await?;
    let insert = transaction.prepare_cached(&insert_sql(keeps_order)).await?;
    transaction.execute(&insert, &[]).await?;
    // A delivery reads the settings too.
    contact_queue::order(&transaction).await?;
    transaction.rollback().await?;
    Ok(())
}
