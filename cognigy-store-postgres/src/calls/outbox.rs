//! Dead letters between the decision to give up and the sink: claiming and settling them.
//!
//! There are few of them, so a lease simply moves `due_at`.

use std::collections::HashSet;

use bytes::Bytes;
use cognigy_core::{
    ClaimedDeadLetter, DeadLetter, DeadLetterClaim, DeadLetterEnd, EventTime, Settlement,
    SourceName, Timestamp, WorkEnd,
};
use deadpool_postgres::{GenericClient, Object};
use tokio_postgres::{Row, types::ToSql};

use crate::{
    calls::{claim::LeaseWindow, settle::distinct},
    error::{PostgresError, unreadable},
    row::{self, IDENTITY, distance, read, read_number, sql_limit, unescape},
};

/// Dead letters that were claimed.
pub(crate) struct OutboxRows {
    pub(crate) claimed: Vec<ClaimedDeadLetter>,
    /// The fence they were claimed under, good for a claim of runs too.
    pub(crate) fence: i64,
    /// Microseconds until the next one is due, if there is one.
    pub(crate) next_in: Option<i64>,
}

/// `$1` now or NULL, `$2` limit, `$3` lease, `$4` source. With a limit of 0 the statement only
/// draws a fence.
fn claim_sql() -> String {
    format!(
        r#"WITH fence AS MATERIALIZED (
    SELECT nextval('cognigy_fences') AS fence
), picked AS MATERIALIZED (
    SELECT id FROM cognigy_outbox
    WHERE source = $4 COLLATE "C" AND due_at <= coalesce($1::timestamptz, statement_timestamp())
    ORDER BY due_at, id LIMIT $2 FOR UPDATE SKIP LOCKED
), claimed AS (
    UPDATE cognigy_outbox
    SET due_at = coalesce($1, statement_timestamp()) + $3::bigint * interval '1 microsecond',
        fence = (SELECT fence FROM fence), tries = tries + 1
    WHERE id = ANY (ARRAY(SELECT id FROM picked))
    RETURNING id, event, run, reason, attempts, tries
), next AS (
    SELECT (extract(epoch FROM least(
        (SELECT due_at FROM cognigy_outbox
         WHERE $2 > 0 AND source = $4 COLLATE "C" AND due_at IS NOT NULL
           AND id <> ALL (ARRAY(SELECT id FROM picked))
         ORDER BY due_at LIMIT 1),
        (SELECT coalesce($1, statement_timestamp()) + $3::bigint * interval '1 microsecond'
         FROM picked LIMIT 1)
    ) - coalesce($1, statement_timestamp())) * 1000000)::bigint AS next_in
)
SELECT fence.fence, next.next_in, claimed.id, claimed.run, claimed.reason, claimed.attempts,
       claimed.tries, events.received_at, bodies.body, bodies.headers, {IDENTITY}
FROM fence CROSS JOIN next
LEFT JOIN claimed ON true
LEFT JOIN LATERAL (
    SELECT * FROM cognigy_events WHERE id = claimed.event LIMIT 1) AS events ON true
LEFT JOIN LATERAL (
    SELECT body, headers FROM cognigy_bodies
    WHERE event = claimed.event AND received_at = events.received_at LIMIT 1) AS bodies ON true
ORDER BY claimed.id"#
    )
}

/// Claims dead letters of a source that are due, earliest first.
pub(crate) async fn claim(
    connection: &Object,
    source: &SourceName,
    limit: usize,
    term: LeaseWindow,
) -> Result<OutboxRows, PostgresError> {
    let claim = connection.prepare_cached(&claim_sql()).await?;
    let parameters: [&(dyn ToSql + Sync); 4] =
        [&term.now, &sql_limit(limit), &term.lease, &source.as_str()];
    let rows = connection.query(&claim, &parameters).await?;
    let first = rows.first().ok_or_else(|| unreadable("a claim", "returned nothing"))?;
    let (fence, next_in) = (read(first, "fence")?, read(first, "next_in")?);
    let claimed = rows.iter().filter_map(|row| read_letter(row, fence).ok()).collect();
    Ok(OutboxRows { claimed, fence, next_in })
}

/// A dead letter that cannot be read stays leased and is due again later.
fn read_letter(row: &Row, fence: i64) -> Result<ClaimedDeadLetter, PostgresError> {
    let claim = DeadLetterClaim::granted(read(row, "id")?, fence);
    let key = row::read_key(row)?;
    let first_received_at: Timestamp = read(row, "received_at")?;
    let mut is_sensitive = false;
    let time = match row::read_parts(row, &key) {
        Ok(parts) => {
            is_sensitive = parts.sensitive;
            parts.time
        }
        // The message needs a time; this one is at least close.
        Err(_) => EventTime::from_json(&first_received_at.timestamp_millis().to_string())
            .map_err(|why| unreadable("the time", why))?,
    };
    let (raw_payload, context) = match is_sensitive {
        true => Default::default(),
        false => (row::read_body(row)?.unwrap_or_else(Bytes::new), row::read_headers(row)?),
    };
    let dead_letter = DeadLetter {
        key,
        run: read_number(row, "run")?,
        kind: row::read_kind(row)?,
        time,
        error_message: unescape(read(row, "reason")?),
        attempts: read_number(row, "attempts")?,
        first_received_at,
        raw_payload,
        context,
    };
    let attempt = read_number(row, "tries")?;
    Ok(ClaimedDeadLetter { claim, dead_letter, attempt })
}

/// A replay may have taken the event further: then its row says 'pending' or names a later run, and
/// the dead letter belonged to an earlier run.
const SETTLE: &str = "
WITH verdict AS MATERIALIZED (
    SELECT row.ordinal, row.id, row.fence, coalesce(row.now, statement_timestamp()) AS now, row.due_in
    FROM unnest($1::bigint[], $2::bigint[], $3::timestamptz[], $4::bigint[])
         WITH ORDINALITY AS row (id, fence, now, due_in, ordinal)
), held AS MATERIALIZED (
    SELECT verdict.* FROM verdict CROSS JOIN LATERAL (
        SELECT 1 FROM cognigy_outbox
        WHERE id = verdict.id AND fence = verdict.fence AND due_at IS NOT NULL LIMIT 1) AS letter
), settled AS (
    UPDATE cognigy_outbox AS letter
    SET sent_at = (SELECT CASE WHEN held.due_in IS NULL THEN held.now END FROM held
                   WHERE held.id = letter.id),
        due_at = (SELECT held.now + held.due_in * interval '1 microsecond' FROM held
                  WHERE held.id = letter.id),
        fence = nextval('cognigy_fences')
    WHERE letter.id = ANY (ARRAY(SELECT id FROM held)) AND letter.fence = ANY ($5)
      AND letter.due_at IS NOT NULL
    RETURNING letter.id, letter.event, letter.run, letter.sent_at
), ended AS (
    UPDATE cognigy_events SET state = 'dead_lettered'
    WHERE id = ANY (ARRAY(SELECT event FROM settled WHERE sent_at IS NOT NULL))
      AND state = 'dead_lettering'
      AND ((id, run) IN (SELECT event, run FROM settled WHERE sent_at IS NOT NULL)) IS TRUE
    RETURNING id
), tallies AS (
    INSERT INTO cognigy_tallies (dimension, name, count)
    SELECT 'state', move.name, move.sign * count(*)
    FROM ended CROSS JOIN (VALUES ('dead_lettering', -1), ('dead_lettered', 1)) AS move (name, sign)
    GROUP BY move.name, move.sign
)
SELECT ordinal FROM held WHERE (id IN (SELECT id FROM settled)) IS TRUE";

/// Ends claims on dead letters; returns the positions in `settlements` of those that took effect.
pub(crate) async fn settle(
    client: &impl GenericClient,
    settlements: &[&Settlement],
    caller_clock: bool,
) -> Result<Vec<usize>, PostgresError> {
    let mut places = Vec::new();
    let mut seen = HashSet::new();
    let (mut ids, mut fences, mut nows, mut dues) = (vec![], vec![], vec![], vec![]);
    for (place, settlement) in settlements.iter().enumerate() {
        let WorkEnd::DeadLetter(end) = settlement.end() else { continue };
        let (token, at) = (settlement.token(), settlement.at());
        let due = match end {
            DeadLetterEnd::Sent => None,
            DeadLetterEnd::Retry { due } => Some(distance(at, *due)),
        };
        // A claim ends once: a further settlement of the same claim has lost it.
        if !seen.insert(token) {
            continue;
        }
        places.push(place);
        ids.push(token.handle);
        fences.push(token.fence);
        nows.push(caller_clock.then_some(at));
        dues.push(due);
    }
    let settle = client.prepare_cached(SETTLE).await?;
    let known = distinct(fences.iter().copied());
    let rows = client.query(&settle, &[&ids, &fences, &nows, &dues, &known]).await?;
    ordinals(&rows, &places)
}

/// The positions that the ordinals of a statement stand for.
pub(crate) fn ordinals(rows: &[Row], places: &[usize]) -> Result<Vec<usize>, PostgresError> {
    rows.iter()
        .map(|row| {
            let ordinal: i64 = read(row, "ordinal")?;
            let index = usize::try_from(ordinal - 1).ok();
            index
                .and_then(|index| places.get(index).copied())
                .ok_or_else(|| unreadable("an ordinal", "is out of range"))
        })
        .collect()
}
