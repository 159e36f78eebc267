//! [`TokenStore`]: where OAuth tokens outlive the process.

use std::{
    collections::HashMap,
    fmt,
    sync::{Mutex, PoisonError},
};

use async_trait::async_trait;
use cognigy_core::BoxError;
use zeroize::Zeroizing;

/// The longest text that a client keeps in a [`TokenStore`], in bytes. Tokens are up to some KiB long;
/// a longer one is refused when it comes.
pub const MAX_STORED_TOKEN_BYTES: usize = 16 * 1024;

/// The text that a client keeps: its OAuth tokens. It is a secret: wiped from memory when dropped,
/// and not shown by `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct StoredToken(Zeroizing<String>);

impl StoredToken {
    /// Takes a text as a [`TokenStore`] kept it.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    /// The text, for a [`TokenStore`] to keep: at most [`MAX_STORED_TOKEN_BYTES`].
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for StoredToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StoredToken(…)")
    }
}

/// Keeps OAuth tokens durably, for all processes that use one credential.
///
/// Some CRMs give a new refresh token with each access token, and the old one ends: a token that is
/// lost cannot be fetched again. Others allow only few access tokens at a time, so that processes that
/// each fetch their own end those of the others. Both need one place for all.
///
/// ## Contract
/// * `name` is at most 64 ASCII characters. It is the same for all processes with the same settings,
///   and another one for another client, token server or configured refresh token.
/// * [`replace`](Self::replace) writes `new` only where the stored text is `expected`, in one atomic
///   step. `None` means that nothing is stored.
/// * When `replace` has answered `true`, the text is durable, and every later `load` returns it.
/// * After an error of `replace`, nothing is known: the text may have been written.
/// * The text of an error is shown to operators: it holds no secret.
#[async_trait]
pub trait TokenStore: Send + Sync + 'static {
    /// What is stored under `name`.
    async fn load(&self, name: &str) -> Result<Option<StoredToken>, BoxError>;

    /// Stores `new` if `expected` is what is stored, and says whether it did.
    async fn replace(
        &self,
        name: &str,
        expected: Option<&StoredToken>,
        new: &StoredToken,
    ) -> Result<bool, BoxError>;
}

/// A [`TokenStore`] that keeps tokens as long as the process lives. Enough for credentials whose
/// refresh token does not change, in a single process.
#[derive(Debug, Default)]
pub struct MemoryTokenStore(Mutex<HashMap<String, StoredToken>>);

impl MemoryTokenStore {
    /// An empty store.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }
}

#[async_trait]
impl TokenStore for MemoryTokenStore {
    async fn load(&self, name: &str) -> Result<Option<StoredToken>, BoxError> {
        Ok(self.0.lock().unwrap_or_else(PoisonError::into_inner).get(name).cloned())
    }

    async fn replace(
        &self,
        name: &str,
        expected: Option<&StoredToken>,
        new: &StoredToken,
    ) -> Result<bool, BoxError> {
        let mut stored = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if stored.get(name) != expected {
            return Ok(false);
        }
        stored.insert(name.to_owned(), new.clone());
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[tokio::test]
    async fn a_token_is_replaced_only_where_it_is_the_expected_one() {
        let store = MemoryTokenStore::new();
        let [a, b] = ["a-marker", "b"].map(StoredToken::new);
        assert!(!store.replace("n", Some(&a), &b).await.unwrap());
        assert!(store.replace("n", None, &a).await.unwrap());
        assert!(!store.replace("n", None, &b).await.unwrap());
        assert!(store.replace("m", None, &b).await.unwrap());
        assert!(store.replace("n", Some(&a), &b).await.unwrap());
        assert_eq!(store.load("n").await.unwrap(), Some(b));
        assert_eq!(store.load("x").await.unwrap(), None);
        assert!(!format!("{a:?} {store:?}").contains("marker"));
    }
}
