//! `nodes [SECONDS]`: one to four servers on one PostgreSQL database, and one on SQLite.
//!
//! All share this machine's processors with the database and the load, so more nodes cannot be
//! faster here. What carries over to other machines is what an event *costs*: processor time of the
//! nodes and of the database, bytes of write-ahead log, transactions. `./scripts/bench-nodes` builds
//! and runs it; `docs/scaling.md` has the figures and what follows from them.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use cognigy_benches::{
    load::Load,
    postgres::cluster,
    server::{SECRET, Server, Stat},
};
use cognigy_core::Secret;
use cognigy_test_postgres::Cluster;

/// Keep-alive connections of the load, shared out among the nodes.
const CONNECTIONS: usize = 64;
/// Bytes of a body.
const BODY: usize = 512;
/// Events a second of the steady load: far below what the machine can do, so that groups stay small.
const STEADY: f64 = 1000.0;
/// An unfinished event is waited for this long.
const PATIENCE: Duration = Duration::from_secs(120);

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let seconds = std::env::args().nth(1).map_or(Ok(6.0), |text| text.parse())?;
    let span = Duration::from_secs_f64(seconds);
    println!(
        "{BODY}-byte bodies without a contact, {CONNECTIONS} connections, {seconds} s a measurement. \
         Microseconds of processor time, bytes of WAL and write transactions are per event.\n"
    );
    println!(
        "| database | nodes | what | events/s | node µs | database µs | WAL bytes | transactions | connections | MiB a node |\n\
         |---|---|---|---|---|---|---|---|---|---|"
    );
    let folder = tempfile::tempdir()?;
    let file = format!("sqlite:{}", folder.path().join("webhooks.db").display());
    measure(&Site { url: file, cluster: None }, 1, span)?;
    for nodes in 1..=4 {
        let cluster = cluster();
        let database = cluster.create_database();
        let url = cluster.url(&database);
        measure(&Site { url, cluster: Some((cluster, database)) }, nodes, span)?;
    }
    Ok(())
}

/// Where the nodes keep their events.
struct Site {
    url: String,
    /// The PostgreSQL cluster and the database in it, where it is not a file.
    cluster: Option<(Cluster, String)>,
}

/// What has been used up to a moment.
struct Meter {
    nodes: f64,
    database: f64,
    wal: f64,
    transactions: f64,
}

fn measure(site: &Site, nodes: usize, span: Duration) -> Outcome<()> {
    let start = |worker| -> Outcome<Vec<Server>> {
        (0..nodes).map(|_| Server::on(&site.url, &[("COGNIGY_WORKER", worker)])).collect()
    };

    let servers = start("off")?;
    let before = site.read(&servers)?;
    let (taken, seconds) = load(&servers, span, None)?;
    site.row("taking in", &servers, &before, taken, seconds)?;
    drop(servers);

    let servers = start("on")?;
    let before = site.read(&servers)?;
    let (already, started) = (processed(&servers)?, Instant::now());
    until_processed(&servers, taken)?;
    site.row("working off", &servers, &before, taken - already, started.elapsed().as_secs_f64())?;

    let before = site.read(&servers)?;
    let (steady, seconds) = load(&servers, span, Some(STEADY))?;
    until_processed(&servers, taken + steady)?;
    site.row("both, 1000 a second", &servers, &before, steady, seconds)
}

/// Loads all nodes alike, from a thread each; the accepted events and how long it took.
fn load(servers: &[Server], span: Duration, rate: Option<f64>) -> Outcome<(u64, f64)> {
    #[allow(clippy::cast_precision_loss)]
    let share = servers.len() as f64;
    let mut threads = Vec::new();
    for (number, server) in servers.iter().enumerate() {
        let load = Load {
            address: server.address,
            secret: Secret::new(SECRET)?,
            connections: CONNECTIONS / servers.len(),
            duration: span,
            body_bytes: BODY,
            rate: rate.map(|rate| rate / share),
            prefix: format!("{number}-{}", rate.is_some()),
            duplicates: false,
            contact: false,
        };
        threads.push(std::thread::spawn(move || load.run()));
    }
    let (mut accepted, mut seconds) = (0, 0.0);
    for thread in threads {
        let report = thread.join().map_err(|_| "the load panicked")??;
        if report.failed + report.turned_away > 0 {
            return Err(
                format!("{} failed, {} turned away", report.failed, report.turned_away).into()
            );
        }
        accepted += report.accepted;
        seconds = report.seconds.max(seconds);
    }
    Ok((accepted, seconds))
}

fn processed(servers: &[Server]) -> Outcome<u64> {
    servers.first().and_then(|server| server.stat("events.processed")).ok_or("no statistics".into())
}

fn until_processed(servers: &[Server], count: u64) -> Outcome<()> {
    let started = Instant::now();
    while processed(servers)? < count {
        if started.elapsed() > PATIENCE {
            return Err("events are left over".into());
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

impl Site {
    fn read(&self, servers: &[Server]) -> Outcome<Meter> {
        let nodes = servers.iter().map(|server| server.processor_seconds().unwrap_or(0.0)).sum();
        let mut meter = Meter { nodes, database: 0.0, wal: 0.0, transactions: 0.0 };
        if let Some((cluster, database)) = &self.cluster {
            meter.database = Stat::seconds_with_children(cluster.pid()).ok_or("no database")?;
            // Ids are given to transactions that write.
            let counters = cluster.sql(
                database,
                "SELECT (pg_current_wal_insert_lsn() - '0/0')::text || ' ' ||
                        pg_snapshot_xmax(pg_current_snapshot())::text",
            );
            let (wal, transactions) = counters.split_once(' ').ok_or("counters")?;
            (meter.wal, meter.transactions) = (wal.parse()?, transactions.parse()?);
        }
        Ok(meter)
    }

    fn row(
        &self,
        what: &str,
        servers: &[Server],
        before: &Meter,
        events: u64,
        seconds: f64,
    ) -> Outcome<()> {
        let after = self.read(servers)?;
        #[allow(clippy::cast_precision_loss)]
        let events = events as f64;
        let micros = |from: f64, to: f64| (to - from) * 1e6 / events;
        let nodes = micros(before.nodes, after.nodes);
        let memory = servers
            .iter()
            .filter_map(Server::peak_memory)
            .fold(0.0, |most: f64, one| most.max(one));
        let database = match &self.cluster {
            None => "| – | – | – | –".to_owned(),
            Some((cluster, database)) => {
                let connections = cluster.sql(
                    database,
                    "SELECT count(*) FROM pg_stat_activity
                     WHERE datname = current_database() AND pid <> pg_backend_pid()",
                );
                format!(
                    "| {:.0} | {:.0} | {:.3} | {connections}",
                    micros(before.database, after.database),
                    (after.wal - before.wal) / events,
                    (after.transactions - before.transactions) / events,
                )
            }
        };
        let name = if self.cluster.is_some() { "PostgreSQL" } else { "SQLite" };
        println!(
            "| {name} | {} | {what} | {:.0} | {nodes:.0} {database} | {memory:.0} |",
            servers.len(),
            events / seconds
        );
        Ok(())
    }
}
