//! Runs events again: one at once, or many by the workers.
//!
//! An event that is not in the queue is put there while its own row is locked, and that row is set
//! to 'pending', so that a dead letter of an earlier run that is sent meanwhile changes nothing.

use cognigy_core::{AttemptOutcome, ClaimedRun, EventKey, ReplayClaim, Requeued, Timestamp};
use deadpool_postgres::{Object, Transaction};
use tokio_postgres::{Row, types::ToSql};

use crate::{
    calls::{
        claim::{self, LeaseWindow},
        contact_queue::{self, Locked},
    },
    error::{PostgresError, unreadable},
    row::{IDENTITY, Private, read},
};

/// An event with its body; `$1` source, `$2` id.
fn select_event() -> String {
    format!(
        "SELECT events.id AS event, events.received_at, events.forgotten IS NOT NULL AS is_forgotten,
                bodies.body, bodies.headers, {IDENTITY}
         FROM cognigy_events AS events
         LEFT JOIN LATERAL (
             SELECT body, headers FROM cognigy_bodies
             WHERE event = events.id AND received_at = events.received_at LIMIT 1) AS bodies ON true
         WHERE events.source = $1 AND events.event_id = $2"
    )
}

/// The queue's row of an event, and whether a lease on it still runs; `$1` now, `$2` id.
const SELECT_QUEUED: &str = "
SELECT held_until IS NOT NULL AS is_held,
       held_until > coalesce($1::timestamptz, statement_timestamp()) AS is_leased
FROM cognigy_queue WHERE event = $2 FOR UPDATE";

/// The attempt of a worker that vanished goes into the history before the new run begins.
const WRITE_LOST: &str = "
INSERT INTO cognigy_attempts
    (event, received_at, fence, run, number, started_at, duration_us, outcome, error)
SELECT event, received_at, fence, run, attempt, claimed_at,
       extract(epoch FROM held_until - claimed_at) * 1000000, $2, 'the worker''s lease ran out'
FROM cognigy_queue WHERE event = $1
ON CONFLICT DO NOTHING";

/// An event that waited for its next attempt becomes due now: if this lease runs out, the event
/// must not wait any longer.
const CLAIM_QUEUED: &str = "
UPDATE cognigy_queue
SET held_until = coalesce($1::timestamptz, statement_timestamp()) + $2::bigint * interval '1 microsecond',
    claimed_at = coalesce($1, statement_timestamp()),
    due_at = least(due_at, coalesce($1, statement_timestamp())),
    fence = nextval('cognigy_fences'), run = run + 1, attempt = 1
WHERE event = $3
RETURNING fence, run";

const LOCK_EVENT: &str = "
SELECT received_at, run, state, type FROM cognigy_events
WHERE id = $1 AND forgotten IS NULL FOR UPDATE";

const CLAIM_AT_REST: &str = "
INSERT INTO cognigy_queue
    (event, received_at, source, due_at, held_until, claimed_at, fence, run, attempt, lane)
SELECT id, received_at, source, coalesce($1::timestamptz, statement_timestamp()),
       coalesce($1, statement_timestamp()) + $2::bigint * interval '1 microsecond',
       coalesce($1, statement_timestamp()), nextval('cognigy_fences'), run + 1, 1, $4::bigint
FROM cognigy_events WHERE id = $3
ON CONFLICT (event) DO NOTHING
RETURNING fence, run";

pub(crate) async fn replay(
    connection: &mut Object,
    key: &EventKey,
    term: LeaseWindow,
) -> Result<ReplayClaim, PostgresError> {
    let transaction = connection.transaction().await?;
    let select = transaction.prepare_cached(&select_event()).await?;
    let (source, id) = (key.source.as_str(), key.id.as_str());
    let Some(event) = transaction.query_opt(&select, &[&source, &id]).await? else {
        return Ok(ReplayClaim::NotFound);
    };
    if read(&event, "is_forgotten")? {
        return Ok(ReplayClaim::Forgotten);
    }
    let handle: i64 = read(&event, "event")?;
    let lane = match contact_queue::settled_order(&transaction).await?.is_kept() {
        true => contact_queue::read_lane(&event)?,
        false => None,
    };
    let mut locked =
        Locked::lock(&transaction, lane.map(|lane| (lane, handle)).into_iter()).await?;
    if lane.is_some_and(|lane| !locked.admit(lane, handle)) {
        return Ok(ReplayClaim::Busy);
    }
    let Some(granted) = claim_anew(&transaction, handle, lane, term).await? else {
        return Ok(ReplayClaim::Busy);
    };
    locked.finish(&transaction, 0).await?;
    transaction.commit().await?;
    let Granted { row, took_over } = granted;
    let run = u32::try_from(read::<i32>(&row, "run")?).unwrap_or_default();
    let claimed = claim::granted(&event, run, 1, read(&row, "fence")?)?;
    Ok(ReplayClaim::Claimed(Box::new(ClaimedRun { took_over, ..claimed })))
}

/// A claim on a new run.
struct Granted {
    /// The fence and the run.
    row: Row,
    /// Whether the run before it was held by a worker whose lease had run out.
    took_over: bool,
}

/// Claims an event for a new run. None while another run holds it.
async fn claim_anew(
    transaction: &Transaction<'_>,
    handle: i64,
    lane: Option<i64>,
    term: LeaseWindow,
) -> Result<Option<Granted>, PostgresError> {
    let queued = transaction.query_opt(SELECT_QUEUED, &[&term.now, &handle]).await?;
    if let Some(queued) = queued {
        let took_over = read(&queued, "is_held")?;
        if took_over {
            if read::<Option<bool>>(&queued, "is_leased")? == Some(true) {
                return Ok(None);
            }
            let lost = AttemptOutcome::LeaseExpired.as_str();
            transaction.execute(WRITE_LOST, &[&handle, &lost]).await?;
        } else {
            tally(transaction, &["pending"], &["processing"]).await?;
        }
        let row = transaction.query_one(CLAIM_QUEUED, &[&term.now, &term.lease, &handle]).await?;
        begin_run(transaction, &[handle]).await?;
        return Ok(Some(Granted { row, took_over }));
    }
    let Some(at_rest) = transaction.query_opt(LOCK_EVENT, &[&handle]).await? else {
        return Ok(None);
    };
    let values: [&(dyn ToSql + Sync); 4] = [&term.now, &term.lease, &handle, &lane];
    let row = transaction.query_opt(CLAIM_AT_REST, &values).await?;
    let Some(row) = row else {
        // Another call put it into the queue at the same moment.
        return Ok(None);
    };
    begin_run(transaction, &[handle]).await?;
    tally(transaction, &[read(&at_rest, "state")?], &["processing"]).await?;
    Ok(Some(Granted { row, took_over: false }))
}

/// The events are in their next run, and the queue has the state of that run.
async fn begin_run(transaction: &Transaction<'_>, handles: &[i64]) -> Result<(), PostgresError> {
    let sql = "UPDATE cognigy_events SET state = 'pending', run = run + 1 WHERE id = ANY ($1)";
    transaction.execute(sql, &[&handles]).await?;
    Ok(())
}

/// Updates the tallies for events that changed their state.
pub(crate) async fn tally(
    transaction: &Transaction<'_>,
    from: &[&str],
    to: &[&str],
) -> Result<(), PostgresError> {
    let sql = "INSERT INTO cognigy_tallies (dimension, name, count)
               SELECT 'state', name, -count(*) FROM unnest($1::text[]) AS name GROUP BY name
               UNION ALL
               SELECT 'state', name, count(*) FROM unnest($2::text[]) AS name GROUP BY name";
    transaction.execute(sql, &[&from, &to]).await?;
    Ok(())
}

pub(crate) async fn requeue(
    connection: &mut Object,
    keys: &[EventKey],
    now: Option<Timestamp>,
) -> Result<Vec<Requeued>, PostgresError> {
    let transaction = connection.transaction().await?;
    let keeps_order = contact_queue::settled_order(&transaction).await?.is_kept();
    let mut known = find_all(&transaction, keys).await?;
    let forgotten: Vec<_> =
        known.iter_mut().map(|known| known.take_if(|known| known.is_forgotten).is_some()).collect();
    let lane_of = |known: &Known| known.lane.filter(|_| keeps_order);
    let in_lanes = known.iter().flatten();
    let in_lanes = in_lanes.filter_map(|known| Some((lane_of(known)?, known.handle)));
    let mut locked = Locked::lock(&transaction, in_lanes).await?;
    let mut handles: Vec<i64> = known.iter().flatten().map(|known| known.handle).collect();
    handles.sort_unstable();
    handles.dedup();
    let queued = hasten(&transaction, &handles, now).await?;
    let mut at_rest = Vec::new();
    for Known { handle, lane, .. } in known.iter().flatten() {
        let is_queued = queued.iter().any(|(queued, _)| queued == handle);
        if !is_queued && !at_rest.iter().any(|place: &QueuePosition| place.handle == *handle) {
            let lane = lane.filter(|_| keeps_order);
            let is_due = lane.is_none_or(|lane| locked.enter(lane, *handle));
            at_rest.push(QueuePosition { handle: *handle, lane, is_due });
        }
    }
    let mut scheduled = schedule(&transaction, &at_rest, now).await?;
    let waiting = at_rest.iter().filter(|place| !place.is_due).count() + locked.displaced.len();
    locked.finish(&transaction, i64::try_from(waiting).unwrap_or_default()).await?;
    transaction.commit().await?;
    let known: Vec<_> =
        known.iter().map(|known| known.as_ref().map(|known| known.handle)).collect();
    let answer = |(handle, is_forgotten): (&Option<i64>, &bool)| {
        let Some(handle) = handle else {
            return if *is_forgotten { Requeued::Forgotten } else { Requeued::NotFound };
        };
        if let Some((_, is_held)) = queued.iter().find(|(queued, _)| queued == handle) {
            return if *is_held { Requeued::Busy } else { Requeued::Waiting };
        }
        match scheduled.iter().position(|scheduled| scheduled == handle) {
            // The key was named twice: the second time the event waits already.
            Some(place) => {
                scheduled.swap_remove(place);
                Requeued::Scheduled
            }
            None => Requeued::Waiting,
        }
    };
    Ok(known.iter().zip(&forgotten).map(answer).collect())
}

/// An event that is stored.
pub(crate) struct Known {
    pub(crate) handle: i64,
    /// Its contact queue if an order is kept.
    lane: Option<i64>,
    /// Whether its body is not there any more.
    is_forgotten: bool,
}

/// Where an event goes that is to run again.
struct QueuePosition {
    handle: i64,
    lane: Option<i64>,
    is_due: bool,
}

/// The events with these keys, in order.
pub(crate) async fn find_all(
    transaction: &Transaction<'_>,
    keys: &[EventKey],
) -> Result<Vec<Option<Known>>, PostgresError> {
    let sources: Vec<_> = keys.iter().map(|key| key.source.as_str()).collect();
    let ids = Private(keys.iter().map(|key| key.id.as_str()).collect::<Vec<_>>());
    let rows = transaction
        .query(
            r#"SELECT wanted.ordinal, events.id, events.source, events.external_id, events.user_id,
                      events.forgotten IS NOT NULL AS is_forgotten
               FROM unnest($1::text[], $2::text[])
                    WITH ORDINALITY AS wanted (source, event_id, ordinal)
               CROSS JOIN LATERAL (
                   SELECT id, source, external_id, user_id, forgotten FROM cognigy_events
                   WHERE source = wanted.source COLLATE "C"
                     AND event_id = wanted.event_id COLLATE "C" LIMIT 1) AS events"#,
            &[&sources, &ids],
        )
        .await?;
    let mut known: Vec<_> = keys.iter().map(|_| None).collect();
    for row in rows {
        let ordinal: i64 = read(&row, "ordinal")?;
        let place = usize::try_from(ordinal - 1).ok().and_then(|index| known.get_mut(index));
        *place.ok_or_else(|| unreadable("an ordinal", "is out of range"))? = Some(Known {
            handle: read(&row, "id")?,
            lane: contact_queue::read_lane(&row)?,
            is_forgotten: read(&row, "is_forgotten")?,
        });
    }
    Ok(known)
}

/// Makes the waiting events in the queue due at once. Returns all events that are in the queue, and
/// whether they are held.
async fn hasten(
    transaction: &Transaction<'_>,
    handles: &[i64],
    now: Option<Timestamp>,
) -> Result<Vec<(i64, bool)>, PostgresError> {
    let locked = transaction
        .query(
            "SELECT event, held_until IS NOT NULL AS is_held FROM cognigy_queue
             WHERE event = ANY ($1) ORDER BY event FOR UPDATE",
            &[&handles],
        )
        .await?;
    transaction
        .execute(
            "UPDATE cognigy_queue
             SET due_at = least(due_at, coalesce($1::timestamptz, statement_timestamp()))
             WHERE event = ANY ($2) AND held_until IS NULL
               AND due_at > coalesce($1, statement_timestamp())",
            &[&now, &handles],
        )
        .await?;
    locked.iter().map(|row| Ok((read(row, "event")?, read(row, "is_held")?))).collect()
}

/// Puts finished events into the queue for a new run. Returns those that were put there.
async fn schedule(
    transaction: &Transaction<'_>,
    places: &[QueuePosition],
    now: Option<Timestamp>,
) -> Result<Vec<i64>, PostgresError> {
    if places.is_empty() {
        return Ok(Vec::new());
    }
    let handles: Vec<_> = places.iter().map(|place| place.handle).collect();
    let lanes: Vec<_> = places.iter().map(|place| place.lane).collect();
    let due: Vec<_> = places.iter().map(|place| place.is_due).collect();
    let locked = transaction
        .query(
            "SELECT id, state FROM cognigy_events WHERE id = ANY ($1) ORDER BY id FOR UPDATE",
            &[&handles],
        )
        .await?;
    let rows = transaction
        .query(
            "INSERT INTO cognigy_queue (event, received_at, source, due_at, run, attempt, lane)
             SELECT id, received_at, source,
                    CASE WHEN is_due THEN coalesce($1::timestamptz, statement_timestamp()) END,
                    run + 1, 0, lane
             FROM unnest($2::bigint[], $3::bigint[], $4::boolean[]) AS place (event, lane, is_due)
             CROSS JOIN LATERAL (
                 SELECT id, received_at, source, run FROM cognigy_events
                 WHERE id = place.event AND forgotten IS NULL LIMIT 1
             ) AS events
             ON CONFLICT (event) DO NOTHING RETURNING event",
            &[&now, &handles, &lanes, &due],
        )
        .await?;
    let scheduled =
        rows.iter().map(|row| read(row, "event")).collect::<Result<Vec<i64>, PostgresError>>()?;
    let mut from = Vec::new();
    for row in &locked {
        if scheduled.contains(&read(row, "id")?) {
            from.push(read::<&str>(row, "state")?);
        }
    }
    begin_run(transaction, &scheduled).await?;
    tally(transaction, &from, &vec!["pending"; from.len()]).await?;
    Ok(scheduled)
}
