//! Reading an event beside `serde_json::Value` and a plain serde struct.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::hint::black_box;

use cognigy_core::{CognigyFormat, testing::sample};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

fn parse(criterion: &mut Criterion) {
    let small = String::from_utf8(sample::body("evt-0123456789abcdef").to_vec()).unwrap();
    let filler = "x".repeat(512_usize.saturating_sub(small.len()));
    let body = small.replace("hello", &format!("hello{filler}")).into_bytes();
    let mut group = criterion.benchmark_group("parse");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("cognigy-core", |bencher| {
        bencher.iter(|| CognigyFormat.read_body(black_box(&body)).unwrap());
    });
    group.bench_function("serde_json::Value", |bencher| {
        bencher.iter(|| serde_json::from_slice::<serde_json::Value>(black_box(&body)).unwrap());
    });
    group.finish();
}

criterion_group!(benches, parse);
criterion_main!(benches);
