//! The record of what operators did.

use cognigy_core::{AuditEntry, AuditPage, Cursor, EventKey, PageRequest, Timestamp};
use deadpool_postgres::Object;
use tokio_postgres::Row;

use crate::{
    error::{PostgresError, unreadable},
    row::{Private, escape, read, sql_limit, unescape},
};

pub(crate) async fn append(
    connection: &Object,
    entry: &AuditEntry,
    now: Option<Timestamp>,
) -> Result<(), PostgresError> {
    let insert = connection
        .prepare_cached(
            "INSERT INTO cognigy_audit (at, operator, action, target, source, filter, count, outcome)
             VALUES (coalesce($1::timestamptz, statement_timestamp()), $2, $3, $4, $5, $6, $7, $8)",
        )
        .await?;
    let text = |text: &Option<String>| text.as_deref().map(|text| escape(text).into_owned());
    let (target, filter) = (Private(text(&entry.target)), Private(text(&entry.filter)));
    let source = entry.source.as_ref().map(|source| source.as_str());
    let count = entry.count.map(|count| i64::try_from(count).unwrap_or(i64::MAX));
    let (by, action) = (escape(&entry.by), escape(&entry.action));
    let outcome = Private(escape(&entry.outcome));
    connection
        .execute(&insert, &[&now, &by, &action, &target, &source, &filter, &count, &outcome])
        .await?;
    Ok(())
}

pub(crate) async fn page(
    connection: &Object,
    about: Option<&EventKey>,
    page: PageRequest,
) -> Result<AuditPage, PostgresError> {
    let condition = match about {
        Some(_) => "target = $3 AND source = $4 AND",
        // Both parameters appear, so that there is one number of them.
        None => {
            "$3::text IS NULL AND $4::text IS NULL AND (source IS NULL OR count IS NOT NULL) AND"
        }
    };
    let select = connection
        .prepare_cached(&format!(
            "SELECT id, at, operator, action, target, source, filter, count, outcome
             FROM cognigy_audit WHERE {condition} id < $1 ORDER BY id DESC LIMIT $2"
        ))
        .await?;
    let before = page.after.map_or(i64::MAX, |cursor| cursor.0);
    // One more, to see whether there is a next page.
    let limit = sql_limit(page.limit).saturating_add(1);
    let id = Private(about.map(|key| escape(key.id.as_str())));
    let source = about.map(|key| key.source.as_str());
    let (mut found, mut last) = (AuditPage::default(), None);
    for row in connection.query(&select, &[&before, &limit, &id, &source]).await? {
        if found.entries.len() == page.limit {
            found.next = last.map(Cursor);
            break;
        }
        last = Some(read(&row, "id")?);
        found.entries.push(read_entry(&row)?);
    }
    Ok(found)
}

fn read_entry(row: &Row) -> Result<AuditEntry, PostgresError> {
    let source: Option<&str> = read(row, "source")?;
    let source = source.map(str::parse).transpose();
    Ok(AuditEntry {
        at: read(row, "at")?,
        by: unescape(read(row, "operator")?),
        action: unescape(read(row, "action")?),
        target: read::<Option<String>>(row, "target")?.map(unescape),
        source: source.map_err(|error| unreadable("the source", error))?,
        filter: read::<Option<String>>(row, "filter")?.map(unescape),
        count: read::<Option<i64>>(row, "count")?.map(i64::unsigned_abs),
        outcome: unescape(read(row, "outcome")?),
    })
}
