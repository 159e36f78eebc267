//! Bodies that were signed but could not be accepted.

use bytes::Bytes;
use cognigy_core::{
    Cursor, EXCERPT_BYTES, PageRequest, QuarantineEntry, QuarantineLimits, QuarantinePage,
    QuarantineReason, QuarantineSummary, QuarantinedItem, Timestamp,
};
use deadpool_postgres::Object;
use tokio_postgres::Row;

use crate::{
    error::{PostgresError, unreadable},
    row::{self, Private, escape, read, sql_limit, unescape},
};

const COLUMNS: &str = "id, source, reason, event_id, detail, received_at, body, headers";

/// If the source has too many invalid bodies, or they are too large together, its oldest ones are
/// removed: `$8` is the most bodies, `$9` the most bytes. The new row is not among those that are
/// counted, since a statement does not see its own insertions.
const KEEP: &str = "
WITH kept AS (
    INSERT INTO cognigy_quarantine (source, reason, event_id, detail, received_at, digest, body, headers)
    VALUES ($1, $2, $3, $4, coalesce($5::timestamptz, statement_timestamp()), $6, $7, $10)
    ON CONFLICT (source, reason, digest) DO NOTHING RETURNING octet_length(body) AS bytes
), evicted AS (
    DELETE FROM cognigy_quarantine WHERE id = ANY (ARRAY(
        SELECT id FROM (
            SELECT id, row_number() OVER newest AS place, sum(octet_length(body)) OVER newest AS bytes
            FROM cognigy_quarantine WHERE source = $1 AND reason = $2
            WINDOW newest AS (ORDER BY id DESC)) AS older
        CROSS JOIN kept
        WHERE $2 = 'invalid' AND (place + 1 > $8::bigint OR older.bytes + kept.bytes > $9::bigint)))
    RETURNING id
)
SELECT count(*) FROM evicted";

/// Keeps a body. Returns how many older ones were removed for it.
pub(crate) async fn keep(
    connection: &Object,
    entry: &QuarantineEntry,
    limits: QuarantineLimits,
    now: Option<Timestamp>,
) -> Result<u64, PostgresError> {
    let keep = connection.prepare_cached(KEEP).await?;
    let event_id = Private(entry.event_id.as_deref().map(escape));
    let detail = Private(escape(&entry.detail));
    let headers = Private(entry.context.to_json());
    let digest = entry.digest();
    let body = Private(&entry.body[..]);
    let row = connection
        .query_one(
            &keep,
            &[
                &entry.source.as_str(),
                &entry.reason.as_str(),
                &event_id,
                &detail,
                &now,
                &&digest[..],
                &body,
                &sql_limit(limits.items),
                &i64::try_from(limits.bytes).unwrap_or(i64::MAX),
                &headers,
            ],
        )
        .await?;
    Ok(row.try_get::<_, i64>(0)?.unsigned_abs())
}

pub(crate) async fn page(
    connection: &Object,
    page: PageRequest,
) -> Result<QuarantinePage, PostgresError> {
    let select = connection
        .prepare_cached(&format!(
            "SELECT id, source, reason, event_id, detail, received_at,
                    substring(body FROM 1 FOR {EXCERPT_BYTES}) AS body,
                    octet_length(body)::bigint AS length
             FROM cognigy_quarantine WHERE id < $1 ORDER BY id DESC LIMIT $2"
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
        let length = read::<i64>(&row, "length")?.unsigned_abs();
        found.items.push(QuarantineSummary { length, ..read_columns(&row)? });
    }
    Ok(found)
}

pub(crate) async fn find(
    connection: &Object,
    id: i64,
) -> Result<Option<QuarantinedItem>, PostgresError> {
    let select = connection
        .prepare_cached(&format!("SELECT {COLUMNS} FROM cognigy_quarantine WHERE id = $1"))
        .await?;
    let row = connection.query_opt(&select, &[&id]).await?;
    row.as_ref().map(read_item).transpose()
}

pub(crate) async fn discharge(connection: &Object, id: i64) -> Result<bool, PostgresError> {
    let delete = connection.prepare_cached("DELETE FROM cognigy_quarantine WHERE id = $1").await?;
    Ok(connection.execute(&delete, &[&id]).await? == 1)
}

fn read_item(row: &Row) -> Result<QuarantinedItem, PostgresError> {
    let QuarantineSummary {
        id, source, reason, event_id, detail, excerpt: body, received_at, ..
    } = read_columns(row)?;
    let context = row::read_headers(row)?;
    Ok(QuarantinedItem { id, source, reason, event_id, detail, body, context, received_at })
}

/// The columns that both kinds of rows have; the part of the body that is read counts as the whole
/// body.
fn read_columns(row: &Row) -> Result<QuarantineSummary, PostgresError> {
    let (source, reason): (&str, &str) = (read(row, "source")?, read(row, "reason")?);
    let excerpt: &[u8] = read(row, "body")?;
    Ok(QuarantineSummary {
        id: read(row, "id")?,
        source: source.parse().map_err(|error| unreadable("the source", error))?,
        reason: QuarantineReason::from_name(reason)
            .ok_or_else(|| unreadable("the reason", "is unknown"))?,
        event_id: read::<Option<String>>(row, "event_id")?.map(unescape),
        detail: unescape(read(row, "detail")?),
        received_at: read(row, "received_at")?,
        length: excerpt.len() as u64,
        excerpt: Bytes::copy_from_slice(excerpt),
    })
}
