//! Signature verification beside a bare cached-key HMAC and base64 decode, ring, and the
//! `standardwebhooks` crate: what it costs to look
//! the header up, demand exactly one, check its form and say which secret matched.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used)]

use std::hint::black_box;

use base64::{Engine, engine::general_purpose::STANDARD};
use cognigy_core::{Secret, SignatureScheme, SignatureVerifier, sign};
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

const SECRET: &[u8] = b"a secret of thirty-two bytes, ok";

fn bare(key: &Hmac<Sha256>, header: &str, body: &[u8]) -> bool {
    let mut tag = [0; 33];
    let written = STANDARD.decode_slice(header, &mut tag).unwrap_or(0);
    let expected = key.clone().chain_update(body).finalize().into_bytes();
    written == 32 && bool::from(expected.as_slice().ct_eq(&tag[..32]))
}

fn verify(criterion: &mut Criterion) {
    let secret = Secret::new(SECRET).unwrap();
    let verifier = SignatureVerifier::new(&secret);
    let key = Hmac::<Sha256>::new_from_slice(SECRET).unwrap();
    let mut group = criterion.benchmark_group("verify");
    for size in [256, 1024, 4096, 65536] {
        let body = vec![b'x'; size];
        let signature = sign(&secret, SignatureScheme::Base64, &body);
        // What a request through a balancer carries, the signature among them.
        let headers = [
            ("host", "hooks.example.com"),
            ("content-type", "application/json"),
            ("content-length", "256"),
            ("user-agent", "Cognigy/2026.1"),
            ("x-forwarded-for", "203.0.113.7"),
            ("x-cognigy-signature", signature.as_str()),
        ];
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_with_input(BenchmarkId::new("cognigy-core", size), &body, |bencher, body| {
            bencher.iter(|| verifier.check(black_box(&headers), black_box(body)).unwrap());
        });
        group.bench_with_input(BenchmarkId::new("bare hmac", size), &body, |bencher, body| {
            bencher.iter(|| {
                assert!(bare(black_box(&key), black_box(&signature), black_box(body)));
            });
        });
        let ring_key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET);
        group.bench_with_input(BenchmarkId::new("ring", size), &body, |bencher, body| {
            bencher.iter(|| {
                let tag = STANDARD.decode(black_box(&signature)).unwrap();
                ring::hmac::verify(&ring_key, black_box(body), &tag).unwrap();
            });
        });
        let standard = standardwebhooks::Webhook::from_bytes(SECRET.to_vec()).unwrap();
        let now = std::time::SystemTime::now();
        let seconds = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
        let seconds = i64::try_from(seconds).unwrap();
        let mut theirs = http::HeaderMap::new();
        let signed = standard.sign("msg_1", seconds, &body).unwrap();
        theirs.insert("webhook-id", "msg_1".parse().unwrap());
        theirs.insert("webhook-timestamp", seconds.to_string().parse().unwrap());
        theirs.insert("webhook-signature", signed.parse().unwrap());
        group.bench_with_input(
            BenchmarkId::new("standardwebhooks", size),
            &body,
            |bencher, body| {
                bencher.iter(|| standard.verify(black_box(body), black_box(&theirs)).unwrap());
            },
        );
    }
    group.finish();
}

criterion_group!(benches, verify);
criterion_main!(benches);
