//! Conversions between rows and the core's types: times, and events read back.
//!
//! Stored data may have been damaged by a disk or by hand, so every field is checked again.

use std::time::Duration;

use bytes::Bytes;
use cognigy_core::{
    Correlation, DeliveryContext, Event, EventKey, EventParts, EventTime, EventType, Forgotten,
    State, Timestamp, report,
};
use rusqlite::{Connection, Row};

use crate::error::SqliteError;

/// A time in the unit of the tables.
pub(crate) fn micros(time: Timestamp) -> i64 {
    time.timestamp_micros()
}

/// The end of a lease that begins at `now`. A lease of absurd length ends at the end of the
/// calendar.
pub(crate) fn lease_end(now: Timestamp, lease: Duration) -> i64 {
    let lease = i64::try_from(lease.as_micros()).unwrap_or(i64::MAX);
    micros(now).saturating_add(lease).min(micros(Timestamp::MAX_UTC))
}

pub(crate) fn timestamp(micros: i64) -> Result<Timestamp, SqliteError> {
    Timestamp::from_timestamp_micros(micros).ok_or_else(|| unreadable("a time", "is out of range"))
}

pub(crate) fn unreadable(what: &str, why: impl std::fmt::Display) -> SqliteError {
    SqliteError::Unreadable(format!("{what} {why}"))
}

/// A limit in SQL.
pub(crate) fn sql_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// The columns that [`read_key`] and [`read_parts`] read, in their order.
pub(crate) const IDENTITY: &str = "events.source, events.event_id, events.type, events.timestamp_json, events.external_id, \
     events.user_id, events.conversation, events.sensitive";

/// The identity of an event; `at` is where [`IDENTITY`] begins in the row.
pub(crate) fn read_key(row: &Row<'_>, at: usize) -> Result<EventKey, SqliteError> {
    let source = row.get_ref(at)?.as_str().map_err(|error| unreadable("the source", error))?;
    let id = row.get_ref(at + 1)?.as_str().map_err(|error| unreadable("the event id", error))?;
    Ok(EventKey {
        source: source.parse().map_err(|error| unreadable("the source", error))?,
        id: id.parse().map_err(|error| unreadable("the event id", error))?,
    })
}

/// The type, even if its name is damaged: tallies have to balance.
pub(crate) fn read_kind(row: &Row<'_>, column: usize) -> Result<EventType, SqliteError> {
    let name = row.get_ref(column)?.as_bytes().unwrap_or_default();
    Ok(EventType::from_name(&String::from_utf8_lossy(name)))
}

pub(crate) fn read_state(row: &Row<'_>, column: usize) -> Result<State, SqliteError> {
    let name = row.get_ref(column)?.as_str().map_err(|error| unreadable("the state", error))?;
    name.parse().map_err(|error| unreadable("the state", error))
}

/// What was read from the body when the event came in; `at` is where [`IDENTITY`] begins.
pub(crate) fn read_parts(
    row: &Row<'_>,
    at: usize,
    key: &EventKey,
) -> Result<EventParts, SqliteError> {
    let time: String = row.get(at + 3)?;
    Ok(EventParts {
        id: key.id.clone(),
        kind: read_kind(row, at + 2)?,
        time: EventTime::from_json(&time).map_err(|why| unreadable("the timestamp", why))?,
        external_id: row.get(at + 4)?,
        user_id: row.get(at + 5)?,
        conversation: row.get(at + 6)?,
        sensitive: row.get::<_, Option<bool>>(at + 7)?.unwrap_or_default(),
    })
}

/// What asking the CRM came to.
pub(crate) fn read_correlation(
    row: &Row<'_>,
    column: usize,
    has_contact: bool,
) -> Result<Correlation, SqliteError> {
    let name: Option<String> = row.get(column)?;
    Ok(Correlation::of_stored(name.as_deref(), has_contact))
}

/// Why the body is not there any more.
pub(crate) fn read_forgotten(
    row: &Row<'_>,
    column: usize,
) -> Result<Option<Forgotten>, SqliteError> {
    let name: Option<String> = row.get(column)?;
    name.map(|name| {
        Forgotten::from_name(&name).ok_or_else(|| unreadable("why a body is gone", "is unknown"))
    })
    .transpose()
}

/// The received bytes of an event and the headers that were kept with them, if they are there.
pub(crate) fn read_body(
    connection: &Connection,
    id: i64,
) -> Result<Option<(Bytes, DeliveryContext)>, SqliteError> {
    let mut select =
        connection.prepare_cached("SELECT body, headers FROM bodies WHERE event = ?1")?;
    let mut rows = select.query([id])?;
    let Some(row) = rows.next()? else { return Ok(None) };
    let body = row.get_ref(0)?.as_bytes().map_err(rusqlite::Error::from)?;
    Ok(Some((Bytes::copy_from_slice(body), read_headers(row, 1)?)))
}

/// Kept headers.
pub(crate) fn read_headers(row: &Row<'_>, column: usize) -> Result<DeliveryContext, SqliteError> {
    let json = row.get_ref(column)?.as_str_or_null().map_err(rusqlite::Error::from)?;
    DeliveryContext::from_json(json).map_err(|error| unreadable("the kept headers", error))
}

/// Puts an event together, or returns why that is not possible.
pub(crate) fn restore(
    connection: &Connection,
    id: i64,
    key: &EventKey,
    parts: Result<EventParts, SqliteError>,
    received_at: i64,
    run: u32,
) -> Result<Result<Event, String>, SqliteError> {
    let event = || -> Result<Event, SqliteError> {
        let (body, context) =
            read_body(connection, id)?.ok_or_else(|| unreadable("the body", "is missing"))?;
        let event = Event::restore(key.clone(), parts?, body, timestamp(received_at)?, run);
        Ok(event.with_context(context))
    };
    match event() {
        Ok(event) => Ok(Ok(event)),
        Err(error) if error.is_damage() => Ok(Err(report(&error))),
        Err(error) => Err(error),
    }
}
