//! How a [`TemplateCrm`] is set up.

use std::{collections::BTreeMap, fmt, sync::Arc, time::Duration};

use super::Batching;
use crate::{
    AuthKind, DEFAULT_MAX_RESPONSE_BYTES, DEFAULT_TIMEOUT, RateLimit, TokenStore,
    secret::SecretText, template::CrmTemplate,
};

/// Sets a [`TemplateCrm`](crate::TemplateCrm) up. Begins with
/// [`TemplateCrm::builder`](crate::TemplateCrm::builder).
///
/// ```
/// use cognigy_crm_http::{CrmPreset, CrmSetupError, TemplateCrm};
///
/// let template = CrmPreset::Dynamics.template()?;
/// let crm = TemplateCrm::builder(template.clone())
///     .base_url("https://example.crm4.dynamics.com")
///     .external_id_field("new_externalid")
///     .fields(["fullname", "emailaddress1"])
///     .token("a-token")
///     .rate_limit("6000/5m".parse()?)
///     .build()?;
/// # let _ = crm;
///
/// // What a CRM cannot do without is found at once.
/// let incomplete = TemplateCrm::builder(template).token("a-token").build();
/// assert!(matches!(incomplete, Err(CrmSetupError::Missing(_))));
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[must_use]
pub struct TemplateCrmBuilder {
    pub(super) template: CrmTemplate,
    pub(super) base_url: Option<String>,
    pub(super) external_id_field: Option<String>,
    pub(super) fields: Vec<String>,
    pub(super) variables: BTreeMap<String, String>,
    pub(super) fold_case: Option<bool>,
    pub(super) auth: Option<AuthKind>,
    pub(super) auth_header: Option<String>,
    pub(super) token: Option<SecretText>,
    pub(super) client_id: Option<String>,
    pub(super) client_secret: Option<SecretText>,
    pub(super) refresh_token: Option<SecretText>,
    pub(super) token_url: Option<String>,
    pub(super) scope: Option<String>,
    pub(super) token_store: Option<Arc<dyn TokenStore>>,
    pub(super) rate_limit: Option<RateLimit>,
    pub(super) timeout: Duration,
    pub(super) max_response_bytes: usize,
    pub(super) proxy_from_env: bool,
    pub(super) batching: Option<Batching>,
}

impl TemplateCrmBuilder {
    pub(super) fn new(template: CrmTemplate) -> Self {
        Self {
            template,
            base_url: None,
            external_id_field: None,
            fields: Vec::new(),
            variables: BTreeMap::new(),
            fold_case: None,
            auth: None,
            auth_header: None,
            token: None,
            client_id: None,
            client_secret: None,
            refresh_token: None,
            token_url: None,
            scope: None,
            token_store: None,
            rate_limit: None,
            timeout: DEFAULT_TIMEOUT,
            max_response_bytes: DEFAULT_MAX_RESPONSE_BYTES,
            proxy_from_env: false,
            batching: None,
        }
    }

    /// The base URL of the CRM, instead of the template's.
    pub fn base_url(mut self, url: impl Into<String>) -> Self {
        self.base_url = Some(url.into());
        self
    }

    /// The field that holds the external id, in the CRM's own name, instead of the template's.
    pub fn external_id_field(mut self, name: impl Into<String>) -> Self {
        self.external_id_field = Some(name.into());
        self
    }

    /// The fields to ask for, in the CRM's own names, instead of the template's. The field of the
    /// external id is asked for in any case. CRMs that always send whole records do so all the same.
    pub fn fields<T: Into<String>>(mut self, names: impl IntoIterator<Item = T>) -> Self {
        self.fields = names.into_iter().map(Into::into).collect();
        self
    }

    /// The version of the CRM's API, instead of the template's: the variable `version`.
    pub fn version(self, version: impl Into<String>) -> Self {
        self.variable("version", version)
    }

    /// One of the template's variables, such as `version` or `object` (Salesforce), `table`
    /// (Dynamics), `module` (Zoho).
    pub fn variable(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// Whether upper and lower case in external ids are the same, instead of the template's.
    pub fn fold_case(mut self, fold: bool) -> Self {
        self.fold_case = Some(fold);
        self
    }

    /// The kind of authentication, instead of the template's.
    pub fn auth(mut self, kind: AuthKind) -> Self {
        self.auth = Some(kind);
        self
    }

    /// The header for [`AuthKind::Header`], instead of the template's.
    pub fn auth_header(mut self, name: impl Into<String>) -> Self {
        self.auth_header = Some(name.into());
        self
    }

    /// The token for [`AuthKind::Bearer`] and [`AuthKind::Header`]; `user:password` for
    /// [`AuthKind::Basic`].
    pub fn token(mut self, token: impl Into<String>) -> Self {
        self.token = Some(SecretText::new(token));
        self
    }

    /// The OAuth client's id.
    pub fn client_id(mut self, id: impl Into<String>) -> Self {
        self.client_id = Some(id.into());
        self
    }

    /// The OAuth client's secret.
    pub fn client_secret(mut self, secret: impl Into<String>) -> Self {
        self.client_secret = Some(SecretText::new(secret));
        self
    }

    /// The first refresh token, for [`AuthKind::OAuthRefreshToken`]. Its successors are in the
    /// [`TokenStore`].
    pub fn refresh_token(mut self, token: impl Into<String>) -> Self {
        self.refresh_token = Some(SecretText::new(token));
        self
    }

    /// Where OAuth tokens are fetched, instead of the template's: a URL, or a path below the base
    /// URL.
    pub fn token_url(mut self, url: impl Into<String>) -> Self {
        self.token_url = Some(url.into());
        self
    }

    /// The scope that OAuth tokens are asked for, instead of the template's.
    pub fn scope(mut self, scope: impl Into<String>) -> Self {
        self.scope = Some(scope.into());
        self
    }

    /// Where the tokens of [`AuthKind::OAuthRefreshToken`] are kept, in memory unless set. Several
    /// processes with one credential need a store that they share, and so does a CRM that replaces
    /// the refresh token (Pipedrive, Zendesk): see [`TokenStore`].
    pub fn token_store(mut self, store: Arc<dyn TokenStore>) -> Self {
        self.token_store = Some(store);
        self
    }

    /// The most requests in a span of time; requests beyond it wait, as long as the look-up's time
    /// limit lets them. No limit unless set.
    pub fn rate_limit(mut self, limit: RateLimit) -> Self {
        self.rate_limit = Some(limit);
        self
    }

    /// The longest a look-up may take, with all its requests and waits. 10 s unless set.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// The longest answer taken, in bytes; a longer one is a permanent failure. 1 MiB unless set.
    pub fn max_response_bytes(mut self, bytes: usize) -> Self {
        self.max_response_bytes = bytes;
        self
    }

    /// Goes through the proxy that `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` name. Without this
    /// call they are ignored.
    pub fn proxy_from_env(mut self) -> Self {
        self.proxy_from_env = true;
        self
    }

    /// Asks for several contacts in one request, where the template says how. Off unless set.
    pub fn batching(mut self, batching: Batching) -> Self {
        self.batching = Some(batching);
        self
    }
}

impl fmt::Debug for TemplateCrmBuilder {
    /// Shows no URL: one that is about to be refused may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemplateCrmBuilder")
            .field("template", &self.template.name)
            .field("auth", &self.kind())
            .field("external_id_field", &self.external_id_field)
            .field("fields", &self.fields)
            .field("rate_limit", &self.rate_limit)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}
