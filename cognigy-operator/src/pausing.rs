//! Sources whose workers are paused. The store knows which they are, so that each node does and a
//! restart changes nothing; each node asks the store once a second, for all sources at once.

use std::{collections::BTreeMap, time::Duration};

use cognigy_core::{Clock, Pipeline, SourceName, Store, StoreError, StoreErrorKind};
use serde::{Deserialize, Serialize};

use crate::{
    host::{Happening, Host},
    view,
};

/// The name of the shared value.
const NAME: &str = "paused";

/// How long a node goes on after another one has paused a source, at most.
const INTERVAL: Duration = Duration::from_secs(1);

/// The paused sources by name, and who paused each.
pub type Paused = BTreeMap<String, PausedBy>;

/// Who paused a source, and when.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PausedBy {
    /// The name of the operator.
    pub by: String,
    /// When it was paused.
    pub at: String,
}

/// Which sources are paused.
///
/// # Errors
///
/// The store does not answer.
pub async fn paused(store: &dyn Store) -> Result<Paused, StoreError> {
    parse(store.shared_value(NAME).await?.as_deref())
}

fn parse(text: Option<&str>) -> Result<Paused, StoreError> {
    let Some(text) = text else { return Ok(Paused::new()) };
    serde_json::from_str(text).map_err(|error| StoreError::new(StoreErrorKind::Corrupt, error))
}

/// Pauses or resumes a source for all nodes. Yields whether that changed anything.
///
/// # Errors
///
/// The store does not answer.
pub async fn set(
    store: &dyn Store,
    source: &SourceName,
    paused: bool,
    by: &str,
    clock: &dyn Clock,
) -> Result<bool, StoreError> {
    loop {
        let text = store.shared_value(NAME).await?;
        let mut sources = parse(text.as_deref())?;
        if sources.contains_key(source.as_str()) == paused {
            return Ok(false);
        }
        if paused {
            let entry = PausedBy { by: by.to_owned(), at: view::time(clock.now()) };
            sources.insert(source.to_string(), entry);
        } else {
            sources.remove(source.as_str());
        }
        let new = serde_json::to_string(&sources)
            .map_err(|error| StoreError::new(StoreErrorKind::Corrupt, error))?;
        let new = Some(new.as_str()).filter(|_| !sources.is_empty());
        // Another operator may have paused another source meanwhile.
        if store.replace_shared_value(NAME, text.as_deref(), new).await? {
            return Ok(true);
        }
    }
}

/// Has the workers of these pipelines do as the store says, and tells `host` of each that changes.
pub(crate) async fn follow(
    store: &dyn Store,
    pipelines: &BTreeMap<SourceName, Pipeline>,
    host: &dyn Host,
) -> Result<(), StoreError> {
    let all = paused(store).await?;
    for (source, pipeline) in pipelines {
        let paused = all.contains_key(source.as_str());
        if paused == pipeline.is_paused() {
            continue;
        }
        if paused {
            pipeline.pause();
        } else {
            pipeline.resume();
        }
        host.happened(&Happening::Paused { source, paused });
    }
    Ok(())
}

/// Follows the store until it is dropped.
pub(crate) async fn watch(
    store: &dyn Store,
    pipelines: &BTreeMap<SourceName, Pipeline>,
    host: &dyn Host,
) {
    let mut failed = false;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let followed = follow(store, pipelines, host).await;
        if let (Err(error), false) = (&followed, failed) {
            host.happened(&Happening::PausesUnknown { error });
        }
        failed = followed.is_err();
    }
}
