//! How an [`HttpCrm`] is set up.

use std::{fmt, time::Duration};

use cognigy_http::{BaseUrl, ClientOptions, ConfigError, bearer};
use reqwest::header::HeaderValue;

use crate::{HttpCrm, NotFoundRule};

/// A look-up takes no longer than this unless told otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// An answer is no longer than this unless told otherwise: contacts are a few KiB, and each look-up
/// in flight may hold this much.
pub const DEFAULT_MAX_RESPONSE_BYTES: usize = 1024 * 1024;

/// Sets an [`HttpCrm`] up. Begins with [`HttpCrm::builder`].
///
/// ```
/// use std::time::Duration;
///
/// use cognigy_crm_http::{HttpCrm, NotFoundRule};
///
/// let crm = HttpCrm::builder("https://crm.example/api")
///     .bearer_token("a-token")
///     .timeout(Duration::from_secs(5))
///     .not_found("empty".parse::<NotFoundRule>()?) // a 404 means a wrong path at this CRM
///     .max_response_bytes(64 * 1024)
///     .build()?;
/// # let _ = crm;
///
/// assert!(HttpCrm::builder("crm.example").build().is_err()); // no scheme
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub struct HttpCrmBuilder {
    base_url: String,
    token: Option<Result<HeaderValue, ConfigError>>,
    timeout: Duration,
    proxy_from_env: bool,
    max_response_bytes: usize,
    not_found: NotFoundRule,
}

impl HttpCrmBuilder {
    pub(crate) fn new(base_url: String) -> Self {
        Self {
            base_url,
            token: None,
            timeout: DEFAULT_TIMEOUT,
            proxy_from_env: false,
            max_response_bytes: DEFAULT_MAX_RESPONSE_BYTES,
            not_found: NotFoundRule::default(),
        }
    }

    /// Sends `Authorization: Bearer {token}` with every look-up (RFC 6750, section 2.1). Without a
    /// token, none is sent.
    pub fn bearer_token(mut self, token: impl AsRef<str>) -> Self {
        const NAME: &str = "the CRM token";
        self.token = Some(match token.as_ref() {
            "" => Err(ConfigError::Empty(NAME)),
            token => bearer(token).ok_or(ConfigError::NotAToken(NAME)),
        });
        self
    }

    /// The longest a look-up may take, from connecting to the last byte of the answer. 10 s unless
    /// set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The longest answer taken, in bytes; a longer one is a permanent failure. 1 MiB unless set.
    pub fn max_response_bytes(mut self, bytes: usize) -> Self {
        self.max_response_bytes = bytes;
        self
    }

    /// Which answers mean that the CRM has no contact with that key.
    pub fn not_found(mut self, rule: NotFoundRule) -> Self {
        self.not_found = rule;
        self
    }

    /// Goes through the proxy that `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` name. Without this
    /// call they are ignored.
    pub fn proxy_from_env(mut self) -> Self {
        self.proxy_from_env = true;
        self
    }

    /// The client. It connects when the first look-up does.
    ///
    /// # Errors
    /// Where the base URL, the token or the timeout cannot be used, or TLS cannot be set up; see
    /// [`ConfigError`].
    pub fn build(self) -> Result<HttpCrm, ConfigError> {
        let base = BaseUrl::parse(&self.base_url)?;
        let mut options =
            ClientOptions::new(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")));
        options.timeout = self.timeout;
        options.proxy_from_env = self.proxy_from_env;
        Ok(HttpCrm::new(crate::crm::Parts {
            http: cognigy_http::client(&base, &options)?,
            contacts: base.join(&["v1", "contacts"]),
            authorization: self.token.transpose()?,
            timeout: self.timeout,
            max_response_bytes: self.max_response_bytes,
            not_found: self.not_found,
        }))
    }
}

impl fmt::Debug for HttpCrmBuilder {
    /// Shows no base URL: one that is about to be refused may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpCrmBuilder")
            .field("token", &self.token.is_some())
            .field("timeout", &self.timeout)
            .field("max_response_bytes", &self.max_response_bytes)
            .field("not_found", &self.not_found)
            .finish_non_exhaustive()
    }
}
