//! Bodies that were signed but could not be accepted.

use bytes::Bytes;
use cognigy_core::{
    Cursor, EXCERPT_BYTES, PageRequest, QuarantineEntry, QuarantineLimits, QuarantinePage,
    QuarantineReason, QuarantineSummary, QuarantinedItem, Timestamp,
};
use rusqlite::{Connection, Row, params};

use crate::{
    error::SqliteError,
    file::write_batch::WriteBatch,
    row::{self, micros, sql_limit, timestamp, unreadable},
};

const COLUMNS: &str = "id, source, reason, event_id, detail, received_at, body, headers";

/// Keeps a body. Returns how many older ones were removed for it.
pub(crate) fn keep(
    group: &WriteBatch<'_>,
    entry: &QuarantineEntry,
    limits: QuarantineLimits,
    now: Timestamp,
) -> Result<u64, SqliteError> {
    let inserted = group
        .prepare(
            "INSERT INTO quarantine (source, reason, event_id, detail, received_at, digest, body, headers)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)
             ON CONFLICT (source, reason, digest) DO NOTHING",
        )?
        .execute(params![
            entry.source.as_str(),
            entry.reason.as_str(),
            entry.event_id,
            entry.detail,
            micros(now),
            &entry.digest()[..],
            &entry.body[..],
            entry.context.to_json(),
        ])?;
    if inserted == 0 || entry.reason != QuarantineReason::Invalid {
        return Ok(0);
    }
    evict(group, entry, limits)
}

/// Removes the source's oldest invalid bodies while there are too many, or while they are too large
/// together. The lengths are in the rows' headers: no body is read for it.
fn evict(
    group: &WriteBatch<'_>,
    entry: &QuarantineEntry,
    limits: QuarantineLimits,
) -> Result<u64, SqliteError> {
    let evicted = group
        .prepare(
            "DELETE FROM quarantine WHERE id IN (
                 SELECT id FROM (
                     SELECT id, row_number() OVER newest AS place, sum(length(body)) OVER newest AS bytes
                     FROM quarantine WHERE source = ?1 AND reason = ?2
                     WINDOW newest AS (ORDER BY id DESC))
                 WHERE place > 1 AND (place > ?3 OR bytes > ?4))",
        )?
        .execute(params![
            entry.source.as_str(),
            entry.reason.as_str(),
            sql_limit(limits.items),
            i64::try_from(limits.bytes).unwrap_or(i64::MAX),
        ])?;
    Ok(evicted as u64)
}

pub(crate) fn page(
    connection: &Connection,
    page: PageRequest,
) -> Result<QuarantinePage, SqliteError> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT id, source, reason, event_id, detail, received_at,
                -- Of an empty blob, substr makes NULL.
                coalesce(substr(body, 1, {EXCERPT_BYTES}), x''), length(body)
         FROM quarantine WHERE id < ?1 ORDER BY id DESC LIMIT ?2"
    ))?;
    let before = page.after.map_or(i64::MAX, |cursor| cursor.0);
    // One more, to see whether there is a next page.
    let mut rows = select.query([before, sql_limit(page.limit).saturating_add(1)])?;
    let mut found = QuarantinePage::default();
    while let Some(row) = rows.next()? {
        if found.items.len() == page.limit {
            found.next = found.items.last().map(|item| Cursor(item.id));
            break;
        }
        found.items.push(read_summary(row)?);
    }
    Ok(found)
}

pub(crate) fn find(
    connection: &Connection,
    id: i64,
) -> Result<Option<QuarantinedItem>, SqliteError> {
    let mut select =
        connection.prepare_cached(&format!("SELECT {COLUMNS} FROM quarantine WHERE id = ?1"))?;
    let mut rows = select.query([id])?;
    rows.next()?.map(read).transpose()
}

pub(crate) fn discharge(group: &WriteBatch<'_>, id: i64) -> Result<bool, SqliteError> {
    Ok(group.prepare("DELETE FROM quarantine WHERE id = ?1")?.execute([id])? == 1)
}

fn read(row: &Row<'_>) -> Result<QuarantinedItem, SqliteError> {
    let QuarantineSummary {
        id, source, reason, event_id, detail, excerpt: body, received_at, ..
    } = read_columns(row)?;
    let context = row::read_headers(row, 7)?;
    Ok(QuarantinedItem { id, source, reason, event_id, detail, body, context, received_at })
}

fn read_summary(row: &Row<'_>) -> Result<QuarantineSummary, SqliteError> {
    let length = row.get::<_, i64>(7)?.unsigned_abs();
    Ok(QuarantineSummary { length, ..read_columns(row)? })
}

/// The columns that both kinds of rows begin with; the part of the body that is read counts as the
/// whole body.
fn read_columns(row: &Row<'_>) -> Result<QuarantineSummary, SqliteError> {
    let (source, reason): (String, String) = (row.get(1)?, row.get(2)?);
    let excerpt = row.get_ref(6)?.as_bytes().map_err(rusqlite::Error::from)?;
    Ok(QuarantineSummary {
        id: row.get(0)?,
        source: source.parse().map_err(|error| unreadable("the source", error))?,
        reason: QuarantineReason::from_name(&reason)
            .ok_or_else(|| unreadable("the reason", "is unknown"))?,
        event_id: row.get(3)?,
        detail: row.get(4)?,
        received_at: timestamp(row.get(5)?)?,
        length: excerpt.len() as u64,
        excerpt: Bytes::copy_from_slice(excerpt),
    })
}
