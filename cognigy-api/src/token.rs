//! One access token for all callers, fetched by one caller at a time.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use cognigy_http::{bearer, read_at_most, read_bounded};
use reqwest::{
    Client, Response, Url,
    header::{ACCEPT, HeaderValue},
};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::Mutex;

use crate::{
    ApiCall, ApiError,
    excerpt::{ANSWER_BYTES, excerpt},
    secret::{Redactor, SecretText},
};

/// The API that the token is for.
const SCOPE: &str = "webhook:read webhook:write dialog:read";

/// How long a token lasts whose answer does not say (RFC 6749 leaves that to other documents).
/// Short, because a token that is used too long costs a refused request, while one that is replaced
/// too soon costs only a token request every five minutes.
const ASSUMED_LIFETIME: Duration = Duration::from_secs(5 * 60);

/// No token is kept longer, whatever its answer says: also keeps the arithmetic within bounds.
const LONGEST_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);

/// A token is replaced this long before it expires: requests take time, and clocks differ. Of short
/// lifetimes, a tenth.
const LONGEST_MARGIN: Duration = Duration::from_secs(60);

/// The client's credentials.
pub(crate) struct Credentials {
    pub(crate) client_id: String,
    pub(crate) client_secret: SecretText,
}

/// An access token.
pub(crate) struct Token {
    pub(crate) authorization: HeaderValue,
    pub(crate) text: SecretText,
    replace_at: Instant,
}

struct Outcome {
    at: Instant,
    result: Result<Arc<Token>, ApiError>,
}

/// The token cache.
pub(crate) struct Tokens {
    http: Client,
    url: Url,
    credentials: Credentials,
    latest: Mutex<Option<Outcome>>,
}

impl Tokens {
    pub(crate) fn new(http: Client, url: Url, credentials: Credentials) -> Self {
        Self { http, url, credentials, latest: Mutex::new(None) }
    }

    pub(crate) fn client_secret(&self) -> &SecretText {
        &self.credentials.client_secret
    }

    /// A token that is valid for a while and is not `refused`.
    ///
    /// The lock is held while a token is fetched, so that one request serves all waiting callers.
    /// They share a failure as well: if each tried anew, the last of fifty callers would wait for
    /// fifty timeouts.
    pub(crate) async fn get(&self, refused: Option<&Arc<Token>>) -> Result<Arc<Token>, ApiError> {
        let asked = Instant::now();
        let mut latest = self.latest.lock().await;
        if let Some(outcome) = latest.as_ref().filter(|latest| latest.serves(asked, refused)) {
            return outcome.result.clone();
        }
        let result = self.fetch().await.map(Arc::new);
        *latest = Some(Outcome { at: Instant::now(), result: result.clone() });
        result
    }

    /// The client credentials grant, RFC 6749, section 4.4.2, with the credentials in the form.
    async fn fetch(&self) -> Result<Token, ApiError> {
        let call = ApiCall::Token;
        let form = [
            ("grant_type", "client_credentials"),
            ("client_id", &self.credentials.client_id),
            ("client_secret", self.credentials.client_secret.expose()),
            ("scope", SCOPE),
        ];
        let request = self.http.post(self.url.clone()).header(ACCEPT, "application/json");
        match request.form(&form).send().await {
            Ok(response) if response.status().is_success() => {
                let body = read_bounded(response, ANSWER_BYTES).await;
                let body = body.map_err(|error| ApiError::read(call, error))?;
                if let Some(problem) = named_error(&body, &Redactor::new([self.client_secret()])) {
                    return Err(ApiError::Unreadable { call, problem });
                }
                read(&body, Instant::now())
            }
            Ok(response) => Err(self.refusal(response).await),
            Err(error) => Err(ApiError::Transport { call, error: error.into() }),
        }
    }

    async fn refusal(&self, response: Response) -> ApiError {
        let status = response.status().as_u16();
        let body = read_at_most(response, ANSWER_BYTES).await;
        let excerpt = excerpt(&body, &Redactor::new([self.client_secret()]));
        ApiError::Status { call: ApiCall::Token, status, excerpt }
    }
}

impl Outcome {
    /// Whether this outcome answers a caller that asked at `asked` and whose token `refused` the
    /// API refused: the outcome arrived while the caller waited, or its token is still valid.
    fn serves(&self, asked: Instant, refused: Option<&Arc<Token>>) -> bool {
        match (&self.result, refused) {
            (Ok(token), Some(refused)) if Arc::ptr_eq(token, refused) => false,
            (Ok(token), _) if Instant::now() < token.replace_at => true,
            _ => self.at >= asked,
        }
    }
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    token_type: Option<String>,
    expires_in: Option<Value>,
}

/// The error in an answer with a successful status: some servers send the error object of RFC 6749,
/// section 5.2, with a 200. Only its `error` and `error_description` are repeated.
fn named_error(body: &[u8], redactor: &Redactor) -> Option<String> {
    let answer: Value = serde_json::from_slice(body).ok()?;
    let error = answer.get("error").filter(|error| !error.is_null())?;
    let only = json!({ "error": error, "error_description": answer.get("error_description") });
    Some(format!("an error: {}", excerpt(only.to_string().as_bytes(), redactor)))
}

/// The token in the answer that came at `now`. Errors of the JSON reader are not passed on, because
/// they may quote the answer.
fn read(body: &[u8], now: Instant) -> Result<Token, ApiError> {
    let unreadable =
        |problem: &str| ApiError::Unreadable { call: ApiCall::Token, problem: problem.to_owned() };
    let answer: TokenAnswer = serde_json::from_slice(body)
        .map_err(|_| unreadable("something that is not JSON with an access_token"))?;
    let text = SecretText::new(answer.access_token);
    // RFC 6749, section 7.1: a client must not use a token of an unknown type.
    if answer.token_type.is_some_and(|kind| !kind.eq_ignore_ascii_case("bearer")) {
        return Err(unreadable("a token that is not a bearer token"));
    }
    let authorization =
        bearer(text.expose()).ok_or_else(|| unreadable("a token that no header can hold"))?;
    let replace_at = now + usable_for(lifetime(answer.expires_in.as_ref()));
    Ok(Token { authorization, text, replace_at })
}

/// `expires_in` in whole seconds. Some servers write the number as text.
fn lifetime(expires_in: Option<&Value>) -> Duration {
    let seconds = expires_in.and_then(|value| match value {
        Value::String(text) => text.parse().ok(),
        value => value.as_u64(),
    });
    seconds.map_or(ASSUMED_LIFETIME, Duration::from_secs).min(LONGEST_LIFETIME)
}

fn usable_for(lifetime: Duration) -> Duration {
    lifetime - (lifetime / 10).min(LONGEST_MARGIN)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn a_token_is_replaced_a_minute_or_a_tenth_before_it_expires() {
        let now = Instant::now();
        for (answer, seconds) in [
            (r#"{"access_token":"t","expires_in":3600}"#, 3540.0),
            (r#"{"access_token":"t","expires_in":"3600"}"#, 3540.0),
            (r#"{"access_token":"t","expires_in":600}"#, 540.0),
            (r#"{"access_token":"t","expires_in":100,"token_type":"Bearer"}"#, 90.0),
            (r#"{"access_token":"t","expires_in":1,"token_type":"bearer"}"#, 0.9),
            (r#"{"access_token":"t","expires_in":0}"#, 0.0),
            (r#"{"access_token":"t"}"#, 270.0),
            (r#"{"access_token":"t","expires_in":null,"token_type":null}"#, 270.0),
            (r#"{"access_token":"t","expires_in":"soon"}"#, 270.0),
            (r#"{"access_token":"t","expires_in":-5}"#, 270.0),
            (r#"{"access_token":"t","expires_in":18446744073709551615}"#, 86_340.0),
        ] {
            let token = read(answer.as_bytes(), now).unwrap_or_else(|error| panic!("{error}"));
            assert_eq!((token.replace_at - now).as_secs_f64(), seconds, "{answer}");
        }
    }

    #[test]
    fn an_answer_without_a_usable_token_is_refused_without_being_repeated() {
        for answer in [
            "",
            "<html>marker</html>",
            "\"marker\"",
            r#"{"token":"marker"}"#,
            r#"{"access_token":["marker"]}"#,
            r#"{"access_token":""}"#,
            r#"{"access_token":"marker\n"}"#,
            r#"{"access_token":"marker","token_type":"mac"}"#,
        ] {
            let error = read(answer.as_bytes(), Instant::now()).err().unwrap();
            assert!(!format!("{error} {error:?}").contains("marker"), "{error:?}");
        }
    }
}
