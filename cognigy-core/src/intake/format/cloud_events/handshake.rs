//! The abuse protection of CloudEvents (HTTP 1.1 Web Hooks for Event Delivery, section 4): a sender asks
//! with `OPTIONS` whether it may deliver.

/// What a sender asks: the values of its headers, where they are there.
///
/// ```
/// use cognigy_core::WebhookHandshake;
///
/// let asked = WebhookHandshake { origin: Some("eventemitter.example.com"), ..Default::default() };
/// let headers = asked.answer().expect("an origin");
/// assert_eq!(headers[0], ("WebHook-Allowed-Origin", "eventemitter.example.com".to_owned()));
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct WebhookHandshake<'a> {
    /// `WebHook-Request-Origin`: the name of the sending system.
    pub origin: Option<&'a str>,
    /// `WebHook-Request-Rate`: how many requests a minute it wants to send.
    pub rate: Option<&'a str>,
    /// `WebHook-Request-Callback`: a URL by which permission could be given later. It is never fetched:
    /// the sender of the request could choose what is called from inside the receiver's network.
    pub callback: Option<&'a str>,
}

/// Why no permission is given. The answer is 400, without any `WebHook-` header.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HandshakeRefused {
    /// There is no `WebHook-Request-Origin`: it is not such a request.
    #[error("WebHook-Request-Origin is required")]
    NoOrigin,
    /// The origin is not a DNS name.
    #[error("WebHook-Request-Origin must be a DNS name")]
    Origin,
    /// The rate is not a positive number.
    #[error("WebHook-Request-Rate must be a positive whole number")]
    Rate,
}

impl WebhookHandshake<'_> {
    /// The headers of the answer that permits the sender to deliver. The status is 200.
    ///
    /// The rate is the one that was asked for, or `*` where none was: a receiver that has too much to do
    /// answers 503 with `Retry-After`.
    ///
    /// # Errors
    ///
    /// The request is malformed.
    pub fn answer(&self) -> Result<[(&'static str, String); 3], HandshakeRefused> {
        let origin = self.origin.ok_or(HandshakeRefused::NoOrigin)?.trim();
        if !is_name(origin) {
            return Err(HandshakeRefused::Origin);
        }
        let rate = match self.rate.map(str::trim) {
            None | Some("*") => "*".to_owned(),
            Some(rate) => match rate.parse::<u64>() {
                Ok(rate @ 1..) => rate.to_string(),
                _ => return Err(HandshakeRefused::Rate),
            },
        };
        Ok([
            ("WebHook-Allowed-Origin", origin.to_owned()),
            ("WebHook-Allowed-Rate", rate),
            ("Allow", "POST".to_owned()),
        ])
    }
}

/// Whether `origin` is made like a DNS name (RFC 1035, section 2.3.4, for its length).
fn is_name(origin: &str) -> bool {
    let is_label = |label: &str| {
        matches!(label.len(), 1..=63)
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    origin.len() <= 253 && origin.strip_suffix('.').unwrap_or(origin).split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(origin: &str, rate: Option<&str>) -> Result<[String; 3], HandshakeRefused> {
        let callback = Some("https://sender.example/confirm");
        let asked = WebhookHandshake { origin: Some(origin), rate, callback };
        Ok(asked.answer()?.map(|(name, value)| format!("{name}: {value}")))
    }

    #[test]
    fn a_sender_is_permitted_at_the_rate_that_it_asks_for() {
        let permitted = answer("eventgrid.example", Some("120")).unwrap();
        let expected = [
            "WebHook-Allowed-Origin: eventgrid.example",
            "WebHook-Allowed-Rate: 120",
            "Allow: POST",
        ];
        assert_eq!(permitted, expected);
        for rate in [None, Some("*")] {
            assert_eq!(answer("a", rate).unwrap()[1], "WebHook-Allowed-Rate: *");
        }
    }

    #[test]
    fn a_malformed_request_is_refused() {
        let refused = WebhookHandshake::default().answer();
        assert_eq!(refused, Err(HandshakeRefused::NoOrigin));
        let long = format!("{}.example", "a".repeat(64));
        for origin in
            ["", "a b", "a\r\nSet-Cookie: x", "https://a.example", "a..b", "é.example", &long]
        {
            assert_eq!(answer(origin, None), Err(HandshakeRefused::Origin), "{origin}");
        }
        for rate in ["", "0", "-1", "1.5", "many", "99999999999999999999999"] {
            assert_eq!(answer("a.example", Some(rate)), Err(HandshakeRefused::Rate), "{rate}");
        }
    }
}
