//! A short version of what `simulate` does with ten thousand seeds: every promise holds, and every
//! fault strikes.

use cognigy_simulation::{Campaign, Fault};

const SEEDS: u64 = 600;

/// Faults and situations that are so rare that a few hundred seeds may not meet them; ten thousand
/// must.
const RARE: &[Fault] = &[
    Fault::LongSinkOutage,
    Fault::RedrivenAnew,
    Fault::ReplayTookOver,
    Fault::ReplayCarriedOn,
    Fault::QueueReceive,
    Fault::QueueDelete,
];

#[test]
fn every_promise_holds_and_every_fault_strikes() {
    let campaign = Campaign { from: 0, seeds: SEEDS, bug: None, stop_at_failure: true };
    let report = campaign.run(|| false, |_| ());
    assert_eq!(report.failures, [], "cargo run -p cognigy-simulation --release -- --seed …");
    assert_eq!(report.seeds, SEEDS);
    assert_eq!(report.unrepeatable, [0; 0], "these seeds made two different runs");
    let never: Vec<_> = report.never().into_iter().filter(|fault| !RARE.contains(fault)).collect();
    assert_eq!(never, [], "what never happened proves nothing");
}
