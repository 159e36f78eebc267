//! Says what the erasure of a person would take, and which of its dead letters are outside the store.

use cognigy_core::{
    Erasure, EventFilter, EventKey, PageRequest, Person, QuarantineSummary, SourceName, State,
    Store, StoreError,
};
use serde::{Deserialize, Serialize};

use crate::view::ErasureLine;

/// How many entries one store call asks for.
const PAGE: usize = 256;

/// What an erasure would take.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Planned {
    /// Events whose content would go.
    pub events: u64,
    /// Bodies in quarantine that would go.
    pub quarantined: u64,
    /// Those of the events that are given up now. The receipt of an erasure counts also the dead letters of
    /// runs before the last one.
    pub dead_letters: u64,
}

/// Counts what an erasure would take, and changes nothing.
///
/// # Errors
///
/// The store does not answer.
pub async fn planned(store: &dyn Store, person: &Person) -> Result<Planned, StoreError> {
    let filter = match person.clone() {
        Person::ExternalId(id) => EventFilter { external_id: Some(id), ..EventFilter::default() },
        Person::UserId(id) => EventFilter { user_id: Some(id), ..EventFilter::default() },
    };
    let (mut planned, mut keys) = (Planned::default(), Vec::new());
    let mut page = PageRequest { limit: PAGE, after: None };
    loop {
        let found = store.list(&filter, page).await?;
        for event in &found.events {
            planned.events += 1;
            let is_dead = matches!(event.state, State::DeadLettering | State::DeadLettered);
            planned.dead_letters += u64::from(is_dead);
            keys.push(event.key());
        }
        match found.next {
            Some(next) => page.after = Some(next),
            None => break,
        }
    }
    let mut page = PageRequest { limit: PAGE, after: None };
    loop {
        let found = store.quarantined(page).await?;
        for item in &found.items {
            planned.quarantined += u64::from(is_about(store, item, person, &keys).await?);
        }
        match found.next {
            Some(next) => page.after = Some(next),
            None => return Ok(planned),
        }
    }
}

/// Whether a body in quarantine names the person or one of the person's events.
async fn is_about(
    store: &dyn Store,
    item: &QuarantineSummary,
    person: &Person,
    events: &[EventKey],
) -> Result<bool, StoreError> {
    let is_of = |key: &EventKey| {
        key.source == item.source && item.event_id.as_deref() == Some(key.id.as_str())
    };
    if events.iter().any(is_of) {
        return Ok(true);
    }
    // The kept headers are not in a list, nor is the end of a long body.
    let Some(item) = store.quarantined_item(item.id).await? else { return Ok(false) };
    let headers = serde_json::to_vec(&item.context).unwrap_or_default();
    Ok(person.is_named_in(&item.body) || person.is_named_in(&headers))
}

/// The receipt for an operator. It names the events whose dead letters were sent to a queue: `sends` says of
/// which sources the dead letters are sent. Those of the others are marked as sent, too, and never left the
/// store.
#[must_use]
pub fn receipt(erasure: Erasure, sends: impl Fn(&SourceName) -> bool) -> ErasureLine {
    let sent: Vec<_> = erasure.sent.iter().filter(|key| sends(&key.source)).cloned().collect();
    ErasureLine::from(Erasure { sent, ..erasure })
}
