//! Reading what is stored: one event, many, their history, their number.

use std::{collections::BTreeMap, fs};

use cognigy_core::{
    Attempt, AttemptOutcome, Backlog, Contact, Counts, Cursor, Event, EventFilter, EventKey,
    EventPage, EventSummary, PAGE_BYTES, PageRequest, SourceName, StoreSize, StoredEvent,
    Timestamp, UnsentDeadLetter, search_index::terms_of,
};
use rusqlite::{Connection, OptionalExtension, Row, params};

use crate::{
    calls::{
        conditions::{Conditions, WALK},
        search_index::{self, Candidates},
    },
    error::SqliteError,
    row::{self, IDENTITY, timestamp, unreadable},
};

/// A lost body is returned as empty, because the event's history can still be shown.
pub(crate) fn find(
    connection: &Connection,
    key: &EventKey,
) -> Result<Option<StoredEvent>, SqliteError> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT events.id, state, received_at, processed_at, run, json, correlation, forgotten,
                CASE state WHEN 'pending' THEN due_at END, {IDENTITY}
         FROM events LEFT JOIN contexts ON contexts.event = events.id
         WHERE source = ?1 AND event_id = ?2"
    ))?;
    let mut rows = select.query([key.source.as_str(), key.id.as_str()])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let id = row.get(0)?;
    let forgotten = row::read_forgotten(row, 7)?;
    let (body, context) = match forgotten {
        None => row::read_body(connection, id)?.unwrap_or_default(),
        Some(_) => Default::default(),
    };
    let parts = row::read_parts(row, 9, key)?;
    let contact = row.get::<_, Option<String>>(5)?;
    let contact = contact.map(|json| Contact::from_json(&json)).transpose();
    Ok(Some(StoredEvent {
        event: Event::restore(key.clone(), parts, body, timestamp(row.get(2)?)?, row.get(4)?)
            .with_context(context),
        state: row::read_state(row, 1)?,
        due: row.get::<_, Option<i64>>(8)?.map(timestamp).transpose()?,
        processed_at: row.get::<_, Option<i64>>(3)?.map(timestamp).transpose()?,
        correlation: row::read_correlation(row, 6, matches!(contact, Ok(Some(_))))?,
        contact: contact.map_err(|error| unreadable("the CRM context", error))?,
        forgotten,
        unsent: unsent(connection, id)?,
    }))
}

/// The dead letter of an event's latest run that left one, while it waits for the sink.
fn unsent(connection: &Connection, event: i64) -> Result<Option<UnsentDeadLetter>, SqliteError> {
    let mut select = connection.prepare_cached(
        "SELECT run, reason, tries, due_at FROM outbox
         WHERE event = ?1 AND due_at IS NOT NULL ORDER BY run DESC LIMIT 1",
    )?;
    let mut rows = select.query([event])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    Ok(Some(UnsentDeadLetter {
        run: row.get(0)?,
        reason: row.get(1)?,
        tries: row.get(2)?,
        due: timestamp(row.get(3)?)?,
    }))
}

pub(crate) fn list(
    connection: &Connection,
    filter: &EventFilter,
    page: PageRequest,
) -> Result<EventPage, SqliteError> {
    let mut conditions = Conditions::of(connection, filter, page.after)?;
    let terms = terms_of(filter);
    let mut found = Found { limit: page.limit, ..Found::default() };
    if terms.is_empty() {
        // Where the walk stopped, the next page goes on, however few events this one found.
        found.page.next = conditions.stop_the_walk(connection, page.after)?;
        found.add(connection, &conditions, &Candidates::All)?;
        return Ok(found.page);
    }
    let (mut highest, lowest) = conditions.ends(connection, page.after)?;
    let mut looked_at = 0;
    while let Some(stretch) = search_index::next(connection, &terms, highest, lowest)? {
        if found.add(connection, &conditions, &stretch.candidates)? {
            break;
        }
        highest = stretch.down_to - 1;
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
    fn add(
        &mut self,
        connection: &Connection,
        conditions: &Conditions,
        candidates: &Candidates,
    ) -> Result<bool, SqliteError> {
        let rest = self.limit - self.page.events.len();
        let mut select = connection.prepare(&conditions.select(candidates, rest))?;
        let mut rows = select.query(conditions.values().as_slice())?;
        while let Some(row) = rows.next()? {
            if self.page.events.len() == self.limit || self.bytes > PAGE_BYTES {
                self.page.next = self.last;
                return Ok(true);
            }
            let summary = read_summary(row)?;
            self.bytes += summary.page_bytes();
            self.page.events.push(summary);
            self.last = Some(Cursor(row.get(0)?));
        }
        Ok(false)
    }
}

pub(crate) fn read_summary(row: &Row<'_>) -> Result<EventSummary, SqliteError> {
    let key = row::read_key(row, 6)?;
    let parts = row::read_parts(row, 6, &key)?;
    Ok(EventSummary {
        source: key.source,
        id: key.id,
        kind: parts.kind,
        state: row::read_state(row, 1)?,
        time: parts.time,
        external_id: parts.external_id,
        user_id: parts.user_id,
        conversation: parts.conversation,
        correlation: row::read_correlation(row, 4, row.get(5)?)?,
        received_at: timestamp(row.get(2)?)?,
        processed_at: row.get::<_, Option<i64>>(3)?.map(timestamp).transpose()?,
    })
}

pub(crate) fn attempts(
    connection: &Connection,
    key: &EventKey,
) -> Result<Vec<Attempt>, SqliteError> {
    let mut select = connection.prepare_cached(
        "SELECT attempts.number, attempts.run, started_at, duration_us, outcome, error
         FROM events JOIN attempts ON attempts.event = events.id
         WHERE source = ?1 AND event_id = ?2 ORDER BY attempts.fence",
    )?;
    let mut rows = select.query([key.source.as_str(), key.id.as_str()])?;
    let mut history = Vec::new();
    while let Some(row) = rows.next()? {
        let outcome: String = row.get(4)?;
        history.push(Attempt {
            number: row.get(0)?,
            run: row.get(1)?,
            started_at: timestamp(row.get(2)?)?,
            duration: std::time::Duration::from_micros(row.get::<_, i64>(3)?.unsigned_abs()),
            outcome: AttemptOutcome::from_name(&outcome)
                .ok_or_else(|| unreadable("an attempt's outcome", "is unknown"))?,
            error: row.get(5)?,
        });
    }
    Ok(history)
}

pub(crate) fn counts(connection: &Connection) -> Result<Counts, SqliteError> {
    let number = |sql: &str| -> Result<u64, SqliteError> {
        let number: i64 = connection.prepare_cached(sql)?.query_row([], |row| row.get(0))?;
        Ok(u64::try_from(number).unwrap_or_default())
    };
    let mut counts = Counts {
        unsent_dead_letters: number("SELECT count(*) FROM outbox WHERE due_at IS NOT NULL")?,
        quarantined: number("SELECT count(*) FROM quarantine")?,
        oldest_pending: oldest_pending(connection)?,
        ..Counts::default()
    };
    let mut select =
        connection.prepare_cached("SELECT dimension, name, count FROM tallies WHERE count > 0")?;
    let mut rows = select.query([])?;
    while let Some(row) = rows.next()? {
        let (dimension, name): (String, String) = (row.get(0)?, row.get(1)?);
        let count = row.get::<_, i64>(2)?.unsigned_abs();
        match (dimension.as_str(), name.as_str()) {
            ("state", name) => {
                let state = name.parse().map_err(|error| unreadable("a state", error))?;
                counts.by_state.insert(state, count);
            }
            ("lane", "waiting") => counts.held_back = count,
            ("lane", _) => counts.stopped_contacts = count,
            _ => drop(counts.by_type.insert(name, count)),
        }
    }
    Ok(counts)
}

/// The database's pages, used or free, its log, and the room that is left on its disk.
pub(crate) fn size(connection: &Connection) -> Result<StoreSize, SqliteError> {
    let number = |pragma| -> Result<u64, SqliteError> {
        let number: i64 = connection.pragma_query_value(None, pragma, |row| row.get(0))?;
        Ok(number.unsigned_abs())
    };
    let database = number("page_count")?.saturating_mul(number("page_size")?);
    let log = connection.path().and_then(|path| fs::metadata(format!("{path}-wal")).ok());
    let free = connection.path().and_then(|path| rustix::fs::statvfs(path).ok());
    Ok(StoreSize {
        database: Some(database),
        log: Some(log.map_or(0, |file| file.len())),
        free: free.map(|room| room.f_bavail.saturating_mul(room.f_frsize)),
    })
}

/// Walks through the index of all unfinished events.
pub(crate) fn backlog(
    connection: &Connection,
) -> Result<BTreeMap<SourceName, Backlog>, SqliteError> {
    let mut backlog = BTreeMap::<SourceName, Backlog>::new();
    for (table, condition) in
        [("events", "due_at IS NOT NULL"), ("waiting", "TRUE"), ("outbox", "due_at IS NOT NULL")]
    {
        let mut select = connection.prepare(&format!(
            "SELECT source, count(*) FROM {table} WHERE {condition} GROUP BY source"
        ))?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let name: String = row.get(0)?;
            let source = name.parse().map_err(|error| unreadable("a source", error))?;
            let its = backlog.entry(source).or_default();
            let count = row.get::<_, i64>(1)?.unsigned_abs();
            *if table == "outbox" { &mut its.dead_letters } else { &mut its.events } += count;
        }
    }
    Ok(backlog)
}

/// How many unfinished events of a source are read, from either end of the index, to find the
/// oldest: a fraction of a millisecond for every scrape of the metrics.
const OLDEST_SAMPLE: i64 = 500;

const SELECT_OLDEST: &str = "
SELECT min(received_at) FROM events WHERE id IN (
    SELECT id FROM (SELECT id FROM events WHERE source = ?1 AND due_at IS NOT NULL
                    ORDER BY due_at LIMIT ?2)
    UNION ALL
    SELECT id FROM (SELECT id FROM events WHERE source = ?1 AND due_at IS NOT NULL
                    ORDER BY due_at DESC LIMIT ?2))";

const SELECT_OLDEST_WAITING: &str = "
SELECT min(received_at) FROM events WHERE id IN (SELECT event FROM waiting LIMIT ?1)";

/// The unsent dead letters that were given up first.
const SELECT_OLDEST_UNSENT: &str = "
SELECT min(received_at) FROM events WHERE id IN (
    SELECT event FROM outbox WHERE due_at IS NOT NULL ORDER BY id LIMIT ?1)";

/// When the oldest unfinished event was received. Exact up to twice [`OLDEST_SAMPLE`] events for
/// each source. Beyond that, it is the oldest of the events due first (the oldest of a backlog), of
/// those due last (waiting for a retry), and of some that wait for another event, which mostly came
/// earlier. Of dead letters, only those that were given up first are read.
fn oldest_pending(connection: &Connection) -> Result<Option<Timestamp>, SqliteError> {
    let mut select = connection.prepare_cached(SELECT_OLDEST)?;
    let mut oldest: Option<i64> = None;
    for select in [SELECT_OLDEST_WAITING, SELECT_OLDEST_UNSENT] {
        let mut select = connection.prepare_cached(select)?;
        let first: Option<i64> = select.query_row([OLDEST_SAMPLE], |row| row.get(0))?;
        oldest = oldest.into_iter().chain(first).min();
    }
    for source in sources_with_work(connection)? {
        let its: Option<i64> =
            select.query_row(params![source, OLDEST_SAMPLE], |row| row.get(0))?;
        oldest = oldest.into_iter().chain(its).min();
    }
    oldest.map(timestamp).transpose()
}

const SELECT_NEXT_SOURCE: &str = "
SELECT source FROM events WHERE due_at IS NOT NULL AND source > ?1 ORDER BY source LIMIT 1";

/// The sources with unfinished events: one look-up in the index for each.
fn sources_with_work(connection: &Connection) -> Result<Vec<String>, SqliteError> {
    let mut select = connection.prepare_cached(SELECT_NEXT_SOURCE)?;
    let mut sources = Vec::<String>::new();
    loop {
        let last = sources.last().map_or("", String::as_str);
        match select.query_row([last], |row| row.get(0)).optional()? {
            Some(next) => sources.push(next),
            None => return Ok(sources),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    #[test]
    fn the_oldest_is_found_at_the_ends_of_each_source_s_part_of_the_index() {
        let connection = schema::in_memory();
        let plan = |sql: &str| -> String {
            let mut explain = connection.prepare(&format!("EXPLAIN QUERY PLAN {sql}")).unwrap();
            let values = vec![1; explain.parameter_count()];
            let steps = explain.query_map(rusqlite::params_from_iter(values), |row| row.get(3));
            steps.unwrap().collect::<Result<Vec<String>, _>>().unwrap().join("; ")
        };
        let sources = plan(SELECT_NEXT_SOURCE);
        assert_eq!(sources, "SEARCH events USING COVERING INDEX events_due (source>?)");
        let oldest = plan(SELECT_OLDEST);
        assert!(!oldest.contains("TEMP B-TREE") && !oldest.contains("SCAN events"), "{oldest}");
        assert_eq!(oldest.matches("events_due (source=? AND due_at>?)").count(), 2, "{oldest}");
    }
}
