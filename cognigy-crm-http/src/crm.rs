//! [`HttpCrm`]: one GET for each look-up.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use cognigy_core::{Contact, ContactQuery, CrmClient, Failure};
use cognigy_http::{media_type, read_at_most, read_bounded, retry_after};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::{
    Client, RequestBuilder, Response, StatusCode, Url,
    header::{ACCEPT, AUTHORIZATION, HeaderValue},
};
use sha2::{Digest, Sha256};

use crate::{HttpCrmBuilder, NotFoundRule, answer::Answer, error::LookUpError};

/// After this many look-ups in a row that all ended in a 404, [`HttpCrm::only_not_found`] is true.
/// If the CRM knows one person in ten, 50 unknown people in a row occur once in two hundred times.
pub const ONLY_NOT_FOUND_AFTER: u32 = 50;

/// All but what RFC 3986, section 2.3, calls unreserved: a key may hold `&`, `=`, `#`, `%`, `/`,
/// blanks and any script, and must arrive as it is. `%20` for a blank rather than `+`, which not
/// every server reads as a blank.
const KEY: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// The longest URL sent, in bytes: what RFC 9110, section 4.1, asks every server to take. No
/// contact can have a longer key.
const MAX_URL_BYTES: usize = 8000;

/// How much is read of an answer whose status already decides, so that its connection can be used
/// again; error pages are shorter.
const DRAINED_BYTES: usize = 16 * 1024;

/// Looks contacts up with `GET {base}/v1/contacts?external_id={key}`. Cheap to clone; clones share
/// their connections.
///
/// ```
/// use std::time::Duration;
///
/// use cognigy_core::{ContactQuery, CrmClient};
/// use cognigy_crm_http::HttpCrm;
///
/// # async fn stand_in(answer: &'static str) -> String {
/// #     use tokio::io::{AsyncReadExt, AsyncWriteExt};
/// #     let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
/// #     let address = listener.local_addr().unwrap();
/// #     tokio::spawn(async move {
/// #         while let Ok((mut stream, _)) = listener.accept().await {
/// #             let _ = stream.read(&mut [0; 8192]).await;
/// #             let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
/// #             let _ = stream.write_all(format!("{head}{answer}").as_bytes()).await;
/// #         }
/// #     });
/// #     format!("http://{address}")
/// # }
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let url = stand_in(r#"{"name":"Ada"}"#).await;
/// let crm = HttpCrm::builder(url).bearer_token("a-token").timeout(Duration::from_secs(5)).build()?;
/// // A worker asks for the contact of each event; GET {url}/v1/contacts?external_id=customer-7
/// let query = ContactQuery {
///     contact_key: "customer-7".into(),
///     idempotency_key: "cognigy/e1/1".into(),
///     fresh: false,
///     traceparent: None,
/// };
/// let contact = crm.find_contact(&query).await?.expect("the CRM knows the contact");
/// assert_eq!(contact.as_json(), r#"{"name":"Ada"}"#);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct HttpCrm(Arc<Inner>);

struct Inner {
    parts: Parts,
    /// Look-ups in a row that ended in a 404.
    not_found: AtomicU32,
}

pub(crate) struct Parts {
    pub(crate) http: Client,
    pub(crate) contacts: Url,
    pub(crate) authorization: Option<HeaderValue>,
    pub(crate) timeout: Duration,
    pub(crate) max_response_bytes: usize,
    pub(crate) not_found: NotFoundRule,
}

impl HttpCrm {
    /// Sets up a client for the CRM at `base_url`: `http` or `https`, with or without a path.
    pub fn builder(base_url: impl Into<String>) -> HttpCrmBuilder {
        HttpCrmBuilder::new(base_url.into())
    }

    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(Inner { parts, not_found: AtomicU32::new(0) }))
    }

    /// Whether the latest look-ups, [`ONLY_NOT_FOUND_AFTER`] of them or more, all ended in a 404.
    /// Worth a warning: a wrong base URL looks exactly like a CRM without contacts. Any 2xx resets
    /// it; failures do not change it.
    #[must_use]
    pub fn only_not_found(&self) -> bool {
        self.0.not_found.load(Relaxed) >= ONLY_NOT_FOUND_AFTER
    }

    async fn look_up(&self, query: &ContactQuery) -> Result<Option<Contact>, LookUpError> {
        let Parts { timeout, max_response_bytes, not_found, .. } = self.0.parts;
        let response = match self.request(query)?.send().await {
            Ok(response) => response,
            Err(error) => return Err(LookUpError::transport(error.into(), timeout)),
        };
        let status = response.status();
        if status.is_success() {
            self.0.not_found.store(0, Relaxed);
            let media_type = media_type(response.headers());
            let body = read_bounded(response, max_response_bytes).await;
            let body = body.map_err(|error| LookUpError::read(error, timeout))?;
            let secrets = [self.token(), &query.contact_key];
            let answer = Answer { status, media_type: &media_type, body: &body, secrets: &secrets };
            answer.contact(not_found)
        } else {
            self.without_contact(status, response).await
        }
    }

    /// The token, without the scheme before it.
    fn token(&self) -> &str {
        let header = self.0.parts.authorization.as_ref().and_then(|value| value.to_str().ok());
        header.and_then(|text| text.split_once(' ')).map_or("", |(_, token)| token)
    }

    async fn without_contact(
        &self,
        status: StatusCode,
        response: Response,
    ) -> Result<Option<Contact>, LookUpError> {
        let retry_after = retry_after(response.headers(), SystemTime::now());
        read_at_most(response, DRAINED_BYTES).await;
        if status == StatusCode::NOT_FOUND && self.0.parts.not_found.status_404 {
            self.count_not_found();
            return Ok(None);
        }
        Err(LookUpError::Status { status, retry_after })
    }

    fn count_not_found(&self) {
        // Stops at the mark rather than at the type's maximum, where it would wrap around.
        let below_mark = |count| (count < ONLY_NOT_FOUND_AFTER).then_some(count + 1);
        _ = self.0.not_found.fetch_update(Relaxed, Relaxed, below_mark);
    }

    fn request(&self, query: &ContactQuery) -> Result<RequestBuilder, LookUpError> {
        let parts = &self.0.parts;
        let mut url = parts.contacts.clone();
        let key = utf8_percent_encode(&query.contact_key, KEY);
        url.set_query(Some(&format!("external_id={key}")));
        if url.as_str().len() > MAX_URL_BYTES {
            return Err(LookUpError::KeyTooLong);
        }
        let request = parts
            .http
            .get(url)
            .header(ACCEPT, "application/json")
            .header("Idempotency-Key", idempotency_header(&query.idempotency_key));
        let request = match query.traceparent {
            Some(traceparent) => request.header("traceparent", traceparent.to_string()),
            None => request,
        };
        Ok(match &parts.authorization {
            Some(bearer) => request.header(AUTHORIZATION, bearer),
            None => request,
        })
    }
}

/// A key for the header `Idempotency-Key`: SHA-256 in hexadecimal, since event ids may hold any
/// script and be longer than a server takes, and a header holds ASCII.
fn idempotency_header(key: &str) -> String {
    base16ct::lower::encode_string(&Sha256::digest(key))
}

#[async_trait]
impl CrmClient for HttpCrm {
    async fn find_contact(&self, query: &ContactQuery) -> Result<Option<Contact>, Failure> {
        Ok(self.look_up(query).await?)
    }
}

impl fmt::Debug for HttpCrm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = &self.0.parts;
        f.debug_struct("HttpCrm")
            .field("contacts", &parts.contacts.as_str())
            .field("token", &parts.authorization.is_some())
            .field("timeout", &parts.timeout)
            .field("max_response_bytes", &parts.max_response_bytes)
            .field("not_found", &parts.not_found)
            .finish_non_exhaustive()
    }
}
