//! From settings to a [`TemplateCrm`].

use std::{sync::Arc, time::Duration};

use base16ct::lower;
use cognigy_http::{BaseUrl, ClientOptions, ConfigError, absolute_url};
use reqwest::{
    Client, Url,
    header::{HeaderName, HeaderValue},
};
use sha2::{Digest, Sha256};

use super::{Inner, TemplateCrm, TemplateCrmBuilder};
use crate::{
    AuthKind, MemoryTokenStore,
    auth::{Credential, Grant, OAuth, OAuthParts, TokenCounts},
    rate_limit::Limiter,
    template::{Names, Place, Values, check_name},
};

/// Connecting takes no longer than this, and no longer than half of a look-up, so that a CRM that
/// cannot be reached is told apart from one that answers slowly.
const CONNECT_LIMIT: Duration = Duration::from_secs(5);

/// A longer timeout counts as this: it can be added to any clock without overflow.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(24 * 60 * 60);

/// A [`TemplateCrm`] cannot be set up. No text repeats a setting's value.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CrmSetupError {
    /// The base URL, a token or a timeout cannot be used, or TLS cannot be set up.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A setting is missing that the template or the kind of authentication needs.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A setting cannot be used.
    #[error("{what} {why}")]
    Unusable {
        /// The setting.
        what: &'static str,
        /// What is wrong; it completes the sentence that `what` begins.
        why: String,
    },
}

fn unusable(what: &'static str, why: impl Into<String>) -> CrmSetupError {
    CrmSetupError::Unusable { what, why: why.into() }
}

impl TemplateCrmBuilder {
    /// The client. It connects when the first look-up does.
    ///
    /// # Errors
    /// [`CrmSetupError`], where a setting is missing or cannot be used.
    pub fn build(self) -> Result<TemplateCrm, CrmSetupError> {
        let base_url = self.base_url.as_deref().or(self.template.default_base_url());
        let base_text = base_url.ok_or(CrmSetupError::Missing("the CRM's base URL"))?;
        let base = BaseUrl::parse(base_text)?;
        let names = self.names()?;
        if self.batching.is_some() && self.template.batch.is_none() {
            return Err(unusable("batching", "is not possible: the template has no `batch`"));
        }
        let token_url = self.token_endpoint(base_text)?;
        let http = self.client(&base, token_url.as_ref())?;
        let mut headers = Vec::new();
        for (name, text) in &self.template.headers {
            let value = text.render(Place::Header, Values::new(&names, &[]));
            let name = HeaderName::try_from(name).ok();
            let header = name.zip(HeaderValue::try_from(value).ok());
            headers
                .push(header.ok_or_else(|| unusable("a header of the template", "is malformed"))?);
        }
        if !headers.iter().any(|(name, _)| *name == reqwest::header::ACCEPT) {
            let json = HeaderValue::from_static("application/json");
            headers.push((reqwest::header::ACCEPT, json));
        }
        let credential = self.credential(&http, token_url, base_text)?;
        let inner = Inner {
            names,
            fold_case: self.fold_case.unwrap_or(self.template.fold_case),
            http,
            base: base.join(&[]),
            headers,
            credential,
            limiter: self.rate_limit.map(Limiter::new),
            timeout: self.timeout.min(LONGEST_TIMEOUT),
            max_response_bytes: self.max_response_bytes,
            template: self.template,
        };
        Ok(TemplateCrm::new(inner, self.batching))
    }

    fn names(&self) -> Result<Names, CrmSetupError> {
        const FIELD: &str = "the field of the external id";
        let default = self.template.default_external_id_field();
        let chosen = self.external_id_field.as_deref();
        let field = chosen.or(default).ok_or(CrmSetupError::Missing(FIELD))?;
        check_name(field).map_err(|why| unusable(FIELD, why))?;
        if !self.template.external_id_field_can_change() && chosen.is_some() && chosen != default {
            return Err(unusable(FIELD, "cannot be chosen: this CRM has only one"));
        }
        let chosen = if self.fields.is_empty() { &self.template.fields } else { &self.fields };
        let mut fields: Vec<String> = Vec::new();
        for name in chosen.iter().map(String::as_str).chain([field]) {
            check_name(name).map_err(|why| unusable("the name of a field", why))?;
            if !fields.iter().any(|known| known == name) {
                fields.push(name.to_owned());
            }
        }
        let mut variables = self.template.variables.clone();
        for (name, value) in &self.variables {
            check_name(value).map_err(|why| unusable("a variable of the template", why))?;
            if variables.insert(name.clone(), value.clone()).is_none() {
                return Err(unusable("a variable", "is set that the template does not have"));
            }
        }
        Ok(Names { external_id_field: field.to_owned(), fields, variables })
    }

    fn client(&self, base: &BaseUrl, token_url: Option<&Url>) -> Result<Client, CrmSetupError> {
        let mut options =
            ClientOptions::new(concat!(env!("CARGO_PKG_NAME"), "/", env!("CARGO_PKG_VERSION")));
        options.timeout = self.timeout;
        options.connect_timeout = CONNECT_LIMIT.min(self.timeout / 2);
        options.proxy_from_env = self.proxy_from_env;
        // One client serves both hosts; it needs root certificates if either is `https`.
        let tokens = token_url.filter(|url| url.scheme() == "https" && !base.is_https());
        let tokens = tokens.map(|url| BaseUrl::parse(&url.origin().ascii_serialization()));
        Ok(cognigy_http::client(&tokens.transpose()?.unwrap_or_else(|| base.clone()), &options)?)
    }

    pub(super) fn kind(&self) -> AuthKind {
        self.auth.unwrap_or(self.template.auth.kind)
    }

    fn token_endpoint(&self, base: &str) -> Result<Option<Url>, CrmSetupError> {
        const TOKEN_URL: &str = "the token URL";
        let oauth = [AuthKind::OAuthClientCredentials, AuthKind::OAuthRefreshToken];
        if !oauth.contains(&self.kind()) {
            return Ok(None);
        }
        let text = self.token_url.as_ref().or(self.template.auth.token_url.as_ref());
        let text = text.ok_or(CrmSetupError::Missing(TOKEN_URL))?;
        let text = match text.starts_with('/') {
            true => format!("{}{text}", base.trim_end_matches('/')),
            false => text.clone(),
        };
        let url = absolute_url(&text).map_err(|why| unusable(TOKEN_URL, why))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err(unusable(TOKEN_URL, "must not hold a user name or password"));
        }
        Ok(Some(url))
    }

    fn credential(
        &self,
        http: &Client,
        token_url: Option<Url>,
        base: &str,
    ) -> Result<Credential, CrmSetupError> {
        let auth = &self.template.auth;
        let token = || self.token.as_ref().ok_or(CrmSetupError::Missing("the CRM token"));
        Ok(match (self.kind(), token_url) {
            (AuthKind::Bearer, _) => Credential::bearer(&auth.scheme, token()?)?,
            (AuthKind::Basic, _) if !token()?.expose().contains(':') => {
                return Err(unusable("the CRM token", "must be written `user:password`"));
            }
            (AuthKind::Basic, _) => Credential::basic(token()?)?,
            (AuthKind::Header, _) => {
                Credential::header(self.auth_header.as_ref().unwrap_or(&auth.header), token()?)?
            }
            (_, Some(url)) => Credential::OAuth(self.oauth(http, url, base)?),
            _ => Credential::None,
        })
    }

    fn oauth(&self, http: &Client, url: Url, base: &str) -> Result<OAuth, CrmSetupError> {
        let missing = CrmSetupError::Missing;
        let client_id = self.client_id.clone().filter(|id| !id.is_empty());
        let client_id = client_id.ok_or(missing("the client id"))?;
        let secret = self.client_secret.clone().filter(|it| !it.expose().is_empty());
        let client_secret = secret.ok_or(missing("the client secret"))?;
        let grant = if self.kind() == AuthKind::OAuthClientCredentials {
            Grant::ClientCredentials
        } else {
            let token = self.refresh_token.clone().filter(|it| !it.expose().is_empty());
            let configured = token.ok_or(missing("the refresh token"))?;
            // With another refresh token configured, what is kept of the old one does not count.
            let parts = [url.as_str(), &client_id, configured.expose()];
            let name = lower::encode_string(&Sha256::digest(parts.join("\n")));
            let store = self.token_store.clone();
            let store = store.unwrap_or_else(|| Arc::new(MemoryTokenStore::new()));
            Grant::RefreshToken { configured, store, name }
        };
        let auth = &self.template.auth;
        let scope = self.scope.as_ref().or(auth.scope.as_ref());
        let scope = scope.map(|it| it.replace("{base_url}", base.trim_end_matches('/')));
        Ok(OAuth::new(OAuthParts {
            counts: TokenCounts::default(),
            http: http.clone(),
            url,
            grant,
            client_id,
            client_secret,
            client_basic: auth.client_basic,
            scope,
            scheme: auth.scheme.clone(),
        }))
    }
}
