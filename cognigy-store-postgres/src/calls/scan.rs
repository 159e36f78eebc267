//! Reads many events with what a search has to see of them.

use bytes::Bytes;
use cognigy_core::{
    Contact, Cursor, EventFilter, LastFailure, SCAN_BYTES, ScanPage, ScanRequest, Scanned,
    search_index::{IndexedRange, SEGMENT_EVENTS, terms_of},
};
use deadpool_postgres::Object;
use tokio_postgres::Row;

use crate::{
    calls::{
        archive::read_summary,
        conditions::{Conditions, Matching},
        search_index::{Candidates, IndexWalk},
    },
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

/// How much one scan looks at, in events that it reads or could have read.
const SCAN_COST: i64 = 4096;

pub(crate) async fn scan(
    connection: &mut Object,
    request: &ScanRequest,
) -> Result<ScanPage, PostgresError> {
    let mut conditions = Conditions::of(connection, &request.filter, request.after).await?;
    let terms = terms_of(&request.filter);
    let mut scan = Scan { page: ScanPage::default(), bytes: 0, request };
    if request.only_failing {
        conditions.only_failing();
    }
    if request.only_failing || (request.filter.words.is_none() && terms.is_empty()) {
        scan.add(connection, &conditions, &Candidates::All).await?;
        return Ok(scan.page);
    }
    let mut walk = IndexWalk::new(&terms, conditions.ends(connection).await?);
    let mut looked_at = 0;
    while let Some(stretch) = walk.next(connection).await? {
        if scan.add(connection, &conditions, &stretch.candidates).await? {
            break;
        }
        looked_at += stretch.cost;
        if looked_at >= SCAN_COST {
            scan.page.next = Some(Cursor(stretch.down_to)).filter(|_| !walk.is_at_end());
            break;
        }
    }
    Ok(scan.page)
}

/// A page while it is filled.
struct Scan<'r> {
    page: ScanPage,
    bytes: usize,
    request: &'r ScanRequest,
}

impl Scan<'_> {
    /// Adds those of the candidates that match. Returns whether the page is full.
    async fn add(
        &mut self,
        connection: &Object,
        conditions: &Conditions,
        candidates: &Candidates,
    ) -> Result<bool, PostgresError> {
        let Self { page, bytes, request } = self;
        if candidates.is_empty() {
            return Ok(false);
        }
        let rest = request.limit - page.events.len();
        let select = select(conditions, candidates, rest, request.with_contents);
        for row in &connection.query(&select, &conditions.values()).await? {
            if page.events.len() == request.limit || *bytes > SCAN_BYTES {
                page.next = page.events.last().map(|last| last.cursor);
                return Ok(true);
            }
            let scanned = read_scanned(row)?;
            *bytes += scanned.body.as_ref().map_or(0, Bytes::len);
            page.events.push(scanned);
        }
        Ok(false)
    }
}

/// Reads the newest events of a range with their contents: as many as fit into an answer.
pub(crate) async fn read_range(
    connection: &Object,
    range: IndexedRange,
) -> Result<Vec<Scanned>, PostgresError> {
    let conditions = Conditions::of(connection, &EventFilter::default(), None).await?;
    let candidates = Candidates::Between { lowest: range.first, highest: range.last };
    let select = select(&conditions, &candidates, SEGMENT_EVENTS, true);
    let rows = connection.query(&select, &conditions.values()).await?;
    rows.iter().map(read_scanned).collect()
}

fn select(
    conditions: &Conditions,
    candidates: &Candidates,
    limit: usize,
    with_contents: bool,
) -> String {
    let Matching { from, id, condition } = conditions.among(candidates);
    let (contents, columns) = match with_contents {
        true => (CONTENTS, "bodies.body, contexts.json"),
        false => ("", "NULL::bytea AS body, NULL::text AS json"),
    };
    // One more, to see whether there is a next page.
    let limit = sql_limit(limit).saturating_add(1);
    // `before` is the size of the bodies above: the server sends at most one row too many.
    format!(
        "SELECT * FROM (
             SELECT *, sum(octet_length(body))
                       OVER (ORDER BY id DESC ROWS BETWEEN UNBOUNDED PRECEDING AND 2 PRECEDING)
                       AS before
             FROM (SELECT events.id, {STATE}, events.received_at, events.processed_at,
                          events.correlation,
                          EXISTS (SELECT FROM cognigy_contexts AS contexts
                                  WHERE contexts.event = events.id
                                    AND contexts.received_at = events.received_at)
                          AS has_contact, last.error, last.started_at, {columns}, {IDENTITY}
                   FROM {from} {LAST} {contents}
                   WHERE {condition} ORDER BY {id} DESC LIMIT {limit}) AS rows
         ) AS rows WHERE before IS NULL OR before <= {SCAN_BYTES} ORDER BY id DESC"
    )
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
