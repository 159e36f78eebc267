//! Breakers that are open, for operators: only the process that looks contacts up knows of them, so it
//! writes them into the store, where `why`, `stats`, `errors` and `doctor` read them.
//!
//! A process that is killed cannot take its entry back, so that an entry counts only for a while. Each
//! process whose breaker is open writes it again before that has passed.

use std::{collections::BTreeMap, time::Duration};

use cognigy_core::{Clock, Store, StoreError, StoreErrorKind, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{app::App, view};

/// The name of the shared value.
const NAME: &str = "breakers";
/// How often a process looks at its breakers. A look costs no call to the store.
const INTERVAL: Duration = Duration::from_secs(1);
/// How often a process writes that a breaker is still open.
const AGAIN: Duration = Duration::from_secs(30);
/// How long an entry counts.
const VALID: Duration = Duration::from_secs(90);

/// The sources whose look-ups are held back, by name.
pub(crate) type Breakers = BTreeMap<String, OpenBreaker>;

/// Since when the look-ups of a source are held back, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct OpenBreaker {
    pub(crate) since: String,
    /// What the look-up failed with.
    pub(crate) error: String,
}

/// An entry as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Stored {
    #[serde(flatten)]
    open: OpenBreaker,
    /// In microseconds since 1970.
    valid_until: i64,
}

type All = BTreeMap<String, Stored>;

/// The breakers that are open in one process or another.
pub(crate) async fn open(store: &dyn Store, now: Timestamp) -> Result<Breakers, StoreError> {
    let mut all = parse(store.shared_value(NAME).await?.as_deref())?;
    forget_old(&mut all, now);
    Ok(all.into_iter().map(|(source, stored)| (source, stored.open)).collect())
}

/// The same as a server knows it: those of its own process at once.
pub(crate) async fn seen_by(app: &App) -> Result<Breakers, StoreError> {
    let mut breakers = open(&*app.store, app.clock.now()).await?;
    breakers.extend(of_this_process(app));
    Ok(breakers)
}

fn parse(text: Option<&str>) -> Result<All, StoreError> {
    let Some(text) = text else { return Ok(All::new()) };
    serde_json::from_str(text).map_err(|error| StoreError::new(StoreErrorKind::Corrupt, error))
}

fn forget_old(all: &mut All, now: Timestamp) {
    all.retain(|_, stored| stored.valid_until > now.timestamp_micros());
}

/// Writes the breakers of this process into the store, for as long as the server runs.
pub(crate) async fn watch(app: App) {
    // What was written last, and when it has to be written again. At first what an earlier process may have
    // left, so that a restart takes it back; another process whose breaker is open writes its own again.
    let left = OpenBreaker { since: String::new(), error: String::new() };
    let names = app.pipelines.iter().map(|source| source.telemetry.label().to_owned());
    let mut told = (names.map(|name| (name, left.clone())).collect::<Breakers>(), None);
    loop {
        let now = app.clock.now();
        let here = of_this_process(&app);
        let is_due = told.1.is_none_or(|due| due <= now) && !here.is_empty();
        if (here != told.0 || is_due) && tell(&*app.store, &told.0, &here, now).await.is_ok() {
            told = (here, Some(now + AGAIN));
        }
        tokio::time::sleep(INTERVAL).await;
    }
}

fn of_this_process(app: &App) -> Breakers {
    let sources = app.pipelines.iter();
    let open = sources.filter_map(|source| {
        let opened = source.telemetry.opened()?;
        let since = view::time(opened.since.into());
        Some((source.telemetry.label().to_owned(), OpenBreaker { since, error: opened.error }))
    });
    open.collect()
}

/// Takes `before` out of the store's value, and puts `here` into it.
async fn tell(
    store: &dyn Store,
    before: &Breakers,
    here: &Breakers,
    now: Timestamp,
) -> Result<(), StoreError> {
    loop {
        let text = store.shared_value(NAME).await?;
        // A value that cannot be read is replaced.
        let mut all = parse(text.as_deref()).unwrap_or_default();
        forget_old(&mut all, now);
        all.retain(|source, _| !before.contains_key(source));
        for (source, open) in here {
            let valid_until = (now + VALID).timestamp_micros();
            all.insert(source.clone(), Stored { open: open.clone(), valid_until });
        }
        let new = serde_json::to_string(&all)
            .map_err(|error| StoreError::new(StoreErrorKind::Corrupt, error))?;
        let new = Some(new.as_str()).filter(|_| !all.is_empty());
        // Another process may have written its own meanwhile.
        if new == text.as_deref() || store.replace_shared_value(NAME, text.as_deref(), new).await? {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use cognigy_core::{SharedValues, memory::MemoryStore};

    use super::*;

    fn breaker(source: &str) -> Breakers {
        let open = OpenBreaker { since: "then".to_owned(), error: "CRM answered 503".to_owned() };
        [(source.to_owned(), open)].into()
    }

    #[tokio::test]
    async fn an_open_breaker_is_told_until_it_closes_or_its_process_is_gone() {
        let (store, none) = (MemoryStore::new(), Breakers::new());
        let at = |seconds| Timestamp::UNIX_EPOCH + Duration::from_secs(seconds);
        let seen = async |seconds| open(&store, at(seconds)).await.unwrap();
        tell(&store, &none, &breaker("a"), at(0)).await.unwrap();
        tell(&store, &none, &breaker("b"), at(30)).await.unwrap();
        assert_eq!(seen(30).await.into_keys().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(seen(100).await, breaker("b"), "the first process has not written again");
        tell(&store, &breaker("b"), &none, at(101)).await.unwrap();
        assert_eq!(seen(101).await, none);
        assert_eq!(store.shared_value(NAME).await.unwrap(), None, "nothing is left behind");
    }
}
