//! [`TemplateCrm`]: asks a CRM as its template says.
//!
//! ```text
//!  contact key ─▶ the first look-up that can express it ─▶ request ─▶ answer ─▶ judge ─┬─▶ contact, none
//!                                                             ▲                        ├─▶ ambiguous
//!          rate limit, credential, one renewal after a 401 ───┤                        ├─▶ failure
//!                                                             └── moved, candidates ───┘
//! ```

mod batches;
mod builder;
mod failure;
mod judge;
mod session;
mod setup;

use std::{fmt, sync::Arc, time::Duration};

use async_trait::async_trait;
use cognigy_core::{Contact, ContactQuery, CrmClient, Failure, TraceParent};
use reqwest::{
    Client, Url,
    header::{HeaderName, HeaderValue},
};

pub use batches::Batching;
pub use builder::TemplateCrmBuilder;
pub(crate) use failure::CrmError;
pub use setup::CrmSetupError;

use crate::{
    auth::{Credential, TokenRequests},
    rate_limit::Limiter,
    template::{CrmTemplate, Names},
};
use batches::Batches;
use session::Session;

/// Looks contacts up in a CRM that a [`CrmTemplate`] describes. Cheap to clone; clones share their
/// connections, their tokens and their rate limit.
///
/// What a failure says beyond its event:
///
/// | what happened | failure |
/// |---|---|
/// | no connection; 429; 503; quota or throttle rule; 403 with `Retry-After` | transient, of the service |
/// | 401 (after one new token, with OAuth); no token from the token server | transient, of the service: every look-up fails until an operator renews the credential, and no event should be lost meanwhile |
/// | the rate limit leaves no room before the deadline | transient, of the service |
/// | 408, 409, 423, 425, other 5xx, no answer in time, answer broken off | transient |
/// | several contacts | ambiguous |
/// | 403 without `Retry-After`, a 404 that does not name a missing contact, other 4xx, redirects | permanent |
/// | an answer that is too long, not JSON, or without the expected record or field | permanent |
/// | a key that the CRM cannot be asked for | permanent |
///
/// ```
/// use cognigy_crm_http::{CrmPreset, TemplateCrm};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let crm = TemplateCrm::builder("hubspot".parse::<CrmPreset>()?.template()?)
///     .external_id_field("ext_id")
///     .fields(["email", "firstname"])
///     .token("a-token")
///     .rate_limit("100/10s".parse()?)
///     .build()?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct TemplateCrm {
    inner: Arc<Inner>,
    batches: Option<Batches>,
}

/// What a look-up needs.
pub(crate) struct Inner {
    template: CrmTemplate,
    names: Names,
    fold_case: bool,
    http: Client,
    base: Url,
    headers: Vec<(HeaderName, HeaderValue)>,
    credential: Credential,
    limiter: Option<Limiter>,
    timeout: Duration,
    max_response_bytes: usize,
}

impl TemplateCrm {
    /// Sets up a client for the CRM that `template` describes.
    pub fn builder(template: CrmTemplate) -> TemplateCrmBuilder {
        TemplateCrmBuilder::new(template)
    }

    /// How many tokens it has asked a token server for. `None` without OAuth.
    #[must_use]
    pub fn token_requests(&self) -> Option<TokenRequests> {
        match &self.inner.credential {
            Credential::OAuth(oauth) => Some(oauth.requests()),
            Credential::None | Credential::Fixed(..) => None,
        }
    }

    fn new(inner: Inner, batching: Option<Batching>) -> Self {
        let inner = Arc::new(inner);
        let batches = batching.map(|batching| Batches::new(Arc::clone(&inner), batching));
        Self { inner, batches }
    }
}

impl Inner {
    /// One look-up, within the time limit.
    async fn look_up(
        &self,
        key: &str,
        traceparent: Option<TraceParent>,
    ) -> Result<Option<Contact>, CrmError> {
        let mut session = Session::new(self, traceparent);
        let look_up = tokio::time::timeout(self.timeout, session.look_up(key));
        look_up.await.unwrap_or(Err(CrmError::Timeout(self.timeout)))
    }
}

#[async_trait]
impl CrmClient for TemplateCrm {
    async fn find_contact(&self, query: &ContactQuery) -> Result<Option<Contact>, Failure> {
        let key = query.contact_key.as_str();
        let found = match &self.batches {
            Some(batches) if batches.takes(key) => batches.look_up(key, query.traceparent).await,
            _ => self.inner.look_up(key, query.traceparent).await,
        };
        Ok(found?)
    }
}

impl fmt::Debug for TemplateCrm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let inner = &self.inner;
        f.debug_struct("TemplateCrm")
            .field("template", &inner.template.name)
            .field("base_url", &inner.base.as_str())
            .field("external_id_field", &inner.names.external_id_field)
            .field("fields", &inner.names.fields)
            .field("credential", &inner.credential)
            .field("rate_limit", &inner.limiter.as_ref().map(Limiter::limit))
            .field("timeout", &inner.timeout)
            .field("max_response_bytes", &inner.max_response_bytes)
            .field("batching", &self.batches.is_some())
            .finish_non_exhaustive()
    }
}
