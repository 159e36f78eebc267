//! Does the time of a signature check tell how much of a wrong signature was right?
//!
//! After dudect (Reparaz, Balasch, Verbauwhede: "Dude, is my code constant time?", 2017): the same
//! call over classes of input in random order, the slowest tenth left out, Welch's t between the
//! classes. Below 4.5 there is no sign of a difference, above it there is. What an attacker could
//! use is a difference between two wrong signatures, so that is what decides; that a right one is
//! told from a wrong one is the purpose of the check, and its answer says so anyway.
//!
//! The same over a comparison that stops at the first difference shows that the method would see
//! one.
//!
//! `cargo run --release --package cognigy-core --example timing [-- samples]`

#![allow(clippy::unwrap_used, clippy::cast_precision_loss)]

use std::{hint::black_box, process::ExitCode, time::Instant};

use base64::{Engine, engine::general_purpose::STANDARD};
use cognigy_core::{Secret, SignatureScheme, SignatureVerifier, sign};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

const SECRET: &[u8] = b"a secret of thirty-two bytes, ok";
/// Short, so that the hash does not drown the comparison.
const BODY: &[u8] = b"{\"eventId\":\"e1\"}";
/// dudect's threshold.
const THRESHOLD: f64 = 4.5;
const CLASSES: [&str; 3] = ["right", "wrong first byte", "wrong last byte"];

fn main() -> ExitCode {
    let samples = std::env::args().nth(1).map_or(1_000_000, |text| text.parse().unwrap());
    let secret = Secret::new(SECRET).unwrap();
    let verifier = SignatureVerifier::new(&secret);
    let key = Hmac::<Sha256>::new_from_slice(SECRET).unwrap();
    let checked = differences("SignatureVerifier::check", samples, |header| {
        let headers = [(SignatureVerifier::DEFAULT_HEADER, header)];
        verifier.check(black_box(&headers), black_box(BODY)).is_ok()
    });
    let naive = differences("a comparison that stops early", samples, |header| {
        let mut tag = [0; 33];
        let written = STANDARD.decode_slice(header, &mut tag).unwrap_or(0);
        let expected = key.clone().chain_update(black_box(BODY)).finalize().into_bytes();
        // `==` on slices is a call of memcmp, which takes 32 bytes at once where the processor
        // can: byte by byte, as it would be elsewhere.
        written == 32 && expected.iter().zip(&tag[..32]).all(|(one, other)| black_box(one) == other)
    });
    differences("== on slices, on this processor", samples, |header| {
        let mut tag = [0; 33];
        let written = STANDARD.decode_slice(header, &mut tag).unwrap_or(0);
        let expected = key.clone().chain_update(black_box(BODY)).finalize().into_bytes();
        written == 32 && black_box(expected.as_slice()) == black_box(&tag[..32])
    });
    if checked.abs() < THRESHOLD && naive.abs() > THRESHOLD {
        println!("\nno sign of a difference, and the method sees one where there is one");
        ExitCode::SUCCESS
    } else {
        println!("\nnot as it should be");
        ExitCode::FAILURE
    }
}

/// Measures and prints; Welch's t between the two wrong classes.
fn differences(what: &str, samples: usize, check: impl Fn(&[u8]) -> bool) -> f64 {
    let headers = classes();
    let mut order = Generator(0x9e37_79b9_7f4a_7c15);
    let mut times: [Vec<u64>; 3] = Default::default();
    let mut header = [0; 44];
    for round in 0..samples + 10_000 {
        let class = order.below_three();
        // One buffer for all, so that no class has an address of its own.
        header.copy_from_slice(&headers[class]);
        let started = Instant::now();
        let right = black_box(check(black_box(&header)));
        let taken = started.elapsed();
        assert_eq!(right, class == 0);
        // The first ones warm caches and predictors.
        if round >= 10_000 {
            times[class].push(u64::try_from(taken.as_nanos()).unwrap_or(u64::MAX));
        }
    }
    let mut all: Vec<u64> = times.iter().flatten().copied().collect();
    all.sort_unstable();
    // Interrupts and other work only ever add: the slowest tenth is theirs.
    let limit = all[all.len() * 9 / 10];
    let kept = times.map(|times| Moments::of(times.into_iter().filter(|time| *time <= limit)));
    println!("\n{what}, {samples} samples");
    for (class, moments) in CLASSES.iter().zip(&kept) {
        println!("  {class:<17} mean {:8.2} ns of {}", moments.mean, moments.count);
    }
    for (one, other) in [(0, 1), (0, 2), (1, 2)] {
        let t = kept[one].t(&kept[other]);
        println!("  t = {t:8.2}  {} and {}", CLASSES[one], CLASSES[other]);
    }
    kept[1].t(&kept[2])
}

/// The right header value, one whose tag is wrong in its first byte, and one in its last.
fn classes() -> [Vec<u8>; 3] {
    let right = sign(&Secret::new(SECRET).unwrap(), SignatureScheme::Base64, BODY);
    let tag = STANDARD.decode(&right).unwrap();
    let wrong = |at: usize| {
        let mut tag = tag.clone();
        tag[at] ^= 0x55;
        STANDARD.encode(tag).into_bytes()
    };
    [right.into_bytes(), wrong(0), wrong(31)]
}

struct Moments {
    count: f64,
    mean: f64,
    variance: f64,
}

impl Moments {
    fn of(times: impl Iterator<Item = u64>) -> Self {
        // Welford's recurrence.
        let (mut count, mut mean, mut squares) = (0.0, 0.0, 0.0);
        for time in times {
            let time = time as f64;
            count += 1.0;
            let off = time - mean;
            mean += off / count;
            squares += off * (time - mean);
        }
        Self { count, mean, variance: squares / (count - 1.0) }
    }

    /// Welch's t.
    fn t(&self, other: &Self) -> f64 {
        let error = self.variance / self.count + other.variance / other.count;
        (self.mean - other.mean) / error.sqrt()
    }
}

/// xorshift64: the order of classes must only have no pattern.
struct Generator(u64);

impl Generator {
    fn below_three(&mut self) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 33) as usize % 3
    }
}
