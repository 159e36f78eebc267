//! Ids of traces and spans, and which traces are recorded.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    sync::atomic::{AtomicU64, Ordering},
};

/// Makes ids: a counter, hashed with a key of 128 random bits that only this process has. Two processes
/// with the same id are as unlikely as two equal random numbers, and no system call is needed.
pub(super) struct Ids {
    key: RandomState,
    next: AtomicU64,
}

impl Ids {
    pub(super) fn new() -> Self {
        Self { key: RandomState::new(), next: AtomicU64::new(0) }
    }

    /// The id of a new trace. Never zero.
    pub(super) fn trace(&self) -> [u8; 16] {
        let number = (u128::from(self.number()) << 64) | u128::from(self.number());
        number.to_be_bytes()
    }

    /// The id of a new span. Never zero.
    pub(super) fn span(&self) -> [u8; 8] {
        self.number().to_be_bytes()
    }

    fn number(&self) -> u64 {
        let count = self.next.fetch_add(1, Ordering::Relaxed);
        self.key.hash_one(count).max(1)
    }
}

/// A share of 1.
const ALL: u64 = 1 << 63;

/// Which share of the traces is recorded. The trace's id decides, as in the sampler
/// `TraceIdRatioBased` of OpenTelemetry: services with the same share record the same traces.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sampler {
    below: u64,
}

impl Sampler {
    /// `share` is from 0 to 1.
    pub(super) fn new(share: f64) -> Self {
        // From 0 to 2^63, which a double and a u64 both hold; the digits behind the point do not matter.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let below = (share.clamp(0.0, 1.0) * 2f64.powi(63)) as u64;
        Self { below }
    }

    pub(super) fn records_all(self) -> bool {
        self.below == ALL
    }

    pub(super) fn records(self, trace_id: [u8; 16]) -> bool {
        let [_, _, _, _, _, _, _, _, last @ ..] = trace_id;
        (u64::from_be_bytes(last) >> 1) < self.below
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn ids_differ_and_the_share_is_kept() {
        let ids = Ids::new();
        let traces: HashSet<_> = (0..100_000).map(|_| ids.trace()).collect();
        assert_eq!(traces.len(), 100_000);
        let recorded = |share| {
            let sampler = Sampler::new(share);
            traces.iter().filter(|id| sampler.records(**id)).count()
        };
        assert!(Sampler::new(1.0).records_all() && !Sampler::new(0.999).records_all());
        assert_eq!((recorded(0.0), recorded(1.0)), (0, 100_000));
        // 1,000 are expected; the deviation is below 32 in two of three cases.
        assert!((800..1200).contains(&recorded(0.01)), "{}", recorded(0.01));
    }
}
