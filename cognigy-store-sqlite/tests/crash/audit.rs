//! Checks that a database holds everything that was acknowledged, and nothing half done.
//!
//! The audit reads with SQLite itself and not through the store: the store must not check its own
//! work.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use rusqlite::Connection;

use super::{
    ledger::Ledger,
    load::{self, contact},
};

/// What the audit found in the database.
#[derive(Debug, Default)]
pub(crate) struct Found {
    pub(crate) events: usize,
    pub(crate) by_state: BTreeMap<String, usize>,
}

/// The first error, or what the database holds.
pub(crate) fn audit(path: &Path, ledger: &Ledger) -> Result<Found, String> {
    let connection = Connection::open(path).map_err(|error| format!("it opens: {error}"))?;
    look(&connection, ledger).map_err(|error| match error {
        Finding::Wrong(what) => what,
        Finding::Sqlite(error) => format!("it can be read: {error}"),
    })
}

#[derive(Debug)]
enum Finding {
    Wrong(String),
    Sqlite(rusqlite::Error),
}

impl From<rusqlite::Error> for Finding {
    fn from(error: rusqlite::Error) -> Self {
        Self::Sqlite(error)
    }
}

fn must(holds: bool, what: impl FnOnce() -> String) -> Result<(), Finding> {
    if holds { Ok(()) } else { Err(Finding::Wrong(what())) }
}

fn look(connection: &Connection, ledger: &Ledger) -> Result<Found, Finding> {
    let integrity: String = connection.query_row("PRAGMA integrity_check", [], |row| row.get(0))?;
    must(integrity == "ok", || format!("integrity_check: {integrity}"))?;
    let found = events(connection, ledger)?;
    tallies(connection)?;
    nothing_half_done(connection)?;
    outbox(connection, ledger)?;

    let mut select = connection.prepare("SELECT CAST(body AS TEXT) FROM quarantine")?;
    let kept: BTreeSet<String> =
        select.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let lost = ledger.quarantined.difference(&kept).next();
    must(lost.is_none(), || format!("quarantined and gone: {lost:?}"))?;
    Ok(found)
}

/// Checks every acknowledged event, and every other stored event, byte for byte.
fn events(connection: &Connection, ledger: &Ledger) -> Result<Found, Finding> {
    let mut select = connection.prepare(
        "SELECT event_id, state, body, json FROM events
         LEFT JOIN bodies ON bodies.event = events.id
         LEFT JOIN contexts ON contexts.event = events.id",
    )?;
    let mut rows = select.query([])?;
    let mut found = Found::default();
    let mut states = BTreeMap::new();
    while let Some(row) = rows.next()? {
        let (id, state): (String, String) = (row.get(0)?, row.get(1)?);
        let body: Option<Vec<u8>> = row.get(2)?;
        must(body.as_deref() == Some(load::body(&id).as_bytes()), || format!("the body of {id}"))?;
        let known: Option<String> = row.get(3)?;
        // A replay leaves the dead letter in place until the replay itself has ended.
        let fits = known.as_ref().map_or(state != "processed", |known| *known == contact(&id));
        must(fits, || format!("the contact of {id}, {state}: {known:?}"))?;
        *found.by_state.entry(state.clone()).or_default() += 1;
        found.events += 1;
        must(states.insert(id.clone(), state).is_none(), || format!("{id} is there twice"))?;
    }
    for (ids, allowed) in [
        (&ledger.recorded, &[][..]),
        (&ledger.processed, &["processed"]),
        (&ledger.given_up, &["dead_lettering", "dead_lettered"]),
        (&ledger.sent, &["dead_lettered"]),
    ] {
        for id in ids {
            let state = states.get(id).map(String::as_str);
            let fits = state.is_some_and(|state| allowed.is_empty() || allowed.contains(&state));
            must(fits, || format!("{id} was answered for and is now {state:?}"))?;
        }
    }
    Ok(found)
}

fn tallies(connection: &Connection) -> Result<(), Finding> {
    let pairs = |sql: &str| -> Result<BTreeMap<String, i64>, Finding> {
        let mut select = connection.prepare(sql)?;
        let rows = select.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    };
    for (dimension, column) in [("state", "state"), ("type", "type")] {
        let kept = pairs(&format!(
            "SELECT name, count FROM tallies WHERE dimension = '{dimension}' AND count <> 0"
        ))?;
        let counted = pairs(&format!("SELECT {column}, count(*) FROM events GROUP BY 1"))?;
        must(kept == counted, || format!("tallies {kept:?}, counted {counted:?}"))?;
    }
    Ok(())
}

/// Counts that have to be zero.
fn nothing_half_done(connection: &Connection) -> Result<(), Finding> {
    for (what, sql) in [
        (
            "bodies without an event",
            "SELECT count(*) FROM bodies WHERE event NOT IN (SELECT id FROM events)",
        ),
        (
            "attempts without an event",
            "SELECT count(*) FROM attempts WHERE event NOT IN (SELECT id FROM events)",
        ),
        (
            "events that wait and are never due",
            "SELECT count(*) FROM events WHERE state IN ('pending', 'processing') AND due_at IS NULL",
        ),
        (
            "events that ended and are due",
            "SELECT count(*) FROM events
             WHERE state NOT IN ('pending', 'processing') AND due_at IS NOT NULL",
        ),
        (
            "processed without an attempt",
            "SELECT count(*) FROM events WHERE state = 'processed'
             AND NOT EXISTS (SELECT 1 FROM attempts WHERE attempts.event = events.id)",
        ),
        (
            "dead letters in doubt",
            "SELECT count(*) FROM events WHERE (state = 'dead_lettering') <>
             EXISTS (SELECT 1 FROM outbox WHERE outbox.event = events.id AND sent_at IS NULL)",
        ),
    ] {
        let count: i64 = connection.query_row(sql, [], |row| row.get(0))?;
        must(count == 0, || format!("{count} {what}"))?;
    }
    Ok(())
}

/// Each event that was given up has one dead letter.
fn outbox(connection: &Connection, ledger: &Ledger) -> Result<(), Finding> {
    let mut select = connection.prepare(
        "SELECT event_id, count(*) FROM outbox JOIN events ON events.id = outbox.event GROUP BY 1",
    )?;
    let rows = select.query_map([], |row| Ok((row.get::<_, String>(0)?, row.get::<_, i64>(1)?)))?;
    let letters: BTreeMap<String, i64> = rows.collect::<Result<_, _>>()?;
    for id in &ledger.given_up {
        let count = letters.get(id).copied().unwrap_or(0);
        must(count == 1, || format!("{id} was given up and has {count} dead letters"))?;
    }
    Ok(())
}
