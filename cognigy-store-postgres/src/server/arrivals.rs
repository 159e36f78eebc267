//! Finds the events that were received around a time.
//!
//! Ids rise with the time of arrival, so bisection finds them and no index on the time is needed.

use cognigy_core::Timestamp;
use deadpool_postgres::GenericClient;

use crate::error::PostgresError;

/// How far the order of ids and the order of arrival may disagree: a statement keeps the time at
/// which it began, and the server's clock may be set back, or belong to another server after a
/// failover.
const CLOCK_DISORDER: chrono::TimeDelta = chrono::TimeDelta::hours(1);

/// Two ids, close to one another or the ends of the table, between which the time of receipt passes
/// `$1`. It stops within 10 000 rows, which take a few milliseconds to read. Purges leave gaps, so
/// each step takes the next row from the middle on.
const BISECT: &str = "
WITH RECURSIVE search (low, high) AS (
    SELECT coalesce((SELECT min(id) FROM cognigy_events), 0),
           coalesce((SELECT max(id) FROM cognigy_events), 0)
  UNION ALL
    SELECT CASE WHEN middle.is_early THEN search.low + (search.high - search.low) / 2
                ELSE search.low END,
           CASE WHEN middle.is_early THEN search.high
                ELSE search.low + (search.high - search.low) / 2 END
    FROM search CROSS JOIN LATERAL (
        SELECT coalesce((
            SELECT received_at < $1 FROM cognigy_events
            WHERE id >= search.low + (search.high - search.low) / 2
            ORDER BY id LIMIT 1), false) AS is_early) AS middle
    WHERE search.high - search.low > 10000
)
SELECT low, high FROM search ORDER BY high - low LIMIT 1";

/// The ids around a point in time: before `first` everything was received earlier, after `last`
/// everything later.
pub(crate) struct Arrivals {
    pub(crate) first: i64,
    pub(crate) last: i64,
}

impl Arrivals {
    pub(crate) async fn around(
        client: &impl GenericClient,
        time: Timestamp,
    ) -> Result<Self, PostgresError> {
        let bisect = client.prepare_cached(BISECT).await?;
        let early = time.checked_sub_signed(CLOCK_DISORDER).unwrap_or(time);
        let late = time.checked_add_signed(CLOCK_DISORDER).unwrap_or(time);
        let first = client.query_one(&bisect, &[&early]).await?.try_get(0)?;
        let last = client.query_one(&bisect, &[&late]).await?.try_get(1)?;
        Ok(Self { first, last })
    }
}
