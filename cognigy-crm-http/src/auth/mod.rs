//! How requests authenticate.

mod oauth;
mod token_store;

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::STANDARD};
use cognigy_http::ConfigError;
use reqwest::header::{AUTHORIZATION, HeaderName, HeaderValue};
use serde::Deserialize;
use zeroize::Zeroizing;

pub use oauth::TokenRequests;
pub(crate) use oauth::{AccessToken, Grant, OAuth, OAuthParts, TokenCounts, TokenError};
pub use token_store::{MAX_STORED_TOKEN_BYTES, MemoryTokenStore, StoredToken, TokenStore};

use crate::secret::SecretText;

/// How requests to a CRM authenticate. Written as in the setting `CRM_AUTH`.
///
/// ```
/// use cognigy_crm_http::{AuthKind, CrmPreset, TemplateCrm};
///
/// let crm = TemplateCrm::builder(CrmPreset::Salesforce.template()?)
///     .base_url("https://example.my.salesforce.com")
///     .external_id_field("External_Id__c")
///     .auth("oauth-client-credentials".parse::<AuthKind>()?)
///     .client_id("an-id")
///     .client_secret("a-secret")
///     .build()?;
/// assert_eq!(crm.token_requests().unwrap().succeeded, 0); // none before the first look-up
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum AuthKind {
    /// `bearer`: a token that does not change, in the header `Authorization`.
    Bearer,
    /// `basic`: `user:password`.
    Basic,
    /// `header`: a token in a header of its own.
    Header,
    /// `oauth-client-credentials`: tokens are fetched with a client id and a client secret.
    #[serde(rename = "oauth-client-credentials")]
    OAuthClientCredentials,
    /// `oauth-refresh-token`: tokens are fetched with a refresh token, which may change each time.
    #[serde(rename = "oauth-refresh-token")]
    OAuthRefreshToken,
    /// `none`: requests hold no credential.
    None,
}

impl AuthKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Bearer,
        Self::Basic,
        Self::Header,
        Self::OAuthClientCredentials,
        Self::OAuthRefreshToken,
        Self::None,
    ];

    /// The name in settings.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bearer => "bearer",
            Self::Basic => "basic",
            Self::Header => "header",
            Self::OAuthClientCredentials => "oauth-client-credentials",
            Self::OAuthRefreshToken => "oauth-refresh-token",
            Self::None => "none",
        }
    }
}

impl fmt::Display for AuthKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The text names no [`AuthKind`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "expected `bearer`, `basic`, `header`, `oauth-client-credentials`, `oauth-refresh-token` or `none`"
)]
pub struct UnknownAuthKind;

impl FromStr for AuthKind {
    type Err = UnknownAuthKind;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL.into_iter().find(|it| it.as_str() == name).ok_or(UnknownAuthKind)
    }
}

/// The credential of a client.
pub(crate) enum Credential {
    None,
    Fixed(HeaderName, HeaderValue),
    OAuth(OAuth),
}

const TOKEN: &str = "the CRM token";

impl Credential {
    /// `{scheme} {token}` in `Authorization`.
    pub(crate) fn bearer(scheme: &str, token: &SecretText) -> Result<Self, ConfigError> {
        Ok(Self::Fixed(AUTHORIZATION, bearer(scheme, checked(token)?)?))
    }

    /// `user:password` in `Authorization` (RFC 7617).
    pub(crate) fn basic(token: &SecretText) -> Result<Self, ConfigError> {
        let text = token.expose();
        if text.is_empty() {
            return Err(ConfigError::Empty(TOKEN));
        }
        if text.chars().any(char::is_control) {
            return Err(ConfigError::NotAToken(TOKEN));
        }
        Ok(Self::Fixed(AUTHORIZATION, basic(text)?))
    }

    /// The token alone, in a header of its own.
    pub(crate) fn header(name: &str, token: &SecretText) -> Result<Self, ConfigError> {
        let name = HeaderName::try_from(name)
            .map_err(|_| ConfigError::NotAToken("the name of the CRM token's header"))?;
        Ok(Self::Fixed(name, sensitive(checked(token)?.to_owned())?))
    }
}

fn checked(token: &SecretText) -> Result<&str, ConfigError> {
    let text = token.expose();
    if text.is_empty() {
        return Err(ConfigError::Empty(TOKEN));
    }
    if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(ConfigError::NotAToken(TOKEN));
    }
    Ok(text)
}

fn bearer(scheme: &str, token: &str) -> Result<HeaderValue, ConfigError> {
    sensitive(format!("{scheme} {token}"))
}

fn basic(user_and_password: &str) -> Result<HeaderValue, ConfigError> {
    sensitive(format!("Basic {}", STANDARD.encode(user_and_password)))
}

/// A value that `Debug` does not show.
fn sensitive(text: String) -> Result<HeaderValue, ConfigError> {
    let text = Zeroizing::new(text);
    let mut value = HeaderValue::from_str(&text).map_err(|_| ConfigError::NotAToken(TOKEN))?;
    value.set_sensitive(true);
    Ok(value)
}

impl fmt::Debug for Credential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::None => "none",
            Self::Fixed(..) => "fixed",
            Self::OAuth(_) => "oauth",
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn kinds_are_told_by_their_names() {
        for kind in AuthKind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            let read: AuthKind = serde_json::from_value(kind.as_str().into()).unwrap();
            assert_eq!(read, kind);
        }
        assert_eq!("Bearer".parse::<AuthKind>(), Err(UnknownAuthKind));
    }

    #[test]
    fn a_credential_has_its_form_and_is_never_printed() {
        let secret = SecretText::new("user:pass-marker");
        for (credential, form) in [
            (Credential::bearer("Zoho-oauthtoken", &secret), "Zoho-oauthtoken user:pass-marker"),
            (Credential::basic(&secret), "Basic dXNlcjpwYXNzLW1hcmtlcg=="),
            (Credential::header("X-Api-Token", &secret), "user:pass-marker"),
        ] {
            let credential = credential.unwrap();
            let Credential::Fixed(_, value) = &credential else { panic!() };
            assert_eq!(value.to_str().unwrap(), form);
            assert!(!format!("{credential:?} {value:?} {secret:?}").contains("marker"));
        }
        for text in ["", "a b", "a\n", "é"] {
            assert!(Credential::bearer("Bearer", &SecretText::new(text)).is_err(), "{text:?}");
        }
        assert!(Credential::basic(&SecretText::new("a:b\n")).is_err());
        assert!(Credential::header("X Y", &secret).is_err());
    }
}
