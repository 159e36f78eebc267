//! What it costs when the store has grown: `./scripts/bench --growth`, tens of minutes.

use std::{
    error::Error,
    path::Path,
    time::{Duration, Instant},
};

use cognigy_benches::{load::Load, process};
use cognigy_core::{ClaimRequest, EventArchive, EventStore, Secret, Settlement, Verdict};

use crate::{
    plot::{Panel, Series},
    report::{Results, Table, count, machine},
    server::{SECRET, Server},
};

/// How many events are stored at each point. The middle of each range of a hundredfold, too.
const SIZES: [u64; 4] = [10_000, 100_000, 1_000_000, 10_000_000];
/// Retention's batches while ingest goes on.
const PURGE_SHARE: u64 = 2;

type Outcome<T> = Result<T, Box<dyn Error>>;

pub(crate) fn run(folder: &Path) -> Outcome<Results> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let database = folder.join("growth.db");
    let mut table = Table::new(&[
        "stored events",
        "ingest/s",
        "p99",
        "duplicates/s",
        "claim and settle/s",
        "ready after",
        "memory",
        "file",
    ]);
    let (mut rates, mut tails, mut claims) = (Vec::new(), Vec::new(), Vec::new());
    let mut stored = 0;
    for size in SIZES {
        runtime.block_on(process::fill_from(&database, stored, size))?;
        stored = size;
        let server =
            Server::ours(&database, &[("COGNIGY_WORKER", "off"), ("COGNIGY_RETENTION", "3650d")])?;
        let ready = server.ready_after;
        let load = |duplicates| -> Outcome<Load> {
            Ok(Load {
                address: server.address,
                secret: Secret::new(SECRET)?,
                connections: 64,
                duration: Duration::from_secs(5),
                body_bytes: 512,
                rate: None,
                prefix: format!("growth-{size}"),
                duplicates,
                contact: true,
            })
        };
        let fresh = load(false)?.run()?;
        let known = load(true)?.run()?;
        let memory = server.peak_memory().unwrap_or(f64::NAN);
        drop(server);
        let claim = runtime.block_on(claim_and_settle(&database))?;
        let megabytes = std::fs::metadata(&database)?.len() as f64 / 1e6;
        table.row(&[
            count(size as f64),
            count(fresh.throughput()),
            format!("{:.1} ms", fresh.milliseconds(0.99)),
            count(known.throughput()),
            count(claim),
            format!("{:.0} ms", ready.as_secs_f64() * 1000.0),
            format!("{memory:.0} MiB"),
            format!("{} MB", count(megabytes)),
        ]);
        rates.push((size as f64, fresh.throughput()));
        tails.push((size as f64, fresh.milliseconds(0.99)));
        claims.push((size as f64, claim));
        println!("{}", table.text());
    }
    let purge = runtime.block_on(purge_under_load(&database))?;
    let one = |name, points| vec![Series { name, points }];
    let x = "stored events";
    Ok(Results {
        table: format!(
            "# Growth\n\nWritten by `./scripts/bench --growth` on {}. Ids are spread like random ones; \
             {}-byte bodies, 64 connections, 5 s a figure.\n\n{}\n{purge}\n\n![Growth](growth.svg)\n",
            machine(),
            512,
            table.text()
        ),
        panels: vec![
            Panel { title: "ingest, events/s".into(), x, series: one("cognigy-server", rates) },
            Panel { title: "ingest, p99 in ms".into(), x, series: one("cognigy-server", tails) },
            Panel {
                title: "claim and settle, events/s".into(),
                x,
                series: one("SqliteStore", claims),
            },
        ],
    })
}

/// Claims and settles 50 000 of the waiting events straight at the store.
async fn claim_and_settle(database: &Path) -> Outcome<f64> {
    let store = cognigy_store_sqlite::SqliteStore::open(database).await?;
    let started = Instant::now();
    let mut done = 0.0;
    while done < 50_000.0 {
        let now = std::time::SystemTime::now().into();
        let request = ClaimRequest { limit: 256, lease: Duration::from_secs(60), now };
        let batch = store.claim_due(request).await?;
        if batch.is_empty() {
            break;
        }
        done += batch.len() as f64;
        let settlements: Vec<Settlement> = batch
            .runs
            .into_iter()
            .map(|work| work.claim.settle(Verdict::Processed { contact: None }, None, now))
            .collect();
        store.settle(&settlements).await?;
    }
    Ok(done / started.elapsed().as_secs_f64())
}

/// Forgets half of what is stored while a tenth of the capacity comes in.
async fn purge_under_load(database: &Path) -> Outcome<String> {
    let store = cognigy_store_sqlite::SqliteStore::open(database).await?;
    // What waits cannot be purged: it is finished first, as fast as the store can.
    loop {
        let now = std::time::SystemTime::now().into();
        let request = ClaimRequest { limit: 1024, lease: Duration::from_secs(60), now };
        let batch = store.claim_due(request).await?;
        if batch.is_empty() {
            break;
        }
        let finish = batch
            .runs
            .into_iter()
            .map(|work| work.claim.settle(Verdict::Processed { contact: None }, None, now));
        store.settle(&finish.collect::<Vec<_>>()).await?;
    }
    let total: u64 = store.counts().await?.by_state.values().sum();
    let before_bytes = std::fs::metadata(database)?.len();
    let server =
        Server::ours(database, &[("COGNIGY_WORKER", "off"), ("COGNIGY_RETENTION", "3650d")])?;
    let load = |prefix: &str| -> Outcome<Load> {
        Ok(Load {
            address: server.address,
            secret: Secret::new(SECRET)?,
            connections: 64,
            duration: Duration::from_secs(10),
            body_bytes: 512,
            rate: Some(2000.0),
            prefix: prefix.to_owned(),
            duplicates: false,
            contact: true,
        })
    };
    let quiet = load("quiet")?;
    let quiet = tokio::task::spawn_blocking(move || quiet.run()).await??;

    let purged = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
    let counter = std::sync::Arc::clone(&purged);
    let goal = total / PURGE_SHARE;
    let purging = tokio::spawn(async move {
        let now = std::time::SystemTime::now().into();
        while counter.load(std::sync::atomic::Ordering::Relaxed) < goal {
            match store.purge(now, 500).await {
                Ok(0) | Err(_) => break,
                Ok(count) => counter.fetch_add(count, std::sync::atomic::Ordering::Relaxed),
            };
            // The pause that the server's own upkeep makes.
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    let busy = load("busy")?;
    let busy = tokio::task::spawn_blocking(move || busy.run()).await??;
    let within = purged.load(std::sync::atomic::Ordering::Relaxed);
    purging.await?;
    let after_bytes = std::fs::metadata(database)?.len();
    let wal = std::fs::metadata(database.with_extension("db-wal")).map_or(0, |wal| wal.len());
    Ok(format!(
        "Purging {} of {} events while 2 000 a second come in: p99 {:.1} ms, {:.1} ms without ({} of them \
         were purged during those 10 s). The file had {} MB before and {} MB after, its WAL {} MB.",
        count(purged.load(std::sync::atomic::Ordering::Relaxed) as f64),
        count(total as f64),
        busy.milliseconds(0.99),
        quiet.milliseconds(0.99),
        count(within as f64),
        count(before_bytes as f64 / 1e6),
        count(after_bytes as f64 / 1e6),
        count(wal as f64 / 1e6),
    ))
}
