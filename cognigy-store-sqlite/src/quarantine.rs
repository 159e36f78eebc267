//! Bodies that were signed but could not be taken.

use bytes::Bytes;
use cognigy_core::{
    Cursor, PageRequest, QuarantineEntry, QuarantinePage, QuarantineReason, QuarantinedItem,
    Timestamp,
};
use rusqlite::{Connection, Row, params};
use sha2::{Digest, Sha256};

use crate::{
    error::Problem,
    group::Group,
    row::{micros, sql_limit, timestamp, unreadable},
};

const COLUMNS: &str = "id, source, reason, event_id, detail, received_at, body";

pub(crate) fn keep(
    group: &Group<'_>,
    entry: &QuarantineEntry,
    now: Timestamp,
) -> Result<(), Problem> {
    let inserted = group
        .prepare(
            "INSERT INTO quarantine (source, reason, event_id, detail, received_at, digest, body)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (source, reason, digest) DO NOTHING",
        )?
        .execute(params![
            entry.source.as_str(),
            entry.reason.as_str(),
            entry.event_id,
            entry.detail,
            micros(now),
            &Sha256::digest(&entry.body)[..],
            &entry.body[..],
        ])?;
    if inserted == 1 {
        group
            .prepare(
                "DELETE FROM quarantine WHERE id IN (
                     SELECT id FROM quarantine ORDER BY id
                     LIMIT max(0, (SELECT count(*) FROM quarantine) - ?1))",
            )?
            .execute([sql_limit(group.options.quarantine_capacity)])?;
    }
    Ok(())
}

pub(crate) fn page(connection: &Connection, page: PageRequest) -> Result<QuarantinePage, Problem> {
    let mut select = connection.prepare_cached(&format!(
        "SELECT {COLUMNS} FROM quarantine WHERE id < ?1 ORDER BY id DESC LIMIT ?2"
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
        found.items.push(read(row)?);
    }
    Ok(found)
}

pub(crate) fn find(connection: &Connection, id: i64) -> Result<Option<QuarantinedItem>, Problem> {
    let mut select =
        connection.prepare_cached(&format!("SELECT {COLUMNS} FROM quarantine WHERE id = ?1"))?;
    let mut rows = select.query([id])?;
    rows.next()?.map(read).transpose()
}

pub(crate) fn discharge(group: &Group<'_>, id: i64) -> Result<bool, Problem> {
    Ok(group.prepare("DELETE FROM quarantine WHERE id = ?1")?.execute([id])? == 1)
}

fn read(row: &Row<'_>) -> Result<QuarantinedItem, Problem> {
    let (source, reason): (String, String) = (row.get(1)?, row.get(2)?);
    Ok(QuarantinedItem {
        id: row.get(0)?,
        source: source.parse().map_err(|error| unreadable("the source", error))?,
        reason: QuarantineReason::from_name(&reason)
            .ok_or_else(|| unreadable("the reason", "is unknown"))?,
        event_id: row.get(3)?,
        detail: row.get(4)?,
        received_at: timestamp(row.get(5)?)?,
        body: Bytes::copy_from_slice(row.get_ref(6)?.as_bytes().map_err(rusqlite::Error::from)?),
    })
}
