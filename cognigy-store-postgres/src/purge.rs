//! Forgetting what is old and finished.
//!
//! The small rows go one by one, so that a limit is kept and what is unfinished stays; the bytes
//! that belong to them go by the day, when the last event of the day has gone.

use cognigy_core::Timestamp;
use deadpool_postgres::Object;

use crate::{arrivals::Arrivals, error::Problem, partitions, row::sql_limit};

/// `$1` before, `$2` the last id to look at, `$3` limit. Rows that somebody holds are left for the
/// next time. An event that was given up and stops its contact has to stay: with it gone, nobody
/// could let the others go.
const REMOVE: &str = "
WITH old AS MATERIALIZED (
    SELECT id FROM cognigy_events AS events
    WHERE id <= $2 AND received_at < $1 AND state IN ('processed', 'dead_lettered')
      AND NOT EXISTS (SELECT 1 FROM cognigy_outbox AS letter
                      WHERE letter.event = events.id AND letter.due_at IS NOT NULL)
      AND (SELECT lane FROM cognigy_lanes WHERE stopped_by = events.id LIMIT 1) IS NULL
    ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM cognigy_events WHERE id = ANY (ARRAY(SELECT id FROM old)) RETURNING id, type, state
), letters AS (
    DELETE FROM cognigy_outbox WHERE event = ANY (ARRAY(SELECT id FROM old))
), tallies AS (
    INSERT INTO cognigy_tallies (dimension, name, count)
    SELECT 'type', type, -count(*) FROM gone GROUP BY type
    UNION ALL
    SELECT 'state', state, -count(*) FROM gone GROUP BY state
), quarantine AS (
    DELETE FROM cognigy_quarantine WHERE id = ANY (ARRAY(
        SELECT id FROM cognigy_quarantine WHERE received_at < $1
        ORDER BY id LIMIT $3 FOR UPDATE SKIP LOCKED))
)
SELECT count(*) FROM gone";

pub(crate) async fn purge(
    connection: &mut Object,
    before: Timestamp,
    limit: usize,
) -> Result<u64, Problem> {
    let last = Arrivals::around(&*connection, before).await?.last;
    let remove = connection.prepare_cached(REMOVE).await?;
    let row = connection.query_one(&remove, &[&before, &last, &sql_limit(limit)]).await?;
    let gone: i64 = row.try_get(0)?;
    if gone == 0 {
        // Nothing is left to be removed one by one.
        partitions::forget(connection, before, sql_limit(limit)).await?;
    }
    Ok(gone.unsigned_abs())
}
