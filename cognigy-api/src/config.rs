//! Setting up a [`CognigyApi`].

use std::time::Duration;

use cognigy_http::{BaseUrl, ClientOptions, ConfigError};

use crate::{
    CognigyApi,
    secret::SecretText,
    token::{Credentials, Tokens},
};

/// The default time limit of a request.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);

/// Sets a [`CognigyApi`] up. Begins with [`CognigyApi::builder`].
#[must_use]
pub struct CognigyApiBuilder {
    base_url: String,
    client_id: String,
    client_secret: SecretText,
    timeout: Duration,
    proxy_from_env: bool,
}

impl CognigyApiBuilder {
    pub(crate) fn new(base_url: String, client_id: String, client_secret: SecretText) -> Self {
        Self { base_url, client_id, client_secret, timeout: DEFAULT_TIMEOUT, proxy_from_env: false }
    }

    /// The longest one request may take, from connecting to the last byte of its answer. 10 s
    /// unless set. A call makes up to four: token, call, and both again after a 401.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Goes through the proxy that `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` name. Without this
    /// call they are ignored.
    pub fn proxy_from_env(mut self) -> Self {
        self.proxy_from_env = true;
        self
    }

    /// The client. It connects when the first call does.
    ///
    /// # Errors
    /// Where the base URL or the timeout cannot be used, the client's id or secret is empty, or TLS
    /// cannot be set up; see [`ConfigError`].
    pub fn build(self) -> Result<CognigyApi, ConfigError> {
        let base = BaseUrl::parse(&self.base_url)?;
        if self.client_id.is_empty() {
            return Err(ConfigError::Empty("the Cognigy client id"));
        }
        if self.client_secret.expose().is_empty() {
            return Err(ConfigError::Empty("the Cognigy client secret"));
        }
        let mut options =
            ClientOptions::new(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")));
        options.timeout = self.timeout;
        options.proxy_from_env = self.proxy_from_env;
        let http = cognigy_http::client(&base, &options)?;
        let credentials =
            Credentials { client_id: self.client_id, client_secret: self.client_secret };
        let token_url = base.join(&["api", "v1", "auth", "oauth", "token"]);
        let tokens = Tokens::new(http.clone(), token_url, credentials);
        Ok(CognigyApi::new(http, base.join(&["api", "v1", "webhooks"]), tokens))
    }
}

impl std::fmt::Debug for CognigyApiBuilder {
    /// Shows no base URL: one that is about to be refused may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CognigyApiBuilder").field("timeout", &self.timeout).finish_non_exhaustive()
    }
}
