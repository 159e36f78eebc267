//! The simulation can fail: each planted bug is found, and found soon.

use cognigy_simulation::{Bug, Campaign, Plan, run, shrink, tell};

/// The hardest to find of the planted bugs takes a third of this many seeds.
const BOUND: u64 = 1000;

fn first_failure(bug: Bug) -> Option<u64> {
    let campaign = Campaign { from: 0, seeds: BOUND, bug: Some(bug), stop_at_failure: true };
    let report = campaign.run(|| false, |_| ());
    report.failures.first().map(|(seed, _)| *seed)
}

#[test]
fn every_planted_bug_is_found() {
    let unfound: Vec<_> = Bug::ALL
        .iter()
        .filter(|bug| first_failure(**bug).is_none())
        .map(|bug| bug.name())
        .collect();
    assert!(unfound.is_empty(), "not found in {BOUND} seeds: {unfound:?}");
    assert!(Bug::ALL.len() >= 10);
}

#[test]
fn a_failure_is_told_as_a_small_story_with_the_command_that_repeats_it() {
    let bug = Bug::UpsertOverwrites;
    let seed = first_failure(bug).expect("it is found");
    let failed = run(Plan::draw(seed), Some(bug));
    let (deliveries, entries) = (failed.plan.deliveries.len(), failed.history.len());
    let promise = failed.violations[0].promise;

    let smallest = shrink(failed, Some(bug));
    assert!(smallest.violations.iter().any(|broken| broken.promise == promise));
    assert!(smallest.plan.deliveries.len() <= 3 && deliveries > 3, "two or three bodies suffice");
    assert!(smallest.history.len() * 3 < entries);
    assert_eq!(smallest.plan.incidents.len(), 0, "nothing else had to happen");

    let story = tell(&smallest, Some(bug));
    let command = format!("--seed {seed} --planted upsert-overwrites");
    for part in ["BROKEN", promise, "is recorded", &command] {
        assert!(story.contains(part), "{part:?} is missing from:\n{story}");
    }
    assert_eq!(story, tell(&shrink(run(Plan::draw(seed), Some(bug)), Some(bug)), Some(bug)));
}

#[test]
fn bugs_have_names_of_their_own() {
    for bug in Bug::ALL {
        assert_eq!(Bug::from_name(bug.name()), Some(*bug));
    }
    assert_eq!(Bug::from_name("none-such"), None);
}
