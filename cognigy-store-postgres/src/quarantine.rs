//! Bodies that were signed but could not be taken.

use bytes::Bytes;
use cognigy_core::{
    Cursor, PageRequest, QuarantineEntry, QuarantinePage, QuarantineReason, QuarantinedItem,
    Timestamp,
};
use deadpool_postgres::Object;
use sha2::{Digest, Sha256};
use tokio_postgres::Row;

use crate::{
    error::{Problem, unreadable},
    row::{Private, escape, read, sql_limit, unescape},
};

const COLUMNS: &str = "id, source, reason, event_id, detail, received_at, body";

/// Past the capacity, the oldest go; the count is taken before the insertion, hence the one more.
const KEEP: &str = "
WITH kept AS (
    INSERT INTO cognigy_quarantine (source, reason, event_id, detail, received_at, digest, body)
    VALUES ($1, $2, $3, $4, coalesce($5::timestamptz, statement_timestamp()), $6, $7)
    ON CONFLICT (source, reason, digest) DO NOTHING RETURNING id
)
DELETE FROM cognigy_quarantine WHERE id = ANY (ARRAY(
    SELECT id FROM cognigy_quarantine ORDER BY id
    LIMIT (SELECT CASE WHEN EXISTS (SELECT 1 FROM kept)
                       THEN greatest(0, count(*) + 1 - $8::bigint) ELSE 0 END
           FROM cognigy_quarantine)))";

pub(crate) async fn keep(
    connection: &Object,
    entry: &QuarantineEntry,
    now: Option<Timestamp>,
    capacity: usize,
) -> Result<(), Problem> {
    let keep = connection.prepare_cached(KEEP).await?;
    let event_id = Private(entry.event_id.as_deref().map(escape));
    let detail = Private(escape(&entry.detail));
    let digest = Sha256::digest(&entry.body);
    let body = Private(&entry.body[..]);
    connection
        .execute(
            &keep,
            &[
                &entry.source.as_str(),
                &entry.reason.as_str(),
                &event_id,
                &detail,
                &now,
                &&digest[..],
                &body,
                &sql_limit(capacity.max(1)),
            ],
        )
        .await?;
    Ok(())
}

pub(crate) async fn page(
    connection: &Object,
    page: PageRequest,
) -> Result<QuarantinePage, Problem> {
    let select = connection
        .prepare_cached(&format!(
            "SELECT {COLUMNS} FROM cognigy_quarantine WHERE id < $1 ORDER BY id DESC LIMIT $2"
        ))
        .await?;
    let before = page.after.map_or(i64::MAX, |cursor| cursor.0);
    // One more, to see whether there is a next page.
    let limit = sql_limit(page.limit).saturating_add(1);
    let mut found = QuarantinePage::default();
    for row in connection.query(&select, &[&before, &limit]).await? {
        if found.items.len() == page.limit {
            found.next = found.items.last().map(|item| Cursor(item.id));
            break;
        }
        found.items.push(read_item(&row)?);
    }
    Ok(found)
}

pub(crate) async fn find(connection: &Object, id: i64) -> Result<Option<QuarantinedItem>, Problem> {
    let select = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM cognigy_quarantine WHERE id = $1"))
        .await?;
    let row = connection.query_opt(&select, &[&id]).await?;
    row.as_ref().map(read_item).transpose()
}

pub(crate) async fn discharge(connection: &Object, id: i64) -> Result<bool, Problem> {
    let delete = connection.prepare_cached("DELETE FROM cognigy_quarantine WHERE id = $1").await?;
    Ok(connection.execute(&delete, &[&id]).await? == 1)
}

fn read_item(row: &Row) -> Result<QuarantinedItem, Problem> {
    let (source, reason): (&str, &str) = (read(row, "source")?, read(row, "reason")?);
    Ok(QuarantinedItem {
        id: read(row, "id")?,
        source: source.parse().map_err(|error| unreadable("the source", error))?,
        reason: QuarantineReason::from_name(reason)
            .ok_or_else(|| unreadable("the reason", "is unknown"))?,
        event_id: read::<Option<String>>(row, "event_id")?.map(unescape),
        detail: unescape(read(row, "detail")?),
        received_at: read(row, "received_at")?,
        body: Bytes::copy_from_slice(read(row, "body")?),
    })
}
