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
///
/// ```
/// use std::sync::Arc;
///
/// use async_trait::async_trait;
/// use cognigy_core::{BoxError, SharedValues, memory::MemoryStore};
/// use cognigy_crm_http::{StoredToken, TokenStore};
///
/// /// Keeps tokens where the events are, for all processes on that store.
/// struct BesideEvents(Arc<dyn SharedValues>);
///
/// #[async_trait]
/// impl TokenStore for BesideEvents {
///     async fn load(&self, name: &str) -> Result<Option<StoredToken>, BoxError> {
///         Ok(self.0.shared_value(name).await?.map(StoredToken::new))
///     }
///
///     async fn replace(
///         &self,
///         name: &str,
///         expected: Option<&StoredToken>,
///         new: &StoredToken,
///     ) -> Result<bool, BoxError> {
///         let expected = expected.map(StoredToken::expose);
///         Ok(self.0.replace_shared_value(name, expected, Some(new.expose())).await?)
///     }
/// }
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), BoxError> {
/// let tokens = BesideEvents(Arc::new(MemoryStore::new()));
/// let (first, second) = (StoredToken::new("first"), StoredToken::new("second"));
/// assert!(tokens.replace("salesforce", None, &first).await?);
/// assert!(!tokens.replace("salesforce", None, &second).await?); // another process was faster
/// assert_eq!(tokens.load("salesforce").await?, Some(first));
/// # Ok(())
/// # }
/// ```
#[async_trait]
pub trait TokenStore: Send + Sync + 'static {
    /// What is stored under `name`.
    ///
    /// # Errors
    /// The text cannot be read now. The look-up that needs a token fails as transient, and the next one loads it again.
    async fn load(&self, name: &str) -> Result<Option<StoredToken>, BoxError>;

    /// Stores `new` if `expected` is what is stored, and says whether it did.
    ///
    /// # Errors
    /// The text may or may not have been written. The client loads what is stored before it tries again.
    async fn replace(
        &self,
        name: &str,
        expected: Option<&StoredToken>,
        new: &StoredToken,
    ) -> Result<bool, BoxError>;
}

/// A [`TokenStore`] that keeps tokens as long as the process lives. Enough for credentials whose
/// refresh token does not change, in a single process.
///
/// ```
/// use std::sync::Arc;
///
/// use cognigy_crm_http::{AuthKind, CrmPreset, MemoryTokenStore, TemplateCrm};
///
/// let crm = TemplateCrm::builder(CrmPreset::Zoho.template()?)
///     .external_id_field("External_Id")
///     .auth(AuthKind::OAuthRefreshToken)
///     .client_id("an-id")
///     .client_secret("a-secret")
///     .refresh_token("a-token")
///     .token_store(Arc::new(MemoryTokenStore::new()))
///     .build()?;
/// # let _ = crm;
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
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
