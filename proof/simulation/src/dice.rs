//! Repeatable chance: every decision is a function of the seed and of its subject.
//!
//! A fault is drawn from the seed, the place and how often that place was passed, not from one long
//! stream. So removing an event or a fault from a run leaves most other decisions unchanged, and a
//! failed run can be shrunk.

use std::hash::{DefaultHasher, Hash, Hasher};

use fastrand::Rng;

/// A generator for one decision: the same for the same seed and subject.
pub(crate) fn dice(seed: u64, subject: impl Hash) -> Rng {
    Rng::with_seed(hash((seed, subject)))
}

/// A 64-bit hash that is the same in every process (SipHash with its fixed default keys).
pub(crate) fn hash(subject: impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    subject.hash(&mut hasher);
    hasher.finish()
}

/// True once in `1 / probability` rolls.
pub(crate) fn happens(rng: &mut Rng, probability: f64) -> bool {
    rng.f64() < probability
}

/// How long things take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Latency {
    /// Anything up to this many microseconds, all alike.
    Uniform(u64),
    /// Mostly about this many microseconds, sometimes a thousand times as many.
    HeavyTailed(u64),
}

impl Latency {
    /// Draws one, in microseconds.
    pub(crate) fn draw(self, rng: &mut Rng) -> u64 {
        match self {
            Self::Uniform(most) => rng.u64(0..=most),
            // A Pareto tail: one in ten is ten times the scale, one in a thousand a thousand times.
            Self::HeavyTailed(scale) => {
                let share = rng.f64().max(0.001);
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
                let factor = (1.0 / share) as u64;
                scale.saturating_mul(factor)
            }
        }
    }
}
