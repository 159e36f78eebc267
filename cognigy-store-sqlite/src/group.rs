//! One transaction of the writer, and the tallies it owes.

use std::collections::HashMap;

use cognigy_core::{EventType, State};
use rusqlite::{CachedStatement, Connection, params};

use crate::{SqliteOptions, error::Problem};

/// What a call of the writer works in. Its changes become durable together with those of the other
/// calls in the group, or not at all.
pub(crate) struct Group<'c> {
    connection: &'c Connection,
    pub(crate) options: &'c SqliteOptions,
    states: HashMap<State, i64>,
    types: HashMap<EventType, i64>,
}

impl<'c> Group<'c> {
    pub(crate) fn new(connection: &'c Connection, options: &'c SqliteOptions) -> Self {
        Self { connection, options, states: HashMap::new(), types: HashMap::new() }
    }

    pub(crate) fn connection(&self) -> &'c Connection {
        self.connection
    }

    pub(crate) fn prepare(&self, sql: &str) -> Result<CachedStatement<'c>, Problem> {
        Ok(self.connection.prepare_cached(sql)?)
    }

    /// Notes that an event was recorded, as pending.
    pub(crate) fn appeared(&mut self, kind: &EventType) {
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

    /// Writes something, for its own sake.
    pub(crate) fn beat(&self) -> Result<i64, Problem> {
        let mut beat = self.prepare(
            "INSERT INTO heartbeat (id, beats) VALUES (1, 1)
             ON CONFLICT (id) DO UPDATE SET beats = beats + 1 RETURNING beats",
        )?;
        Ok(beat.query_row([], |row| row.get(0))?)
    }

    /// Writes the tallies. They are added, not set: other processes count in the same table.
    pub(crate) fn finish(self) -> Result<(), Problem> {
        let states = self.states.iter().map(|(state, count)| ("state", state.as_str(), *count));
        let types = self.types.iter().map(|(kind, count)| ("type", kind.as_str(), *count));
        let mut add = self.prepare(
            "INSERT INTO tallies (dimension, name, count) VALUES (?1, ?2, ?3)
             ON CONFLICT (dimension, name) DO UPDATE SET count = count + excluded.count",
        )?;
        for (dimension, name, count) in states.chain(types).filter(|(.., count)| *count != 0) {
            add.execute(params![dimension, name, count])?;
        }
        Ok(())
    }
}
