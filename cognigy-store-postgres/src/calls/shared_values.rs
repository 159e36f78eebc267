//! Small texts that all nodes share.

use deadpool_postgres::Object;

use crate::{
    error::PostgresError,
    row::{Private, read},
};

pub(crate) async fn find(connection: &Object, name: &str) -> Result<Option<String>, PostgresError> {
    let select = connection
        .prepare_cached("SELECT value FROM cognigy_shared_values WHERE name = $1")
        .await?;
    let row = connection.query_opt(&select, &[&name]).await?;
    row.map(|row| read(&row, "value")).transpose()
}

/// Whether `expected` was the value, and `new` is it now. Safe to repeat: where an earlier try took effect
/// and its answer was lost, the value is no longer the expected one, and the answer is that it did not.
pub(crate) async fn replace(
    connection: &Object,
    name: &str,
    expected: Option<&str>,
    new: Option<&str>,
) -> Result<bool, PostgresError> {
    let sql = match (expected, new) {
        (None, Some(_)) => {
            "INSERT INTO cognigy_shared_values (name, value)
             SELECT $1, $3 WHERE $2::text IS NULL ON CONFLICT (name) DO NOTHING"
        }
        (Some(_), Some(_)) => {
            "UPDATE cognigy_shared_values SET value = $3 WHERE name = $1 AND value = $2"
        }
        (Some(_), None) => {
            "DELETE FROM cognigy_shared_values WHERE name = $1 AND value = $2 AND $3::text IS NULL"
        }
        (None, None) => return Ok(find(connection, name).await?.is_none()),
    };
    let change = connection.prepare_cached(sql).await?;
    let (expected, new) = (Private(expected), Private(new));
    Ok(connection.execute(&change, &[&name, &expected, &new]).await? == 1)
}
