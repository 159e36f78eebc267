//! The base URL of a service: the part of its URLs that never changes.

use reqwest::Url;

use crate::ConfigError;

/// An `http` or `https` URL to which paths are appended. It may have a path of its own, with or
/// without a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(Url);

impl BaseUrl {
    /// Reads a base URL. Refused are other schemes, white space and control characters, a user name
    /// or password (they would end up in logs), a query and a fragment.
    ///
    /// # Errors
    /// [`ConfigError::BaseUrl`], without the text.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let refuse = |why: String| Err(ConfigError::BaseUrl(why));
        let url = match absolute_url(text) {
            Ok(url) => url,
            Err(why) => return refuse(why),
        };
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("must not hold a user name or password".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return refuse("must not hold a query or a fragment".to_owned());
        }
        Ok(Self(url))
    }

    /// The URL with `segments` appended to its path, each percent-encoded where it has to be.
    #[must_use]
    pub fn join(&self, segments: &[&str]) -> Url {
        let mut url = self.0.clone();
        // Only a URL that cannot be a base (`mailto:…`) has no path, and `parse` lets none through.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        url
    }

    /// Whether requests go over TLS.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }
}

/// Reads an absolute `http` or `https` URL with a host, strictly: the URL Standard's parser alone
/// would drop white space and line breaks, and read `http:host`, `http:/host` and `http:///host` as
/// `http://host`.
///
/// # Errors
/// What is wrong, as the rest of a sentence that begins with the URL's name. It repeats no part of
/// `text`, which may hold a password.
pub fn absolute_url(text: &str) -> Result<Url, String> {
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err("must not hold white space or control characters".to_owned());
    }
    let scheme = "must begin with http:// or https://, followed by a host";
    let (prefix, rest) = text.split_once("://").ok_or(scheme)?;
    let known = ["http", "https"].iter().any(|known| prefix.eq_ignore_ascii_case(known));
    if !known || rest.is_empty() || rest.starts_with(['/', '\\', '?', '#']) {
        return Err(scheme.to_owned());
    }
    Url::parse(text).map_err(|error| format!("cannot be read: {error}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn paths_are_appended_whatever_the_base_ends_in() {
        for (base, joined) in [
            ("http://crm", "http://crm/v1/contacts"),
            ("http://crm/", "http://crm/v1/contacts"),
            ("https://crm:8443/api", "https://crm:8443/api/v1/contacts"),
            ("https://crm/api/", "https://crm/api/v1/contacts"),
            ("https://crm/a%20b/%C3%A9", "https://crm/a%20b/%C3%A9/v1/contacts"),
            ("http://[::1]:80/", "http://[::1]/v1/contacts"),
        ] {
            assert_eq!(BaseUrl::parse(base).unwrap().join(&["v1", "contacts"]).as_str(), joined);
        }
    }

    #[test]
    fn what_is_no_base_is_refused_without_being_repeated() {
        for base in [
            "",
            "crm.example/marker",
            "//crm/marker",
            "ftp://crm/marker",
            "file:///marker",
            "mailto:marker@crm",
            "data:marker",
            "http://",
            "http://user@crm/marker",
            "http://:marker@crm/",
            "http://user:marker@crm/",
            "http://crm/?key=marker",
            "http://crm/#marker",
            "http://crm:99999/marker",
            " http://crm/marker",
            "http://crm/marker\n",
            "http://crm/mar ker",
            "http://crm/marker\tx",
            "http:crm/marker",
            "http:/crm/marker",
            "http:///crm/marker",
            "http:\\\\crm\\marker",
            "htps://crm/marker",
            "/crm/marker",
        ] {
            let error = BaseUrl::parse(base).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("marker"), "{base}: {error:?}");
        }
    }
}
