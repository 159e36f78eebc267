//! Removes what is old and finished.
//!
//! The small rows are removed one by one, so that a limit is kept and unfinished events stay. The
//! bytes that belong to them are removed by the day, when the last event of the day has been
//! removed, or row by row while an event of the day stays.

use cognigy_core::{PurgeRequest, PurgeStep, Purged, QuarantineReason, State, Timestamp};
use deadpool_postgres::Object;
use tokio_postgres::Row;

use crate::{
    error::{PostgresError, unreadable},
    row::{read, sql_limit},
    server::{arrivals::Arrivals, partitions},
};

/// Which events are removed: `$1` is the time for processed and discarded ones, `$2` for dead-lettered ones, or
/// NULL; `$3` and `$4` are the ids between which to look. An event that was given up and stops its
/// contact has to stay: without it, the contact's other events could not be unblocked.
const IS_OLD: &str = "
    id > $3 AND id <= $4
    AND received_at < CASE state WHEN 'processed' THEN $1::timestamptz
                                 WHEN 'discarded' THEN $1::timestamptz
                                 WHEN 'dead_lettered' THEN $2::timestamptz END
    AND NOT EXISTS (SELECT 1 FROM cognigy_outbox AS letter
                    WHERE letter.event = events.id AND letter.due_at IS NOT NULL)
    AND (SELECT lane FROM cognigy_lanes WHERE stopped_by = events.id LIMIT 1) IS NULL";

/// Which quarantined bodies are removed.
const IS_OLD_BODY: &str = "
    received_at < CASE reason WHEN 'conflict' THEN $2::timestamptz ELSE $1::timestamptz END";

/// `$5` limit. Rows that another transaction has locked are left for the next purge.
fn remove_sql() -> String {
    format!(
        "WITH old AS MATERIALIZED (
    SELECT id FROM cognigy_events AS events WHERE {IS_OLD}
    ORDER BY id LIMIT $5 FOR UPDATE SKIP LOCKED
), gone AS (
    DELETE FROM cognigy_events WHERE id = ANY (ARRAY(SELECT id FROM old)) RETURNING id, type, state
), letters AS (
    DELETE FROM cognigy_outbox WHERE event = ANY (ARRAY(SELECT id FROM old))
), tallies AS (
    INSERT INTO cognigy_tallies (dimension, name, count)
    SELECT 'type', type, -count(*) FROM gone GROUP BY type
    UNION ALL
    SELECT 'state', state, -count(*) FROM gone GROUP BY state
), bodies AS (
    DELETE FROM cognigy_quarantine WHERE id = ANY (ARRAY(
        SELECT id FROM cognigy_quarantine WHERE {IS_OLD_BODY}
        ORDER BY id LIMIT $5 FOR UPDATE SKIP LOCKED))
    RETURNING reason
)
SELECT 'event' AS what, state AS name, count(*) AS count FROM gone GROUP BY state
UNION ALL
SELECT 'body', reason, count(*) FROM bodies GROUP BY reason
UNION ALL
SELECT 'last', '', max(id) FROM old HAVING count(*) >= $5"
    )
}

fn count_sql() -> String {
    format!(
        "SELECT 'event' AS what, state AS name, count(*) AS count
         FROM cognigy_events AS events WHERE {IS_OLD} GROUP BY state
         UNION ALL
         SELECT 'body', reason, count(*) FROM cognigy_quarantine WHERE {IS_OLD_BODY} GROUP BY reason"
    )
}

/// Removes the oldest events that can be removed, after those that were examined before, and
/// quarantined bodies.
pub(crate) async fn remove(
    connection: &mut Object,
    request: PurgeRequest,
) -> Result<PurgeStep, PostgresError> {
    let from = request.after.map_or(i64::MIN, |cursor| cursor.0);
    let last = Arrivals::around(&*connection, latest(request)).await?.last;
    let remove = connection.prepare_cached(&remove_sql()).await?;
    let limit = sql_limit(request.limit);
    let PurgeRequest { before, unresolved_before, .. } = request;
    let rows =
        connection.query(&remove, &[&before, &unresolved_before, &from, &last, &limit]).await?;
    let (mut purged, mut last) = (Purged::default(), None);
    for row in &rows {
        match read::<&str>(row, "what")? {
            "last" => last = read(row, "count")?,
            what => add(&mut purged, what, row)?,
        }
    }
    Ok(PurgeStep::up_to(last, purged, request.limit))
}

/// Removes bytes whose events have been removed, as far as the limit allows. Returns how many rows
/// it removed.
pub(crate) async fn remove_bytes(
    connection: &mut Object,
    request: PurgeRequest,
) -> Result<u64, PostgresError> {
    partitions::forget(connection, latest(request), sql_limit(request.limit)).await
}

/// Puts their digests in the place of the bodies of sensitive events that were processed before
/// `before`. Returns how many.
pub(crate) async fn forget_sensitive(
    connection: &Object,
    before: Timestamp,
    limit: usize,
) -> Result<u64, PostgresError> {
    let forget = connection
        .prepare_cached(
            "WITH old AS MATERIALIZED (
                 SELECT id, received_at FROM cognigy_events
                 WHERE sensitive AND forgotten IS NULL AND state = 'processed'
                   AND processed_at < $1
                 LIMIT $2 FOR UPDATE SKIP LOCKED
             ), bodies AS (
                 UPDATE cognigy_bodies SET body = sha256(body), headers = NULL
                 FROM old WHERE event = old.id AND cognigy_bodies.received_at = old.received_at
             )
             UPDATE cognigy_events SET forgotten = 'sensitive'
             WHERE id = ANY (ARRAY(SELECT id FROM old))",
        )
        .await?;
    Ok(connection.execute(&forget, &[&before, &sql_limit(limit)]).await?)
}

/// Counts everything that can be removed.
pub(crate) async fn count(
    connection: &Object,
    request: PurgeRequest,
) -> Result<Purged, PostgresError> {
    let last = Arrivals::around(connection, latest(request)).await?.last;
    let PurgeRequest { before, unresolved_before, .. } = request;
    let rows =
        connection.query(&count_sql(), &[&before, &unresolved_before, &i64::MIN, &last]).await?;
    let mut counted = Purged::default();
    for row in &rows {
        add(&mut counted, read(row, "what")?, row)?;
    }
    Ok(counted)
}

fn latest(request: PurgeRequest) -> Timestamp {
    request.unresolved_before.into_iter().fold(request.before, Timestamp::max)
}

fn add(purged: &mut Purged, what: &str, row: &Row) -> Result<(), PostgresError> {
    let (name, count): (&str, i64) = (read(row, "name")?, read(row, "count")?);
    if what == "event" {
        let state: State = name.parse().map_err(|error| unreadable("a state", error))?;
        purged.events.insert(state, count.unsigned_abs());
    } else {
        let reason = QuarantineReason::from_name(name)
            .ok_or_else(|| unreadable("the reason", "is unknown"))?;
        purged.quarantined.insert(reason, count.unsigned_abs());
    }
    Ok(())
}
