//! Recording events durably: alone, and as many at once as a busy server has in flight. The peer is
//! the simplest table that could hold them, written in transactions of the same size.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use cognigy_core::{EventStore, testing::sample};
use cognigy_store_sqlite::SqliteStore;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::future::join_all;

fn record(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = runtime.block_on(SqliteStore::open(folder.path().join("ours.db"))).unwrap();
    let plain = rusqlite::Connection::open(folder.path().join("plain.db")).unwrap();
    plain
        .execute_batch(
            "PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;
             CREATE TABLE events (id INTEGER PRIMARY KEY, event_id TEXT UNIQUE NOT NULL, body BLOB)",
        )
        .unwrap();
    let mut number = 0_u64;
    let mut group = criterion.benchmark_group("record");
    for batch in [1_u64, 64, 512] {
        group.throughput(Throughput::Elements(batch));
        group.bench_with_input(BenchmarkId::new("SqliteStore", batch), &batch, |bencher, batch| {
            bencher.iter_custom(|rounds| {
                let mut spent = Duration::ZERO;
                for _ in 0..rounds {
                    let events: Vec<_> = (0..*batch).map(|_| event(&mut number)).collect();
                    let now = std::time::SystemTime::now().into();
                    let began = Instant::now();
                    let recorded =
                        join_all(events.into_iter().map(|event| store.record(event, now)));
                    for outcome in runtime.block_on(recorded) {
                        outcome.unwrap();
                    }
                    spent += began.elapsed();
                }
                spent
            });
        });
        group.bench_with_input(
            BenchmarkId::new("plain insert", batch),
            &batch,
            |bencher, batch| {
                bencher.iter_custom(|rounds| {
                    let mut spent = Duration::ZERO;
                    for _ in 0..rounds {
                        let events: Vec<_> = (0..*batch).map(|_| event(&mut number)).collect();
                        let began = Instant::now();
                        plain.execute_batch("BEGIN IMMEDIATE").unwrap();
                        for event in &events {
                            let mut insert = plain
                                .prepare_cached(
                                    "INSERT INTO events (event_id, body) VALUES (?1, ?2)",
                                )
                                .unwrap();
                            insert.execute((event.key.id.as_str(), &event.body[..])).unwrap();
                        }
                        plain.execute_batch("COMMIT").unwrap();
                        spent += began.elapsed();
                    }
                    spent
                });
            },
        );
    }
    group.finish();
}

/// A new event, with an id that is spread like random ids.
fn event(number: &mut u64) -> cognigy_core::IncomingEvent {
    *number += 1;
    let id = format!("{:016x}-{number}", number.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    sample::incoming(sample::body(&id))
}

criterion_group!(benches, record);
criterion_main!(benches);
