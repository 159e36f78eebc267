//! Conversions between rows and the core's types: texts, times, parameters, and events read back.
//!
//! What is read back may have been changed by hand, so every field is checked again.

use std::{borrow::Cow, error::Error, fmt, time::Duration};

use bytes::{Bytes, BytesMut};
use cognigy_core::{
    Correlation, DeliveryContext, Event, EventKey, EventParts, EventTime, EventType, Forgotten,
    State, Timestamp,
};
use tokio_postgres::{
    Row,
    types::{FromSql, IsNull, ToSql, Type},
};

use crate::error::{PostgresError, unreadable};

/// A parameter that `Debug` does not show: tokio-postgres writes every statement's parameters to
/// its log at level `debug`, and ours hold what people wrote.
#[derive(Default)]
pub(crate) struct Private<T>(pub(crate) T);

impl<T> fmt::Debug for Private<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(private)")
    }
}

impl<T: ToSql> ToSql for Private<T> {
    fn to_sql(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.0.to_sql(kind, out)
    }

    fn accepts(kind: &Type) -> bool {
        T::accepts(kind)
    }

    fn to_sql_checked(
        &self,
        kind: &Type,
        out: &mut BytesMut,
    ) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        self.0.to_sql_checked(kind, out)
    }
}

/// Text that PostgreSQL can store: PostgreSQL allows no NUL character, and JSON strings may contain
/// one. A NUL is written `\0` and a backslash `\\`; any other text is unchanged.
pub(crate) fn escape(text: &str) -> Cow<'_, str> {
    if text.contains(['\0', '\\']) {
        Cow::Owned(text.replace('\\', r"\\").replace('\0', r"\0"))
    } else {
        Cow::Borrowed(text)
    }
}

/// The text that [`escape`] was given.
pub(crate) fn unescape(text: String) -> String {
    if !text.contains('\\') {
        return text;
    }
    let mut plain = String::with_capacity(text.len());
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            '\\' => plain.push(match characters.next() {
                Some('0') => '\0',
                Some(other) => other,
                None => '\\',
            }),
            other => plain.push(other),
        }
    }
    plain
}

/// Microseconds for `interval` arithmetic in SQL. A duration of absurd length ends within the
/// calendar of both sides.
pub(crate) fn interval(duration: Duration) -> i64 {
    const HUNDRED_YEARS: i64 = 100 * 365 * 86_400 * 1_000_000;
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX).min(HUNDRED_YEARS)
}

/// From `earlier` to `later`, in microseconds; negative if it is the other way round.
pub(crate) fn distance(earlier: Timestamp, later: Timestamp) -> i64 {
    (later - earlier).num_microseconds().unwrap_or(if later > earlier { i64::MAX } else { 0 })
}

/// A limit in SQL.
pub(crate) fn sql_limit(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX)
}

/// A column that must be readable as `T`.
pub(crate) fn read<'a, T: FromSql<'a>>(row: &'a Row, column: &str) -> Result<T, PostgresError> {
    row.try_get(column).map_err(PostgresError::from)
}

/// The columns of an event, aliased `events`, that [`read_key`] and [`read_parts`] read.
pub(crate) const IDENTITY: &str = "events.source, events.event_id, events.type, \
     events.timestamp_json, events.external_id, events.user_id, events.conversation, \
     events.sensitive";

pub(crate) fn read_key(row: &Row) -> Result<EventKey, PostgresError> {
    let (source, id): (&str, &str) = (read(row, "source")?, read(row, "event_id")?);
    Ok(EventKey {
        source: source.parse().map_err(|error| unreadable("the source", error))?,
        id: id.parse().map_err(|error| unreadable("the event id", error))?,
    })
}

pub(crate) fn read_kind(row: &Row) -> Result<EventType, PostgresError> {
    Ok(EventType::from_name(&unescape(read(row, "type")?)))
}

/// The state as SQL sees it in `events` and `queue` together.
pub(crate) const STATE: &str = "CASE WHEN queue.event IS NULL THEN events.state
    WHEN queue.held_until IS NULL THEN 'pending' ELSE 'processing' END AS state";

pub(crate) fn read_state(row: &Row) -> Result<State, PostgresError> {
    read::<&str>(row, "state")?.parse().map_err(|error| unreadable("the state", error))
}

/// What was read from the body when the event came in.
pub(crate) fn read_parts(row: &Row, key: &EventKey) -> Result<EventParts, PostgresError> {
    let time: &str = read(row, "timestamp_json")?;
    Ok(EventParts {
        id: key.id.clone(),
        kind: read_kind(row)?,
        time: EventTime::from_json(time).map_err(|why| unreadable("the timestamp", why))?,
        external_id: read::<Option<String>>(row, "external_id")?.map(unescape),
        user_id: read::<Option<String>>(row, "user_id")?.map(unescape),
        conversation: read::<Option<String>>(row, "conversation")?.map(unescape),
        sensitive: read::<Option<bool>>(row, "sensitive")?.unwrap_or_default(),
    })
}

/// What asking the CRM came to.
pub(crate) fn read_correlation(row: &Row, has_contact: bool) -> Result<Correlation, PostgresError> {
    Ok(Correlation::of_stored(read(row, "correlation")?, has_contact))
}

/// Why the body is not there any more.
pub(crate) fn read_forgotten(row: &Row) -> Result<Option<Forgotten>, PostgresError> {
    let name: Option<&str> = read(row, "forgotten")?;
    let known = |name| {
        Forgotten::from_name(name).ok_or_else(|| unreadable("why a body is gone", "is unknown"))
    };
    name.map(known).transpose()
}

/// The received bytes of an event, if they are stored.
pub(crate) fn read_body(row: &Row) -> Result<Option<Bytes>, PostgresError> {
    Ok(read::<Option<&[u8]>>(row, "body")?.map(Bytes::copy_from_slice))
}

/// The headers that were kept with a body.
pub(crate) fn read_headers(row: &Row) -> Result<DeliveryContext, PostgresError> {
    DeliveryContext::from_json(read(row, "headers")?)
        .map_err(|error| unreadable("the kept headers", error))
}

/// A number that is never negative in this store.
pub(crate) fn read_number(row: &Row, column: &str) -> Result<u32, PostgresError> {
    let number: i32 = read(row, column)?;
    u32::try_from(number).map_err(|error| unreadable(column, error))
}

/// A count or ordinal of the core's as a column holds it.
pub(crate) fn small(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

/// Puts an event together, or returns why that is not possible.
pub(crate) fn restore(row: &Row, key: &EventKey, run: u32) -> Result<Event, String> {
    let parts = read_parts(row, key).map_err(|problem| problem.to_string())?;
    let body = read_body(row).map_err(|problem| problem.to_string())?;
    let body = body.ok_or_else(|| "the body is lost".to_owned())?;
    let received_at = read(row, "received_at").map_err(|problem| problem.to_string())?;
    let context = read_headers(row).map_err(|problem| problem.to_string())?;
    Ok(Event::restore(key.clone(), parts, body, received_at, run).with_context(context))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_text_comes_back() {
        for text in ["", "plain", "\0", r"\0", r"\\0", "a\0b\\", "\\\0\\\\\0\0", "é\u{1}"] {
            let escaped = escape(text).into_owned();
            assert!(!escaped.contains('\0'));
            assert_eq!(unescape(escaped), text);
        }
        // A single backslash in a column that was edited by hand can still be read.
        assert_eq!(unescape("a\\".to_owned()), "a\\");
    }

    #[test]
    fn no_log_shows_a_parameter() {
        let parameter: &(dyn ToSql + Sync) = &Private("marked");
        assert_eq!(format!("{parameter:?}"), "(private)");
    }
}
