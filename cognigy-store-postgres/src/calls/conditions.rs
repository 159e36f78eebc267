//! The conditions of a list, and the bounds within which it looks for events.

use cognigy_core::{Correlation, Cursor, EventFilter, PAGE_BYTES, State};
use deadpool_postgres::Object;
use tokio_postgres::types::ToSql;

use crate::{
    calls::search_index::Candidates,
    error::PostgresError,
    row::{IDENTITY, Private, STATE, escape, read, sql_limit},
    server::arrivals::Arrivals,
};

/// The queue's columns of an event. They are looked up row by row, like everything that belongs to
/// an event: with a join the planner may read the other table from end to end.
pub(crate) const QUEUED: &str = " LEFT JOIN LATERAL (
    SELECT event, held_until, due_at AS queued_until FROM cognigy_queue
    WHERE event = events.id LIMIT 1) AS queue ON true";

/// How many events a page walks past at most: some ten milliseconds. Filters that no index serves may match few
/// of many, and a page must not read them all.
pub(crate) const WALK: i64 = 20_000;
/// The same for dead letters: the event of each has to be looked up.
const WALK_LETTERS: i64 = 5_000;

/// The parts of a statement that finds events.
pub(crate) struct Matching {
    /// The tables, with the event's row of the queue.
    pub(crate) from: String,
    /// What names the event, and orders it.
    pub(crate) id: &'static str,
    pub(crate) condition: String,
}

/// A WHERE clause and its values.
pub(crate) struct Conditions {
    /// Where the wanted events are found without reading the others.
    from: &'static str,
    /// What names the event there.
    id: &'static str,
    terms: Vec<String>,
    values: Vec<Box<dyn ToSql + Sync + Send>>,
    /// Whether the events are found by walking back from the newest, or through the dead letters.
    walks: bool,
    /// The lowest and the highest id that can match, where a time or the page before says so.
    lowest: Option<i64>,
    highest: Option<i64>,
}

/// Newest first by the id of `events`: nearly every event ends as processed.
const FROM_EVENTS: &str = "cognigy_events AS events";
/// What is pending or processing is in the queue, whose key is the id of the event.
const FROM_QUEUE: &str = "cognigy_queue AS queue
    CROSS JOIN LATERAL (SELECT * FROM cognigy_events WHERE id = queue.event LIMIT 1) AS events";
/// Every run that was given up has left a dead letter, and every discarded event has one.
/// Read in order, so that a page does not read them all.
const FROM_OUTBOX: &str =
    "(SELECT DISTINCT event FROM cognigy_outbox ORDER BY event DESC) AS letters
    CROSS JOIN LATERAL (SELECT * FROM cognigy_events WHERE id = letters.event LIMIT 1) AS events";

/// What was given up, and what is unfinished.
const FROM_FAILING: &str =
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
            all.add(&format!("events.{column} ="), private(text));
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
    pub(crate) async fn stop_the_walk(
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

    /// Only events that are dead-lettered, or unfinished after a failed attempt of their run, which `last`
    /// tells.
    pub(crate) fn only_failing(&mut self) {
        if self.from == FROM_EVENTS {
            self.begin_at(FROM_FAILING);
        }
        self.terms.push(
            "(queue.event IS NOT NULL OR events.state IN ('dead_lettering', 'dead_lettered'))
             AND last.error IS NOT NULL"
                .to_owned(),
        );
    }

    fn add(&mut self, sql: &str, value: Option<impl ToSql + Sync + Send + 'static>) {
        if let Some(value) = value {
            self.values.push(Box::new(value));
            self.terms.push(format!("{sql} ${}", self.values.len()));
        }
    }

    /// Reads the events of another table's rows, which has them by `letters.event`.
    fn begin_at(&mut self, from: &'static str) {
        (self.from, self.id) = (from, "letters.event");
        // The conditions name `events.id`, which does not keep the server from reading all of them.
        if let Some(lowest) = self.lowest {
            self.terms.push(format!("letters.event >= {lowest}"));
        }
        if let Some(highest) = self.highest {
            self.terms.push(format!("letters.event <= {highest}"));
        }
    }

    /// The events to look at go from the first of these ids down to the second.
    pub(crate) async fn ends(&self, connection: &Object) -> Result<(i64, i64), PostgresError> {
        let ends = connection
            .prepare_cached(
                "SELECT coalesce(min(id), 1) AS first, coalesce(max(id), 0) AS last FROM cognigy_events",
            )
            .await?;
        let row = connection.query_one(&ends, &[]).await?;
        let (first, last): (i64, i64) = (read(&row, "first")?, read(&row, "last")?);
        let highest = self.highest.map_or(last, |highest| highest.min(last));
        Ok((highest, self.lowest.map_or(first, |lowest| lowest.max(first))))
    }

    /// Where those of the candidates that match are found.
    pub(crate) fn among(&self, candidates: &Candidates) -> Matching {
        let Self { mut id, .. } = *self;
        let (mut from, mut terms) = (self.from.to_owned(), self.terms.clone());
        match candidates {
            Candidates::All => {}
            Candidates::Between { lowest, highest } => {
                terms.push(format!("{id} BETWEEN {lowest} AND {highest}"));
            }
            Candidates::These(ids) => {
                let ids: Vec<_> = ids.iter().map(i64::to_string).collect();
                id = "candidate.id";
                from = format!(
                    "unnest('{{{}}}'::bigint[]) AS candidate (id)
                     CROSS JOIN LATERAL (
                         SELECT * FROM cognigy_events WHERE id = candidate.id LIMIT 1) AS events",
                    ids.join(",")
                );
                // The bounds name the column of a table that is not read now.
                let is_bound = |term: &String| {
                    let rest = term.strip_prefix(self.id);
                    rest.is_some_and(|rest| rest.starts_with(" <") || rest.starts_with(" >"))
                };
                for term in terms.iter_mut().filter(|term| is_bound(term)) {
                    *term = term.replacen(self.id, id, 1);
                }
            }
        }
        let is_queue = from == FROM_QUEUE;
        from.push_str(if is_queue { "" } else { QUEUED });
        let condition = if terms.is_empty() { "true".to_owned() } else { terms.join(" AND ") };
        Matching { from, id, condition }
    }

    /// The statement that finds those of the candidates that match, the newest first.
    pub(crate) fn select(&self, candidates: &Candidates, limit: usize) -> String {
        let Matching { from, id, condition } = self.among(candidates);
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
                       FROM {from} WHERE {condition} ORDER BY {id} DESC LIMIT {limit}) AS rows
             ) AS rows WHERE before IS NULL OR before <= {PAGE_BYTES} ORDER BY id DESC"
        )
    }

    pub(crate) fn values(&self) -> Vec<&(dyn ToSql + Sync)> {
        self.values.iter().map(|value| &**value as &(dyn ToSql + Sync)).collect()
    }
}
