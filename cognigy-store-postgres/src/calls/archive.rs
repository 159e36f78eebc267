//! Reading what is stored: one event, many, their history, their number.

use std::collections::BTreeMap;

use cognigy_core::{
    Attempt, AttemptOutcome, Backlog, Contact, Counts, Cursor, Event, EventFilter, EventKey,
    EventPage, EventSummary, PAGE_BYTES, PageRequest, SourceName, StoreSize, StoredEvent,
    UnsentDeadLetter, search_index::terms_of,
};
use deadpool_postgres::{GenericClient, Object};
use tokio_postgres::Row;

use crate::{
    calls::{
        conditions::{Conditions, QUEUED, WALK},
        search_index::{Candidates, IndexWalk},
    },
    error::{PostgresError, unreadable},
    row::{self, IDENTITY, Private, STATE, read, read_number, unescape},
};

/// A lost body is returned as empty, because the event's history can still be shown.
pub(crate) async fn find(
    connection: &Object,
    key: &EventKey,
) -> Result<Option<StoredEvent>, PostgresError> {
    let find = connection
        .prepare_cached(&format!(
            "SELECT {STATE}, events.received_at, events.processed_at,
                    events.run, bodies.body, bodies.headers, contexts.json, letter.run AS unsent_run,
                    letter.reason AS unsent_reason, letter.tries, letter.due_at,
                    CASE WHEN queue.held_until IS NULL THEN queue.queued_until END AS next_due,
                    events.correlation, events.forgotten, {IDENTITY}
             FROM cognigy_events AS events
             {QUEUED}
             LEFT JOIN LATERAL (
                 SELECT run, reason, tries, due_at FROM cognigy_outbox
                 WHERE event = events.id AND due_at IS NOT NULL ORDER BY run DESC LIMIT 1
             ) AS letter ON true
             LEFT JOIN LATERAL (
                 SELECT body, headers FROM cognigy_bodies
                 WHERE event = events.id AND received_at = events.received_at LIMIT 1
             ) AS bodies ON true
             LEFT JOIN LATERAL (
                 SELECT json FROM cognigy_contexts
                 WHERE event = events.id AND received_at = events.received_at LIMIT 1
             ) AS contexts ON true
             WHERE events.source = $1 AND events.event_id = $2"
        ))
        .await?;
    let (source, id) = (key.source.as_str(), Private(key.id.as_str()));
    let Some(row) = connection.query_opt(&find, &[&source, &id]).await? else { return Ok(None) };
    let forgotten = row::read_forgotten(&row)?;
    let body = match forgotten {
        None => row::read_body(&row)?.unwrap_or_default(),
        Some(_) => Default::default(),
    };
    let (received_at, run) = (read(&row, "received_at")?, read_number(&row, "run")?);
    let contact = read::<Option<&str>>(&row, "json")?.map(Contact::from_json).transpose();
    Ok(Some(StoredEvent {
        event: Event::restore(key.clone(), row::read_parts(&row, key)?, body, received_at, run)
            .with_context(row::read_headers(&row)?),
        state: row::read_state(&row)?,
        due: read(&row, "next_due")?,
        processed_at: read(&row, "processed_at")?,
        correlation: row::read_correlation(&row, matches!(contact, Ok(Some(_))))?,
        contact: contact.map_err(|error| unreadable("the CRM context", error))?,
        forgotten,
        unsent: unsent(&row)?,
    }))
}

/// The dead letter of the latest run that left one, while it waits for the sink.
fn unsent(row: &Row) -> Result<Option<UnsentDeadLetter>, PostgresError> {
    let Some(due) = read::<Option<_>>(row, "due_at")? else { return Ok(None) };
    Ok(Some(UnsentDeadLetter {
        run: read_number(row, "unsent_run")?,
        reason: unescape(read(row, "unsent_reason")?),
        tries: read_number(row, "tries")?,
        due,
    }))
}

pub(crate) async fn list(
    connection: &mut Object,
    filter: &EventFilter,
    page: PageRequest,
) -> Result<EventPage, PostgresError> {
    let mut conditions = Conditions::of(connection, filter, page.after).await?;
    let terms = terms_of(filter);
    let mut found = Found { limit: page.limit, ..Found::default() };
    if terms.is_empty() {
        // Where the walk stopped, the next page goes on, however few events this one found.
        found.page.next = conditions.stop_the_walk(connection).await?;
        found.add(connection, &conditions, &Candidates::All).await?;
        return Ok(found.page);
    }
    let mut walk = IndexWalk::new(&terms, conditions.ends(connection).await?);
    let mut looked_at = 0;
    while let Some(stretch) = walk.next(connection).await? {
        if found.add(connection, &conditions, &stretch.candidates).await? {
            break;
        }
        looked_at += stretch.cost;
        if looked_at > WALK {
            found.page.next = Some(Cursor(stretch.down_to));
            break;
        }
    }
    Ok(found.page)
}

/// A page while it is filled.
#[derive(Default)]
struct Found {
    page: EventPage,
    limit: usize,
    last: Option<Cursor>,
    bytes: usize,
}

impl Found {
    /// Adds those of the candidates that match. Returns whether the page is full.
    async fn add(
        &mut self,
        connection: &Object,
        conditions: &Conditions,
        candidates: &Candidates,
    ) -> Result<bool, PostgresError> {
        if candidates.is_empty() {
            return Ok(false);
        }
        let rest = self.limit - self.page.events.len();
        let select = conditions.select(candidates, rest);
        for row in &connection.query(&select, &conditions.values()).await? {
            if self.page.events.len() == self.limit || self.bytes > PAGE_BYTES {
                self.page.next = self.last;
                return Ok(true);
            }
            let summary = read_summary(row)?;
            self.bytes += summary.page_bytes();
            self.page.events.push(summary);
            self.last = Some(Cursor(read(row, "id")?));
        }
        Ok(false)
    }
}

pub(crate) fn read_summary(row: &Row) -> Result<EventSummary, PostgresError> {
    let key = row::read_key(row)?;
    let parts = row::read_parts(row, &key)?;
    Ok(EventSummary {
        source: key.source,
        id: key.id,
        kind: parts.kind,
        state: row::read_state(row)?,
        time: parts.time,
        external_id: parts.external_id,
        user_id: parts.user_id,
        conversation: parts.conversation,
        correlation: row::read_correlation(row, read(row, "has_contact")?)?,
        received_at: read(row, "received_at")?,
        processed_at: read(row, "processed_at")?,
    })
}

pub(crate) async fn attempts(
    connection: &Object,
    key: &EventKey,
) -> Result<Vec<Attempt>, PostgresError> {
    let select = connection
        .prepare_cached(
            "SELECT attempts.run, attempts.number, attempts.started_at, attempts.duration_us,
                    attempts.outcome, attempts.error
             FROM cognigy_events AS events
             CROSS JOIN LATERAL (
                 SELECT * FROM cognigy_attempts
                 WHERE event = events.id AND received_at = events.received_at OFFSET 0) AS attempts
             WHERE events.source = $1 AND events.event_id = $2 ORDER BY attempts.fence",
        )
        .await?;
    let (source, id) = (key.source.as_str(), Private(key.id.as_str()));
    let rows = connection.query(&select, &[&source, &id]).await?;
    let attempt = |row: &Row| {
        let outcome = AttemptOutcome::from_name(read(row, "outcome")?)
            .ok_or_else(|| unreadable("an attempt's outcome", "is unknown"))?;
        let duration: i64 = read(row, "duration_us")?;
        Ok(Attempt {
            number: read_number(row, "number")?,
            run: read_number(row, "run")?,
            started_at: read(row, "started_at")?,
            duration: std::time::Duration::from_micros(duration.unsigned_abs()),
            outcome,
            error: read::<Option<String>>(row, "error")?.map(unescape),
        })
    };
    rows.iter().map(attempt).collect()
}

/// Of the hundred oldest ids rather than the first: events that arrive together get their ids in
/// any order.
const COUNTS: &str = "
SELECT (SELECT count(*) FROM cognigy_outbox WHERE due_at IS NOT NULL) AS unsent,
       (SELECT count(*) FROM cognigy_quarantine) AS quarantined,
       (SELECT min(received_at) FROM (
            (SELECT received_at FROM cognigy_queue ORDER BY event LIMIT 100)
            UNION ALL
            (SELECT events.received_at
             FROM (SELECT event FROM cognigy_outbox WHERE due_at IS NOT NULL
                   ORDER BY id LIMIT 100) AS letters
             CROSS JOIN LATERAL (
                 SELECT received_at FROM cognigy_events WHERE id = letters.event LIMIT 1
             ) AS events)) AS oldest) AS oldest";

const TALLIES: &str = "
SELECT dimension, name, sum(count)::bigint AS count FROM cognigy_tallies GROUP BY dimension, name";

pub(crate) async fn counts(connection: &Object) -> Result<Counts, PostgresError> {
    let positive = |number: i64| u64::try_from(number).unwrap_or_default();
    let statement = connection.prepare_cached(COUNTS).await?;
    let row = connection.query_one(&statement, &[]).await?;
    let mut counts = Counts {
        oldest_pending: read(&row, "oldest")?,
        unsent_dead_letters: positive(read(&row, "unsent")?),
        quarantined: positive(read(&row, "quarantined")?),
        ..Counts::default()
    };
    let statement = connection.prepare_cached(TALLIES).await?;
    for row in connection.query(&statement, &[]).await? {
        let (name, count) = (read::<String>(&row, "name")?, positive(read(&row, "count")?));
        if count == 0 {
            continue;
        }
        match (read::<&str>(&row, "dimension")?, name.as_str()) {
            ("state", name) => {
                let state = name.parse().map_err(|error| unreadable("a state", error))?;
                counts.by_state.insert(state, count);
            }
            ("lane", "waiting") => counts.held_back = count,
            ("lane", _) => counts.stopped_contacts = count,
            _ => drop(counts.by_type.insert(unescape(name), count)),
        }
    }
    Ok(counts)
}

/// All tables of the store with their indexes. The log belongs to the server, for all its
/// databases.
pub(crate) async fn size(connection: &Object) -> Result<StoreSize, PostgresError> {
    let select = "SELECT coalesce(sum(pg_total_relation_size(pg_class.oid)), 0)::bigint
                  FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
                  WHERE relname LIKE 'cognigy\\_%' AND relkind = 'r'
                    AND nspname = ANY (current_schemas(false))";
    let row = connection.query_one(select, &[]).await?;
    let bytes: i64 = row.try_get(0)?;
    Ok(StoreSize { database: Some(bytes.unsigned_abs()), log: None, free: None })
}

/// Walks through the queue and the outbox.
pub(crate) async fn backlog(
    connection: &Object,
) -> Result<BTreeMap<SourceName, Backlog>, PostgresError> {
    let select = "SELECT source, count(*) AS events, 0::bigint AS letters
                  FROM cognigy_queue GROUP BY source
                  UNION ALL
                  SELECT source, 0, count(*) FROM cognigy_outbox WHERE due_at IS NOT NULL
                  GROUP BY source";
    let mut backlog = BTreeMap::<SourceName, Backlog>::new();
    for row in connection.query(select, &[]).await? {
        let source: &str = read(&row, "source")?;
        let source = source.parse().map_err(|error| unreadable("a source", error))?;
        let its = backlog.entry(source).or_default();
        its.events += read::<i64>(&row, "events")?.unsigned_abs();
        its.dead_letters += read::<i64>(&row, "letters")?.unsigned_abs();
    }
    Ok(backlog)
}

/// Adds the tallies up. A query that counts meanwhile sees either the many rows or the few, never
/// both. If two calls add up at once, the second finds that the rows have gone and adds nothing.
pub(crate) async fn add_up(client: &impl GenericClient) -> Result<(), PostgresError> {
    client
        .batch_execute(
            "WITH parts AS (
                 DELETE FROM cognigy_tallies RETURNING dimension, name, count
             )
             INSERT INTO cognigy_tallies (dimension, name, count)
             SELECT dimension, name, sum(count) FROM parts GROUP BY dimension, name",
        )
        .await?;
    Ok(())
}
