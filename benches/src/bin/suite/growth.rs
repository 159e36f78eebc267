//! The costs when the store has grown: `./scripts/bench --growth`, about ten minutes.
//!
//! The history is written straight into the tables, with random ids: recording ten million events
//! through the store would take longer than all measurements.

use std::{
    error::Error,
    path::Path,
    time::{Duration, Instant},
};

use cognigy_benches::{
    load::{Ids, Load},
    server::{SECRET, Server},
};
use cognigy_core::{
    ClaimRequest, EventArchive, EventStore, PurgeRequest, RunEnd, Secret, Settlement, SourceName,
};

use crate::{
    plot::{Panel, Series},
    report::{Results, Table, count, machine},
};

/// How many events are stored at each point. The middle of each range of a hundredfold, too.
const SIZES: [u64; 4] = [10_000, 100_000, 1_000_000, 10_000_000];
/// How long retention is measured while events arrive.
const PURGE_SPAN: Duration = Duration::from_secs(30);
/// Events that wait while memory is measured.
const BACKLOG: u64 = 1_000_000;

type Outcome<T> = Result<T, Box<dyn Error>>;

pub(crate) fn run(folder: &Path) -> Outcome<Results> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let database = folder.join("growth.db");
    let mut table = Table::new(&[
        "stored events",
        "ingest/s",
        "p99",
        "written an event",
        "bare ingest/s",
        "bare p99",
        "bare written",
        "ingest/s, ascending ids",
        "duplicates/s",
        "claim and settle/s",
        "ready after",
        "memory",
        "file",
    ]);
    let bare_database = folder.join("bare.db");
    let (mut rates, mut bare_rates) = (Vec::new(), Vec::new());
    let (mut tails, mut bare_tails, mut claims) = (Vec::new(), Vec::new(), Vec::new());
    let mut stored = 0;
    for size in SIZES {
        runtime.block_on(fill(&database, size - stored, "processed"))?;
        fill_bare(&bare_database, size - stored)?;
        stored = size;
        let server =
            Server::ours(&database, &[("COGNIGY_WORKER", "off"), ("COGNIGY_RETENTION", "3650d")])?;
        let ready = server.ready_after;
        let fresh = load(&server, &format!("growth-{size}"), None)?;
        let known = Load { ids: Ids::Repeated, ..fresh.clone() };
        let ascending = Load { ids: Ids::Ascending, ..fresh.clone() };
        let fresh = Ingest::measure(&server, &fresh)?;
        let (known, ascending) = (known.run()?, ascending.run()?);
        let memory = server.peak_memory().unwrap_or(f64::NAN);
        drop(server);
        let server = Server::bare(&bare_database)?;
        let bare = Ingest::measure(&server, &load(&server, &format!("bare-{size}"), None)?)?;
        drop(server);
        let claim = runtime.block_on(claim_and_settle(&database))?;
        let megabytes = std::fs::metadata(&database)?.len() as f64 / 1e6;
        table.row(&[
            count(size as f64),
            count(fresh.rate),
            format!("{:.1} ms", fresh.tail),
            format!("{:.1} kB", fresh.written),
            count(bare.rate),
            format!("{:.1} ms", bare.tail),
            format!("{:.1} kB", bare.written),
            count(ascending.throughput()),
            count(known.throughput()),
            count(claim),
            format!("{:.0} ms", ready.as_secs_f64() * 1000.0),
            format!("{memory:.0} MiB"),
            format!("{} MB", count(megabytes)),
        ]);
        rates.push((size as f64, fresh.rate));
        bare_rates.push((size as f64, bare.rate));
        tails.push((size as f64, fresh.tail));
        bare_tails.push((size as f64, bare.tail));
        claims.push((size as f64, claim));
        println!("{}", table.text());
    }
    let purge = runtime.block_on(purge_under_load(&database))?;
    let backlog = backlog(&runtime, &folder.join("backlog.db"))?;
    let x = "stored events";
    let both = |ours, bare| {
        vec![Series { name: "cognigy-server", points: ours }, Series { name: "bare", points: bare }]
    };
    Ok(Results {
        table: format!(
            "# Growth\n\nWritten by `./scripts/bench --growth` on {}. Ids are spread like random ones; \
             {}-byte bodies, 64 connections, 5 s a figure.\n\n{}\n{purge}\n\n{backlog}\n\n![Growth](growth.svg)\n",
            machine(),
            512,
            table.text()
        ),
        panels: vec![
            Panel { title: "ingest, events/s".into(), x, series: both(rates, bare_rates) },
            Panel { title: "ingest, p99 in ms".into(), x, series: both(tails, bare_tails) },
            Panel {
                title: "claim and settle, events/s".into(),
                x,
                series: vec![Series { name: "SqliteStore", points: claims }],
            },
        ],
    })
}

/// The rate of arriving events, and how much they write to the disk.
struct Ingest {
    rate: f64,
    /// Milliseconds.
    tail: f64,
    /// Kilobytes an event.
    written: f64,
}

impl Ingest {
    fn measure(server: &Server, load: &Load) -> Outcome<Self> {
        let before = server.written().unwrap_or(f64::NAN);
        let report = load.run()?;
        let written = server.written().unwrap_or(f64::NAN) - before;
        Ok(Self {
            rate: report.throughput(),
            tail: report.milliseconds(0.99),
            written: written / report.accepted as f64 / 1e3,
        })
    }
}

/// Claims and settles 50 000 of the waiting events straight at the store.
async fn claim_and_settle(database: &Path) -> Outcome<f64> {
    let store = cognigy_store_sqlite::SqliteStore::open(database).await?;
    let started = Instant::now();
    let mut done = 0.0;
    while done < 50_000.0 {
        let now = std::time::SystemTime::now().into();
        let (source, lease) = (SourceName::default(), Duration::from_secs(60));
        let request = ClaimRequest { source, runs: 256, dead_letters: 256, lease, now };
        let batch = store.claim_due(request).await?;
        if batch.is_empty() {
            break;
        }
        done += batch.len() as f64;
        let settlements: Vec<Settlement> = batch
            .runs
            .into_iter()
            .map(|work| work.claim.settle(RunEnd::Processed { contact: None }, None, now))
            .collect();
        store.settle(&settlements).await?;
    }
    Ok(done / started.elapsed().as_secs_f64())
}

/// Adds `count` events in `state`, with random ids and bodies of 512 bytes.
async fn fill(database: &Path, count: u64, state: &str) -> Outcome<()> {
    // Makes the tables.
    drop(cognigy_store_sqlite::SqliteStore::open(database).await?);
    let connection = rusqlite::Connection::open(database)?;
    let done = state == "processed";
    connection.execute_batch(
        "PRAGMA synchronous=OFF; PRAGMA cache_size=-2000000; PRAGMA wal_autocheckpoint=20000;",
    )?;
    let mut left = count;
    while left > 0 {
        let part = left.min(100_000);
        connection.execute_batch(&format!(
            "BEGIN;
             CREATE TEMP TABLE IF NOT EXISTS more (id INTEGER PRIMARY KEY, event_id TEXT);
             DELETE FROM more;
             INSERT INTO more WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {part})
                 SELECT n + (SELECT coalesce(max(id), 0) FROM events), lower(hex(randomblob(16))) FROM n;
             INSERT INTO events (id, state, due_at, fence, run, attempt, received_at, processed_at,
                                 source, event_id, type, event_time, timestamp_json, user_id)
                 SELECT id, '{state}', {due}, 2, 1, 1, id, {processed}, 'cognigy', event_id,
                        'USER_INPUT_RECEIVED', 1772366400000000, '1772366400', NULL FROM more;
             INSERT INTO bodies SELECT id, cast('{{\"eventId\":\"' || event_id ||
                 '\",\"timestamp\":1772366400,\"type\":\"USER_INPUT_RECEIVED\",\"payload\":{{\"input\":\"'
                 || printf('%.*c', 390, 'x') || '\"}}}}' AS BLOB) FROM more;
             INSERT INTO attempts SELECT id, 1, 1, 1, id, 100, 'succeeded', NULL FROM more WHERE {done};
             INSERT INTO tallies VALUES ('state', '{state}', {part}), ('type', 'USER_INPUT_RECEIVED', {part})
                 ON CONFLICT DO UPDATE SET count = count + excluded.count;
             COMMIT;",
            due = if done { "NULL" } else { "1" },
            processed = if done { "id" } else { "NULL" },
        ))?;
        left -= part;
    }
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
    // Otherwise the system would write gigabytes back during the measurement.
    std::fs::File::open(database)?.sync_all()?;
    Ok(())
}

/// The same for the peer, in its own table.
fn fill_bare(database: &Path, count: u64) -> Outcome<()> {
    // Makes the table.
    drop(Server::bare(database)?);
    let connection = rusqlite::Connection::open(database)?;
    connection.execute_batch(
        "PRAGMA synchronous=OFF; PRAGMA cache_size=-2000000; PRAGMA wal_autocheckpoint=20000;",
    )?;
    let mut left = count;
    while left > 0 {
        let part = left.min(100_000);
        connection.execute_batch(&format!(
            "INSERT INTO events (event_id, type, timestamp, status, body)
                 WITH RECURSIVE n(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < {part})
                 SELECT lower(hex(randomblob(16))), 'USER_INPUT_RECEIVED', '1772366400', 'pending',
                        cast(printf('%.*c', 512, 'x') AS BLOB) FROM n"
        ))?;
        left -= part;
    }
    connection.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
    std::fs::File::open(database)?.sync_all()?;
    Ok(())
}

/// The memory for a million waiting events that are processed while others arrive.
fn backlog(runtime: &tokio::runtime::Runtime, database: &Path) -> Outcome<String> {
    runtime.block_on(fill(database, BACKLOG, "pending"))?;
    let server =
        Server::ours(database, &[("COGNIGY_WORKER", "on"), ("COGNIGY_RETENTION", "3650d")])?;
    let ready = server.ready_after;
    let load = load(&server, "backlog", Some(5000.0))?;
    let report = load.run()?;
    Ok(format!(
        "With {} events waiting the server is ready {:.0} ms after its start; working them off while 5 000 a \
         second come in ({} accepted a second, p99 {:.1} ms), its most memory resident is {:.0} MiB.",
        count(BACKLOG as f64),
        ready.as_secs_f64() * 1000.0,
        count(report.throughput()),
        report.milliseconds(0.99),
        server.peak_memory().unwrap_or(f64::NAN)
    ))
}

fn load(server: &Server, prefix: &str, rate: Option<f64>) -> Outcome<Load> {
    Ok(Load {
        address: server.address,
        secret: Secret::new(SECRET)?,
        connections: 64,
        duration: Duration::from_secs(5),
        body_bytes: 512,
        rate,
        prefix: prefix.to_owned(),
        ids: Ids::Random,
        contact: false,
    })
}

/// Purges old events while 2 000 events arrive per second.
async fn purge_under_load(database: &Path) -> Outcome<String> {
    let store = cognigy_store_sqlite::SqliteStore::open(database).await?;
    let before_bytes = std::fs::metadata(database)?.len();
    let server =
        Server::ours(database, &[("COGNIGY_WORKER", "off"), ("COGNIGY_RETENTION", "3650d")])?;
    let mut quiet = load(&server, "quiet", Some(2000.0))?;
    quiet.duration = PURGE_SPAN;
    let mut busy = Load { prefix: "busy".to_owned(), ..quiet.clone() };
    let quiet = tokio::task::spawn_blocking(move || quiet.run()).await??;

    let purging = tokio::spawn(async move {
        let (now, began) = (std::time::SystemTime::now().into(), Instant::now());
        let mut request = PurgeRequest::all_before(now, 500);
        let mut purged = 0;
        while began.elapsed() < PURGE_SPAN {
            let Ok(step) = store.purge(request).await else { break };
            purged += step.purged.total_events();
            request.after = step.next;
            if request.after.is_none() {
                break;
            }
            // The same pause as in the server's own upkeep.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        purged
    });
    busy.duration = PURGE_SPAN;
    let busy = tokio::task::spawn_blocking(move || busy.run()).await??;
    let purged = purging.await? as f64;
    let after_bytes = std::fs::metadata(database)?.len();
    let wal = std::fs::metadata(database.with_extension("db-wal")).map_or(0, |wal| wal.len());
    let rate = purged / PURGE_SPAN.as_secs_f64();
    Ok(format!(
        "Purging while 2 000 events a second come in: p99 {:.1} ms, {:.1} ms without, a ratio of {:.1}. In {} s \
         {} events were purged, {} a second; five million take {:.0} minutes. The file had {} MB before and \
         {} MB after, with {} events more and that many fewer: freed pages are used again. Its WAL has {} MB.",
        busy.milliseconds(0.99),
        quiet.milliseconds(0.99),
        busy.milliseconds(0.99) / quiet.milliseconds(0.99),
        PURGE_SPAN.as_secs(),
        count(purged),
        count(rate),
        5e6 / rate / 60.0,
        count(before_bytes as f64 / 1e6),
        count(after_bytes as f64 / 1e6),
        count((quiet.accepted + busy.accepted) as f64),
        count(wal as f64 / 1e6),
    ))
}
