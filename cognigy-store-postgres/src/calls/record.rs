//! Records deliveries: one statement for a batch.
//!
//! The statement is safe to repeat: what an earlier try recorded is found as a duplicate. An
//! unknown outcome is resolved in the same way, because looking a key up and recording it again
//! give the same answer.

use std::{borrow::Cow, collections::HashMap};

use bytes::Bytes;
use cognigy_core::{EventKey, IncomingEvent, Recorded, Timestamp};
use deadpool_postgres::Object;

use crate::{
    calls::contact_queue::{self, OrderHint},
    error::PostgresError,
    row::{Private, escape, read},
    server::partitions,
};

/// A delivery on its way into the database.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) event: IncomingEvent,
    /// The time of receipt, if the caller's clock counts.
    pub(crate) now: Option<Timestamp>,
}

/// New events get ids in the order of arrival, but are inserted in the order of their keys: two
/// batches that hold the same keys wait for one another in one direction only.
///
/// Where the order of each contact's events is kept, an event locks its contact's row, and creates
/// it if the contact has no unfinished event. There is a statement with the order and one without;
/// each does nothing where the other is needed.
fn insert_sql(keeps_order: bool) -> String {
    let (condition, queue, waiting) = match keeps_order {
        false => ("= 'none'", QUEUE, ""),
        true => ("<> 'none'", QUEUE_IN_LANES, WAITING),
    };
    format!(
        r#"
WITH incoming AS MATERIALIZED (
    SELECT nextval('cognigy_events_id_seq') AS id, row.ordinal,
           coalesce(row.now, statement_timestamp()) AS now, row.source, row.event_id, row.type,
           row.timestamp_json, row.external_id, row.user_id, row.conversation, row.body,
           row.headers, row.lane, row.sensitive
    FROM unnest($1::timestamptz[], $2::text[], $3::text[], $4::text[], $5::text[], $6::text[],
                $7::text[], $8::bytea[], $9::bigint[], $10::text[], $11::text[], $12::boolean[])
         WITH ORDINALITY AS row (now, source, event_id, type, timestamp_json, external_id, user_id,
                                 body, lane, conversation, headers, sensitive, ordinal)
    WHERE (SELECT event_order FROM cognigy_settings WHERE id = 1) {condition}
      -- The transaction has its number before its events have theirs: see `search_index`.
      AND (SELECT pg_current_xact_id()) IS NOT NULL
), events AS (
    INSERT INTO cognigy_events
        (id, received_at, source, event_id, type, timestamp_json, external_id, user_id,
         conversation, sensitive)
    SELECT id, now, source, event_id, type, timestamp_json, external_id, user_id, conversation,
           sensitive
    FROM incoming ORDER BY source COLLATE "C", event_id COLLATE "C"
    ON CONFLICT (source, event_id) DO NOTHING
    RETURNING id, received_at, source, type
), {queue}, bodies AS (
    INSERT INTO cognigy_bodies (event, received_at, body, headers)
    SELECT incoming.id, incoming.now, incoming.body, incoming.headers FROM incoming JOIN events USING (id)
), tallies AS (
    INSERT INTO cognigy_tallies (dimension, name, count)
    SELECT 'type', type, count(*) FROM events GROUP BY type
    UNION ALL
    SELECT 'state', 'pending', count(*) FROM events HAVING count(*) > 0
    {waiting}
)
SELECT incoming.ordinal FROM incoming JOIN events USING (id)"#
    )
}

const QUEUE: &str = "queue AS (
    INSERT INTO cognigy_queue (event, received_at, source, due_at, run, attempt)
    SELECT id, received_at, source, received_at, 1, 0 FROM events
)";

/// An existing row is updated, if only to its old value, so that it is locked until the commit and
/// a transaction that began earlier cannot overlook it.
const QUEUE_IN_LANES: &str = "fresh AS MATERIALIZED (
    SELECT incoming.id, incoming.now, incoming.source, incoming.lane
    FROM incoming JOIN events USING (id)
), lanes AS (
    INSERT INTO cognigy_lanes (lane, opened_by)
    SELECT lane, min(id) FROM fresh WHERE lane IS NOT NULL GROUP BY lane ORDER BY lane
    ON CONFLICT (lane) DO UPDATE SET opened_by = cognigy_lanes.opened_by
    RETURNING opened_by
), placed AS MATERIALIZED (
    SELECT id, now, source, lane,
           lane IS NULL OR (id IN (SELECT opened_by FROM lanes)) IS TRUE AS is_first
    FROM fresh
), queue AS (
    INSERT INTO cognigy_queue (event, received_at, source, due_at, run, attempt, lane)
    SELECT id, now, source, CASE WHEN is_first THEN now END, 1, 0, lane FROM placed
)";

const WAITING: &str = "UNION ALL
    SELECT 'lane', 'waiting', count(*) FROM placed WHERE NOT is_first HAVING count(*) > 0";

/// A statement of its own, because the insertion's snapshot does not show what other transactions
/// committed while the insertion waited for them. The stored body is sent only where it differs.
const COMPARE: &str = r#"
SELECT row.ordinal,
       CASE WHEN events.forgotten IS NULL THEN bodies.body IS NOT DISTINCT FROM row.body
            ELSE bodies.body IS NOT DISTINCT FROM sha256(row.body) END AS is_identical,
       CASE WHEN events.forgotten IS NULL AND bodies.body <> row.body THEN bodies.body END AS body
FROM unnest($1::text[], $2::text[], $3::bytea[])
     WITH ORDINALITY AS row (source, event_id, body, ordinal)
CROSS JOIN LATERAL (
    SELECT id, received_at, forgotten FROM cognigy_events
    WHERE source = row.source COLLATE "C" AND event_id = row.event_id COLLATE "C" LIMIT 1) AS events
LEFT JOIN LATERAL (
    SELECT body FROM cognigy_bodies
    WHERE event = events.id AND received_at = events.received_at LIMIT 1) AS bodies ON true"#;

/// Records a batch. One answer for each delivery, in order.
pub(crate) async fn record(
    connection: &mut Object,
    batch: &[&Delivery],
    order: &OrderHint,
) -> Result<Vec<Recorded>, PostgresError> {
    // The first delivery of each key is sent; further ones within the batch are compared with it.
    let mut firsts: HashMap<&EventKey, usize> = HashMap::with_capacity(batch.len());
    let mut distinct = Vec::with_capacity(batch.len());
    for delivery in batch.iter().copied() {
        firsts.entry(&delivery.event.key).or_insert_with(|| {
            distinct.push(delivery);
            distinct.len() - 1
        });
    }
    let mut keeps_order = order.holds();
    let outcomes = loop {
        let outcomes = match insert(connection, &distinct, keeps_order).await {
            Err(problem) if problem.lacks_partition() => {
                let times = distinct.iter().filter_map(|delivery| delivery.now);
                partitions::make_for(connection, times).await?;
                insert(connection, &distinct, keeps_order).await?
            }
            outcomes => outcomes?,
        };
        let all: Option<Vec<Recorded>> = outcomes.into_iter().collect();
        if let Some(outcomes) = all {
            break outcomes;
        }
        if contact_queue::order(&*connection).await?.is_kept() == keeps_order {
            // A key that blocked the insertion and no longer exists was purged in between.
            let gone = "an event was purged while it was delivered again";
            return Err(PostgresError::Connection(gone.to_owned()));
        }
        // Another node changed the order.
        keeps_order = !keeps_order;
        order.correct(keeps_order);
    };

    let mut answered = vec![false; distinct.len()];
    let answer = |delivery: &Delivery| {
        let index = firsts[&delivery.event.key];
        if !std::mem::replace(&mut answered[index], true) {
            return Some(outcomes[index].clone());
        }
        repeated(&distinct[index].event.body, &outcomes[index], &delivery.event.body)
    };
    let mut answers: Vec<_> = batch.iter().copied().map(answer).collect();
    if answers.iter().any(Option::is_none) {
        compare(connection, batch, &mut answers).await?;
    }
    let gone = || PostgresError::Connection("an event was purged while it was compared".to_owned());
    answers.into_iter().map(|answer| answer.ok_or_else(gone)).collect()
}

/// The answer to a further delivery of a key within a batch. None where only the database can tell, since
/// the stored body may have been forgotten.
fn repeated(first: &Bytes, outcome: &Recorded, body: &Bytes) -> Option<Recorded> {
    let compared = |stored: &Bytes| match stored == body {
        true => Recorded::Identical,
        false => Recorded::Differs { stored: stored.clone() },
    };
    match outcome {
        Recorded::New => Some(compared(first)),
        _ if first == body => Some(outcome.clone()),
        Recorded::Differs { stored } if !stored.is_empty() => Some(compared(stored)),
        Recorded::Identical | Recorded::Differs { .. } => None,
    }
}

/// The outcome of each delivery; None where the statement did nothing.
async fn insert(
    connection: &Object,
    batch: &[&Delivery],
    keeps_order: bool,
) -> Result<Vec<Option<Recorded>>, PostgresError> {
    let insert = connection.prepare_cached(&insert_sql(keeps_order)).await?;
    let now: Vec<_> = batch.iter().map(|delivery| delivery.now).collect();
    let texts = |of: fn(&IncomingEvent) -> Cow<'_, str>| -> Private<Vec<_>> {
        Private(batch.iter().map(|delivery| of(&delivery.event)).collect())
    };
    let sources = texts(|event| event.key.source.as_str().into());
    let ids = texts(|event| event.key.id.as_str().into());
    let kinds = texts(|event| escape(event.parts.kind.as_str()));
    let times = texts(|event| event.parts.time.as_json().into());
    let optional = |of: fn(&IncomingEvent) -> &Option<String>| -> Private<Vec<_>> {
        Private(batch.iter().map(|delivery| of(&delivery.event).as_deref().map(escape)).collect())
    };
    let external_ids = optional(|event| &event.parts.external_id);
    let user_ids = optional(|event| &event.parts.user_id);
    let conversations = optional(|event| &event.parts.conversation);
    let headers: Private<Vec<_>> =
        Private(batch.iter().map(|delivery| delivery.event.context.to_json()).collect());
    let sensitive: Vec<_> =
        batch.iter().map(|delivery| delivery.event.parts.sensitive.then_some(true)).collect();
    let lane = |place: usize| {
        let (external_id, user_id) =
            (external_ids.0[place].as_deref(), user_ids.0[place].as_deref());
        contact_queue::lane(&sources.0[place], external_id, user_id)
    };
    let lane = |place| if keeps_order { lane(place) } else { None };
    let lanes: Vec<_> = (0..batch.len()).map(lane).collect();
    let bodies = Private(batch.iter().map(|delivery| &delivery.event.body[..]).collect::<Vec<_>>());
    let rows = connection
        .query(
            &insert,
            &[
                &now,
                &sources,
                &ids,
                &kinds,
                &times,
                &external_ids,
                &user_ids,
                &bodies,
                &lanes,
                &conversations,
                &headers,
                &sensitive,
            ],
        )
        .await?;

    let mut outcomes: Vec<Option<Recorded>> = vec![None; batch.len()];
    for row in rows {
        set(&mut outcomes, read(&row, "ordinal")?, Recorded::New);
    }
    if outcomes.iter().any(Option::is_none) {
        compare(connection, batch, &mut outcomes).await?;
    }
    Ok(outcomes)
}

async fn compare(
    connection: &Object,
    batch: &[&Delivery],
    outcomes: &mut [Option<Recorded>],
) -> Result<(), PostgresError> {
    let known: Vec<usize> = (0..batch.len()).filter(|index| outcomes[*index].is_none()).collect();
    let events = || known.iter().map(|index| &batch[*index].event);
    let sources: Vec<_> = events().map(|event| event.key.source.as_str()).collect();
    let ids = Private(events().map(|event| event.key.id.as_str()).collect::<Vec<_>>());
    let bodies = Private(events().map(|event| &event.body[..]).collect::<Vec<_>>());
    let compare = connection.prepare_cached(COMPARE).await?;
    for row in connection.query(&compare, &[&sources, &ids, &bodies]).await? {
        let outcome = if read(&row, "is_identical")? {
            Recorded::Identical
        } else {
            // Empty where the stored body is lost: as a conflict the delivery goes into quarantine,
            // where its bytes can still be read; after an error the sender would repeat it for
            // ever.
            let stored = read::<Option<&[u8]>>(&row, "body")?.unwrap_or_default();
            Recorded::Differs { stored: Bytes::copy_from_slice(stored) }
        };
        let ordinal: i64 = read(&row, "ordinal")?;
        let index = usize::try_from(ordinal - 1).ok().and_then(|ordinal| known.get(ordinal));
        if let Some(index) = index {
            outcomes[*index] = Some(outcome);
        }
    }
    Ok(())
}

fn set(outcomes: &mut [Option<Recorded>], ordinal: i64, outcome: Recorded) {
    let place = usize::try_from(ordinal - 1).ok().and_then(|index| outcomes.get_mut(index));
    if let Some(place) = place {
        *place = Some(outcome);
    }
}
