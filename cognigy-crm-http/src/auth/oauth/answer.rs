//! The answer of a token server.

use std::time::{Duration, SystemTime};

use reqwest::StatusCode;
use serde::Deserialize;
use serde_json::Value;

use super::{AccessToken, TokenError};
use crate::{
    auth::{MAX_STORED_TOKEN_BYTES, bearer},
    secret::SecretText,
};

/// No token is used longer without a new one, whatever its answer says: keeps the arithmetic within
/// bounds.
const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// A token is replaced this long before it expires: requests take time, and clocks differ. Of short
/// lifetimes, a tenth.
const LONGEST_MARGIN: Duration = Duration::from_secs(60);

/// Refresh token and access token are stored together, with little beside them.
const TOKEN_BYTES: usize = MAX_STORED_TOKEN_BYTES / 2 - 256;

pub(super) struct TokenAnswer {
    pub(super) access_token: SecretText,
    pub(super) refresh_token: Option<SecretText>,
    pub(super) replace_at: Option<SystemTime>,
}

#[derive(Deserialize)]
struct Raw {
    access_token: Option<String>,
    refresh_token: Option<String>,
    expires_in: Option<Value>,
    error: Option<Value>,
}

impl TokenAnswer {
    /// Errors of the JSON reader are not passed on, because they may quote the answer.
    pub(super) fn read(
        status: StatusCode,
        retry_after: Option<Duration>,
        body: &[u8],
    ) -> Result<Self, TokenError> {
        let raw = serde_json::from_slice::<Raw>(body).ok();
        // Some servers send the error object of RFC 6749, section 5.2, with a 200.
        let error = raw.as_ref().and_then(|raw| raw.error.as_ref()).filter(|it| !it.is_null());
        if !status.is_success() && (status.is_server_error() || status.as_u16() == 429) {
            return Err(TokenError::Status { status, retry_after });
        }
        if let Some(error) = error {
            return Err(TokenError::Refused { code: error.as_str().and_then(code) });
        }
        if matches!(status.as_u16(), 400 | 401 | 403) {
            return Err(TokenError::Refused { code: None });
        }
        if !status.is_success() {
            return Err(TokenError::Status { status, retry_after });
        }
        let unreadable =
            || TokenError::Unreadable("something that is not JSON with an access_token");
        let raw = raw.ok_or_else(unreadable)?;
        let access_token = SecretText::new(raw.access_token.ok_or_else(unreadable)?);
        let refresh_token = raw.refresh_token.filter(|it| !it.is_empty()).map(SecretText::new);
        let too_long = |token: &SecretText| token.expose().len() > TOKEN_BYTES;
        if too_long(&access_token) || refresh_token.as_ref().is_some_and(too_long) {
            return Err(TokenError::Unreadable("a token that is too long"));
        }
        let replace_at = lifetime(raw.expires_in.as_ref())
            .map(|lifetime| SystemTime::now() + lifetime - (lifetime / 10).min(LONGEST_MARGIN));
        Ok(Self { access_token, refresh_token, replace_at })
    }

    pub(super) fn token(&self, scheme: &str) -> Result<AccessToken, TokenError> {
        let text = self.access_token.expose();
        let visible = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic());
        let header = visible.then(|| bearer(scheme, text).ok()).flatten();
        let header = header.ok_or(TokenError::Unreadable("a token that no header can hold"))?;
        Ok(AccessToken { header, text: self.access_token.clone(), replace_at: self.replace_at })
    }
}

/// The code of an error, if it is one: what a message repeats must not be any text.
fn code(text: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_lowercase() || c == '_';
    (text.len() <= 40 && !text.is_empty() && text.chars().all(plain)).then(|| text.to_owned())
}

/// `expires_in` in whole seconds. Some servers write the number as text. `None` where it is absent:
/// the token is used until the CRM refuses it.
fn lifetime(expires_in: Option<&Value>) -> Option<Duration> {
    let seconds = match expires_in? {
        Value::String(text) => text.parse().ok(),
        value => value.as_u64(),
    };
    seconds.map(|seconds| Duration::from_secs(seconds).min(LONGEST_LIFETIME))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn read(status: u16, body: &str) -> Result<TokenAnswer, TokenError> {
        TokenAnswer::read(StatusCode::from_u16(status).unwrap(), None, body.as_bytes())
    }

    #[test]
    fn a_token_is_replaced_before_it_expires_or_when_it_is_refused() {
        for (expires_in, seconds) in [
            (r#","expires_in":3600"#, Some(3540)),
            (r#","expires_in":"100""#, Some(90)),
            (r#","expires_in":18446744073709551615"#, Some(86_340)),
            ("", None),
            (r#","expires_in":null"#, None),
            (r#","expires_in":-5"#, None),
        ] {
            let before = SystemTime::now();
            let answer = read(200, &format!(r#"{{"access_token":"t"{expires_in}}}"#));
            let replace_at = answer.unwrap_or_else(|error| panic!("{error}")).replace_at;
            let after = replace_at.map(|at| at.duration_since(before).unwrap().as_secs());
            assert!(after == seconds || after == seconds.map(|it| it + 1), "{after:?} {seconds:?}");
        }
    }

    #[test]
    fn refusals_are_told_by_their_code_and_nothing_else() {
        let told = |status, body: &str| {
            let answer = read(status, body).and_then(|it| it.token("Bearer"));
            let error = answer.err().unwrap();
            assert!(!format!("{error} {error:?}").contains("marker"), "{error:?}");
            error.to_string()
        };
        let refused = "the CRM's token server refused the credential";
        assert_eq!(told(200, r#"{"error":"invalid_code"}"#), format!("{refused} (invalid_code)"));
        assert_eq!(told(400, r#"{"error":"invalid_grant"}"#), format!("{refused} (invalid_grant)"));
        assert_eq!(told(401, r#"{"error":"token MARKER marker"}"#), refused);
        assert_eq!(told(400, "marker"), refused);
        assert_eq!(told(503, ""), "the CRM's token server answered 503 Service Unavailable");
        assert_eq!(told(404, "marker"), "the CRM's token server answered 404 Not Found");
        for body in ["", "<marker>", r#"{"token":"marker"}"#, r#"{"access_token":["marker"]}"#] {
            assert!(told(200, body).contains("not JSON with an access_token"), "{body}");
        }
        assert!(told(200, r#"{"access_token":"marker\n"}"#).contains("no header can hold"));
        let long = format!(r#"{{"access_token":"{}"}}"#, "marker".repeat(2000));
        assert!(told(200, &long).contains("too long"));
    }
}
