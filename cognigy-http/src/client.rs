//! One way to set up a client, so that no adapter forgets a deadline or follows a redirect.

use std::{sync::Arc, time::Duration};

use reqwest::{Client, header::HeaderValue, redirect, retry};
use rustls::{ClientConfig, RootCertStore, crypto::ring};

use crate::{BaseUrl, ConfigError};

/// An idle connection is closed after this long: sooner than the 60 s after which load balancers
/// commonly close theirs (AWS ALB's default), so that few requests meet a connection just gone.
const POOL_IDLE: Duration = Duration::from_secs(30);

/// An idle connection is probed this often, so that a peer that vanished silently is noticed before
/// the next request is written to it.
const KEEPALIVE: Duration = Duration::from_secs(15);

/// How a client behaves.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ClientOptions {
    /// The time limit from the first byte of a request to the last one of its answer, connecting
    /// included.
    pub timeout: Duration,
    /// The time limit for name look-up, TCP and TLS together; never longer than `timeout`.
    pub connect_timeout: Duration,
    /// The `User-Agent` of the client.
    pub user_agent: &'static str,
    /// Goes through the proxy that `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` name. Off by default:
    /// a token should not pass through a proxy that no setting asked for.
    pub proxy_from_env: bool,
}

impl ClientOptions {
    /// Ten seconds for a request, five of them for connecting; no proxy.
    #[must_use]
    pub fn new(user_agent: &'static str) -> Self {
        Self {
            timeout: Duration::from_secs(10),
            connect_timeout: Duration::from_secs(5),
            user_agent,
            proxy_from_env: false,
        }
    }
}

/// A client for the service at `base`. Cheap to clone; clones share their connections.
///
/// Certificates are checked against the system's roots, or those in the file or folders that
/// `SSL_CERT_FILE` and `SSL_CERT_DIR` name. Redirects are answers like any other: a token must
/// never follow one to another host. The client itself sends nothing twice.
///
/// # Errors
/// [`ConfigError::ZeroTimeout`]; [`ConfigError::NoRoots`] where `base` is `https` and there is
/// nothing to trust; [`ConfigError::Client`] where TLS cannot be set up.
pub fn client(base: &BaseUrl, options: &ClientOptions) -> Result<Client, ConfigError> {
    if options.timeout.is_zero() || options.connect_timeout.is_zero() {
        return Err(ConfigError::ZeroTimeout);
    }
    let mut builder = Client::builder()
        .tls_backend_preconfigured(tls(base.is_https())?)
        .timeout(options.timeout)
        .connect_timeout(options.connect_timeout.min(options.timeout))
        .user_agent(options.user_agent)
        .redirect(redirect::Policy::none())
        .referer(false)
        .retry(retry::never())
        .pool_idle_timeout(POOL_IDLE)
        .tcp_keepalive(KEEPALIVE)
        .tcp_nodelay(true);
    if !options.proxy_from_env {
        builder = builder.no_proxy();
    }
    builder.build().map_err(|error| ConfigError::Client(error.without_url().into()))
}

/// An `Authorization` value (RFC 6750, section 2.1) that `Debug` does not show. `None` where `token`
/// is empty or holds anything but visible ASCII: the line break at the end of a file, most likely.
#[must_use]
pub fn bearer(token: &str) -> Option<HeaderValue> {
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let mut value = HeaderValue::try_from(format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}

/// Built here rather than by reqwest, whose default is a second crypto provider; one provider is
/// enough in a binary.
fn tls(needed: bool) -> Result<ClientConfig, ConfigError> {
    let mut roots = RootCertStore::empty();
    let found = rustls_native_certs::load_native_certs();
    // Some systems ship a few certificates that no modern parser accepts; the others are still
    // used.
    roots.add_parsable_certificates(found.certs);
    if needed && roots.is_empty() {
        let why = found.errors.into_iter().next();
        return Err(ConfigError::NoRoots(why.map(Into::into)));
    }
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError::Client(error.into()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}
