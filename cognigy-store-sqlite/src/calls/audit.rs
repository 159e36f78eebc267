//! The record of what operators did.

use cognigy_core::{AuditEntry, AuditPage, Cursor, EventKey, PageRequest};
use rusqlite::{Connection, Row, params};

use crate::{
    error::SqliteError,
    file::write_batch::WriteBatch,
    row::{micros, sql_limit, timestamp, unreadable},
};

pub(crate) fn append(group: &WriteBatch<'_>, entry: &AuditEntry) -> Result<(), SqliteError> {
    group
        .prepare(
            "INSERT INTO audit (at, operator, action, target, source, filter, count, outcome)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        )?
        .execute(params![
            micros(entry.at),
            entry.by,
            entry.action,
            entry.target,
            entry.source.as_ref().map(|source| source.as_str()),
            entry.filter,
            entry.count.map(|count| i64::try_from(count).unwrap_or(i64::MAX)),
            entry.outcome,
        ])?;
    Ok(())
}

pub(crate) fn page(
    connection: &Connection,
    about: Option<&EventKey>,
    page: PageRequest,
) -> Result<AuditPage, SqliteError> {
    let condition = match about {
        Some(_) => "target = ?3 AND source = ?4 AND",
        // Both parameters appear, so that there is one number of them.
        None => "?3 IS NULL AND ?4 IS NULL AND (source IS NULL OR count IS NOT NULL) AND",
    };
    let mut select = connection.prepare_cached(&format!(
        "SELECT id, at, operator, action, target, source, filter, count, outcome
         FROM audit WHERE {condition} id < ?1 ORDER BY id DESC LIMIT ?2"
    ))?;
    let before = page.after.map_or(i64::MAX, |cursor| cursor.0);
    // One more, to see whether there is a next page.
    let limit = sql_limit(page.limit).saturating_add(1);
    let (id, source) = (about.map(|key| key.id.as_str()), about.map(|key| key.source.as_str()));
    let mut rows = select.query(params![before, limit, id, source])?;
    let (mut found, mut last) = (AuditPage::default(), None);
    while let Some(row) = rows.next()? {
        if found.entries.len() == page.limit {
            found.next = last.map(Cursor);
            break;
        }
        last = Some(row.get(0)?);
        found.entries.push(read(row)?);
    }
    Ok(found)
}

fn read(row: &Row<'_>) -> Result<AuditEntry, SqliteError> {
    let source: Option<String> = row.get(5)?;
    let source = source.map(|source| source.parse()).transpose();
    Ok(AuditEntry {
        at: timestamp(row.get(1)?)?,
        by: row.get(2)?,
        action: row.get(3)?,
        target: row.get(4)?,
        source: source.map_err(|error| unreadable("the source", error))?,
        filter: row.get(6)?,
        count: row.get::<_, Option<i64>>(7)?.map(i64::unsigned_abs),
        outcome: row.get(8)?,
    })
}
