//! [`ForwardHandler`]: one POST for each event.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use async_trait::async_trait;
use cognigy_core::{Contact, Event, EventHandler, EventType, Failure};
use cognigy_http::{read_at_most, retry_after};
use reqwest::{Client, RequestBuilder, Url, header::CONTENT_TYPE};

use crate::{ForwardHandlerBuilder, error::ForwardError, message, secret::SigningKey};

/// How much is read of an answer, whose status already decides, so that its connection can be used again.
const DRAINED_BYTES: usize = 16 * 1024;

/// Posts each event to a URL, signed as Standard Webhooks. Cheap to clone; clones share their connections.
///
/// ```
/// use cognigy_core::{Contact, EventHandler, testing::sample};
/// use cognigy_handler_http::ForwardHandler;
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
/// # let url = stand_in("").await;
/// // `url` is that of a service that verifies Standard Webhooks, in any language.
/// let handler =
///     ForwardHandler::builder(url).secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").build()?;
/// # let incoming = sample::incoming(sample::body("e1"));
/// # let (key, parts, body) = (incoming.key, incoming.parts, incoming.body);
/// # let event = cognigy_core::Event::restore(key, parts, body, sample::start(), 1);
/// // A pipeline does this: `Pipeline::builder(…).store(…).handler(handler)`.
/// let contact = Contact::from_json(r#"{"name":"Ada"}"#)?;
/// handler.handle(event.into(), Some(contact)).await?; // the service has answered 2xx
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ForwardHandler(Arc<Parts>);

pub(crate) struct Parts {
    pub(crate) http: Client,
    pub(crate) url: Url,
    pub(crate) key: SigningKey,
    pub(crate) timeout: Duration,
    pub(crate) types: Option<Vec<EventType>>,
}

impl ForwardHandler {
    /// Sets up a handler that posts to `url`: `http` or `https`, with or without a path and a query.
    pub fn builder(url: impl Into<String>) -> ForwardHandlerBuilder {
        ForwardHandlerBuilder::new(url.into())
    }

    pub(crate) fn new(parts: Parts) -> Self {
        Self(Arc::new(parts))
    }

    /// Whether events of this type are forwarded.
    #[must_use]
    pub fn takes(&self, kind: &EventType) -> bool {
        let named = |types: &Vec<EventType>| types.iter().any(|it| it.as_str() == kind.as_str());
        self.0.types.as_ref().is_none_or(named)
    }

    /// Posts a message that is no event to the same URL, signed in the same way. `id` is its `webhook-id`, the
    /// same whenever the message is sent again: visible ASCII characters without a dot.
    ///
    /// # Errors
    ///
    /// As for an event: transient if sending it again may help.
    pub async fn post(&self, id: &str, body: Vec<u8>) -> Result<(), Failure> {
        Ok(self.send(self.request(id, body)).await?)
    }

    async fn forward(&self, event: &Event, contact: Option<&Contact>) -> Result<(), ForwardError> {
        let body = message::body(event, contact).map_err(ForwardError::Message)?;
        let mut request = self.request(&message::id(event), body);
        if let Some(traceparent) = event.traceparent() {
            request = request.header("traceparent", traceparent.to_string());
        }
        self.send(request).await
    }

    async fn send(&self, request: RequestBuilder) -> Result<(), ForwardError> {
        let timeout = self.0.timeout;
        let response = match request.send().await {
            Ok(response) => response,
            Err(error) => return Err(ForwardError::transport(error.into(), timeout)),
        };
        let status = response.status();
        let retry_after = retry_after(response.headers(), SystemTime::now());
        // Only the status counts. The body is read to free the connection, and may end in any way.
        read_at_most(response, DRAINED_BYTES).await;
        if status.is_success() { Ok(()) } else { Err(ForwardError::Status { status, retry_after }) }
    }

    fn request(&self, id: &str, body: Vec<u8>) -> RequestBuilder {
        let Parts { http, url, key, .. } = &*self.0;
        // A clock before 1970 is wrong anyway, and receivers refuse the message.
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let timestamp = now.as_secs();
        let signature = key.sign(id, timestamp, &body);
        http.post(url.clone())
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", id)
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signature)
            .body(body)
    }
}

#[async_trait]
impl EventHandler for ForwardHandler {
    async fn handle(&self, event: Arc<Event>, contact: Option<Contact>) -> Result<(), Failure> {
        if !self.takes(event.kind()) {
            return Ok(());
        }
        Ok(self.forward(&event, contact.as_ref()).await?)
    }
}

impl fmt::Debug for ForwardHandler {
    /// Shows the URL up to its port: what comes after it is a credential for many services.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForwardHandler")
            .field("origin", &self.0.url.origin().ascii_serialization())
            .field("timeout", &self.0.timeout)
            .field("types", &self.0.types)
            .finish_non_exhaustive()
    }
}
