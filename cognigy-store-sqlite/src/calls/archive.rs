//! Reading what is stored: one event, many, their history, their number.

use std::{borrow::Cow, collections::BTreeMap, fs};

use cognigy_core::{
    Attempt, AttemptOutcome, Backlog, Contact, Correlation, Counts, Cursor, Event, EventFilter,
    EventKey, EventPage, EventSummary, PAGE_BYTES, PageRequest, SourceName, State, StoreSize,
    StoredEvent, Timestamp, UnsentDeadLetter,
};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, params};

use crate::{
    error::SqliteError,
    row::{self, IDENTITY, micros, sql_limit, timestamp, unreadable},
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
    let floor = conditions.stop_the_walk(connection, page.after)?;
    let mut select = connection.prepare(&conditions.select(page.limit))?;
    let mut rows = select.query(conditions.values().as_slice())?;
    // Where the walk stopped, the next page goes on, however few events this one found.
    let mut found = EventPage { next: floor, ..EventPage::default() };
    let (mut last, mut bytes) = (None, 0);
    while let Some(row) = rows.next()? {
        if found.events.len() == page.limit || bytes > PAGE_BYTES {
            found.next = last;
            break;
        }
        let summary = read_summary(row)?;
        bytes += summary.page_bytes();
        found.events.push(summary);
        last = Some(Cursor(row.get(0)?));
    }
    Ok(found)
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

/// How many events a page walks past at most: some ten milliseconds. Filters that no index serves may match few
/// of many, and a page must not read them all.
const WALK: i64 = 20_000;

/// A WHERE clause and its values.
pub(crate) struct Conditions {
    terms: Vec<(Cow<'static, str>, Box<dyn ToSql>)>,
    /// Whether the events are found by walking back from the newest, rather than by an index.
    walks: bool,
    /// The lowest and the highest id that can match, where a time says so.
    lowest: Option<i64>,
    highest: Option<i64>,
}

impl Conditions {
    pub(crate) fn of(
        connection: &Connection,
        filter: &EventFilter,
        after: Option<Cursor>,
    ) -> Result<Self, SqliteError> {
        // Without a condition no event is passed.
        let walks = *filter != EventFilter::default();
        let mut all = Self { terms: Vec::new(), walks, lowest: None, highest: None };
        all.add("events.id < ?", after.map(|cursor| cursor.0));
        // The index holds the first 64 characters.
        for (condition, beginning, value) in [
            (
                "external_id = ?",
                "substr(external_id, 1, 64) = substr(?, 1, 64)",
                &filter.external_id,
            ),
            ("user_id = ?", "substr(user_id, 1, 64) = substr(?, 1, 64)", &filter.user_id),
            (
                "conversation = ?",
                "substr(conversation, 1, 64) = substr(?, 1, 64)",
                &filter.conversation,
            ),
        ] {
            all.walks &= value.is_none();
            all.add(condition, value.clone());
            all.add(beginning, value.clone());
        }
        let state = match filter.state {
            // A contact's events are fewer than those of a state. The plus keeps SQLite from the index of states.
            Some(_) if !all.walks => "+state = ?",
            // Without the second condition SQLite cannot tell that the partial index covers the
            // query.
            Some(State::DeadLettering | State::DeadLettered) => {
                "state = ? AND state IN ('dead_lettering', 'dead_lettered')"
            }
            Some(State::Discarded) => "state = ? AND state = 'discarded'",
            Some(State::Pending | State::Processing) if has_few_due(connection)? => {
                "state = ? AND events.id IN (SELECT id FROM events WHERE due_at IS NOT NULL
                                             UNION ALL SELECT event FROM waiting)"
            }
            _ => "+state = ?",
        };
        all.walks &= filter.state.is_none() || state == "+state = ?";
        all.add(state, filter.state.map(State::as_str));
        all.add("type = ?", filter.kind.as_ref().map(|kind| kind.as_str().to_owned()));
        match filter.correlation {
            Some(Correlation::NotAsked) => all.add("correlation IS NULL AND ?", Some(true)),
            correlation => all.add("correlation = ?", correlation.map(Correlation::as_str)),
        }
        // The plus keeps SQLite from using the index of identities, which would make it sort the
        // whole source.
        all.add("+source = ?", filter.source.as_ref().map(|source| source.as_str().to_owned()));
        if let Some(from) = filter.from {
            all.add("received_at >= ?", Some(micros(from)));
            let first = Arrivals::around(connection, from)?.first;
            all.add("events.id >= ?", Some(first));
            all.lowest = Some(first);
        }
        if let Some(to) = filter.to {
            all.add("received_at < ?", Some(micros(to)));
            let last = Arrivals::around(connection, to)?.last;
            all.add("events.id <= ?", Some(last));
            all.highest = Some(last);
        }
        Ok(all)
    }

    /// Ends a walk after [`WALK`] events. Returns where the next page goes on if there are more.
    fn stop_the_walk(
        &mut self,
        connection: &Connection,
        after: Option<Cursor>,
    ) -> Result<Option<Cursor>, SqliteError> {
        if !self.walks {
            return Ok(None);
        }
        let mut skip = connection.prepare_cached(
            "SELECT id FROM events WHERE id < ?1 ORDER BY id DESC LIMIT 1 OFFSET ?2",
        )?;
        let above = after.map_or(i64::MAX, |cursor| cursor.0);
        let above = self.highest.map_or(above, |highest| above.min(highest.saturating_add(1)));
        let floor: Option<i64> = skip.query_row([above, WALK], |row| row.get(0)).optional()?;
        let floor = floor.filter(|floor| self.lowest.is_none_or(|lowest| lowest <= *floor));
        self.add("events.id > ?", floor);
        Ok(floor.map(|floor| Cursor(floor.saturating_add(1))))
    }

    /// The lowest and the highest id that a time leaves.
    pub(crate) fn range(&self) -> (i64, i64) {
        (self.lowest.unwrap_or(i64::MIN), self.highest.unwrap_or(i64::MAX))
    }

    pub(crate) fn add(
        &mut self,
        sql: impl Into<Cow<'static, str>>,
        value: Option<impl ToSql + 'static>,
    ) {
        if let Some(value) = value {
            self.terms.push((sql.into(), Box::new(value)));
        }
    }

    pub(crate) fn select(&self, limit: usize) -> String {
        let terms: Vec<_> = self.terms.iter().map(|(sql, _)| &**sql).collect();
        format!(
            "SELECT events.id, state, received_at, processed_at, correlation,
                    EXISTS (SELECT 1 FROM contexts WHERE event = events.id), {IDENTITY} FROM events
             WHERE {} ORDER BY events.id DESC LIMIT {}",
            if terms.is_empty() { "TRUE".to_owned() } else { terms.join(" AND ") },
            // One more, to see whether there is a next page.
            sql_limit(limit).saturating_add(1),
        )
    }

    pub(crate) fn values(&self) -> Vec<&dyn ToSql> {
        self.terms.iter().map(|(_, value)| &**value).collect()
    }
}

/// The ids around a point in time: before `first` everything was received earlier, after `last`
/// everything later.
///
/// Ids rise with the time of arrival, so bisection finds them and no index on the time is needed.
pub(crate) struct Arrivals {
    first: i64,
    pub(crate) last: i64,
}

/// How far the order of ids and the order of arrival times may disagree: clocks of several
/// processes differ, and a clock may be set back.
const CLOCK_DISORDER_MICROS: i64 = 3_600_000_000;

/// Bisection stops here: reading so many rows takes a millisecond or two.
const CLOSE_ENOUGH: i64 = 10_000;

impl Arrivals {
    pub(crate) fn around(connection: &Connection, time: Timestamp) -> Result<Self, SqliteError> {
        let early = micros(time).saturating_sub(CLOCK_DISORDER_MICROS);
        let late = micros(time).saturating_add(CLOCK_DISORDER_MICROS);
        Ok(Self { first: bisect(connection, early)?.0, last: bisect(connection, late)?.1 })
    }
}

/// Two ids, close to one another or the ends of the table, between which the time of receipt passes
/// `time`.
fn bisect(connection: &Connection, time: i64) -> Result<(i64, i64), SqliteError> {
    let ends = "SELECT coalesce((SELECT min(id) FROM events), 0),
                       coalesce((SELECT max(id) FROM events), 0)";
    let (mut low, mut high): (i64, i64) =
        connection.query_row(ends, [], |row| Ok((row.get(0)?, row.get(1)?)))?;
    // Purges leave gaps, so each step takes the next row from the middle on.
    let mut probe = connection
        .prepare_cached("SELECT received_at FROM events WHERE id >= ?1 ORDER BY id LIMIT 1")?;
    while high - low > CLOSE_ENOUGH {
        let middle = low + (high - low) / 2;
        let received_at: Option<i64> = probe.query_row([middle], |row| row.get(0)).optional()?;
        if received_at.is_some_and(|received_at| received_at < time) {
            low = middle;
        } else {
            high = middle;
        }
    }
    Ok((low, high))
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

/// Looking up at most this many unfinished events takes some milliseconds. If there are more, they
/// are most likely the newest events, and walking back from the newest finds them at once.
const FEW: i64 = 10_000;

fn has_few_due(connection: &Connection) -> Result<bool, SqliteError> {
    let mut count = connection.prepare_cached(
        "SELECT count(*) FROM (SELECT 1 FROM events WHERE due_at IS NOT NULL
                               UNION ALL SELECT 1 FROM waiting LIMIT ?1)",
    )?;
    let due: i64 = count.query_row([FEW + 1], |row| row.get(0))?;
    Ok(due <= FEW)
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
    use cognigy_core::EventType;

    use super::*;
    use crate::schema;

    fn plan(connection: &Connection, conditions: &Conditions) -> String {
        let sql = format!("EXPLAIN QUERY PLAN {}", conditions.select(100));
        let mut explain = connection.prepare(&sql).unwrap();
        let steps = explain.query_map(conditions.values().as_slice(), |row| row.get(3)).unwrap();
        steps.collect::<Result<Vec<String>, _>>().unwrap().join("; ")
    }

    #[test]
    fn no_list_sorts_and_rare_states_are_looked_up() {
        let connection = schema::in_memory();
        let some = |text: &str| Some(text.to_owned());
        let filters = [
            EventFilter::default(),
            EventFilter { user_id: some("u"), external_id: some("x"), ..EventFilter::default() },
            EventFilter { user_id: some("u"), ..EventFilter::default() },
            EventFilter { external_id: some("x"), ..EventFilter::default() },
            EventFilter { conversation: some("c"), ..EventFilter::default() },
            EventFilter {
                conversation: some("c"),
                from: Some(Timestamp::UNIX_EPOCH),
                to: Some(Timestamp::UNIX_EPOCH),
                ..EventFilter::default()
            },
            EventFilter { source: "cognigy".parse().ok(), ..EventFilter::default() },
            EventFilter { from: Some(Timestamp::UNIX_EPOCH), ..EventFilter::default() },
            EventFilter { to: Some(Timestamp::UNIX_EPOCH), ..EventFilter::default() },
        ];
        for filter in filters {
            let contact = match (&filter.external_id, &filter.user_id, &filter.conversation) {
                (None, None, None) => None,
                _ => Some("(<expr>=?"),
            };
            for after in [None, Some(Cursor(7))] {
                for state in State::ALL {
                    let filter = EventFilter { state: Some(state), ..filter.clone() };
                    let conditions = Conditions::of(&connection, &filter, after).unwrap();
                    let plan = plan(&connection, &conditions);
                    assert!(!plan.contains("TEMP B-TREE"), "{plan} for {filter:?}");
                    let index = contact.unwrap_or(match state {
                        State::Pending | State::Processing => "events_due",
                        State::DeadLettering | State::DeadLettered => "events_dead (state=?",
                        State::Discarded => "events_discarded",
                        State::Processed => "",
                    });
                    assert!(plan.contains(index), "{plan}");
                }
                let conditions = Conditions::of(&connection, &filter, after).unwrap();
                let plan = plan(&connection, &conditions);
                assert!(!plan.contains("TEMP B-TREE"), "{plan} for {filter:?}");
                assert!(plan.contains(contact.unwrap_or_default()), "{plan} for {filter:?}");
            }
        }
    }

    #[test]
    fn a_page_walks_past_a_bounded_number_of_events_and_the_pages_miss_none() {
        let connection = schema::in_memory();
        // Every 30,000th event is of a rare type; a purge has left a gap.
        connection
            .execute_batch(
                "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 100000)
                 INSERT INTO events (id, state, fence, run, attempt, received_at, source, event_id,
                                     type, event_time, timestamp_json)
                 SELECT n, 'processed', 0, 1, 0, n * 1000000, 'cognigy', n,
                        iif(n % 30000 = 0, 'DIALOG_STARTED', 'DIALOG_ENDED'), 0, '0'
                 FROM n WHERE n NOT BETWEEN 40000 AND 50000",
            )
            .unwrap();
        let all = |filter: &EventFilter| {
            let (mut page, mut found, mut pages) =
                (PageRequest { limit: 2, after: None }, vec![], 0);
            loop {
                let events = list(&connection, filter, page).unwrap();
                found.extend(events.events.iter().map(|event| event.id.to_string()));
                pages += 1;
                page.after = events.next;
                if page.after.is_none() {
                    return (found, pages);
                }
            }
        };
        let seconds = |seconds| Timestamp::from_timestamp(seconds, 0);
        let rare = EventFilter { kind: Some(EventType::DialogStarted), ..EventFilter::default() };
        assert_eq!(
            all(&rare),
            (vec!["90000".to_owned(), "60000".to_owned(), "30000".to_owned()], 5)
        );
        let from = EventFilter { from: seconds(60_000), ..rare.clone() };
        assert_eq!(all(&from).0, ["90000", "60000"]);
        let to = EventFilter { to: seconds(60_000), ..rare };
        assert_eq!(all(&to).0, ["30000"]);
        let source = EventFilter { source: "other".parse().ok(), ..EventFilter::default() };
        assert_eq!(all(&source), (vec![], 5));
    }

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

    #[test]
    fn bisection_never_passes_over_an_event() {
        let connection = schema::in_memory();
        // One event a second, out of order within half an hour, with a gap that a purge left.
        connection
            .execute_batch(
                "WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 60000)
                 INSERT INTO events (id, state, fence, run, attempt, received_at, source, event_id,
                                     type, event_time, timestamp_json)
                 SELECT n, 'processed', 0, 1, 0, (n + (n * 7919) % 1800) * 1000000, 'cognigy', n,
                        'DIALOG_ENDED', 0, '0'
                 FROM n WHERE n NOT BETWEEN 20000 AND 35000",
            )
            .unwrap();
        let number =
            |sql: &str| -> i64 { connection.query_row(sql, [], |row| row.get(0)).unwrap() };
        for seconds in (0..63_000).step_by(500) {
            let time = Timestamp::from_timestamp(seconds, 0).unwrap();
            let Arrivals { first, last } = Arrivals::around(&connection, time).unwrap();
            let micros = micros(time);
            let missed = format!(
                "SELECT count(*) FROM events WHERE (received_at >= {micros} AND id < {first})
                                                OR (received_at < {micros} AND id > {last})"
            );
            assert_eq!(number(&missed), 0, "at {seconds} s");
            assert!(last - first <= 2 * CLOSE_ENOUGH + 7200 + 15_000, "{first} to {last}");
        }
    }
}
