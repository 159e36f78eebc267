//! Forgets what is older than the retention, for the operator API and for commands.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use cognigy_core::{Cursor, PurgeRequest, Purged, Store, StoreError, Timestamp};
use cognigy_service::Retention;
use serde::{Deserialize, Serialize};

use crate::view::time;

/// How many events one transaction forgets.
const STEP: usize = 256;

/// What was forgotten, or would be.
#[derive(Debug, Default, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Outcome {
    /// How many events.
    pub purged: u64,
    /// They, by the status they had.
    pub events: BTreeMap<String, u64>,
    /// Quarantined bodies, by the reason for which they were kept.
    pub quarantined: BTreeMap<String, u64>,
    /// Processed and discarded events received before this time, and bodies that were refused as invalid.
    pub before: String,
    /// Dead-lettered events received before this time, and conflicts; none: they stay.
    pub dead_letters_before: Option<String>,
    /// Where the next request goes on; none: everything that is old enough has been looked at.
    pub next_cursor: Option<String>,
}

impl Outcome {
    fn new(purged: &Purged, request: &PurgeRequest) -> Self {
        let events = purged.events.iter().map(|(state, count)| (state.to_string(), *count));
        let bodies =
            purged.quarantined.iter().map(|(why, count)| (why.as_str().to_owned(), *count));
        Self {
            purged: purged.total_events(),
            events: events.collect(),
            quarantined: bodies.collect(),
            before: time(request.before),
            dead_letters_before: request.unresolved_before.map(time),
            next_cursor: request.after.map(|cursor| cursor.to_string()),
        }
    }

    /// Counts what a later part of the same purge forgot.
    pub fn go_on(&mut self, later: Self) {
        let add = |all: &mut BTreeMap<String, u64>, more: BTreeMap<String, u64>| {
            more.into_iter().for_each(|(name, count)| *all.entry(name).or_default() += count);
        };
        add(&mut self.events, later.events);
        add(&mut self.quarantined, later.quarantined);
        self.purged += later.purged;
        (self.before, self.dead_letters_before) = (later.before, later.dead_letters_before);
        self.next_cursor = later.next_cursor;
    }

    /// Whether nothing went.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.purged == 0 && self.quarantined.values().all(|count| *count == 0)
    }
}

/// What a purge would forget now.
///
/// # Errors
///
/// The store does not answer.
pub async fn would(
    store: &dyn Store,
    retention: &Retention,
    now: Timestamp,
) -> Result<Outcome, StoreError> {
    let request = retention.request(now, STEP);
    Ok(Outcome::new(&store.purgeable(request).await?, &request))
}

/// Forgets, for at most about `span`, from `after` on. Tells `shown` how many events went so far.
///
/// # Errors
///
/// The store does not answer.
pub async fn purge(
    store: &dyn Store,
    retention: &Retention,
    now: Timestamp,
    after: Option<Cursor>,
    span: Duration,
    shown: impl Fn(u64),
) -> Result<Outcome, StoreError> {
    let begun = Instant::now();
    let mut request = PurgeRequest { after, ..retention.request(now, STEP) };
    let mut total = Purged::default();
    loop {
        let step = store.purge(request).await?;
        total.add(&step.purged);
        request.after = step.next;
        shown(total.total_events());
        if request.after.is_none() || begun.elapsed() >= span {
            return Ok(Outcome::new(&total, &request));
        }
    }
}
