//! `ordering sqlite|postgres [EVENTS [EVENTS_OF_ONE [ROUNDS]]]`: the cost of keeping the order of
//! each contact's events, with as many contacts as events and with all events of one contact. Each
//! round measures the store without the order and with it, in turns, each in a fresh database.

use std::{
    error::Error,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use cognigy_benches::{postgres, process};
use cognigy_core::{
    AfterDeadLetter, EventOrder, Failure, IncomingEvent, Pipeline, Secret, SignatureVerifier,
    State, Store, TokioClock, Worker, WorkerOptions,
};
use cognigy_store_postgres::{PostgresOptions, PostgresStore};
use cognigy_store_sqlite::{SqliteOptions, SqliteStore};
use cognigy_test_postgres::Cluster;

type Failed = Box<dyn Error + Send + Sync>;

/// Deliveries in flight, as in the other measurements.
const IN_FLIGHT: usize = 1024;

const ORDERS: [EventOrder; 2] =
    [EventOrder::Any, EventOrder::PerContact(AfterDeadLetter::Continue)];

fn main() -> Result<(), Failed> {
    let mut arguments = std::env::args().skip(1);
    let on = arguments.next().unwrap_or_default();
    let numbers = arguments.map(|text| text.parse()).collect::<Result<Vec<u64>, _>>()?;
    let number = |place: usize, default| numbers.get(place).copied().unwrap_or(default);
    let (many, one, rounds) = (number(0, 50_000), number(1, 5_000), number(2, 3));
    let cluster = match on.as_str() {
        "sqlite" => None,
        "postgres" => Some(postgres::cluster()),
        _ => return Err("name the store to measure: sqlite or postgres".into()),
    };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        for (what, count, contacts) in
            [("a contact for each event", many, many), ("one contact", one, 1)]
        {
            let mut rates = [[Vec::new(), Vec::new()], [Vec::new(), Vec::new()]];
            for _ in 0..rounds {
                for (order, rates) in ORDERS.into_iter().zip(&mut rates) {
                    let [taken, done] = measure(cluster.as_ref(), order, count, contacts).await?;
                    rates[0].push(taken);
                    rates[1].push(done);
                }
            }
            let [off, on] = rates.map(|rates| rates.map(median));
            println!("{what}, median of {rounds}: taking in {:.0}/s without the order, {:.0}/s with it ({:.2}x);",
                     off[0], on[0], on[0] / off[0]);
            println!("    processing {:.0}/s without, {:.0}/s with ({:.2}x)", off[1], on[1], on[1] / off[1]);
        }
        Ok(())
    })
}

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or_default()
}

/// Events recorded per second, and then processed per second.
async fn measure(
    cluster: Option<&Cluster>,
    order: EventOrder,
    count: u64,
    contacts: u64,
) -> Result<[f64; 2], Failed> {
    let events: Vec<_> = (0..count)
        .map(|number| process::incoming_from(number % contacts, number))
        .collect::<Result<_, _>>()
        .map_err(|error| error.to_string())?;
    let folder = tempfile::tempdir()?;
    let (database, store): (_, Arc<dyn Store>) = match cluster {
        None => {
            let options = SqliteOptions { order: Some(order), ..SqliteOptions::default() };
            let store = SqliteStore::open_with(folder.path().join("bench.db"), options).await?;
            (None, Arc::new(store))
        }
        Some(cluster) => {
            let database = cluster.create_database();
            let options = PostgresOptions { order: Some(order), ..PostgresOptions::default() };
            let store = PostgresStore::open_with(&cluster.url(&database), options).await?;
            (Some(database), Arc::new(store))
        }
    };
    let taken = take_in(&store, events).await?;
    if let (Some(cluster), Some(database)) = (cluster, &database) {
        cluster.sql(database, "VACUUM ANALYZE");
    }
    let done = work_off(&store, count).await?;
    drop(store);
    if let (Some(cluster), Some(database)) = (cluster, &database) {
        cluster.sql("postgres", &format!("DROP DATABASE {database} WITH (FORCE)"));
    }
    Ok([taken, done])
}

async fn take_in(store: &Arc<dyn Store>, events: Vec<IncomingEvent>) -> Result<f64, Failed> {
    let count = events.len();
    let (events, next) = (Arc::new(events), Arc::new(AtomicUsize::new(0)));
    let started = Instant::now();
    let send = |_| {
        let (store, events, next) = (Arc::clone(store), Arc::clone(&events), Arc::clone(&next));
        tokio::spawn(async move {
            while let Some(event) = events.get(next.fetch_add(1, Ordering::Relaxed)) {
                store.record(event.clone(), std::time::SystemTime::now().into()).await?;
            }
            Ok::<_, cognigy_core::StoreError>(())
        })
    };
    for sender in (0..IN_FLIGHT).map(send).collect::<Vec<_>>() {
        sender.await??;
    }
    Ok(rate(count as u64, started))
}

async fn work_off(store: &Arc<dyn Store>, count: u64) -> Result<f64, Failed> {
    let pipeline = Pipeline::builder(SignatureVerifier::new(&Secret::new("unused secret")?))
        .store(Arc::clone(store))
        .handler(|_, _| async { Ok::<(), Failure>(()) })
        .build()?;
    let started = Instant::now();
    let worker = Worker::spawn_with(pipeline, TokioClock::new(), WorkerOptions::default());
    while store.counts().await?.of(State::Processed) < count {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let rate = rate(count, started);
    worker.shutdown().await;
    Ok(rate)
}

fn rate(count: u64, started: Instant) -> f64 {
    #[allow(clippy::cast_precision_loss)]
    let count = count as f64;
    count / started.elapsed().as_secs_f64()
}
