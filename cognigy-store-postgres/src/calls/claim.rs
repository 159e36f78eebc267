//! Claims what is due.
//!
//! A row whose identity cannot be read must not keep the others from being claimed: the row stays
//! leased and visible as processing, and is due again when the lease runs out.

use std::time::Duration;

use cognigy_core::{
    AttemptOutcome, Claim, ClaimBatch, ClaimRequest, ClaimedRun, SourceName, Timestamp,
};
use deadpool_postgres::Object;
use tokio_postgres::Row;

use crate::{
    TimeSource,
    calls::outbox,
    error::PostgresError,
    row::{self, IDENTITY, interval, read, read_number, sql_limit},
};

/// From when, by which clock, and for how long a claim is granted.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LeaseWindow {
    /// The caller's time, if the caller's clock counts; otherwise the statement uses the database's
    /// clock.
    pub(crate) now: Option<Timestamp>,
    /// Microseconds.
    pub(crate) lease: i64,
}

impl LeaseWindow {
    pub(crate) fn new(time: TimeSource, now: Timestamp, lease: Duration) -> Self {
        Self { now: (time == TimeSource::Caller).then_some(now), lease: interval(lease) }
    }
}

/// `$1` now or NULL, `$2` limit, `$3` lease, `$4` fence, `$5` what an expired lease is called, `$6`
/// source.
///
/// The few rows that other claims hold are at the start of the index and are skipped. Events and
/// bodies are looked up row by row (LATERAL … LIMIT 1), so that no plan reads whole tables.
/// `next_in` is computed on the rows as they were before the claim; where the limit was reached
/// more may be due now, and a long queue is not searched for the next lease to end.
fn claim_sql() -> String {
    format!(
        r#"WITH picked AS MATERIALIZED (
    SELECT event, received_at, held_until, claimed_at, fence, run, attempt
    FROM cognigy_queue
    WHERE source = $6 COLLATE "C" AND due_at <= coalesce($1::timestamptz, statement_timestamp())
      AND (held_until IS NULL OR held_until <= coalesce($1, statement_timestamp()))
    ORDER BY due_at LIMIT $2 FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE cognigy_queue
    SET held_until = coalesce($1, statement_timestamp()) + $3::bigint * interval '1 microsecond',
        claimed_at = coalesce($1, statement_timestamp()), fence = $4, attempt = attempt + 1
    WHERE event = ANY (ARRAY(SELECT event FROM picked))
    RETURNING event, received_at, due_at, run, attempt
), lost AS (
    INSERT INTO cognigy_attempts
        (event, received_at, fence, run, number, started_at, duration_us, outcome, error)
    SELECT event, received_at, fence, run, attempt, claimed_at,
           extract(epoch FROM held_until - claimed_at) * 1000000, $5,
           'the worker''s lease ran out'
    FROM picked WHERE held_until IS NOT NULL
    ON CONFLICT DO NOTHING
), tallies AS (
    INSERT INTO cognigy_tallies (dimension, name, count)
    SELECT 'state', move.name, move.sign * fresh.count
    FROM (SELECT count(*) FROM picked WHERE held_until IS NULL) AS fresh
    CROSS JOIN (VALUES ('pending', -1), ('processing', 1)) AS move (name, sign)
    WHERE fresh.count > 0
), next AS (
    SELECT CASE WHEN (SELECT count(*) FROM picked) >= $2 THEN 0
    ELSE (extract(epoch FROM least(
        (SELECT min(held_until) FROM cognigy_queue
         WHERE source = $6 COLLATE "C" AND due_at <= coalesce($1, statement_timestamp())
           AND held_until > coalesce($1, statement_timestamp())),
        (SELECT due_at FROM cognigy_queue
         WHERE source = $6 COLLATE "C" AND due_at > coalesce($1, statement_timestamp())
         ORDER BY due_at LIMIT 1),
        (SELECT coalesce($1, statement_timestamp()) + $3::bigint * interval '1 microsecond'
         FROM picked LIMIT 1)
    ) - coalesce($1, statement_timestamp())) * 1000000)::bigint END AS next_in
)
SELECT next.next_in, claimed.event, claimed.received_at, claimed.due_at, claimed.run,
       claimed.attempt, bodies.body, bodies.headers, {IDENTITY},
       claimed.event = ANY (ARRAY(
           SELECT event FROM picked WHERE held_until IS NOT NULL)) AS took_over,
       CASE WHEN claimed.attempt > 1 THEN (
           SELECT count(*) FROM cognigy_attempts AS before
           WHERE before.event = claimed.event AND before.received_at = claimed.received_at
             AND before.run = claimed.run AND before.outcome = $5) ELSE 0 END AS lost_before
FROM next
LEFT JOIN claimed ON true
LEFT JOIN LATERAL (
    SELECT * FROM cognigy_events WHERE id = claimed.event LIMIT 1) AS events ON true
LEFT JOIN LATERAL (
    SELECT body, headers FROM cognigy_bodies
    WHERE event = claimed.event AND received_at = claimed.received_at LIMIT 1) AS bodies ON true"#
    )
}

/// What was claimed under one fence, and what is unknown about it.
pub(crate) struct Claimed {
    pub(crate) batch: ClaimBatch,
    /// The fence of a claim whose outcome is unknown: no worker runs the events it took.
    pub(crate) doubtful: Option<i64>,
    pub(crate) problem: Option<PostgresError>,
}

pub(crate) async fn claim_due(
    connection: &mut Object,
    request: &ClaimRequest,
    term: LeaseWindow,
) -> Result<Claimed, PostgresError> {
    let ClaimRequest { source, runs, dead_letters, .. } = request;
    let letters = outbox::claim(connection, source, *dead_letters, term).await?;
    let fence = letters.fence;
    let mut batch = ClaimBatch { dead_letters: letters.claimed, ..ClaimBatch::default() };
    let (next, doubtful, problem) = match claim_runs(connection, source, *runs, fence, term).await {
        Ok((runs, next)) => {
            batch.runs = runs;
            (next, None, None)
        }
        Err(problem) => {
            let doubtful = problem.outcome_is_unknown().then_some(fence);
            (Some(0), doubtful, Some(problem))
        }
    };
    // A duration that is added to the caller's time: it does not matter by which clock it was
    // measured.
    let next_in = letters.next_in.into_iter().chain(next).min();
    batch.next_due = next_in.map(|micros| {
        let distance = chrono::TimeDelta::microseconds(micros);
        request.now.checked_add_signed(distance).unwrap_or(Timestamp::MAX_UTC)
    });
    Ok(Claimed { batch, doubtful, problem })
}

async fn claim_runs(
    connection: &Object,
    source: &SourceName,
    limit: usize,
    fence: i64,
    term: LeaseWindow,
) -> Result<(Vec<ClaimedRun>, Option<i64>), PostgresError> {
    if limit == 0 {
        return Ok((Vec::new(), None));
    }
    let claim = connection.prepare_cached(&claim_sql()).await?;
    let source = source.as_str();
    let lost = AttemptOutcome::LeaseExpired.as_str();
    let rows = connection
        .query(&claim, &[&term.now, &sql_limit(limit), &term.lease, &fence, &lost, &source])
        .await?;
    let mut next = None;
    let mut runs = Vec::with_capacity(rows.len());
    for row in &rows {
        next = read(row, "next_in")?;
        if read::<Option<i64>>(row, "event")?.is_some() {
            let order: (Timestamp, i64) = (read(row, "due_at")?, read(row, "event")?);
            runs.extend(claimed_run(row, fence).ok().map(|run| (order, run)));
        }
    }
    runs.sort_by_key(|(order, _)| *order);
    Ok((runs.into_iter().map(|(_, run)| run).collect(), next))
}

/// A run that was claimed under `fence`.
fn claimed_run(row: &Row, fence: i64) -> Result<ClaimedRun, PostgresError> {
    let took_over = read(row, "took_over")?;
    // The statement does not see the lost attempt that it has written itself.
    let lost = read::<i64>(row, "lost_before")? + i64::from(took_over);
    let lost = u32::try_from(lost).unwrap_or(u32::MAX);
    let (run, attempt) = (read_number(row, "run")?, read_number(row, "attempt")?);
    Ok(ClaimedRun { lost, took_over, ..granted(row, run, attempt, fence)? })
}

/// The claim on an attempt at the event in `row`, in a run that has lost no attempt.
pub(crate) fn granted(
    row: &Row,
    run: u32,
    attempt: u32,
    fence: i64,
) -> Result<ClaimedRun, PostgresError> {
    let key = row::read_key(row)?;
    let claim = Claim::granted(read(row, "event")?, fence);
    let event = row::restore(row, &key, run);
    Ok(ClaimedRun { claim, key, run, attempt, lost: 0, took_over: false, event })
}

/// Releases what was claimed for sources under fences whose claims no worker received. The attempts
/// do not count, because no worker made them.
pub(crate) async fn give_back(
    connection: &Object,
    claims: &[(SourceName, i64)],
    now: Option<Timestamp>,
) -> Result<(), PostgresError> {
    let sources: Vec<_> = claims.iter().map(|(source, _)| source.as_str()).collect();
    let fences: Vec<_> = claims.iter().map(|(_, fence)| *fence).collect();
    let give_back = connection
        .prepare_cached(
            "WITH released AS (
                 UPDATE cognigy_queue SET held_until = NULL, attempt = greatest(attempt - 1, 0)
                 WHERE source = ANY ($3::text[]) AND due_at <= coalesce($1::timestamptz, statement_timestamp())
                   AND fence = ANY ($2) AND held_until IS NOT NULL
                 RETURNING event
             )
             INSERT INTO cognigy_tallies (dimension, name, count)
             SELECT 'state', move.name, move.sign * count(*)
             FROM released CROSS JOIN (VALUES ('pending', 1), ('processing', -1)) AS move (name, sign)
             GROUP BY move.name, move.sign",
        )
        .await?;
    connection.execute(&give_back, &[&now, &fences, &sources]).await?;
    Ok(())
}
