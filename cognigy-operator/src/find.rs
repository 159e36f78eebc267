//! Finds events: the source of an id, if an operator names no source, and the events that match a filter.

use cognigy_core::{
    EventFilter, EventId, EventKey, EventSummary, PageRequest, SourceName, Store, StoreError,
};

/// How many events one store call asks for.
const PAGE: usize = 256;

/// The newest events that match, at most so many, and whether there may be more.
///
/// # Errors
///
/// The store does not answer.
pub async fn newest(
    store: &dyn Store,
    filter: &EventFilter,
    most: usize,
) -> Result<(Vec<EventKey>, bool), StoreError> {
    let (mut keys, mut after) = (Vec::new(), None);
    while keys.len() < most {
        let page = PageRequest { limit: PAGE.min(most - keys.len()), after };
        let found = store.list(filter, page).await?;
        keys.extend(found.events.iter().map(EventSummary::key));
        after = found.next;
        if after.is_none() {
            break;
        }
    }
    Ok((keys, after.is_some()))
}

/// The sources among `configured` that have an event of that id. If none has it, sources that have
/// unfinished work but are not configured any more are searched too. That reads all unfinished
/// work.
///
/// # Errors
///
/// The store does not answer.
pub async fn sources_of(
    store: &dyn Store,
    id: &EventId,
    configured: &[SourceName],
) -> Result<Vec<SourceName>, StoreError> {
    let found = among(store, id, configured).await?;
    if !found.is_empty() {
        return Ok(found);
    }
    let backlog = store.backlog().await?;
    let others: Vec<_> = backlog.into_keys().filter(|name| !configured.contains(name)).collect();
    among(store, id, &others).await
}

/// The sources among `sources` that have an event of that id.
///
/// # Errors
///
/// The store does not answer.
pub async fn among(
    store: &dyn Store,
    id: &EventId,
    sources: &[SourceName],
) -> Result<Vec<SourceName>, StoreError> {
    let mut found = Vec::new();
    for source in sources {
        let key = EventKey { source: source.clone(), id: id.clone() };
        if store.find(&key).await?.is_some() {
            found.push(source.clone());
        }
    }
    Ok(found)
}

/// `cognigy, shop`
#[must_use]
pub fn listed(sources: &[SourceName]) -> String {
    sources.iter().map(SourceName::as_str).collect::<Vec<_>>().join(", ")
}
