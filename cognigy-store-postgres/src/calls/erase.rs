//! Erases a person, a step at a time.
//!
//! What went is not readable by any query and in no dump. The server itself overwrites the old versions of
//! rows when it needs their place (VACUUM).

use cognigy_core::{EventKey, Forgotten, Person, Timestamp};
use deadpool_postgres::{Object, Transaction};
use tokio_postgres::types::ToSql;

use crate::{
    calls::{conditions::WALK, contact_queue, replay},
    error::PostgresError,
    row::{self, Private, escape, read},
};

/// How many events one transaction erases.
const STEP: i64 = 256;

/// How many quarantined bodies are looked at in one call.
const BODIES: i64 = 32;

/// What one step took.
#[derive(Debug, Default)]
pub(crate) struct Erased {
    /// The last event that was looked at; none if there is no other.
    pub(crate) next: Option<i64>,
    pub(crate) keys: Vec<EventKey>,
    pub(crate) dead_letters: u64,
    pub(crate) sent: Vec<EventKey>,
}

/// Writes the receipt. Returns its id.
pub(crate) async fn begin(
    connection: &Object,
    by: &str,
    now: Option<Timestamp>,
) -> Result<i64, PostgresError> {
    let insert = "INSERT INTO cognigy_erasures (erased_at, erased_by)
                  VALUES (coalesce($1::timestamptz, statement_timestamp()), $2) RETURNING id";
    Ok(connection.query_one(insert, &[&now, &escape(by)]).await?.try_get(0)?)
}

/// Takes the filters that operators used and that name the person out of the record.
pub(crate) async fn clear_filters(
    connection: &Object,
    person: &Person,
) -> Result<(), PostgresError> {
    let select = "SELECT id, filter FROM cognigy_audit WHERE filter IS NOT NULL";
    let mut named = Vec::<i64>::new();
    for row in &connection.query(select, &[]).await? {
        let filter: String = read(row, "filter")?;
        if person.is_named_in_filter(&row::unescape(filter)) {
            named.push(read(row, "id")?);
        }
    }
    let clear = "UPDATE cognigy_audit SET filter = NULL WHERE id = ANY ($1)";
    connection.execute(clear, &[&named]).await?;
    Ok(())
}

/// Erases the person's next events after the one with the id `after`.
///
/// Every event is looked at, some 20,000 at a time: an erasure does not rely on an index.
pub(crate) async fn erase(
    connection: &mut Object,
    receipt: i64,
    person: &Person,
    after: i64,
    now: Option<Timestamp>,
) -> Result<Erased, PostgresError> {
    let transaction = connection.transaction().await?;
    let column = match person {
        Person::ExternalId(_) => "external_id",
        Person::UserId(_) => "user_id",
    };
    let id = Private(escape(person.id()).into_owned());
    let skip = "SELECT id FROM cognigy_events WHERE id > $1 ORDER BY id OFFSET $2 LIMIT 1";
    let last = transaction.query_opt(skip, &[&after, &(WALK - 1)]).await?;
    let last = last.map(|row| read::<i64>(&row, "id")).transpose()?;
    let rows = transaction
        .query(
            &format!(
                "SELECT id FROM cognigy_events WHERE {column} = $1 AND id > $2 AND id <= $3
                 ORDER BY id LIMIT {STEP}"
            ),
            &[&id, &after, &last.unwrap_or(i64::MAX)],
        )
        .await?;
    let handles = rows.iter().map(|row| read(row, "id")).collect::<Result<Vec<i64>, _>>()?;
    let is_full = i64::try_from(handles.len()).is_ok_and(|found| found == STEP);
    let next = if is_full { handles.last().copied() } else { last };
    let mut erased = Erased { next, ..Erased::default() };
    if handles.is_empty() {
        return Ok(erased);
    }
    end_all(&transaction, &handles, now).await?;
    letters(&transaction, &handles, &mut erased).await?;
    forget(&transaction, &handles, &mut erased).await?;
    transaction
        .execute(
            "UPDATE cognigy_erasures SET events = events + $2, dead_letters = dead_letters + $3
             WHERE id = $1",
            &[&receipt, &count(erased.keys.len() as u64), &count(erased.dead_letters)],
        )
        .await?;
    transaction.commit().await?;
    Ok(erased)
}

fn count(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Ends the unprocessed events as discarded, and makes those due that wait for them.
async fn end_all(
    transaction: &Transaction<'_>,
    handles: &[i64],
    now: Option<Timestamp>,
) -> Result<(), PostgresError> {
    contact_queue::settled_order(transaction).await?;
    let mut lanes = contact_queue::lock_stopped_by(transaction, handles).await?;
    contact_queue::lock_of(transaction, handles).await?;
    // Rows that a settlement or a replay changes at this moment are locked in its order: queue, letter,
    // event. A replay that came first has put the event into the queue again: so the queue is looked at
    // twice.
    let leave = "DELETE FROM cognigy_queue WHERE event = ANY ($1)
                 RETURNING event, lane, held_until IS NOT NULL AS is_held, due_at IS NULL AS waits";
    let mut left = transaction.query(leave, &[&handles]).await?;
    transaction
        .query(
            "SELECT id FROM cognigy_outbox WHERE event = ANY ($1) ORDER BY id FOR UPDATE",
            &[&handles],
        )
        .await?;
    let at_rest = transaction
        .query(
            "SELECT id, state FROM cognigy_events WHERE id = ANY ($1) ORDER BY id FOR UPDATE",
            &[&handles],
        )
        .await?;
    left.extend(transaction.query(leave, &[&handles]).await?);
    let (mut queued, mut from, mut waiting) = (Vec::<i64>::new(), Vec::new(), 0_i64);
    for row in &left {
        queued.push(read(row, "event")?);
        from.push(if read(row, "is_held")? { "processing" } else { "pending" });
        waiting += i64::from(read::<bool>(row, "waits")?);
        lanes.extend(read::<Option<i64>>(row, "lane")?);
    }
    let mut ended = queued.clone();
    for row in &at_rest {
        let (id, state): (i64, &str) = (read(row, "id")?, read(row, "state")?);
        if !queued.contains(&id) && matches!(state, "dead_lettering" | "dead_lettered") {
            ended.push(id);
            from.push(state);
        }
    }
    transaction
        .execute("UPDATE cognigy_events SET state = 'discarded' WHERE id = ANY ($1)", &[&ended])
        .await?;
    replay::tally(transaction, &from, &vec!["discarded"; from.len()]).await?;
    contact_queue::leave(transaction, handles, lanes, waiting, now).await
}

/// Empties the dead letters. The rows stay, since discarded events are found by them; those that left none
/// get one.
async fn letters(
    transaction: &Transaction<'_>,
    handles: &[i64],
    erased: &mut Erased,
) -> Result<(), PostgresError> {
    let rows = transaction
        .query(
            "SELECT count(*) AS letters, count(sent_at) AS sent, events.source, events.event_id
             FROM cognigy_outbox AS letter JOIN cognigy_events AS events ON events.id = letter.event
             WHERE letter.event = ANY ($1) AND (letter.due_at IS NOT NULL OR letter.sent_at IS NOT NULL)
             GROUP BY events.id ORDER BY events.id",
            &[&handles],
        )
        .await?;
    for row in &rows {
        erased.dead_letters += read::<i64>(row, "letters")?.unsigned_abs();
        if read::<i64>(row, "sent")? > 0 {
            erased.sent.push(row::read_key(row)?);
        }
    }
    transaction
        .execute(
            "UPDATE cognigy_outbox SET reason = '', due_at = NULL WHERE event = ANY ($1)",
            &[&handles],
        )
        .await?;
    transaction
        .execute(
            "INSERT INTO cognigy_outbox (source, event, run, reason, attempts, created_at)
             SELECT source, id, run, '', 0, statement_timestamp() FROM cognigy_events
             WHERE id = ANY ($1) AND state = 'discarded'
               AND NOT EXISTS (SELECT FROM cognigy_outbox WHERE event = cognigy_events.id)",
            &[&handles],
        )
        .await?;
    Ok(())
}

async fn forget(
    transaction: &Transaction<'_>,
    handles: &[i64],
    erased: &mut Erased,
) -> Result<(), PostgresError> {
    for sql in [
        "UPDATE cognigy_bodies SET body = sha256(body), headers = NULL
         FROM cognigy_events AS events
         WHERE events.id = ANY ($1) AND events.forgotten IS NULL
           AND event = events.id AND cognigy_bodies.received_at = events.received_at",
        "DELETE FROM cognigy_contexts USING cognigy_events AS events
         WHERE events.id = ANY ($1)
           AND event = events.id AND cognigy_contexts.received_at = events.received_at",
        "UPDATE cognigy_attempts SET error = NULL FROM cognigy_events AS events
         WHERE events.id = ANY ($1)
           AND event = events.id AND cognigy_attempts.received_at = events.received_at",
    ] {
        transaction.execute(sql, &[&handles]).await?;
    }
    let rows = transaction
        .query(
            "UPDATE cognigy_events AS events
             SET forgotten = $2, external_id = NULL, user_id = NULL, conversation = NULL
             WHERE id = ANY ($1) RETURNING source, event_id",
            &[&handles, &Forgotten::Erased.as_str()],
        )
        .await?;
    erased.keys = rows.iter().map(row::read_key).collect::<Result<_, _>>()?;
    Ok(())
}

/// Removes the quarantined bodies after the one with the id `after` that name the person or one of the
/// person's events. Returns how many of a step, and where the next step begins.
pub(crate) async fn discharge(
    connection: &Object,
    receipt: i64,
    person: &Person,
    events: &[EventKey],
    after: i64,
) -> Result<(u64, Option<i64>), PostgresError> {
    let rows = connection
        .query(
            "SELECT id, source, event_id, body, headers FROM cognigy_quarantine
             WHERE id > $1 ORDER BY id LIMIT $2",
            &[&after, &BODIES],
        )
        .await?;
    let (mut bodies, mut last) = (Vec::<i64>::new(), None);
    for row in &rows {
        let id: i64 = read(row, "id")?;
        last = Some(id);
        let (source, event): (&str, Option<String>) =
            (read(row, "source")?, read(row, "event_id")?);
        let event = event.map(row::unescape);
        let is_of = |key: &EventKey| {
            key.source.as_str() == source && event.as_deref() == Some(key.id.as_str())
        };
        let headers: Option<String> = read(row, "headers")?;
        if events.iter().any(is_of)
            || person.is_named_in(read(row, "body")?)
            || headers.is_some_and(|headers| person.is_named_in(headers.as_bytes()))
        {
            bodies.push(id);
        }
    }
    if bodies.is_empty() {
        return Ok((0, last));
    }
    let values: [&(dyn ToSql + Sync); 2] = [&bodies, &receipt];
    let gone = connection
        .query_one(
            "WITH gone AS (DELETE FROM cognigy_quarantine WHERE id = ANY ($1) RETURNING id),
                  told AS (UPDATE cognigy_erasures
                           SET quarantined = quarantined + (SELECT count(*) FROM gone) WHERE id = $2)
             SELECT count(*) FROM gone",
            &values,
        )
        .await?;
    Ok((gone.try_get::<_, i64>(0)?.unsigned_abs(), last))
}
