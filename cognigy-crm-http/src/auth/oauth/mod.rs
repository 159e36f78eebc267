//! OAuth access tokens: fetched once for all callers, before they expire or when one was refused.
//!
//! ```text
//! get() ─┬─ the latest token is valid ─────────────────────────────▶ token
//!        └─ client credentials ───────────────▶ token request ─────▶ token
//!        └─ refresh token ─▶ TokenStore: load ─┬─ another process has fetched one ─▶ token
//!                                              ├─ another process is fetching: wait, load again
//!                                              └─ claim ─▶ token request ─▶ store ─▶ token
//! ```

mod answer;
mod kept;

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use cognigy_core::{BoxError, report};
use cognigy_http::{TransportError, read_at_most, retry_after};
use reqwest::{
    Client, Url,
    header::{ACCEPT, AUTHORIZATION, HeaderValue},
};
use tokio::sync::{Mutex, OwnedMutexGuard};
use zeroize::Zeroizing;

use super::{StoredToken, TokenStore};
use crate::secret::SecretText;
use answer::TokenAnswer;
use kept::Kept;

/// A token request takes no longer than this.
const REQUEST_LIMIT: Duration = Duration::from_secs(15);

/// A process that is fetching a token says so in the store for this long. It is longer than the
/// request takes, and then another process may try: the first one has probably died.
const CLAIM: Duration = Duration::from_secs(30);

/// How often a process looks whether another one has fetched the token.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A new refresh token is stored with so many tries, the pause doubling from this one: 1.4 s in all.
/// The look-ups that need the token wait for it.
const STORE_TRIES: u32 = 4;
const STORE_PAUSE: Duration = Duration::from_millis(200);

/// The longest answer of a token server that is read, in bytes.
const ANSWER_BYTES: usize = 64 * 1024;

/// A token could not be had. No text holds a secret.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum TokenError {
    #[error("the CRM's token server refused the credential{}", told(.code))]
    Refused { code: Option<String> },
    #[error("the CRM's token server answered {}", crate::error::status(*.status))]
    Status { status: reqwest::StatusCode, retry_after: Option<Duration> },
    #[error("the CRM's token server {0}")]
    Transport(TransportError),
    #[error("the CRM's token server answered with {0}")]
    Unreadable(&'static str),
    #[error("the token store {0}")]
    Store(String),
    #[error("another process has been fetching the CRM's token for too long")]
    Busy,
    #[error("the CRM's token server did not answer in time")]
    Slow,
    #[error("fetching the CRM's token was cut short")]
    CutShort,
}

fn told(code: &Option<String>) -> String {
    code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default()
}

impl TokenError {
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// A token for requests.
pub(crate) struct AccessToken {
    pub(crate) header: HeaderValue,
    text: SecretText,
    /// Without an `expires_in`, a token is used until it is refused.
    replace_at: Option<SystemTime>,
}

impl AccessToken {
    fn is_usable(&self, now: SystemTime) -> bool {
        self.replace_at.is_none_or(|at| now < at)
    }

    fn is_not(&self, refused: Option<&str>) -> bool {
        refused != Some(self.text.expose())
    }
}

/// How a token is asked for.
pub(crate) enum Grant {
    /// RFC 6749, section 4.4.
    ClientCredentials,
    /// RFC 6749, section 6; the refresh token as configured, and where its successors are kept.
    RefreshToken { configured: SecretText, store: Arc<dyn TokenStore>, name: String },
}

pub(crate) struct OAuthParts {
    pub(crate) counts: TokenCounts,
    pub(crate) http: Client,
    pub(crate) url: Url,
    pub(crate) grant: Grant,
    pub(crate) client_id: String,
    pub(crate) client_secret: SecretText,
    /// Whether id and secret go into the header `Authorization` instead of the form.
    pub(crate) client_basic: bool,
    pub(crate) scope: Option<String>,
    /// The word before the token in requests to the CRM.
    pub(crate) scheme: String,
}

/// Requests for tokens so far.
#[derive(Debug, Default)]
pub(crate) struct TokenCounts {
    succeeded: AtomicU64,
    failed: AtomicU64,
}

/// How many tokens a client has asked a token server for. Tokens that other processes fetched, and that it
/// found in its [`TokenStore`](crate::TokenStore), are not counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct TokenRequests {
    /// Requests that yielded a token.
    pub succeeded: u64,
    /// Requests that did not.
    pub failed: u64,
}

/// The tokens of one credential. Cheap to clone.
#[derive(Clone)]
pub(crate) struct OAuth {
    parts: Arc<OAuthParts>,
    latest: Arc<Mutex<Latest>>,
}

type Fetched = Result<Arc<AccessToken>, TokenError>;

#[derive(Default)]
struct Latest {
    outcome: Option<(Instant, Fetched)>,
    unsaved: Option<Unsaved>,
}

/// Tokens that could not be stored yet.
struct Unsaved {
    kept: Kept,
    /// The stored text that they replace.
    expected: Option<StoredToken>,
    /// The refresh token before them.
    renewed_from: SecretText,
}

impl Latest {
    /// The outcome, if it answers a caller that asked at `asked` and whose token `refused` the CRM
    /// refused: its token is still valid, or it arrived while the caller waited.
    fn serves(&self, asked: Instant, refused: Option<&str>) -> Option<Fetched> {
        let (at, outcome) = self.outcome.as_ref()?;
        let serves = match outcome {
            Ok(token) => token.is_not(refused) && token.is_usable(SystemTime::now()),
            Err(_) => *at >= asked,
        };
        serves.then(|| outcome.clone())
    }
}

impl OAuth {
    pub(crate) fn new(parts: OAuthParts) -> Self {
        Self { parts: Arc::new(parts), latest: Arc::default() }
    }

    pub(crate) fn requests(&self) -> TokenRequests {
        let TokenCounts { succeeded, failed } = &self.parts.counts;
        let read = |count: &AtomicU64| count.load(Ordering::Relaxed);
        TokenRequests { succeeded: read(succeeded), failed: read(failed) }
    }

    /// A token that is valid for a while and is not `refused`.
    ///
    /// One caller fetches, the others wait and share the outcome. The fetch goes on when its caller
    /// gives up: the answer may hold the only refresh token that is valid from then on.
    pub(crate) async fn get(&self, refused: Option<&AccessToken>) -> Fetched {
        let asked = Instant::now();
        let refused = refused.map(|token| token.text.clone());
        let latest = Arc::clone(&self.latest).lock_owned().await;
        if let Some(outcome) = latest.serves(asked, refused.as_ref().map(SecretText::expose)) {
            return outcome;
        }
        let parts = Arc::clone(&self.parts);
        let task = tokio::spawn(async move { parts.fetch(latest, refused).await });
        task.await.unwrap_or(Err(TokenError::CutShort))
    }
}

impl OAuthParts {
    async fn fetch(
        &self,
        mut latest: OwnedMutexGuard<Latest>,
        refused: Option<SecretText>,
    ) -> Fetched {
        let fetched = match &self.grant {
            Grant::ClientCredentials => {
                self.request(None).await.and_then(|it| it.token(&self.scheme))
            }
            Grant::RefreshToken { configured, store, name } => {
                let shared = Shared { parts: self, configured, store: store.as_ref(), name };
                shared.fetch(&mut latest, refused.as_ref().map(SecretText::expose)).await
            }
        };
        let fetched = fetched.map(Arc::new);
        latest.outcome = Some((Instant::now(), fetched.clone()));
        fetched
    }

    async fn request(&self, refresh_token: Option<&str>) -> Result<TokenAnswer, TokenError> {
        let answer = self.ask(refresh_token).await;
        let TokenCounts { succeeded, failed } = &self.counts;
        let count = if answer.is_ok() { succeeded } else { failed };
        count.fetch_add(1, Ordering::Relaxed);
        answer
    }

    async fn ask(&self, refresh_token: Option<&str>) -> Result<TokenAnswer, TokenError> {
        let mut form = vec![("grant_type", "client_credentials")];
        if let Some(token) = refresh_token {
            form = vec![("grant_type", "refresh_token"), ("refresh_token", token)];
        }
        if let Some(scope) = &self.scope {
            form.push(("scope", scope));
        }
        let mut request = self.http.post(self.url.clone()).timeout(REQUEST_LIMIT);
        request = request.header(ACCEPT, "application/json");
        let secret = self.client_secret.expose();
        if self.client_basic {
            let pair = Zeroizing::new(format!("{}:{secret}", self.client_id));
            let value = super::basic(&pair);
            let value = value.map_err(|_| TokenError::Unreadable("nothing: it was not asked"))?;
            request = request.header(AUTHORIZATION, value);
        } else {
            form.extend([("client_id", self.client_id.as_str()), ("client_secret", secret)]);
        }
        let response = match request.form(&form).send().await {
            Ok(response) => response,
            Err(error) => return Err(TokenError::Transport(error.into())),
        };
        let (status, wait) =
            (response.status(), retry_after(response.headers(), SystemTime::now()));
        let body = read_at_most(response, ANSWER_BYTES).await;
        TokenAnswer::read(status, wait, &body)
    }
}

/// A credential whose tokens are in a store.
struct Shared<'a> {
    parts: &'a OAuthParts,
    configured: &'a SecretText,
    store: &'a dyn TokenStore,
    name: &'a str,
}

impl Shared<'_> {
    async fn fetch(
        &self,
        latest: &mut Latest,
        refused: Option<&str>,
    ) -> Result<AccessToken, TokenError> {
        if let Some(unsaved) = latest.unsaved.take() {
            self.save(latest, unsaved).await?;
        }
        let began = Instant::now();
        while began.elapsed() < CLAIM + CLAIM {
            let stored = self.store.load(self.name).await.map_err(unstored)?;
            let kept = stored.as_ref().and_then(Kept::read);
            let kept = kept.unwrap_or_else(|| Kept::new(self.configured.expose()));
            let now = SystemTime::now();
            let token = kept.token(&self.parts.scheme);
            if let Some(token) = token.filter(|it| it.is_not(refused) && it.is_usable(now)) {
                return Ok(token);
            }
            if kept.is_claimed(now) {
                tokio::time::sleep(LOOK_AGAIN).await;
                continue;
            }
            let claim = kept.claimed(now + CLAIM).text();
            if self.store.replace(self.name, stored.as_ref(), &claim).await.map_err(unstored)? {
                return self.refresh(latest, kept, claim).await;
            }
        }
        Err(TokenError::Busy)
    }

    async fn refresh(
        &self,
        latest: &mut Latest,
        kept: Kept,
        claim: StoredToken,
    ) -> Result<AccessToken, TokenError> {
        let fetched = match self.parts.request(Some(kept.refresh_token())).await {
            Ok(answer) => {
                answer.token(&self.parts.scheme).map(|token| (kept.renewed(&answer), token))
            }
            Err(error) => Err(error),
        };
        match fetched {
            Ok((renewed, token)) => {
                // The token is good even where it could not be stored. Then it is kept here, and
                // stored before the next one is fetched.
                let renewed_from = SecretText::new(kept.refresh_token());
                let unsaved = Unsaved { kept: renewed, expected: Some(claim), renewed_from };
                _ = self.save(latest, unsaved).await;
                Ok(token)
            }
            Err(error) => {
                // Without this, the others would wait until the claim ends.
                _ = self.store.replace(self.name, Some(&claim), &kept.text()).await;
                Err(error)
            }
        }
    }

    /// Stores what was renewed. Where another process has renewed the same refresh token meanwhile, its
    /// tokens stay: all processes go on with one. Where it has only begun to, its claim is replaced:
    /// the token that it holds has ended.
    async fn save(&self, latest: &mut Latest, mut unsaved: Unsaved) -> Result<(), TokenError> {
        let text = unsaved.kept.text();
        let mut pause = STORE_PAUSE;
        let mut attempt = 1;
        loop {
            let error = match self.replace(&mut unsaved, &text).await {
                Ok(done) if done => return Ok(()),
                Ok(_) => "other processes keep changing it".into(),
                Err(error) => error,
            };
            if attempt == STORE_TRIES {
                latest.unsaved = Some(unsaved);
                return Err(unstored(error));
            }
            tokio::time::sleep(pause).await;
            (pause, attempt) = (pause * 2, attempt + 1);
        }
    }

    /// One try. `false` where it has to be tried again, against what is stored now.
    async fn replace(&self, unsaved: &mut Unsaved, text: &StoredToken) -> Result<bool, BoxError> {
        if self.store.replace(self.name, unsaved.expected.as_ref(), text).await? {
            return Ok(true);
        }
        let stored = self.store.load(self.name).await?;
        let same = stored.as_ref().and_then(Kept::read);
        let same = same.is_some_and(|it| it.refresh_token() == unsaved.renewed_from.expose());
        // Also where an earlier try has stored the text, and its answer was lost.
        if !same {
            return Ok(true);
        }
        unsaved.expected = stored;
        self.store.replace(self.name, unsaved.expected.as_ref(), text).await
    }
}

fn unstored(error: BoxError) -> TokenError {
    TokenError::Store(format!("failed: {}", report(error.as_ref())))
}
