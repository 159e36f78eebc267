//! Finds the source of an event id, if an operator names no source.

use cognigy_core::{EventId, EventKey, SourceName, Store, StoreError};

/// The sources among `configured` that have an event of that id. If none has it, sources that have
/// unfinished work but are not configured any more are searched too. That reads all unfinished
/// work.
pub(crate) async fn sources_of(
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
pub(crate) async fn among(
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
pub(crate) fn listed(sources: &[SourceName]) -> String {
    sources.iter().map(SourceName::as_str).collect::<Vec<_>>().join(", ")
}
