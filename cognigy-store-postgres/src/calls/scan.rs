//! Reads many events with what a search has to see of them.

use bytes::Bytes;
use cognigy_core::{Contact, Cursor, LastFailure, SCAN_BYTES, ScanRequest, Scanned};
use deadpool_postgres::Object;
use tokio_postgres::Row;

use crate::{
    calls::archive::{Conditions, FROM_EVENTS, FROM_FAILING, read_summary},
    error::{PostgresError, unreadable},
    row::{IDENTITY, STATE, read, sql_limit, unescape},
};

/// How the last attempt of the present run ended.
const LAST: &str = "LEFT JOIN LATERAL (
    SELECT error, started_at FROM cognigy_attempts
    WHERE event = events.id AND received_at = events.received_at AND run = events.run
    ORDER BY fence DESC LIMIT 1) AS last ON true";

/// What is shown of the received bytes, and what the CRM knew.
const CONTENTS: &str = "LEFT JOIN LATERAL (
    SELECT body FROM cognigy_bodies
    WHERE event = events.id AND received_at = events.received_at
      AND events.sensitive IS NOT TRUE AND events.forgotten IS NULL LIMIT 1) AS bodies ON true
LEFT JOIN LATERAL (
    SELECT json FROM cognigy_contexts
    WHERE event = events.id AND received_at = events.received_at LIMIT 1) AS contexts ON true";

pub(crate) async fn scan(
    connection: &Object,
    request: &ScanRequest,
) -> Result<Vec<Scanned>, PostgresError> {
    let mut conditions = Conditions::of(connection, &request.filter, request.after).await?;
    if request.only_failing {
        conditions.only_failing();
    }
    let rows = connection.query(&select(&conditions, request), &conditions.values()).await?;
    rows.iter().map(read_scanned).collect()
}

fn select(conditions: &Conditions, request: &ScanRequest) -> String {
    let (from, condition) = (conditions.from, conditions.condition());
    let (id, queued) = conditions.id_and_queue();
    let (contents, columns) = match request.with_contents {
        true => (CONTENTS, "bodies.body, contexts.json"),
        false => ("", "NULL::bytea AS body, NULL::text AS json"),
    };
    let limit = sql_limit(request.limit);
    // `before` is the size of the bodies above.
    format!(
        "SELECT * FROM (
             SELECT *, sum(octet_length(body))
                       OVER (ORDER BY id DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING)
                       AS before
             FROM (SELECT events.id, {STATE}, events.received_at, events.processed_at,
                          events.correlation,
                          EXISTS (SELECT FROM cognigy_contexts AS contexts
                                  WHERE contexts.event = events.id
                                    AND contexts.received_at = events.received_at)
                          AS has_contact, last.error, last.started_at, {columns}, {IDENTITY}
                   FROM {from} {queued} {LAST} {contents}
                   WHERE {condition} ORDER BY {id} DESC LIMIT {limit}) AS rows
         ) AS rows WHERE before IS NULL OR before <= {SCAN_BYTES} ORDER BY id DESC"
    )
}

impl Conditions {
    /// Only events that are dead-lettered, or unfinished after a failed attempt of their run.
    fn only_failing(&mut self) {
        if self.from == FROM_EVENTS {
            self.begin_at(FROM_FAILING);
        }
        self.terms.push(
            "(queue.event IS NOT NULL OR events.state IN ('dead_lettering', 'dead_lettered'))
             AND last.error IS NOT NULL"
                .to_owned(),
        );
    }
}

fn read_scanned(row: &Row) -> Result<Scanned, PostgresError> {
    let error = read::<Option<String>>(row, "error")?.map(unescape);
    let failure = match error {
        Some(error) => Some(LastFailure { error, at: read(row, "started_at")? }),
        None => None,
    };
    let contact = read::<Option<&str>>(row, "json")?.map(Contact::from_json).transpose();
    Ok(Scanned {
        cursor: Cursor(read(row, "id")?),
        event: read_summary(row)?,
        body: read::<Option<&[u8]>>(row, "body")?.map(Bytes::copy_from_slice),
        contact: contact.map_err(|error| unreadable("the CRM context", error))?,
        failure,
    })
}
