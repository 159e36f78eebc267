//! One transaction of the writer, and the tallies that it has to write.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::AtomicBool},
};

use cognigy_core::{EventOrder, EventType, State};
use rusqlite::{CachedStatement, Connection, params};

use crate::{calls::contact_queue, error::SqliteError};

/// The transaction in which a call of the writer works. The call's changes become durable together
/// with those of the other calls in the batch, or not at all.
pub(crate) struct WriteBatch<'c> {
    connection: &'c Connection,
    states: HashMap<State, i64>,
    types: HashMap<EventType, i64>,
    /// By how many the number of events grew that wait for another event of their contact.
    pub(crate) waiting: i64,
    /// By how many the number of stopped contacts grew.
    pub(crate) stopped: i64,
    /// The order that the file says is kept, once it has been read.
    order: Option<EventOrder>,
    /// The highest id an event ever had, once it has been read.
    last_event: Option<i64>,
    /// Set if the log is to be emptied after the commit; the flag becomes false once the log is
    /// empty.
    pub(crate) log_to_empty: Option<Arc<AtomicBool>>,
}

impl<'c> WriteBatch<'c> {
    pub(crate) fn new(connection: &'c Connection) -> Self {
        Self {
            connection,
            states: HashMap::new(),
            types: HashMap::new(),
            waiting: 0,
            stopped: 0,
            order: None,
            last_event: None,
            log_to_empty: None,
        }
    }

    pub(crate) fn connection(&self) -> &'c Connection {
        self.connection
    }

    pub(crate) fn prepare(&self, sql: &str) -> Result<CachedStatement<'c>, SqliteError> {
        Ok(self.connection.prepare_cached(sql)?)
    }

    /// The order of events that is kept.
    pub(crate) fn order(&mut self) -> Result<EventOrder, SqliteError> {
        match self.order {
            Some(order) => Ok(order),
            None => Ok(*self.order.insert(contact_queue::order(self.connection)?)),
        }
    }

    /// An id for a new event, higher than any before. It is used up by [`appeared`](Self::appeared).
    pub(crate) fn next_event_id(&mut self) -> Result<i64, SqliteError> {
        let last = match self.last_event {
            Some(last) => last,
            None => self
                .prepare(
                    "SELECT max(coalesce((SELECT max(id) FROM events), 0),
                                coalesce((SELECT last_event FROM purged), 0))",
                )?
                .query_row([], |row| row.get(0))?,
        };
        self.last_event = Some(last);
        Ok(last + 1)
    }

    /// Stores the highest id before events are purged.
    pub(crate) fn remember_last_event(&self) -> Result<(), SqliteError> {
        self.prepare(
            "INSERT INTO purged (id, last_event) SELECT 1, coalesce(max(id), 0) FROM events WHERE TRUE
             ON CONFLICT (id) DO UPDATE SET last_event = max(last_event, excluded.last_event)",
        )?
        .execute([])?;
        Ok(())
    }

    /// Notes that an event was recorded, as pending, with the id that was given out last.
    pub(crate) fn appeared(&mut self, kind: &EventType) {
        self.last_event = self.last_event.map(|last| last + 1);
        *self.states.entry(State::Pending).or_default() += 1;
        *self.types.entry(kind.clone()).or_default() += 1;
    }

    /// Notes that an event was purged.
    pub(crate) fn vanished(&mut self, kind: EventType, from: State) {
        *self.states.entry(from).or_default() -= 1;
        *self.types.entry(kind).or_default() -= 1;
    }

    /// Notes that an event went from one state to another.
    pub(crate) fn moved(&mut self, from: State, to: State) {
        *self.states.entry(from).or_default() -= 1;
        *self.states.entry(to).or_default() += 1;
    }

    /// Writes a row only to test that writing works.
    pub(crate) fn beat(&self) -> Result<i64, SqliteError> {
        let mut beat = self.prepare(
            "INSERT INTO heartbeat (id, beats) VALUES (1, 1)
             ON CONFLICT (id) DO UPDATE SET beats = beats + 1 RETURNING beats",
        )?;
        Ok(beat.query_row([], |row| row.get(0))?)
    }

    /// Writes the tallies. They are added, not set: other processes count in the same table.
    pub(crate) fn finish(self) -> Result<(), SqliteError> {
        let states = self.states.iter().map(|(state, count)| ("state", state.as_str(), *count));
        let types = self.types.iter().map(|(kind, count)| ("type", kind.as_str(), *count));
        let lanes = [("lane", "waiting", self.waiting), ("lane", "stopped", self.stopped)];
        let mut add = self.prepare(
            "INSERT INTO tallies (dimension, name, count) VALUES (?1, ?2, ?3)
             ON CONFLICT (dimension, name) DO UPDATE SET count = count + excluded.count",
        )?;
        for (dimension, name, count) in
            states.chain(types).chain(lanes).filter(|(.., count)| *count != 0)
        {
            add.execute(params![dimension, name, count])?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::schema;

    /// If an id were given out twice, one of the two calls would fail and be tried again alone:
    /// correct, but slow.
    #[test]
    fn each_event_of_a_group_has_an_id_of_its_own() {
        let connection = schema::in_memory();
        let mut group = WriteBatch::new(&connection);
        for expected in 1..=3 {
            assert_eq!(group.next_event_id().unwrap(), expected);
            assert_eq!(group.next_event_id().unwrap(), expected, "it was not used");
            group.appeared(&EventType::DialogStarted);
        }
    }
}
