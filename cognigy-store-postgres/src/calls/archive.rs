//! Reading what is stored: one event, many, their history, their number.

use std::collections::BTreeMap;

use cognigy_core::{
    Attempt, AttemptOutcome, Backlog, Contact, Correlation, Counts, Cursor, Event, EventFilter,
    EventKey, EventPage, EventSummary, PAGE_BYTES, PageRequest, SourceName, State, StoreSize,
    StoredEvent, UnsentDeadLetter,
};
use deadpool_postgres::{GenericClient, Object};
use tokio_postgres::{Row, types::ToSql};

use crate::{
    error::{PostgresError, unreadable},
    row::{self, IDENTITY, Private, STATE, escape, read, read_number, sql_limit, unescape},
    server::arrivals::Arrivals,
};

/// The queue's columns of an event. They are looked up row by row, like everything that belongs to
/// an event: with a join the planner may read the other table from end to end.
const QUEUED: &str = "LEFT JOIN LATERAL (
    SELECT event, held_until, due_at AS queued_until FROM cognigy_queue
    WHERE event = events.id LIMIT 1) AS queue ON true";

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
    connection: &Object,
    filter: &EventFilter,
    page: PageRequest,
) -> Result<EventPage, PostgresError> {
    let mut conditions = Conditions::of(connection, filter, page.after).await?;
    let floor = conditions.stop_the_walk(connection).await?;
    let rows = connection.query(&conditions.select(page.limit), &conditions.values()).await?;
    // Where the walk stopped, the next page goes on, however few events this one found.
    let mut found = EventPage { next: floor, ..EventPage::default() };
    let (mut last, mut bytes) = (None, 0);
    for row in &rows {
        if found.events.len() == page.limit || bytes > PAGE_BYTES {
            found.next = last;
            break;
        }
        let summary = read_summary(row)?;
        bytes += summary.page_bytes();
        found.events.push(summary);
        last = Some(Cursor(read(row, "id")?));
    }
    Ok(found)
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

/// How many events a page walks past at most: some ten milliseconds. Filters that no index serves may match few
/// of many, and a page must not read them all.
const WALK: i64 = 20_000;
/// The same for dead letters: the event of each has to be looked up.
const WALK_LETTERS: i64 = 5_000;

/// A WHERE clause and its values.
pub(crate) struct Conditions {
    /// Where the wanted events are found without reading the others.
    pub(crate) from: &'static str,
    /// What names the event there.
    id: &'static str,
    pub(crate) terms: Vec<String>,
    values: Vec<Box<dyn ToSql + Sync + Send>>,
    /// Whether the events are found by walking back from the newest, or through the dead letters.
    walks: bool,
    /// The lowest and the highest id that can match, where a time or the page before says so.
    lowest: Option<i64>,
    highest: Option<i64>,
}

/// Newest first by the id of `events`: nearly every event ends as processed.
pub(crate) const FROM_EVENTS: &str = "cognigy_events AS events";
/// What is pending or processing is in the queue, whose key is the id of the event.
const FROM_QUEUE: &str = "cognigy_queue AS queue
    CROSS JOIN LATERAL (SELECT * FROM cognigy_events WHERE id = queue.event LIMIT 1) AS events";
/// Every run that was given up has left a dead letter, and every discarded event has one.
/// Read in order, so that a page does not read them all.
const FROM_OUTBOX: &str =
    "(SELECT DISTINCT event FROM cognigy_outbox ORDER BY event DESC) AS letters
    CROSS JOIN LATERAL (SELECT * FROM cognigy_events WHERE id = letters.event LIMIT 1) AS events";

/// What was given up, and what is unfinished.
pub(crate) const FROM_FAILING: &str =
    "(SELECT event FROM cognigy_outbox UNION SELECT event FROM cognigy_queue) AS letters
    CROSS JOIN LATERAL (SELECT * FROM cognigy_events WHERE id = letters.event LIMIT 1) AS events";

impl Conditions {
    pub(crate) async fn of(
        connection: &Object,
        filter: &EventFilter,
        after: Option<Cursor>,
    ) -> Result<Self, PostgresError> {
        let of_contact = filter.external_id.is_some()
            || filter.user_id.is_some()
            || filter.conversation.is_some();
        // A contact's events are fewer than those of a state.
        let (from, id) = match filter.state.filter(|_| !of_contact) {
            Some(State::Pending | State::Processing) => (FROM_QUEUE, "queue.event"),
            Some(State::DeadLettering | State::DeadLettered | State::Discarded) => {
                (FROM_OUTBOX, "letters.event")
            }
            Some(State::Processed) | None => (FROM_EVENTS, "events.id"),
        };
        let mut all = Self {
            from,
            id,
            terms: Vec::new(),
            values: Vec::new(),
            // Without a condition no event is passed.
            walks: from != FROM_QUEUE && !of_contact && *filter != EventFilter::default(),
            lowest: None,
            highest: after.map(|cursor| cursor.0.saturating_sub(1)),
        };
        match filter.state {
            Some(State::Pending) => {
                all.terms.push("queue.event IS NOT NULL AND queue.held_until IS NULL".to_owned());
            }
            Some(State::Processing) => all.terms.push("queue.held_until IS NOT NULL".to_owned()),
            Some(state) => {
                // 'pending' in `events` means that the queue has the state, so the name alone
                // decides.
                all.add("events.state =", Some(state.as_str()));
            }
            None => {}
        }
        all.add(&format!("{id} <"), after.map(|cursor| cursor.0));
        let private =
            |text: &Option<String>| text.as_deref().map(|text| Private(escape(text).into_owned()));
        all.add(
            "events.type =",
            filter.kind.as_ref().map(|kind| escape(kind.as_str()).into_owned()),
        );
        all.add("events.source =", filter.source.as_ref().map(|source| source.as_str().to_owned()));
        for (column, text) in [
            ("external_id", &filter.external_id),
            ("user_id", &filter.user_id),
            ("conversation", &filter.conversation),
        ] {
            if let Some(text) = private(text) {
                all.values.push(Box::new(text));
                let text = all.values.len();
                // The index holds the first 64 characters.
                all.terms.push(format!(
                    "events.{column} = ${text} AND left(events.{column}, 64) = left(${text}, 64)"
                ));
            }
        }
        match filter.correlation {
            Some(Correlation::NotAsked) => all.terms.push("events.correlation IS NULL".to_owned()),
            correlation => {
                all.add("events.correlation =", correlation.map(Correlation::as_str));
            }
        }
        if let Some(from) = filter.from {
            all.add("events.received_at >=", Some(from));
            let first = Arrivals::around(connection, from).await?.first;
            all.add(&format!("{id} >="), Some(first));
            all.lowest = Some(first);
        }
        if let Some(to) = filter.to {
            all.add("events.received_at <", Some(to));
            let last = Arrivals::around(connection, to).await?.last;
            all.add(&format!("{id} <="), Some(last));
            all.highest = Some(all.highest.map_or(last, |highest| highest.min(last)));
        }
        Ok(all)
    }

    /// Ends a walk after [`WALK`] events. Returns where the next page goes on if there are more.
    async fn stop_the_walk(
        &mut self,
        connection: &Object,
    ) -> Result<Option<Cursor>, PostgresError> {
        if !self.walks {
            return Ok(None);
        }
        let (id, table, walk) = match self.from {
            FROM_OUTBOX => ("event", "cognigy_outbox", WALK_LETTERS),
            _ => ("id", "cognigy_events", WALK),
        };
        let skip = connection
            .prepare_cached(&format!(
                "SELECT {id} AS id FROM {table} WHERE {id} < $1 ORDER BY {id} DESC OFFSET $2 LIMIT 1"
            ))
            .await?;
        let above = self.highest.map_or(i64::MAX, |highest| highest.saturating_add(1));
        let Some(row) = connection.query_opt(&skip, &[&above, &walk]).await? else {
            return Ok(None);
        };
        let floor: i64 = read(&row, "id")?;
        if self.lowest.is_some_and(|lowest| lowest > floor) {
            return Ok(None);
        }
        let id = self.id;
        self.add(&format!("{id} >"), Some(floor));
        Ok(Some(Cursor(floor.saturating_add(1))))
    }

    fn add(&mut self, sql: &str, value: Option<impl ToSql + Sync + Send + 'static>) {
        if let Some(value) = value {
            self.values.push(Box::new(value));
            self.terms.push(format!("{sql} ${}", self.values.len()));
        }
    }

    /// Reads the events of another table's rows, which has them by `letters.event`.
    pub(crate) fn begin_at(&mut self, from: &'static str) {
        (self.from, self.id) = (from, "letters.event");
        // The conditions name `events.id`, which does not keep the server from reading all of them.
        if let Some(lowest) = self.lowest {
            self.terms.push(format!("letters.event >= {lowest}"));
        }
        if let Some(highest) = self.highest {
            self.terms.push(format!("letters.event <= {highest}"));
        }
    }

    /// What names the event, and how its row of the queue is found.
    pub(crate) fn id_and_queue(&self) -> (&'static str, &'static str) {
        (self.id, if self.from == FROM_QUEUE { "" } else { QUEUED })
    }

    pub(crate) fn condition(&self) -> String {
        if self.terms.is_empty() { "true".to_owned() } else { self.terms.join(" AND ") }
    }

    fn select(&self, limit: usize) -> String {
        let (from, condition) = (self.from, self.condition());
        let (id, queued) = self.id_and_queue();
        // One more, to see whether there is a next page.
        let limit = sql_limit(limit).saturating_add(1);
        // `before` is the size of the rows above: the server sends at most one row too many.
        format!(
            "SELECT * FROM (
                 SELECT *, sum(octet_length(coalesce(external_id, ''))
                               + octet_length(coalesce(user_id, ''))
                               + octet_length(coalesce(conversation, '')))
                           OVER (ORDER BY id DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 2 PRECEDING)
                           AS before
                 FROM (SELECT events.id, {STATE}, events.received_at, events.processed_at,
                              events.correlation,
                              EXISTS (SELECT FROM cognigy_contexts AS contexts
                                      WHERE contexts.event = events.id
                                        AND contexts.received_at = events.received_at)
                              AS has_contact, {IDENTITY}
                       FROM {from} {queued} WHERE {condition} ORDER BY {id} DESC LIMIT {limit}) AS rows
             ) AS rows WHERE before IS NULL OR before <= {PAGE_BYTES} ORDER BY id DESC"
        )
    }

    pub(crate) fn values(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect()
    }
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
