//! `nodes [SECONDS]`: one to four servers on one PostgreSQL database, and one on SQLite.
//!
//! All share this machine's processors with the database and the load, so more nodes cannot be
//! faster here. The *cost* of an event carries over to other machines: processor time of the nodes
//! and of the database, bytes of write-ahead log, transactions. `./scripts/bench nodes` builds and
//! runs it; `docs/scaling.md` has the figures and the conclusions.

use std::{
    error::Error,
    time::{Duration, Instant},
};

use cognigy_benches::{
    load::{Ids, Load},
    postgres::cluster,
    server::{SECRET, Server, Stat},
};
use cognigy_core::Secret;
use cognigy_test_postgres::Cluster;

/// Keep-alive connections of the load, shared out among the nodes.
const CONNECTIONS: usize = 64;
/// Bytes of a body unless said otherwise.
const BODY: usize = 512;
/// How long to wait for an unfinished event.
const PATIENCE: Duration = Duration::from_secs(120);

type Outcome<T> = Result<T, Box<dyn Error>>;

fn main() -> Outcome<()> {
    let seconds = std::env::args().nth(1).map_or(Ok(5.0), |text| text.parse())?;
    let span = Duration::from_secs_f64(seconds);
    println!(
        "{BODY}-byte bodies without a contact, {CONNECTIONS} connections, {seconds} s a measurement. \
         Microseconds of processor time, bytes of WAL and write transactions are per event.\n\n\
         As fast as it goes, first taking in, then working off:\n\n{HEAD}"
    );
    Site::file()?.full_load(1, span, BODY)?;
    for nodes in 1..=4 {
        Site::postgres().full_load(nodes, span, BODY)?;
    }
    println!("\nBoth at once, at a steady rate:\n\n{HEAD}");
    for rate in [100.0, 1000.0, 4000.0, 8000.0] {
        Site::file()?.steady_load(1, span, rate)?;
        for nodes in [1, 3] {
            Site::postgres().steady_load(nodes, span, rate)?;
        }
    }
    println!(
        "\nLarger bodies, which no compression makes smaller; at the end, what each stored event takes on the disk:\n\n{HEAD}"
    );
    for body in [512, 2048, 8192] {
        for site in [Site::file()?, Site::postgres()] {
            site.full_load(1, span / 2, body)?;
            println!(
                "| {} | 1 | {body} bytes: {:.0} on the disk | | | | | | | |",
                site.name(),
                site.size()?
            );
        }
    }
    Ok(())
}

const HEAD: &str = "| database | nodes | what | events/s | node µs | database µs | WAL bytes \
                    | transactions | connections | MiB a node |\n|---|---|---|---|---|---|---|---|---|---|";

/// Where the nodes keep their events.
struct Site {
    url: String,
    place: Place,
}

enum Place {
    File(tempfile::TempDir),
    Database(Cluster, String),
}

/// The resources used up to a moment.
struct Meter {
    nodes: f64,
    database: f64,
    wal: f64,
    transactions: f64,
}

impl Site {
    fn file() -> Outcome<Self> {
        let folder = tempfile::tempdir()?;
        let url = format!("sqlite:{}", folder.path().join("webhooks.db").display());
        Ok(Self { url, place: Place::File(folder) })
    }

    fn postgres() -> Self {
        let cluster = cluster();
        let database = cluster.create_database();
        Self { url: cluster.url(&database), place: Place::Database(cluster, database) }
    }

    fn name(&self) -> &'static str {
        match self.place {
            Place::File(_) => "SQLite",
            Place::Database(..) => "PostgreSQL",
        }
    }

    fn start(&self, nodes: usize, worker: &str) -> Outcome<Vec<Server>> {
        (0..nodes).map(|_| Server::on(&self.url, &[("COGNIGY_WORKER", worker)])).collect()
    }

    fn full_load(&self, nodes: usize, span: Duration, body: usize) -> Outcome<()> {
        let servers = self.start(nodes, "off")?;
        let before = self.read(&servers)?;
        let (taken, seconds) = load(&servers, span, body, None)?;
        self.row("taking in", &servers, &before, taken, seconds)?;
        drop(servers);

        let servers = self.start(nodes, "on")?;
        let before = self.read(&servers)?;
        let (already, started) = (processed(&servers)?, Instant::now());
        until_processed(&servers, taken)?;
        let left = taken - already;
        self.row("working off", &servers, &before, left, started.elapsed().as_secs_f64())
    }

    fn steady_load(&self, nodes: usize, span: Duration, rate: f64) -> Outcome<()> {
        let servers = self.start(nodes, "on")?;
        let before = self.read(&servers)?;
        let (taken, seconds) = load(&servers, span, BODY, Some(rate))?;
        until_processed(&servers, taken)?;
        self.row(&format!("{rate:.0} a second"), &servers, &before, taken, seconds)
    }

    /// Bytes on the disk for each event, indexes and all.
    fn size(&self) -> Outcome<f64> {
        let (bytes, events): (f64, f64) = match &self.place {
            Place::File(folder) => {
                let path = folder.path().join("webhooks.db");
                let database = rusqlite::Connection::open(&path)?;
                let number = |sql| database.query_row(sql, [], |row| row.get::<_, f64>(0));
                database.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)")?;
                #[allow(clippy::cast_precision_loss)]
                let bytes = std::fs::metadata(path)?.len() as f64;
                (bytes, number("SELECT CAST(count(*) AS REAL) FROM webhook_events")?)
            }
            Place::Database(cluster, database) => {
                let of = |sql: &str| cluster.sql(database, sql).parse();
                let empty: f64 =
                    cluster.sql("template1", "SELECT pg_database_size('template1')").parse()?;
                let size: f64 = of("SELECT pg_database_size(current_database())")?;
                (size - empty, of("SELECT count(*) FROM webhook_events")?)
            }
        };
        Ok(bytes / events)
    }
}

/// Loads all nodes alike, from one thread each. Returns the number of accepted events and the
/// duration.
fn load(
    servers: &[Server],
    span: Duration,
    body_bytes: usize,
    rate: Option<f64>,
) -> Outcome<(u64, f64)> {
    #[allow(clippy::cast_precision_loss)]
    let share = servers.len() as f64;
    let mut threads = Vec::new();
    for (number, server) in servers.iter().enumerate() {
        let load = Load {
            address: server.address,
            secret: Secret::new(SECRET)?,
            connections: CONNECTIONS / servers.len(),
            duration: span,
            body_bytes,
            rate: rate.map(|rate| rate / share),
            prefix: format!("{number}-{}", rate.is_some()),
            ids: Ids::Random,
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
        if let Place::Database(cluster, database) = &self.place {
            meter.database = Stat::seconds_with_children(cluster.pid()).ok_or("no database")?;
            // PostgreSQL gives ids only to transactions that write.
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
        let database = match &self.place {
            Place::File(_) => "| – | – | – | –".to_owned(),
            Place::Database(cluster, database) => {
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
        println!(
            "| {} | {} | {what} | {:.0} | {nodes:.0} {database} | {memory:.0} |",
            self.name(),
            servers.len(),
            events / seconds
        );
        Ok(())
    }
}
