//! The conditions of a list, and the bounds within which it looks for events.

use std::borrow::Cow;

use cognigy_core::{Correlation, Cursor, EventFilter, State, Timestamp};
use rusqlite::{Connection, OptionalExtension, ToSql};

use crate::{
    calls::search_index::Candidates,
    error::SqliteError,
    row::{IDENTITY, micros, sql_limit},
};

/// How many events a page walks past at most: some ten milliseconds. Filters that no index serves may match few
/// of many, and a page must not read them all.
pub(crate) const WALK: i64 = 20_000;

/// A WHERE clause and its values.
pub(crate) struct Conditions {
    terms: Vec<(Cow<'static, str>, Box<dyn ToSql>)>,
    /// Whether the events are found by walking back from the newest, rather than by an index of the
    /// database or by the search index.
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
        let ids = [
            ("external_id = ?", &filter.external_id),
            ("user_id = ?", &filter.user_id),
            ("conversation = ?", &filter.conversation),
        ];
        for (condition, value) in ids {
            all.walks &= value.is_none();
            all.add(condition, value.clone());
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
    pub(crate) fn stop_the_walk(
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

    /// The events to look at go from the first of these ids down to the second.
    pub(crate) fn ends(
        &self,
        connection: &Connection,
        after: Option<Cursor>,
    ) -> Result<(i64, i64), SqliteError> {
        let mut ends = connection.prepare_cached(
            // Each by itself: SQLite looks only one of the two up in the tree.
            "SELECT (SELECT min(id) FROM events), (SELECT max(id) FROM events)",
        )?;
        let (first, last): (Option<i64>, Option<i64>) =
            ends.query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let (Some(first), Some(last)) = (first, last) else { return Ok((0, 1)) };
        let (lowest, highest) = self.range();
        let above = after.map_or(i64::MAX, |cursor| cursor.0);
        let highest = last.min(highest).min(above.saturating_sub(1));
        Ok((highest, first.max(lowest)))
    }

    /// The statement that finds those of the candidates that match, the newest first.
    pub(crate) fn select(&self, candidates: &Candidates, limit: usize) -> String {
        let mut terms: Vec<_> = self.terms.iter().map(|(sql, _)| Cow::Borrowed(&**sql)).collect();
        terms.extend(candidates.condition().map(Cow::Owned));
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

#[cfg(test)]
mod tests {
    use cognigy_core::{EventType, PageRequest};

    use super::*;
    use crate::{calls::archive::list, schema};

    fn plan(connection: &Connection, conditions: &Conditions, candidates: &Candidates) -> String {
        let sql = format!("EXPLAIN QUERY PLAN {}", conditions.select(candidates, 100));
        let mut explain = connection.prepare(&sql).unwrap();
        let steps = explain.query_map(conditions.values().as_slice(), |row| row.get(3)).unwrap();
        steps.collect::<Result<Vec<String>, _>>().unwrap().join("; ")
    }

    #[test]
    fn no_list_sorts_and_rare_states_are_looked_up() {
        let connection = schema::in_memory();
        let some = |text: &str| Some(text.to_owned());
        let time = Some(Timestamp::UNIX_EPOCH);
        let filters = [
            EventFilter::default(),
            EventFilter { user_id: some("u"), external_id: some("x"), ..EventFilter::default() },
            EventFilter { conversation: some("c"), from: time, to: time, ..EventFilter::default() },
            EventFilter { source: "cognigy".parse().ok(), ..EventFilter::default() },
            EventFilter { from: time, ..EventFilter::default() },
            EventFilter { to: time, ..EventFilter::default() },
        ];
        let candidates = [
            Candidates::All,
            Candidates::Between { lowest: 3, highest: 7 },
            Candidates::These(vec![7, 3]),
        ];
        let states = State::ALL.map(Some).into_iter().chain([None]);
        for ((filter, after), state) in filters
            .iter()
            .flat_map(|filter| [(filter, None), (filter, Some(Cursor(7)))])
            .flat_map(|it| states.clone().map(move |state| (it, state)))
        {
            let filter = EventFilter { state, ..filter.clone() };
            let conditions = Conditions::of(&connection, &filter, after).unwrap();
            for candidates in &candidates {
                let plan = plan(&connection, &conditions, candidates);
                assert!(!plan.contains("TEMP B-TREE"), "{plan} for {filter:?}");
                let is_of_contact = filter.user_id.is_some() || filter.conversation.is_some();
                let index = match state {
                    _ if is_of_contact || matches!(candidates, Candidates::These(_)) => {
                        "INTEGER PRIMARY KEY (rowid"
                    }
                    Some(State::Pending | State::Processing) => "events_due",
                    Some(State::DeadLettering | State::DeadLettered) => "events_dead (state=?",
                    Some(State::Discarded) => "events_discarded",
                    Some(State::Processed) | None => "",
                };
                let reads_all = is_of_contact && *candidates == Candidates::All;
                assert!(plan.contains(index) || reads_all, "{plan} for {filter:?}");
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
