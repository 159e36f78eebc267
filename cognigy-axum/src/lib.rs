//! A receiver of Cognigy webhook events as an axum router: a [`Service`] as routes to `merge` or
//! `nest`.
//!
//! ```no_run
//! use std::net::SocketAddr;
//!
//! use axum::Router;
//! use cognigy_core::{Pipeline, Secret, SignatureVerifier, memory::MemoryStore};
//! use cognigy_service::Service;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let secret = Secret::new("the secret you share with Cognigy")?;
//! let pipeline = Pipeline::builder(SignatureVerifier::new(&secret)).store(MemoryStore::new()).build()?;
//! let service = Service::builder(pipeline).start().await?;
//!
//! let app = Router::new().merge(cognigy_axum::router(&service));
//! let listener = tokio::net::TcpListener::bind("127.0.0.1:8000").await?;
//! // With the address of each peer: limits are for each sender, and log lines name it.
//! axum::serve(listener, app.into_make_service_with_connect_info::<SocketAddr>()).await?;
//! service.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! With the feature `operator` there is `operator_router`: the operator API, to nest behind an authentication of
//! your own.
//!
//! Layers that limit or decompress bodies must not be in front of these routes: the receiver has limits of
//! its own, and a signature is over the bytes as they came.
#![forbid(unsafe_code)]

#[cfg(feature = "operator")]
mod operator;

use std::net::SocketAddr;

use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, OriginalUri, Request},
    http::{HeaderValue, StatusCode},
    response::{IntoResponse, Response},
    routing::{MethodRouter, any, get},
};
use cognigy_core::Reply;
use cognigy_service::{Head, Receiver, Service, default_path, method_not_allowed};
#[cfg(feature = "operator")]
pub use operator::{operate, operator_router};

/// The routes of `service`: `/webhooks/cognigy` for the source of that name, `/webhooks/cognigy/{name}` for
/// every other one, and the [probes](health). For other paths, call [`webhook`] and [`health`].
///
/// ```
/// use axum::{Router, routing::get};
/// use cognigy_core::{Pipeline, Secret, SignatureVerifier, memory::MemoryStore};
/// use cognigy_service::Service;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let secret = Secret::new("the secret you share with Cognigy")?;
/// let pipeline = Pipeline::builder(SignatureVerifier::new(&secret)).store(MemoryStore::new()).build()?;
/// let service = Service::builder(pipeline).start().await?;
/// let app: Router = Router::new()
///     .route("/about", get(|| async { "events of our assistant" })) // routes of your own
///     .merge(cognigy_axum::router(&service))
///     .fallback(cognigy_axum::not_found);
/// # service.shutdown().await;
/// # let _ = app;
/// # Ok(())
/// # }
/// ```
pub fn router<S: Clone + Send + Sync + 'static>(service: &Service) -> Router<S> {
    service.receivers().fold(health(service), |router, receiver| {
        router.route(&default_path(receiver.pipeline().source().name()), webhook(receiver))
    })
}

/// What is at the path to which the deliveries of `receiver` are posted. Every other method is a 405, but for
/// the `OPTIONS` of senders that ask before they send.
///
/// ```
/// use axum::Router;
/// use cognigy_core::{Pipeline, Secret, SignatureVerifier, memory::MemoryStore};
/// use cognigy_service::Service;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let secret = Secret::new("the secret you share with Cognigy")?;
/// # let pipeline = Pipeline::builder(SignatureVerifier::new(&secret)).store(MemoryStore::new()).build()?;
/// let service = Service::builder(pipeline).start().await?;
/// // The path that the sender already has in its settings.
/// let receiver = service.receivers().next().unwrap();
/// let app: Router = Router::new()
///     .route("/hooks/assistant", cognigy_axum::webhook(receiver))
///     .merge(cognigy_axum::health(&service));
/// # service.shutdown().await;
/// # let _ = app;
/// # Ok(())
/// # }
/// ```
pub fn webhook<S: Clone + Send + Sync + 'static>(receiver: &Receiver) -> MethodRouter<S> {
    let receiver = receiver.clone();
    any(move |request: Request| async move { receive(&receiver, request).await })
}

/// Answers a request at a source's path. For routes of your own.
///
/// The peer's address is the request's `ConnectInfo<SocketAddr>`. Without that, all senders share what one
/// of them may hold.
///
/// ```
/// use axum::{Router, extract::{Request, State}, routing::post};
/// use cognigy_axum::Answer;
/// use cognigy_service::Service;
///
/// /// Does something of its own first.
/// async fn deliver(State(service): State<Service>, request: Request) -> Answer {
///     println!("a delivery of {:?} bytes", request.headers().get("content-length"));
///     let receiver = service.receivers().next().unwrap();
///     cognigy_axum::receive(receiver, request).await
/// }
///
/// let app: Router<Service> = Router::new().route("/hooks/assistant", post(deliver));
/// # let _ = app;
/// ```
pub async fn receive(receiver: &Receiver, request: Request) -> Answer {
    let (parts, body) = request.into_parts();
    // A nested router sees a part of the path only.
    let uri = parts.extensions.get::<OriginalUri>().map_or(&parts.uri, |original| &original.0);
    let peer = parts.extensions.get::<ConnectInfo<SocketAddr>>().map(|peer| peer.0.ip());
    let head = Head::new(&parts.headers)
        .method(parts.method.as_str())
        .target(uri.path_and_query().map_or_else(|| uri.path(), |it| it.as_str()))
        .peer(peer);
    Answer(receiver.answer(head, body.into_data_stream()).await)
}

/// `/readyz`, which is 503 while events cannot be taken, and `/healthz`, which is 503 once the process has to
/// be restarted.
pub fn health<S: Clone + Send + Sync + 'static>(service: &Service) -> Router<S> {
    let (health, ready) = (service.clone(), service.clone());
    let healthz = get(move || async move { Answer(health.liveness()) });
    let readyz = get(move || async move { Answer(ready.readiness().await) });
    let refuse = || async { Answer(method_not_allowed("GET, HEAD")) };
    Router::new()
        .route("/healthz", healthz.fallback(refuse))
        .route("/readyz", readyz.fallback(refuse))
}

/// A 404 as a problem document, for [`Router::fallback`].
pub async fn not_found() -> Answer {
    Answer(cognigy_service::not_found())
}

/// An answer of the core as one of axum.
///
/// ```
/// use axum::{http::StatusCode, response::IntoResponse};
/// use cognigy_axum::Answer;
///
/// let response = Answer(cognigy_service::readiness(false)).into_response();
/// assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
/// assert!(response.headers().contains_key("retry-after"));
/// ```
#[derive(Debug, Clone)]
pub struct Answer(pub Reply);

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let Self(reply) = self;
        let mut response = Response::new(Body::from(reply.body().clone()));
        *response.status_mut() =
            StatusCode::from_u16(reply.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in reply.headers() {
            if let (Ok(name), Ok(value)) = (name.parse(), HeaderValue::from_str(&value)) {
                response.headers_mut().insert::<axum::http::HeaderName>(name, value);
            }
        }
        response
    }
}
