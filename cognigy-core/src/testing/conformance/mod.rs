//! The contract of a store, one test for each sentence.
//!
//! Each function takes an empty store and panics where the store breaks a promise. The tests pass
//! the times, so a store must use the caller's clock while it is tested.

mod administration;
mod archive;
mod audit;
mod claiming;
mod index;
mod ordering;
mod quarantine;
mod recording;
mod replaying;
mod settling;

pub use administration::*;
pub use archive::*;
pub use audit::*;
pub use claiming::*;
pub use index::*;
pub use ordering::*;
pub use quarantine::*;
pub use recording::*;
pub use replaying::*;
pub use settling::*;

use std::time::Duration;

use super::sample;
use crate::{
    event::{SourceName, State, Timestamp},
    store::{
        Attempt, AttemptOutcome, Claim, ClaimBatch, ClaimRequest, ClaimedRun, RunEnd, Settled,
        Settlement, Store,
    },
};

/// Runs the whole suite: one test for each promise.
///
/// Takes the attribute that makes an async test, and an async function that returns an empty store
/// and a value to keep for as long as the store is used: a temporary folder, or `()`.
///
/// ```
/// use cognigy_core::memory::MemoryStore;
///
/// async fn fresh_store() -> (MemoryStore, ()) {
///     (MemoryStore::new(), ())
/// }
///
/// cognigy_core::store_conformance!(#[tokio::test], fresh_store);
/// ```
#[macro_export]
macro_rules! store_conformance {
    (#[$attribute:meta], $fresh:path) => {
        $crate::store_conformance! { @cases #[$attribute], $fresh:
            the_first_delivery_is_new_and_later_ones_change_nothing
            a_body_comes_back_byte_for_byte
            what_was_kept_with_a_body_stays_with_it
            the_events_of_one_delivery_are_recorded_together
            concurrent_deliveries_of_one_event_make_one_row
            the_same_id_at_two_sources_is_two_events
            nothing_is_claimed_twice_within_its_lease
            claims_respect_the_limit_and_take_the_earliest_first
            a_claim_is_of_one_source
            nothing_is_claimed_before_its_time
            an_expired_lease_is_taken_over_and_recorded
            lost_leases_of_a_run_are_counted
            a_renewed_lease_lasts_longer
            a_renewal_that_comes_late_shortens_nothing
            concurrent_claims_never_share_an_event
            a_processed_event_is_final_and_keeps_its_contact
            a_retry_waits_and_counts
            a_release_does_not_count
            an_attempt_that_is_put_off_does_not_count
            what_asking_the_crm_came_to_is_kept
            a_claim_settles_once
            a_settlement_that_comes_again_changes_nothing
            a_late_settlement_changes_nothing
            a_lease_that_ran_out_unclaimed_can_still_be_settled
            lost_settlements_do_not_hold_back_others
            giving_up_puts_a_dead_letter_in_the_outbox
            a_dead_letter_is_tried_until_it_is_sent
            neither_kind_of_work_takes_the_other_s_places
            a_replay_is_a_run_of_its_own
            a_replay_is_refused_while_a_run_holds_the_event
            a_replay_does_not_lose_an_unsent_dead_letter
            a_replay_of_an_abandoned_run_takes_over
            a_requeue_schedules_once
            lists_filter_and_page
            pages_hold_while_events_arrive
            a_page_is_bounded_in_bytes
            counts_agree_with_what_happened
            an_unsent_dead_letter_shows
            a_backlog_is_each_source_s_own
            purging_spares_what_is_unfinished
            dead_letters_are_kept_apart_from_what_was_processed
            a_purged_event_can_come_again
            a_sensitive_body_is_forgotten_once_its_event_is_processed
            a_store_says_that_it_is_ready
            a_discarded_dead_letter_is_never_sent_and_can_be_run_again
            a_discarded_event_is_purged_like_a_processed_one
            an_erased_event_keeps_nothing_but_its_identity
            an_erasure_takes_quarantined_bodies_that_name_the_person
            a_search_needs_all_words_in_any_case
            what_was_asked_to_be_logged_nowhere_is_not_searched
            an_index_changes_nothing_that_is_found
            what_happens_after_the_index_was_made_is_found
            failures_are_grouped_by_their_last_error
            a_shared_value_is_replaced_only_where_it_is_the_expected_one
            what_operators_did_is_recorded_in_order
            a_quarantined_body_is_kept_once
            quarantine_pages_and_discharges
            old_quarantine_is_purged
            limits_evict_only_a_source_s_own_invalid_bodies
            a_long_body_is_listed_by_its_beginning
        }
    };
    (@cases #[$attribute:meta], $fresh:path: $($case:ident)+) => {
        $(
            #[$attribute]
            async fn $case() {
                let (store, _kept) = $fresh().await;
                $crate::testing::conformance::$case(&store).await;
            }
        )+
    };
}

const LEASE: Duration = Duration::from_secs(60);

fn at(seconds: i64) -> Timestamp {
    sample::start() + chrono::Duration::seconds(seconds)
}

async fn record(store: &dyn Store, id: &str, seconds: i64) {
    store.record(sample::incoming(sample::body(id)), at(seconds)).await.unwrap();
}

/// Claims at most `limit` of each kind for the default source.
async fn claim(store: &dyn Store, limit: usize, seconds: i64) -> ClaimBatch {
    claim_for(store, &SourceName::default(), [limit, limit], seconds).await
}

/// Claims at most so many runs and dead letters of `source`.
async fn claim_for(
    store: &dyn Store,
    source: &SourceName,
    [runs, dead_letters]: [usize; 2],
    seconds: i64,
) -> ClaimBatch {
    let (source, now) = (source.clone(), at(seconds));
    let request = ClaimRequest { source, runs, dead_letters, lease: LEASE, now };
    store.claim_due(request).await.unwrap()
}

/// Claims the one run that is due.
async fn claim_one(store: &dyn Store, seconds: i64) -> ClaimedRun {
    let mut batch = claim(store, 10, seconds).await;
    assert_eq!((batch.runs.len(), batch.dead_letters.len()), (1, 0), "exactly one run is due");
    batch.runs.pop().unwrap()
}

async fn settle(store: &dyn Store, settlement: Settlement) -> Settled {
    let answers = store.settle(&[settlement]).await.unwrap();
    assert_eq!(answers.len(), 1, "one answer for each settlement");
    answers[0]
}

fn attempt(run: u32, number: u32, seconds: i64, outcome: AttemptOutcome) -> Attempt {
    let error = (outcome != AttemptOutcome::Succeeded).then(|| "the CRM is down".to_owned());
    let duration = Duration::from_millis(1500);
    Attempt { number, run, started_at: at(seconds), duration, outcome, error }
}

fn processed(claim: Claim, seconds: i64) -> Settlement {
    let done = attempt(1, 1, seconds, AttemptOutcome::Succeeded);
    claim.settle(RunEnd::Processed { contact: None }, Some(done), at(seconds))
}

fn gave_up(claim: Claim, seconds: i64) -> Settlement {
    let failed = attempt(1, 1, seconds, AttemptOutcome::FailedPermanent);
    let verdict = RunEnd::GiveUp { reason: "the CRM refused".to_owned(), attempts: 1 };
    claim.settle(verdict, Some(failed), at(seconds))
}

async fn state_of(store: &dyn Store, id: &str) -> State {
    store.find(&sample::key(id)).await.unwrap().expect("the event is stored").state
}

/// Records `id` and makes it fail permanently, so that its dead letter is due.
async fn give_up(store: &dyn Store, id: &str, seconds: i64) {
    record(store, id, seconds).await;
    let work = claim_one(store, seconds).await;
    assert_eq!(settle(store, gave_up(work.claim, seconds)).await, Settled::Done);
}

/// Records `id` and processes it.
async fn process(store: &dyn Store, id: &str, seconds: i64) {
    record(store, id, seconds).await;
    let work = claim_one(store, seconds).await;
    assert_eq!(settle(store, processed(work.claim, seconds)).await, Settled::Done);
}
