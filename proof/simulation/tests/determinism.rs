//! The same seed is the same run, step for step; another seed is another run.

use cognigy_simulation::{Plan, run};

const SEEDS: u64 = 150;

#[test]
fn a_seed_always_makes_the_same_run() {
    let mut digests = Vec::new();
    for seed in 0..SEEDS {
        let (first, second) = (run(Plan::draw(seed), None), run(Plan::draw(seed), None));
        assert_eq!(first.digest, second.digest, "seed {seed} made two different runs");
        assert_eq!((first.polls, first.lasted), (second.polls, second.lasted));
        assert_eq!(first.fired, second.fired);
        digests.push(first.digest);
    }
    digests.sort_unstable();
    digests.dedup();
    assert_eq!(digests.len() as u64, SEEDS, "each seed makes a run of its own");
}
