//! [`CognigyApi`]: calls to Cognigy's REST API.

use std::{fmt, sync::Arc};

use cognigy_http::{media_type, read_at_most};
use reqwest::{
    Client, Response, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE},
};

use crate::{
    ApiCall, ApiError, CognigyApiBuilder, RegisteredWebhook, WebhookRegistration,
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
        let tokens = &self.0.tokens;
        let body = webhook.to_json();
        let mut token = tokens.get(None).await?;
        let mut response = self.post(&token, &body).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            // The API refused the request before it did anything, so that sending it again cannot
            // do it twice. If a new token is refused too, the token's age is not the cause.
            token = tokens.get(Some(&token)).await?;
            response = self.post(&token, &body).await?;
        }
        let redactor = Redactor::new([webhook.secret(), tokens.client_secret(), &token.text]);
        let call = ApiCall::RegisterWebhook;
        let status = response.status();
        let media_type = media_type(response.headers());
        let body = read_at_most(response, ANSWER_BYTES).await;
        let excerpt = excerpt(&body, &redactor);
        if !matches!(status, StatusCode::OK | StatusCode::CREATED) {
            return Err(ApiError::Status { call, status: status.as_u16(), excerpt });
        }
        RegisteredWebhook::read(&body, &redactor).ok_or_else(|| {
            let (status, gist) = (told(status.as_u16()), after_colon(&excerpt));
            let problem = format!("{status} and {media_type} without the id of a webhook{gist}");
            ApiError::Unreadable { call, problem }
        })
    }

    async fn post(&self, token: &Token, body: &str) -> Result<Response, ApiError> {
        let request = self
            .0
            .http
            .post(self.0.webhooks.clone())
            .header(AUTHORIZATION, &token.authorization)
            .header(ACCEPT, "application/json")
            .header(CONTENT_TYPE, "application/json")
            .body(body.to_owned());
        request.send().await.map_err(|error| ApiError::Transport {
            call: ApiCall::RegisterWebhook,
            error: error.into(),
        })
    }
}

impl fmt::Debug for CognigyApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CognigyApi")
            .field("webhooks", &self.0.webhooks.as_str())
            .finish_non_exhaustive()
    }
}
