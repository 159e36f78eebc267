//! Where a service lives: the part of its URLs that never changes.

use reqwest::Url;

use crate::ConfigError;

/// An `http` or `https` URL to which paths are appended. It may have a path of its own, with or
/// without a slash at the end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BaseUrl(Url);

impl BaseUrl {
    /// Reads a base URL. Refused are other schemes, a user name or password (they would end up in
    /// logs), a query and a fragment.
    pub fn parse(text: &str) -> Result<Self, ConfigError> {
        let refuse = |why: &str| Err(ConfigError::BaseUrl(why.to_owned()));
        let url = match Url::parse(text) {
            Ok(url) => url,
            Err(error) => return refuse(&format!("cannot be read: {error}")),
        };
        if !matches!(url.scheme(), "http" | "https") {
            return refuse("must begin with http:// or https://");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return refuse("must not hold a user name or password");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return refuse("must not hold a query or a fragment");
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
        ] {
            let error = BaseUrl::parse(base).unwrap_err();
            assert!(!format!("{error} {error:?}").contains("marker"), "{base}: {error:?}");
        }
    }
}
