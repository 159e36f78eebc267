//! The measurements of `./scripts/bench`.

use std::{
    error::Error,
    fs::File,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use cognigy_benches::{
    load::{Ids, Load, Report},
    process,
    server::{self, SECRET, Server},
};
use cognigy_core::Secret;

use crate::{
    plot::{Panel, Series},
    report::{Results, Table, count, machine, median},
};

/// Rounds of every comparison; the median is quoted.
pub(crate) const ROUNDS: usize = 3;
/// One load of one server.
const SPAN: Duration = Duration::from_secs(3);
/// Keep-alive connections unless said otherwise.
const CONNECTIONS: usize = 64;
/// Bytes of a body unless said otherwise.
const BODY: usize = 512;

/// Connections that offer more load than the server can accept: half of the connections it holds.
const CROWD: usize = 2048;

pub(crate) type Outcome<T> = Result<T, Box<dyn Error>>;

/// The receiver that is measured.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Peer {
    Ours,
    Bare,
}

pub(crate) struct Bench<'f> {
    folder: &'f Path,
    runs: usize,
}

pub(crate) fn run(folder: &Path, criterion: &Path) -> Outcome<Results> {
    let mut bench = Bench { folder, runs: 0 };
    let mut text = format!(
        "# Results\n\nWritten by `./scripts/bench` on {}. The load generator shares the cores with \
         the server. {BODY}-byte bodies, {CONNECTIONS} keep-alive connections and medians of \
         {ROUNDS} alternating rounds unless said otherwise. `bare` is the peer in \
         `src/bin/bare.rs`: an actix-web handler that verifies, parses with serde and group-commits \
         into SQLite (WAL, `synchronous=FULL`), and nothing more.\n",
        machine()
    );
    verification(criterion, &mut text)?;
    let capacity = bench.ingest(&mut text)?;
    bench.quiet_latency(capacity, &mut text)?;
    bench.processing(&mut text)?;
    bench.crm(&mut text)?;
    bench.both_at_once(&mut text)?;
    bench.overload(capacity, &mut text)?;
    bench.idle(&mut text)?;
    let mut panels = bench.sweep("body bytes", &[256, 1024, 4096, 16384], |load, value| {
        load.body_bytes = value;
    })?;
    panels.extend(bench.sweep("connections", &[1, 8, 64, 256], |load, value| {
        load.connections = value;
    })?);
    text.push_str("\n![Throughput and p99 against body size and connections](results.svg)\n");
    Ok(Results { table: text, panels })
}

/// Ingest alone, for a quick check after a change; no results are written.
pub(crate) fn ingest(folder: &Path) -> Outcome<String> {
    let mut text = String::new();
    Bench { folder, runs: 0 }.ingest(&mut text)?;
    Ok(text)
}

fn verification(criterion: &Path, text: &mut String) -> Outcome<()> {
    let peers = ["cognigy-core", "bare hmac", "ring", "standardwebhooks"];
    let mut table = Table::new(&[
        "bytes",
        "cognigy-core",
        "bare `hmac` + base64",
        "`ring`",
        "`standardwebhooks`",
        "ours / bare",
        "ours / ring",
        "standardwebhooks / ours",
    ]);
    for size in [256, 1024, 4096, 65536] {
        let mut nanoseconds = Vec::new();
        for peer in peers {
            let name = peer.replace(' ', "_");
            let file = ["verify", &name, &size.to_string(), "new/estimates.json"]
                .iter()
                .fold(criterion.to_path_buf(), |path, part| path.join(part));
            let file = if file.exists() {
                file
            } else {
                criterion
                    .join("verify")
                    .join(peer)
                    .join(size.to_string())
                    .join("new/estimates.json")
            };
            let estimates: serde_json::Value = serde_json::from_reader(File::open(file)?)?;
            nanoseconds.push(estimates["median"]["point_estimate"].as_f64().unwrap_or(f64::NAN));
        }
        let [ours, bare, ring, standard] = nanoseconds[..] else { return Err("peers".into()) };
        let time = |value: f64| format!("{} ns", count(value));
        table.row(&[
            size.to_string(),
            time(ours),
            time(bare),
            time(ring),
            time(standard),
            format!("{:.2}", ours / bare),
            format!("{:.2}", ours / ring),
            format!("{:.1}", standard / ours),
        ]);
    }
    text.push_str("\n## Verification\n\nMedians of criterion's samples.\n\n");
    text.push_str(table.text());
    Ok(())
}

impl Bench<'_> {
    pub(crate) fn database(&mut self) -> std::path::PathBuf {
        self.runs += 1;
        self.folder.join(format!("{}.db", self.runs))
    }

    fn load(&mut self, server: &Server) -> Outcome<Load> {
        self.runs += 1;
        Ok(Load {
            address: server.address,
            secret: Secret::new(SECRET)?,
            connections: CONNECTIONS,
            duration: SPAN,
            body_bytes: BODY,
            rate: None,
            prefix: format!("{}", self.runs),
            ids: Ids::Random,
            contact: true,
        })
    }

    fn start(&mut self, peer: Peer, worker: &str) -> Outcome<Server> {
        let database = self.database();
        match peer {
            Peer::Ours => Server::ours(&database, &[("COGNIGY_WORKER", worker)]),
            Peer::Bare => Server::bare(&database),
        }
    }

    /// One load of a fresh server without a worker.
    fn once(&mut self, peer: Peer, change: impl Fn(&mut Load)) -> Outcome<(Report, f64)> {
        let server = self.start(peer, "off")?;
        let mut load = self.load(&server)?;
        change(&mut load);
        let report = load.run()?;
        if report.failed > 0 {
            return Err(format!("{} requests failed", report.failed).into());
        }
        Ok((report, server.peak_memory().unwrap_or(f64::NAN)))
    }

    fn ingest(&mut self, text: &mut String) -> Outcome<f64> {
        let mut rates = [Vec::new(), Vec::new()];
        let mut tails = [Vec::new(), Vec::new()];
        let mut middles = [Vec::new(), Vec::new()];
        let mut memory = Vec::new();
        let mut duplicates = Vec::new();
        for _ in 0..ROUNDS {
            for (index, peer) in [Peer::Bare, Peer::Ours].into_iter().enumerate() {
                let (report, peak) = self.once(peer, |_| {})?;
                rates[index].push(report.throughput());
                middles[index].push(report.milliseconds(0.5));
                tails[index].push(report.milliseconds(0.99));
                if peer == Peer::Ours {
                    memory.push(peak);
                }
            }
            duplicates.push(self.once(Peer::Ours, |load| load.ids = Ids::Repeated)?.0.throughput());
        }
        let [bare, ours] = rates.map(median);
        let [bare_p50, ours_p50] = middles.map(median);
        let [bare_p99, ours_p99] = tails.map(median);
        let mut table = Table::new(&["", "events/s", "p50", "p99"]);
        let mut row = |name: &str, rate: f64, p50: f64, p99: f64| {
            table.row(&[name.into(), count(rate), format!("{p50:.1} ms"), format!("{p99:.1} ms")]);
        };
        row("cognigy-server", ours, ours_p50, ours_p99);
        row("bare", bare, bare_p50, bare_p99);
        text.push_str("\n## Durable ingest over HTTP\n\n");
        text.push_str(table.text());
        text.push_str(&format!(
            "\nRatio {:.2}. Duplicates: {} a second, {:.2} of new events. Most memory resident: {:.0} MiB.\n",
            ours / bare,
            count(median(duplicates.clone())),
            median(duplicates) / ours,
            median(memory)
        ));
        Ok(ours)
    }

    /// At a tenth of the load, the latency is little more than one commit.
    fn quiet_latency(&mut self, capacity: f64, text: &mut String) -> Outcome<()> {
        let (mut tails, mut bare, mut syncs) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            syncs.push(fsync_milliseconds(self.folder)?);
            let rate = |load: &mut Load| load.rate = Some(capacity / 10.0);
            bare.push(self.once(Peer::Bare, rate)?.0.milliseconds(0.99));
            tails.push(self.once(Peer::Ours, rate)?.0.milliseconds(0.99));
        }
        let (tail, bare, sync) = (median(tails), median(bare), median(syncs));
        text.push_str(&format!(
            "\nAt a tenth of that load (open loop, {} events/s): p99 {tail:.1} ms, {bare:.1} ms for the \
             bare peer; the p99 of a bare 4 KiB append and fsync on the same disk, with nothing else \
             running, is {sync:.1} ms: {:.1} and {:.1} times one fsync.\n",
            count(capacity / 10.0),
            tail / sync,
            bare / sync,
        ));
        Ok(())
    }

    fn processing(&mut self, text: &mut String) -> Outcome<()> {
        const EVENTS: u32 = 100_000;
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let (mut worker, mut small, mut large) = (Vec::new(), Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            worker.push(runtime.block_on(process::worker(&self.database(), EVENTS))?);
            small.push(process::plain_loop(&self.database(), EVENTS, 64)?);
            large.push(process::plain_loop(&self.database(), EVENTS, 256)?);
        }
        text.push_str(&format!(
            "\n## Processing\n\n{} waiting events, a handler that does nothing, SQLite: the worker does \
             **{} events/s**. A plain loop without leases, history of outcomes or retries (claim by \
             `UPDATE … RETURNING`, settle, attempt row) does {} in batches of 64 and {} in batches of 256.\n",
            count(f64::from(EVENTS)),
            count(median(worker)),
            count(median(small)),
            count(median(large))
        ));
        Ok(())
    }

    /// Ingest while a worker processes the events.
    fn both_at_once(&mut self, text: &mut String) -> Outcome<()> {
        let mut rates = Vec::new();
        for _ in 0..ROUNDS {
            let server = self.start(Peer::Ours, "on")?;
            let mut load = self.load(&server)?;
            // Without a contact the handler does not ask the CRM, as in the processing figure
            // above.
            load.contact = false;
            rates.push(load.run()?.throughput());
        }
        let server = self.start(Peer::Ours, "on")?;
        let mut load = self.load(&server)?;
        load.rate = Some(10_000.0);
        load.duration = SPAN * 3;
        load.contact = false;
        let report = load.run()?;
        let waiting = server.stat("events.waiting").unwrap_or(u64::MAX);
        let started = Instant::now();
        while server.stat("events.waiting").is_none_or(|waiting| waiting > 0)
            && started.elapsed() < Duration::from_secs(60)
        {
            std::thread::sleep(Duration::from_millis(20));
        }
        text.push_str(&format!(
            "\nWith a worker busy on the same file, ingest does {} events/s. Offered 10 000 a second \
             for {} s it takes {} a second; {waiting} wait at the end, and they are worked off in {:.1} s.\n",
            count(median(rates)),
            (SPAN * 3).as_secs(),
            count(report.throughput()),
            started.elapsed().as_secs_f64()
        ));
        Ok(())
    }

    /// Twice as much load as the server can accept.
    fn overload(&mut self, capacity: f64, text: &mut String) -> Outcome<()> {
        let server = self.start(Peer::Ours, "off")?;
        let mut load = self.load(&server)?;
        load.connections = CROWD;
        load.rate = Some(capacity * 2.0);
        let report = load.run()?;
        let offered = report.accepted + report.turned_away + report.failed;
        let mut after = self.load(&server)?;
        after.rate = Some(capacity / 10.0);
        let after = after.run()?;
        text.push_str(&format!(
            "\n## Overload\n\nOffered {} events/s over {CROWD} connections, twice its capacity: {} a second \
             accepted, {} of {} turned away with 503 (p99 {:.0} ms), {} failed. Right afterwards, at a \
             tenth of the capacity, p99 is {:.1} ms. Most memory resident: {:.0} MiB.\n",
            count(capacity * 2.0),
            count(report.throughput()),
            report.turned_away,
            offered,
            report.refusal.value_at_quantile(0.99) as f64 / 1000.0,
            report.failed,
            after.milliseconds(0.99),
            server.peak_memory().unwrap_or(f64::NAN)
        ));
        Ok(())
    }

    fn idle(&mut self, text: &mut String) -> Outcome<()> {
        let server = self.start(Peer::Ours, "on")?;
        let before = server.processor_seconds().unwrap_or(f64::NAN);
        let span = Duration::from_secs(10);
        std::thread::sleep(span);
        let used = server.processor_seconds().unwrap_or(f64::NAN) - before;
        let binary = std::fs::metadata(server::program("cognigy-server")?)?.len();
        text.push_str(&format!(
            "\n## At rest\n\nAn idle server uses {:.2}% of a core and has {:.0} MiB resident; it is ready \
             {:.0} ms after its start on a new database. The release binary has {:.1} MiB.\n",
            used / span.as_secs_f64() * 100.0,
            server.peak_memory().unwrap_or(f64::NAN),
            server.ready_after.as_secs_f64() * 1000.0,
            binary as f64 / 1_048_576.0
        ));
        Ok(())
    }

    /// Throughput and p99 of both peers over one dimension.
    fn sweep(
        &mut self,
        x: &'static str,
        values: &[usize],
        change: impl Fn(&mut Load, usize),
    ) -> Outcome<Vec<Panel>> {
        let mut rates = [Vec::new(), Vec::new()];
        let mut tails = [Vec::new(), Vec::new()];
        for value in values {
            for (index, peer) in [Peer::Ours, Peer::Bare].into_iter().enumerate() {
                let (report, _) = self.once(peer, |load| change(load, *value))?;
                #[allow(clippy::cast_precision_loss)]
                let along = *value as f64;
                rates[index].push((along, report.throughput()));
                tails[index].push((along, report.milliseconds(0.99)));
            }
        }
        let series = |[ours, bare]: [Vec<(f64, f64)>; 2]| {
            vec![
                Series { name: "cognigy-server", points: ours },
                Series { name: "bare", points: bare },
            ]
        };
        Ok(vec![
            Panel { title: format!("events/s by {x}"), x, series: series(rates) },
            Panel { title: format!("p99 in ms by {x}"), x, series: series(tails) },
        ])
    }
}

/// The 99th percentile of appending 4 KiB and syncing it.
fn fsync_milliseconds(folder: &Path) -> Outcome<f64> {
    let mut file = File::create(folder.join("fsync"))?;
    let mut times = Vec::new();
    for _ in 0..300 {
        file.write_all(&[0; 4096])?;
        let started = Instant::now();
        file.sync_data()?;
        times.push(started.elapsed().as_secs_f64() * 1000.0);
    }
    times.sort_by(f64::total_cmp);
    Ok(times[times.len() * 99 / 100])
}
