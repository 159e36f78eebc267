//! The days' partitions: made before they are needed, dropped when retention has emptied the day.
//!
//! A day is made in all partitioned tables in one transaction, so a body's day is there for the
//! event's attempts too. A partition is made beside its table and then attached, which blocks no
//! statement. Creating it in place would wait for every running statement and hold up all that
//! follow.

use chrono::{DateTime, Days, NaiveDate, NaiveTime};
use cognigy_core::Timestamp;
use deadpool_postgres::{GenericClient, Object};

use crate::{error::PostgresError, server::arrivals::Arrivals};

/// The tables that are partitioned.
const TABLES: [&str; 3] = ["cognigy_bodies", "cognigy_contexts", "cognigy_attempts"];

/// Names our lock among the advisory locks of the database: "cgnW" and "days".
const LOCK: i64 = 0x6367_6e57_6461_7973;

/// Partitions exist this many days ahead, so that a database whose housekeeping fails for a weekend
/// is not held up at midnight.
const DAYS_AHEAD: u64 = 3;

/// How long a drop of a partition may wait for running statements. Statements that come after the
/// drop wait behind it.
const DROP_PATIENCE: &str = "SET LOCAL lock_timeout = '200ms'";

/// Makes the partitions of today and the next days.
pub(crate) async fn prepare_days(connection: &mut Object) -> Result<(), PostgresError> {
    let row = connection.query_one("SELECT statement_timestamp()", &[]).await?;
    let today = row.try_get::<_, Timestamp>(0)?.date_naive();
    let days: Vec<_> =
        (0..=DAYS_AHEAD).filter_map(|ahead| today.checked_add_days(Days::new(ahead))).collect();
    make(connection, &days).await
}

/// Makes the partitions of the days of `times`, or of today if `times` is empty.
pub(crate) async fn make_for(
    connection: &mut Object,
    times: impl Iterator<Item = Timestamp>,
) -> Result<(), PostgresError> {
    let mut days: Vec<_> = times.map(|time| time.date_naive()).collect();
    days.sort_unstable();
    days.dedup();
    if days.is_empty() {
        return prepare_days(connection).await;
    }
    make(connection, &days).await
}

async fn make(connection: &mut Object, days: &[NaiveDate]) -> Result<(), PostgresError> {
    let missing = missing(&*connection, days).await?;
    if missing.is_empty() {
        return Ok(());
    }
    let transaction = connection.transaction().await?;
    transaction.execute("SELECT pg_advisory_xact_lock($1)", &[&LOCK]).await?;
    // Another process may have made them while this one waited for the lock.
    for day in self::missing(&transaction, &missing).await? {
        let (from, to) = (midnight(day), midnight(day + Days::new(1)));
        for table in TABLES {
            let partition = name(table, day);
            transaction
                .batch_execute(&format!(
                    "CREATE TABLE {partition} (LIKE {table} INCLUDING DEFAULTS);
                     ALTER TABLE {table} ATTACH PARTITION {partition}
                         FOR VALUES FROM ('{from}') TO ('{to}')"
                ))
                .await?;
        }
    }
    transaction.commit().await?;
    Ok(())
}

async fn missing(
    client: &impl GenericClient,
    days: &[NaiveDate],
) -> Result<Vec<NaiveDate>, PostgresError> {
    let names: Vec<_> = days.iter().map(|day| name(TABLES[0], *day)).collect();
    let rows = client
        .query(
            // Not by to_regclass, which may return a cached answer from before the wait for a lock.
            "SELECT ordinal FROM unnest($1::text[]) WITH ORDINALITY AS wanted (name, ordinal)
             WHERE NOT EXISTS (
                 SELECT 1 FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
                 WHERE inhparent = 'cognigy_bodies'::regclass AND relname = name)",
            &[&names],
        )
        .await?;
    let mut missing = Vec::new();
    for row in rows {
        let ordinal: i64 = row.try_get(0)?;
        missing.extend(usize::try_from(ordinal - 1).ok().and_then(|index| days.get(index)));
    }
    Ok(missing)
}

/// Removes what is left of days that ended before `before`. It drops the days of which no event is
/// stored any more. Of the other days it removes at most `limit` rows of each table whose events
/// have been removed. Returns how many rows it removed one by one; more of them may be left.
pub(crate) async fn forget(
    connection: &mut Object,
    before: Timestamp,
    limit: i64,
) -> Result<u64, PostgresError> {
    let mut removed = 0;
    for day in days(&*connection).await? {
        if midnight(day + Days::new(1)) > before {
            break;
        }
        match forget_day(connection, day, limit).await {
            // A running statement blocks the drop; a later purge drops the day.
            Err(problem) if problem.is_lock_timeout() => {}
            result => removed += result?,
        }
    }
    Ok(removed)
}

/// How many rows were removed one by one.
async fn forget_day(
    connection: &mut Object,
    day: NaiveDate,
    limit: i64,
) -> Result<u64, PostgresError> {
    let (from, to) = (midnight(day), midnight(day + Days::new(1)));
    let transaction = connection.transaction().await?;
    let first = Arrivals::around(&transaction, from).await?.first;
    let last = Arrivals::around(&transaction, to).await?.last;
    let left = transaction
        .query_one(
            "SELECT EXISTS (SELECT 1 FROM cognigy_events
                            WHERE id BETWEEN $1 AND $2 AND received_at >= $3 AND received_at < $4)",
            &[&first, &last, &from, &to],
        )
        .await?;
    let is_empty = !left.try_get::<_, bool>(0)?;
    transaction.batch_execute(DROP_PATIENCE).await?;
    let mut removed = 0;
    for table in TABLES {
        let partition = name(table, day);
        if is_empty {
            transaction.batch_execute(&format!("DROP TABLE {partition}")).await?;
        } else {
            let sweep = format!(
                "DELETE FROM {partition} WHERE event IN (
                     SELECT event FROM {partition} AS old
                     WHERE NOT EXISTS (SELECT 1 FROM cognigy_events
                                       WHERE cognigy_events.id = old.event)
                     LIMIT $1)"
            );
            removed += transaction.execute(&sweep, &[&limit]).await?;
        }
    }
    transaction.commit().await?;
    Ok(removed)
}

/// The days that have partitions, earliest first.
async fn days(client: &impl GenericClient) -> Result<Vec<NaiveDate>, PostgresError> {
    let rows = client
        .query(
            "SELECT right(relname, 8) FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
             WHERE inhparent = 'cognigy_bodies'::regclass ORDER BY 1",
            &[],
        )
        .await?;
    let mut days = Vec::new();
    for row in rows {
        // Partitions that another program attached are left alone.
        days.extend(NaiveDate::parse_from_str(row.try_get(0)?, "%Y%m%d").ok());
    }
    Ok(days)
}

fn midnight(day: NaiveDate) -> Timestamp {
    DateTime::from_naive_utc_and_offset(day.and_time(NaiveTime::MIN), chrono::Utc)
}

fn name(table: &str, day: NaiveDate) -> String {
    format!("{table}_{}", day.format("%Y%m%d"))
}
