//! Processing, in process: how fast a full store is processed, and the plain loop beside it.

use std::{
    error::Error,
    path::Path,
    time::{Duration, Instant},
};

use cognigy_core::{
    EventArchive, EventStore, Failure, Headers, IncomingEvent, Pipeline, RawDelivery, Secret,
    SignatureScheme, SignatureVerifier, Source, State, Timestamp, TokioClock, Worker,
    WorkerOptions, sign,
};
use cognigy_store_sqlite::SqliteStore;
use rusqlite::{Connection, params};

/// A 512-byte event without a contact, so that no CRM is asked.
fn body(number: u64) -> Vec<u8> {
    let mut body = format!(
        r#"{{"eventId":"{:016x}-{number}","timestamp":"2026-03-01T12:00:00Z","type":"USER_INPUT_RECEIVED","payload":{{"input":""#,
        number.wrapping_mul(0x9e37_79b9_7f4a_7c15)
    );
    let filler = 512_usize.saturating_sub(body.len() + 3);
    body.extend(std::iter::repeat_n('x', filler));
    body.push_str(r#""}}"#);
    body.into_bytes()
}

/// The event numbered `number`, verified and parsed.
///
/// # Errors
/// It is not valid.
pub fn incoming(number: u64) -> Result<IncomingEvent, Box<dyn Error>> {
    verified(body(number))
}

/// As [`incoming`], from contact number `contact`.
///
/// # Errors
/// It is not valid.
pub fn incoming_from(contact: u64, number: u64) -> Result<IncomingEvent, Box<dyn Error>> {
    let body = String::from_utf8(body(number))?;
    let from = format!(r#"","externalId":"contact-{contact:08}","type":"#);
    verified(body.replacen(r#"","type":"#, &from, 1).into_bytes())
}

fn verified(body: Vec<u8>) -> Result<IncomingEvent, Box<dyn Error>> {
    let secret = Secret::new("a secret for benchmarks")?;
    let signature = sign(&secret, SignatureScheme::Base64, &body);
    let headers = [(SignatureVerifier::DEFAULT_HEADER, signature.as_str())];
    let raw = RawDelivery::new(headers, body);
    let source = Source::cognigy(SignatureVerifier::new(&secret));
    event_of(&source, raw)
}

fn event_of<H: Headers>(
    source: &Source,
    raw: RawDelivery<H>,
) -> Result<IncomingEvent, Box<dyn Error>> {
    let verified = source.verify(raw, Timestamp::UNIX_EPOCH);
    let delivery = verified.map_err(|refused| format!("refused: {}", refused.as_str()))?;
    source.read(&delivery)?.pop().ok_or_else(|| "no event".into())
}

/// Fills a new store with `count` events.
///
/// # Errors
/// The store cannot be written.
pub async fn fill(path: &Path, count: u64) -> Result<SqliteStore, Box<dyn Error>> {
    fill_with(path, (0..count).map(body)).await
}

/// Adds events with these bodies.
///
/// # Errors
/// A body is no event, or the store cannot be written.
pub(crate) async fn fill_with(
    path: &Path,
    bodies: impl Iterator<Item = Vec<u8>>,
) -> Result<SqliteStore, Box<dyn Error>> {
    let store = SqliteStore::open(path).await?;
    let secret = Secret::new("a secret for benchmarks")?;
    let source = Source::cognigy(SignatureVerifier::new(&secret));
    let now = std::time::SystemTime::now().into();
    let mut waiting = Vec::new();
    for body in bodies {
        let signature = sign(&secret, SignatureScheme::Base64, &body);
        let headers = [(SignatureVerifier::DEFAULT_HEADER, signature.as_str())];
        let event = event_of(&source, RawDelivery::new(headers, body))?;
        waiting.push(store.record(event, now));
        if waiting.len() == 1000 {
            for outcome in futures_util::future::join_all(waiting.drain(..)).await {
                outcome?;
            }
        }
    }
    for outcome in futures_util::future::join_all(waiting).await {
        outcome?;
    }
    Ok(store)
}

/// Processes `count` events with the library's worker and a handler that does nothing. Returns
/// events per second.
///
/// # Errors
/// The store cannot be used.
pub async fn worker(path: &Path, count: u32) -> Result<f64, Box<dyn Error>> {
    let store = fill(path, count.into()).await?;
    let pipeline = Pipeline::builder(SignatureVerifier::new(&Secret::new("unused secret")?))
        .store(store.clone())
        .handler(|_, _| async { Ok::<(), Failure>(()) })
        .build()?;
    let started = Instant::now();
    let worker = Worker::spawn_with(pipeline, TokioClock::new(), WorkerOptions::default());
    while store.counts().await?.of(State::Processed) < u64::from(count) {
        // Rarely, because counting shares the processors with the measured work.
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let seconds = started.elapsed().as_secs_f64();
    worker.shutdown().await;
    Ok(f64::from(count) / seconds)
}

/// The peer: a plain loop over such a table on one connection: claim a batch by
/// `UPDATE … RETURNING`, settle it, write an attempt row for each; two commits a batch.
///
/// # Errors
/// The database cannot be used.
pub fn plain_loop(path: &Path, count: u32, batch: u32) -> Result<f64, Box<dyn Error>> {
    let mut connection = Connection::open(path)?;
    connection.execute_batch(
        "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;
         CREATE TABLE events (id INTEGER PRIMARY KEY, event_id TEXT UNIQUE NOT NULL,
            status TEXT NOT NULL, due_at INTEGER, fence INTEGER NOT NULL DEFAULT 0);
         CREATE INDEX due ON events (due_at) WHERE due_at IS NOT NULL;
         CREATE TABLE bodies (event INTEGER PRIMARY KEY, body BLOB NOT NULL);
         CREATE TABLE attempts (event INTEGER NOT NULL, number INTEGER NOT NULL,
            outcome TEXT NOT NULL, PRIMARY KEY (event, number)) WITHOUT ROWID;",
    )?;
    let filling = connection.transaction()?;
    for number in 0..count {
        let body = body(number.into());
        filling
            .prepare_cached(
                "INSERT INTO events (event_id, status, due_at) VALUES (?1, 'pending', ?2)",
            )?
            .execute(params![
                format!("{:016x}", u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15)),
                number
            ])?;
        let id = filling.last_insert_rowid();
        filling.prepare_cached("INSERT INTO bodies VALUES (?1, ?2)")?.execute(params![id, body])?;
    }
    filling.commit()?;

    let started = Instant::now();
    loop {
        let claim = connection.transaction()?;
        let claimed: Vec<i64> = claim
            .prepare_cached(
                "UPDATE events SET status = 'processing', due_at = due_at + 60000000, fence = fence + 1
                 WHERE id IN (SELECT id FROM events WHERE due_at <= ?1 ORDER BY due_at LIMIT ?2)
                 RETURNING id",
            )?
            .query_map(params![count, batch], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        for id in &claimed {
            claim
                .prepare_cached("SELECT body FROM bodies WHERE event = ?1")?
                .query_row([id], |row| {
                    row.get_ref(0)?.as_bytes().map(<[u8]>::len).map_err(Into::into)
                })?;
        }
        claim.commit()?;
        if claimed.is_empty() {
            break;
        }
        let settle = connection.transaction()?;
        for id in claimed {
            settle
                .prepare_cached("UPDATE events SET status = 'processed', due_at = NULL, fence = fence + 1 WHERE id = ?1")?
                .execute([id])?;
            settle
                .prepare_cached("INSERT INTO attempts VALUES (?1, 1, 'succeeded')")?
                .execute([id])?;
        }
        settle.commit()?;
    }
    Ok(f64::from(count) / started.elapsed().as_secs_f64())
}
