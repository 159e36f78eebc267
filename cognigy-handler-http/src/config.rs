//! How a [`ForwardHandler`] is set up.

use std::{fmt, time::Duration};

use cognigy_core::EventType;
use cognigy_http::{BaseUrl, ClientOptions, absolute_url};
use reqwest::Url;

use crate::{
    ConfigError, ForwardHandler, InvalidSecret, InvalidUrl, handler::Parts, secret::SigningKey,
};

/// A request takes no longer than this unless told otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Whether `url` is one that [`ForwardHandler::builder`] takes: `http` or `https`, with a host, with or
/// without a path and a query, without a user name, a password and a fragment.
///
/// # Errors
/// What is wrong with it, as the rest of a sentence that begins with the name of the setting.
///
/// ```
/// use cognigy_handler_http::check_url;
///
/// assert!(check_url("https://orders.example/hooks?tenant=7").is_ok());
/// assert!(check_url("https://user:password@orders.example/").is_err());
/// assert!(check_url("/hooks").is_err());
/// ```
pub fn check_url(url: &str) -> Result<(), InvalidUrl> {
    read_url(url).map(|_| ())
}

fn read_url(text: &str) -> Result<Url, InvalidUrl> {
    let url = absolute_url(text).map_err(InvalidUrl)?;
    if !url.username().is_empty() || url.password().is_some() {
        return Err(InvalidUrl("must not hold a user name or password".to_owned()));
    }
    // A fragment is never sent, so it is a mistake: perhaps a `#` that should be `%23`.
    if url.fragment().is_some() {
        return Err(InvalidUrl("must not hold a fragment".to_owned()));
    }
    Ok(url)
}

/// Sets a [`ForwardHandler`] up. Begins with [`ForwardHandler::builder`].
///
/// ```
/// use std::time::Duration;
///
/// use cognigy_core::EventType;
/// use cognigy_handler_http::{ConfigError, ForwardHandler};
///
/// let handler = ForwardHandler::builder("https://orders.example/hooks")
///     .secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
///     .timeout(Duration::from_secs(5))
///     .types([EventType::DialogEnded])
///     .build()?;
/// assert!(handler.takes(&EventType::DialogEnded) && !handler.takes(&EventType::DialogStarted));
///
/// let without_secret = ForwardHandler::builder("https://orders.example/hooks").build();
/// assert!(matches!(without_secret, Err(ConfigError::NoSecret)));
/// # Ok::<_, ConfigError>(())
/// ```
#[must_use]
pub struct ForwardHandlerBuilder {
    url: String,
    key: Option<Result<SigningKey, InvalidSecret>>,
    timeout: Duration,
    types: Option<Vec<EventType>>,
    proxy_from_env: bool,
}

impl ForwardHandlerBuilder {
    pub(crate) fn new(url: String) -> Self {
        Self { url, key: None, timeout: DEFAULT_TIMEOUT, types: None, proxy_from_env: false }
    }

    /// Signs with this secret, which the receiver knows too: `whsec_`, then 16 to 64 bytes in base64.
    /// Required.
    ///
    /// `openssl rand -base64 32` makes what comes after `whsec_`.
    pub fn secret(mut self, secret: impl AsRef<str>) -> Self {
        self.key = Some(SigningKey::read(secret.as_ref()));
        self
    }

    /// The longest a request may take, from connecting to the last byte of the answer. 10 s unless set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Forwards events of these types only. Events of other types are done without a request. All events
    /// are forwarded unless set.
    pub fn types(mut self, types: impl IntoIterator<Item = EventType>) -> Self {
        self.types = Some(types.into_iter().collect());
        self
    }

    /// Goes through the proxy that `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` name. Without this call they
    /// are ignored.
    pub fn proxy_from_env(mut self) -> Self {
        self.proxy_from_env = true;
        self
    }

    /// The handler. It connects when the first event is forwarded.
    ///
    /// # Errors
    /// Where the URL, the secret, the types or the timeout cannot be used, or TLS cannot be set up; see
    /// [`ConfigError`].
    pub fn build(self) -> Result<ForwardHandler, ConfigError> {
        let url = read_url(&self.url).map_err(ConfigError::Url)?;
        let key = self.key.ok_or(ConfigError::NoSecret)?.map_err(ConfigError::Secret)?;
        if self.types.as_ref().is_some_and(Vec::is_empty) {
            return Err(ConfigError::NoTypes);
        }
        let mut options =
            ClientOptions::new(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")));
        options.timeout = self.timeout;
        options.proxy_from_env = self.proxy_from_env;
        // A base URL has no query. Only its scheme matters to the client.
        let http = BaseUrl::parse(&url.origin().ascii_serialization())
            .and_then(|base| cognigy_http::client(&base, &options))
            .map_err(ConfigError::Client)?;
        Ok(ForwardHandler::new(Parts { http, url, key, timeout: self.timeout, types: self.types }))
    }
}

impl fmt::Debug for ForwardHandlerBuilder {
    /// Shows no URL: one that is about to be refused may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardHandlerBuilder")
            .field("secret", &self.key.is_some())
            .field("timeout", &self.timeout)
            .field("types", &self.types)
            .finish_non_exhaustive()
    }
}
