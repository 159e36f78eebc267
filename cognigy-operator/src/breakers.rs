//! Breakers that are open, for operators: only the process that looks contacts up knows of them, so it
//! writes them into the store, where others read them.
//!
//! A process that is killed cannot take its entry back, so that an entry counts only for a while. Each
//! process whose breaker is open writes it again before that has passed.

use std::{collections::BTreeMap, time::Duration};

use cognigy_core::{Store, StoreError, StoreErrorKind, Timestamp};
use serde::{Deserialize, Serialize};

/// The name of the shared value.
const NAME: &str = "breakers";
/// How long an entry counts.
const VALID: Duration = Duration::from_secs(90);

/// The sources whose look-ups are held back, by name.
pub type Breakers = BTreeMap<String, OpenBreaker>;

/// Since when the look-ups of a source are held back, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OpenBreaker {
    /// Since when.
    pub since: String,
    /// What the look-up failed with.
    pub error: String,
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
///
/// # Errors
///
/// The store does not answer.
pub async fn open(store: &dyn Store, now: Timestamp) -> Result<Breakers, StoreError> {
    let mut all = parse(store.shared_value(NAME).await?.as_deref())?;
    forget_old(&mut all, now);
    Ok(all.into_iter().map(|(source, stored)| (source, stored.open)).collect())
}

fn parse(text: Option<&str>) -> Result<All, StoreError> {
    let Some(text) = text else { return Ok(All::new()) };
    serde_json::from_str(text).map_err(|error| StoreError::new(StoreErrorKind::Corrupt, error))
}

fn forget_old(all: &mut All, now: Timestamp) {
    all.retain(|_, stored| stored.valid_until > now.timestamp_micros());
}

/// Takes `before` out of the store's value, and puts `here` into it, for 90 s.
///
/// # Errors
///
/// The store does not answer.
pub async fn tell(
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
