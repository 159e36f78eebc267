//! Claiming and settling batches of waiting events, as a worker does, with no work in between.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::time::{Duration, Instant};

use cognigy_benches::process;
use cognigy_core::{ClaimRequest, EventStore, RunEnd, Settlement, SourceName};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

fn claim_and_settle(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let mut group = criterion.benchmark_group("process");
    for batch in [64_usize, 256, 1024] {
        group.throughput(Throughput::Elements(batch as u64));
        group.bench_with_input(BenchmarkId::new("SqliteStore", batch), &batch, |bencher, batch| {
            bencher.iter_custom(|rounds| {
                let folder = tempfile::tempdir().unwrap();
                let waiting = rounds * *batch as u64;
                let file = folder.path().join("waiting.db");
                let store = runtime.block_on(process::fill(&file, waiting)).unwrap();
                let began = Instant::now();
                for _ in 0..rounds {
                    let now = std::time::SystemTime::now().into();
                    let lease = Duration::from_secs(60);
                    let source = SourceName::default();
                    let request =
                        ClaimRequest { source, runs: *batch, dead_letters: *batch, lease, now };
                    let claimed = runtime.block_on(store.claim_due(request)).unwrap();
                    assert_eq!(claimed.runs.len(), *batch);
                    let ends = claimed.runs.into_iter().map(|work| {
                        work.claim.settle(RunEnd::Processed { contact: None }, None, now)
                    });
                    let ends: Vec<Settlement> = ends.collect();
                    runtime.block_on(store.settle(&ends)).unwrap();
                }
                began.elapsed()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, claim_and_settle);
criterion_main!(benches);
