//! [`CognigyApi`]: calls to Cognigy's REST API.

use std::{fmt, sync::Arc};

use cognigy_http::{media_type, read_at_most};
use reqwest::{
    Client, Method, Response, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};

use crate::{
    ApiCall, ApiError, CognigyApiBuilder, RegisteredWebhook, WebhookChange, WebhookRegistration,
    error::{after_colon, told},
    excerpt::{ANSWER_BYTES, excerpt},
    secret::{Redactor, SecretText},
    token::{Token, Tokens},
};

/// A client for Cognigy's REST API. Cheap to clone; clones share their connections and token.
#[derive(Clone)]
pub struct CognigyApi(Arc<Inner>);

struct Inner {
    http: Client,
    webhooks: Url,
    tokens: Tokens,
}

impl CognigyApi {
    /// Sets up a client for the API at `base_url` (`http` or `https`, with or without a path) that
    /// logs in as `client_id`.
    pub fn builder(
        base_url: impl Into<String>,
        client_id: impl Into<String>,
        client_secret: impl Into<String>,
    ) -> CognigyApiBuilder {
        let client_secret = SecretText::new(client_secret);
        CognigyApiBuilder::new(base_url.into(), client_id.into(), client_secret)
    }

    pub(crate) fn new(http: Client, webhooks: Url, tokens: Tokens) -> Self {
        Self(Arc::new(Inner { http, webhooks, tokens }))
    }

    /// Asks Cognigy to send events: `POST {base}/api/v1/webhooks`. A 200 or a 201 with a JSON object
    /// that has an `id` (or `_id`) and no `error` is success.
    ///
    /// # Errors
    /// [`ApiError`]; where it is a [`Transport`](ApiError::Transport) or an
    /// [`Unreadable`](ApiError::Unreadable), the webhook may have been registered all the same. May
    /// be dropped at any time, with the same uncertainty.
    pub async fn register_webhook(
        &self,
        webhook: &WebhookRegistration,
    ) -> Result<RegisteredWebhook, ApiError> {
        let call = ApiCall::RegisterWebhook;
        let body = webhook.to_json();
        let answered =
            self.call(call, Method::POST, None, Some(&body), Some(webhook.secret())).await?;
        if !matches!(answered.status, StatusCode::OK | StatusCode::CREATED) {
            return Err(answered.refused(call));
        }
        answered.webhook(call)
    }

    /// The webhooks that Cognigy has: `GET {base}/api/v1/webhooks`. A list of objects with ids is success,
    /// by itself or as `items`.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn webhooks(&self) -> Result<Vec<RegisteredWebhook>, ApiError> {
        let call = ApiCall::ListWebhooks;
        let answered = self.call(call, Method::GET, None, None, None).await?;
        if answered.status != StatusCode::OK {
            return Err(answered.refused(call));
        }
        let listed = RegisteredWebhook::read_list(&answered.body, &answered.redactor);
        listed.ok_or_else(|| answered.unreadable(call, "a list of webhooks"))
    }

    /// Changes a webhook: `PATCH {base}/api/v1/webhooks/{id}`, with the fields that are to change. Any
    /// status of success will do.
    ///
    /// # Errors
    /// [`ApiError`]; after a [`Transport`](ApiError::Transport) the webhook may have been changed all the
    /// same. To repeat the call is harmless.
    pub async fn update_webhook(&self, id: &str, change: &WebhookChange) -> Result<(), ApiError> {
        let (call, body) = (ApiCall::UpdateWebhook, change.to_json());
        let secret = change.secret.as_ref();
        let answered = self.call(call, Method::PATCH, Some(id), Some(&body), secret).await?;
        if answered.status.is_success() { Ok(()) } else { Err(answered.refused(call)) }
    }

    /// Removes a webhook: `DELETE {base}/api/v1/webhooks/{id}`. Any status of success will do.
    ///
    /// # Errors
    /// [`ApiError`]; after a [`Transport`](ApiError::Transport) the webhook may have been removed all the
    /// same.
    pub async fn delete_webhook(&self, id: &str) -> Result<(), ApiError> {
        let call = ApiCall::DeleteWebhook;
        let answered = self.call(call, Method::DELETE, Some(id), None, None).await?;
        if answered.status.is_success() { Ok(()) } else { Err(answered.refused(call)) }
    }

    /// Makes a call, once more with a new token if the first one is refused.
    async fn call(
        &self,
        call: ApiCall,
        method: Method,
        id: Option<&str>,
        body: Option<&str>,
        secret: Option<&SecretText>,
    ) -> Result<Answered, ApiError> {
        let tokens = &self.0.tokens;
        let mut token = tokens.get(None).await?;
        let mut response = self.send(call, &method, id, body, &token).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            // The API refused the request before it did anything, so that sending it again cannot
            // do it twice. If a new token is refused too, the token's age is not the cause.
            token = tokens.get(Some(&token)).await?;
            response = self.send(call, &method, id, body, &token).await?;
        }
        let secrets = [tokens.client_secret(), &token.text];
        let redactor = Redactor::new(secrets.into_iter().chain(secret));
        let status = response.status();
        let media_type = media_type(response.headers());
        let bytes = if call == ApiCall::ListWebhooks { LIST_BYTES } else { ANSWER_BYTES };
        let body = read_at_most(response, bytes).await.to_vec();
        Ok(Answered { status, media_type, body, redactor })
    }

    async fn send(
        &self,
        call: ApiCall,
        method: &Method,
        id: Option<&str>,
        body: Option<&str>,
        token: &Token,
    ) -> Result<Response, ApiError> {
        let mut url = self.0.webhooks.clone();
        if let (Some(id), Ok(mut path)) = (id, url.path_segments_mut()) {
            path.pop_if_empty().push(id);
        }
        let mut request = self
            .0
            .http
            .request(method.clone(), url)
            .header(AUTHORIZATION, &token.authorization)
            .header(ACCEPT, "application/json");
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body.to_owned());
        }
        let answer = request.send().await;
        answer.map_err(|error| ApiError::Transport { call, error: error.into() })
    }
}

/// The most bytes of a list that are read: thousands of webhooks.
const LIST_BYTES: usize = 4 * 1024 * 1024;

/// A complete answer.
struct Answered {
    status: StatusCode,
    media_type: String,
    body: Vec<u8>,
    redactor: Redactor,
}

impl Answered {
    fn refused(&self, call: ApiCall) -> ApiError {
        let excerpt = excerpt(&self.body, &self.redactor);
        ApiError::Status { call, status: self.status.as_u16(), excerpt }
    }

    fn unreadable(&self, call: ApiCall, missing: &str) -> ApiError {
        let excerpt = excerpt(&self.body, &self.redactor);
        let (status, gist) = (told(self.status.as_u16()), after_colon(&excerpt));
        let problem = format!("{status} and {} without {missing}{gist}", self.media_type);
        ApiError::Unreadable { call, problem }
    }

    fn webhook(&self, call: ApiCall) -> Result<RegisteredWebhook, ApiError> {
        let webhook = RegisteredWebhook::read(&self.body, &self.redactor);
        webhook.ok_or_else(|| self.unreadable(call, "the id of a webhook"))
    }
}

impl fmt::Debug for CognigyApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CognigyApi")
            .field("webhooks", &self.0.webhooks.as_str())
            .finish_non_exhaustive()
    }
}
