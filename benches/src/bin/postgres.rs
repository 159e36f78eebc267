//! `postgres ingest|process|backlog|bloat [EVENTS]`: the PostgreSQL store beside its peers, each run
//! on one private cluster that syncs its commits. `./scripts/bench postgres` runs all of them.

use std::time::Instant;

use cognigy_benches::postgres::{Failed, bare_ingest, cluster, events, graphile, ingest, work_off};
use cognigy_core::WorkerOptions;
use cognigy_store_postgres::{PostgresOptions, PostgresStore};
use cognigy_test_postgres::Cluster;

/// Deliveries in flight: 64 connections of 16 pipelined requests, or a busy balancer.
const IN_FLIGHT: usize = 1024;

fn main() -> Result<(), Failed> {
    let mut arguments = std::env::args().skip(1);
    let what = arguments.next().unwrap_or_default();
    let count = arguments.next().map(|text| text.parse()).transpose()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        match what.as_str() {
            "ingest" => measure_ingest(count.unwrap_or(200_000)).await,
            "process" => measure_processing(count.unwrap_or(100_000)).await,
            "backlog" => measure_backlog(count.unwrap_or(5_000_000)).await,
            "bloat" => measure_bloat(count.unwrap_or(6_700_000)).await,
            _ => Err("name what to measure: ingest, process, backlog or bloat".into()),
        }
    })
}

async fn open(cluster: &Cluster, writers: usize) -> Result<(String, PostgresStore), Failed> {
    let database = cluster.create_database();
    let options = PostgresOptions { writers, ..PostgresOptions::default() };
    let store = PostgresStore::open_with(&cluster.url(&database), options).await?;
    Ok((database, store))
}

async fn measure_ingest(count: u64) -> Result<(), Failed> {
    let cluster = cluster();
    for round in 1..=3 {
        let mut line = format!("round {round}:");
        for writers in [1, 2, 3] {
            let (database, store) = open(&cluster, writers).await?;
            let ours = ingest(&store, events(0, count)?, IN_FLIGHT).await?;
            drop(store);
            let url = cluster.url(&database);
            let bare = bare_ingest(&url, events(0, count)?, writers, 512).await?;
            line.push_str(&format!(
                "  {writers} connections: store {ours:.0}/s, bare {bare:.0}/s, {:.2}x;",
                ours / bare
            ));
            cluster.sql("postgres", &format!("DROP DATABASE {database} WITH (FORCE)"));
        }
        println!("{line}");
    }
    Ok(())
}

async fn measure_processing(count: u64) -> Result<(), Failed> {
    let cluster = cluster();
    let large = WorkerOptions { concurrency: 64, batch: 1024, ..WorkerOptions::default() };
    for round in 1..=3 {
        let mut line = format!("round {round}:");
        for (name, workers, options) in [
            ("one worker", 1, WorkerOptions::default()),
            ("two workers in batches of 1024", 2, large.clone()),
        ] {
            let (database, store) = open(&cluster, 2).await?;
            ingest(&store, events(0, count)?, IN_FLIGHT).await?;
            cluster.sql(&database, "VACUUM ANALYZE");
            line.push_str(&format!(
                "  {name} {:.0}/s;",
                work_off(&store, 0, count, workers, options).await?
            ));
            drop(store);
            cluster.sql("postgres", &format!("DROP DATABASE {database} WITH (FORCE)"));
        }
        for mode in ["plain", "fast"] {
            let url = cluster.url(&cluster.create_database());
            line.push_str(&format!(
                "  graphile-worker, {mode} {:.0}/s;",
                graphile(&url, count, mode)?
            ));
        }
        println!("{line}");
    }
    Ok(())
}

/// Ingest and processing on an empty database and beside a backlog.
async fn measure_backlog(backlog: u64) -> Result<(), Failed> {
    const SAMPLE: u64 = 300_000;
    let cluster = cluster();
    let (database, store) = open(&cluster, 2).await?;
    let empty_in = ingest(&store, events(0, SAMPLE)?, IN_FLIGHT).await?;
    let empty_out = work_off(&store, 0, SAMPLE, 1, WorkerOptions::default()).await?;
    let started = Instant::now();
    // Due before all other events, like a backlog; the worker takes its sample from it.
    cluster.sql(
        &database,
        &format!(
            "WITH events AS (
                 INSERT INTO cognigy_events (received_at, source, event_id, type, timestamp_json)
                 SELECT now(), 'cognigy', md5(n::text), 'DIALOG_ENDED', '1' FROM generate_series(1, {backlog}) AS n
                 RETURNING id, received_at
             ), bodies AS (
                 INSERT INTO cognigy_bodies
                 SELECT id, received_at, convert_to(repeat('x', 400), 'UTF8') FROM events
             ), tallies AS (
                 INSERT INTO cognigy_tallies VALUES ('state', 'pending', {backlog})
             )
             INSERT INTO cognigy_queue (event, received_at, source, due_at, run, attempt)
             SELECT id, received_at, 'cognigy', received_at, 1, 0 FROM events"
        ),
    );
    println!("a backlog of {backlog} was made in {:.0} s", started.elapsed().as_secs_f64());
    // A backlog gathers over hours: the burst of writing that made this one is not part of it.
    cluster.sql(&database, "VACUUM ANALYZE");
    cluster.sql(&database, "CHECKPOINT");
    let full_in = ingest(&store, events(SAMPLE, 2 * SAMPLE)?, IN_FLIGHT).await?;
    let full_out = work_off(&store, SAMPLE, SAMPLE, 1, WorkerOptions::default()).await?;
    println!(
        "ingest: {empty_in:.0}/s empty, {full_in:.0}/s beside the backlog ({:.2}x slower)",
        empty_in / full_in
    );
    println!(
        "processing: {empty_out:.0}/s empty, {full_out:.0}/s of the backlog ({:.2}x slower)",
        empty_out / full_out
    );
    Ok(())
}

/// Records and processes for a long time: three state changes per event.
async fn measure_bloat(count: u64) -> Result<(), Failed> {
    const STEP: u64 = 670_000;
    let cluster = cluster();
    let (database, store) = open(&cluster, 2).await?;
    let mut done = 0;
    while done < count {
        let step = STEP.min(count - done);
        let started = Instant::now();
        let taking_in = ingest(&store, events(done, done + step)?, IN_FLIGHT);
        let working_off = work_off(&store, done, step, 1, WorkerOptions::default());
        tokio::try_join!(taking_in, working_off)?;
        done += step;
        let sizes = cluster.sql(
            &database,
            "SELECT string_agg(relname || ' ' || pg_total_relation_size(relid) / 1048576 || ' MB, hot '
                               || n_tup_hot_upd || ' of ' || n_tup_upd || ', dead ' || n_dead_tup,
                               '; ' ORDER BY relname)
             FROM pg_stat_user_tables
             WHERE relname IN ('cognigy_events', 'cognigy_queue', 'cognigy_tallies')",
        );
        println!(
            "{:.1} million state changes, {:.0} events/s: {sizes}",
            done as f64 * 3.0 / 1e6,
            step as f64 / started.elapsed().as_secs_f64()
        );
    }
    Ok(())
}
