//! Sources whose workers are paused. The store knows which they are, so that each node does and a
//! restart changes nothing; each node asks the store once a second, for all sources at once.

use std::{collections::BTreeMap, time::Duration};

use cognigy_core::{Clock, SourceName, Store, StoreError, StoreErrorKind};
use serde::{Deserialize, Serialize};

use crate::{app::App, pipelines::Pipelines, view};

/// The name of the shared value.
const NAME: &str = "paused";

/// How long a node goes on after another one has paused a source, at most.
const INTERVAL: Duration = Duration::from_secs(1);

/// The paused sources by name, and who paused each.
pub(crate) type Paused = BTreeMap<String, PausedBy>;

/// Who paused a source, and when.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct PausedBy {
    pub(crate) by: String,
    pub(crate) at: String,
}

/// Which sources are paused.
pub(crate) async fn paused(store: &dyn Store) -> Result<Paused, StoreError> {
    parse(store.shared_value(NAME).await?.as_deref())
}

fn parse(text: Option<&str>) -> Result<Paused, StoreError> {
    let Some(text) = text else { return Ok(Paused::new()) };
    serde_json::from_str(text).map_err(|error| StoreError::new(StoreErrorKind::Corrupt, error))
}

/// Pauses or resumes a source for all nodes. Yields whether that changed anything.
pub(crate) async fn set(
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

/// Has the workers of this process do as the store says.
pub(crate) async fn follow(store: &dyn Store, pipelines: &Pipelines) -> Result<(), StoreError> {
    let paused = paused(store).await?;
    for source in pipelines.iter() {
        let pipeline = &source.pipeline;
        let name = pipeline.source().name().as_str();
        let is_paused = paused.contains_key(name);
        if is_paused != pipeline.is_paused() {
            if is_paused {
                pipeline.pause()
            } else {
                pipeline.resume()
            }
            let told = match is_paused {
                true => "an operator paused the workers of this source",
                false => "an operator let the workers of this source go on",
            };
            tracing::info!(source = name, paused = is_paused, "{told}");
        }
        source.telemetry.paused(is_paused);
    }
    Ok(())
}

/// Follows the store for as long as the server runs.
pub(crate) async fn watch(app: App) {
    let mut failed = false;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let followed = follow(&*app.store, &app.pipelines).await;
        // An outage of the store is logged once here. It has a metric of its own.
        if let (Err(error), false) = (&followed, failed) {
            let error = cognigy_core::report(error);
            tracing::warn!(error, "could not see which sources are paused: as before");
        }
        failed = followed.is_err();
    }
}
