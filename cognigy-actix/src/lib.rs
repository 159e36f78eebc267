//! A receiver of Cognigy webhook events inside an actix-web application: a
//! [`Service`] as routes of the application.
//!
//! ```no_run
//! use actix_web::{App, HttpServer};
//! use cognigy_core::{Pipeline, Secret, SignatureVerifier, memory::MemoryStore};
//! use cognigy_service::Service;
//!
//! # #[tokio::main]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let secret = Secret::new("the secret you share with Cognigy")?;
//! let pipeline = Pipeline::builder(SignatureVerifier::new(&secret)).store(MemoryStore::new()).build()?;
//! let service = Service::builder(pipeline).start().await?;
//!
//! let routes = service.clone();
//! HttpServer::new(move || App::new().configure(cognigy_actix::configure(&routes)))
//!     .bind("127.0.0.1:8000")?
//!     .run()
//!     .await?;
//! service.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! With the feature `operator` there is `configure_operator`: the operator API, to mount behind an authentication
//! of your own.
#![forbid(unsafe_code)]

#[cfg(feature = "operator")]
mod operator;
mod unread;

use actix_web::{
    HttpRequest, HttpResponse, Responder,
    body::BoxBody,
    http::StatusCode,
    web::{self, Payload, ServiceConfig},
};
use cognigy_core::Reply;
use cognigy_service::{Head, Receiver, Service, default_path, method_not_allowed};
#[cfg(feature = "operator")]
pub use operator::{configure_operator, operate};
pub use unread::Unread;

/// Adds the routes of `service`: `/webhooks/cognigy` for the source of that name,
/// `/webhooks/cognigy/{name}` for every other one, and the [probes]. For other paths, call [`webhook`] and
/// [`probes`].
///
/// ```
/// use actix_web::{App, HttpResponse, test, web};
/// use cognigy_core::{Pipeline, Secret, SignatureVerifier, memory::MemoryStore};
/// use cognigy_service::Service;
///
/// # #[tokio::main]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let secret = Secret::new("the secret you share with Cognigy")?;
/// let pipeline = Pipeline::builder(SignatureVerifier::new(&secret)).store(MemoryStore::new()).build()?;
/// let service = Service::builder(pipeline).start().await?;
/// let app = App::new()
///     .route("/about", web::get().to(HttpResponse::Ok)) // routes of your own
///     .configure(cognigy_actix::configure(&service))
///     .default_service(web::to(cognigy_actix::not_found));
///
/// let app = test::init_service(app).await;
/// let request = test::TestRequest::get().uri("/readyz").to_request();
/// assert_eq!(test::call_service(&app, request).await.status(), 200);
/// # service.shutdown().await;
/// # Ok(())
/// # }
/// ```
pub fn configure(service: &Service) -> impl FnOnce(&mut ServiceConfig) + use<> {
    let service = service.clone();
    move |config| {
        for receiver in service.receivers() {
            let path = default_path(receiver.pipeline().source().name());
            webhook(&path, receiver)(config);
        }
        probes(&service)(config);
    }
}

/// Adds the route at `path` to which the deliveries of `receiver` are posted. Every other method is a 405,
/// but for the `OPTIONS` of senders that ask before they send.
///
/// ```
/// use actix_web::{App, test};
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
/// let app = App::new()
///     .configure(cognigy_actix::webhook("/hooks/assistant", receiver))
///     .configure(cognigy_actix::probes(&service));
///
/// let app = test::init_service(app).await;
/// let unsigned = test::TestRequest::post().uri("/hooks/assistant").set_payload("{}").to_request();
/// assert_eq!(test::call_service(&app, unsigned).await.status(), 401);
/// # service.shutdown().await;
/// # Ok(())
/// # }
/// ```
pub fn webhook(path: &str, receiver: &Receiver) -> impl FnOnce(&mut ServiceConfig) + use<> {
    let (path, receiver) = (path.to_owned(), receiver.clone());
    move |config| {
        let answer = move |request: HttpRequest, body: Payload| {
            let receiver = receiver.clone();
            async move { receive(&receiver, &request, body).await }
        };
        config.service(web::resource(path).route(web::to(answer)));
    }
}

/// Answers a request at a source's path. For routes of your own.
///
/// A body that is not read to its end, since its delivery is refused, ends the connection with the answer.
///
/// ```
/// use actix_web::{App, HttpRequest, HttpResponse, web};
/// use cognigy_service::Service;
///
/// /// Does something of its own first.
/// async fn deliver(service: web::Data<Service>, request: HttpRequest, body: web::Payload) -> HttpResponse {
///     println!("from {:?}", request.peer_addr());
///     let receiver = service.receivers().next().unwrap();
///     cognigy_actix::receive(receiver, &request, body).await
/// }
///
/// let app = App::new().route("/hooks/assistant", web::post().to(deliver));
/// # let _ = app;
/// ```
pub async fn receive(receiver: &Receiver, request: &HttpRequest, body: Payload) -> HttpResponse {
    let (body, unread) = Unread::of(request.headers(), body);
    let target = request.uri().path_and_query().map_or_else(|| request.path(), |it| it.as_str());
    let head = Head::new(request.headers())
        .method(request.method().as_str())
        .target(target)
        .peer(request.peer_addr().map(|peer| peer.ip()));
    let response = response(&receiver.answer(head, body).await);
    match unread {
        Some(unread) => response.map_body(|_, answer| unread.until_after(answer)),
        None => response,
    }
}

/// Adds `/readyz`, which is 503 while events cannot be taken, and `/healthz`, which is 503 once the process
/// has to be restarted.
pub fn probes(service: &Service) -> impl FnOnce(&mut ServiceConfig) + use<> {
    let (health, ready) = (service.clone(), service.clone());
    move |config| {
        let healthz = move || {
            let service = health.clone();
            async move { Answer(service.liveness()) }
        };
        let readyz = move || {
            let service = ready.clone();
            async move { Answer(service.readiness().await) }
        };
        config.service(
            probe("/healthz").route(web::get().to(healthz.clone())).route(web::head().to(healthz)),
        );
        config.service(
            probe("/readyz").route(web::get().to(readyz.clone())).route(web::head().to(readyz)),
        );
    }
}

fn probe(path: &str) -> actix_web::Resource {
    let refuse = || async { Answer(method_not_allowed("GET, HEAD")) };
    web::resource(path).default_service(web::to(refuse))
}

/// A 404 as a problem document, for [`App::default_service`](actix_web::App::default_service).
pub async fn not_found() -> Answer {
    Answer(cognigy_service::not_found())
}

/// An answer of the core as one of actix-web.
///
/// ```
/// use actix_web::{Responder, test::TestRequest};
/// use cognigy_actix::Answer;
///
/// let request = TestRequest::default().to_http_request();
/// let response = Answer(cognigy_service::readiness(false)).respond_to(&request);
/// assert_eq!(response.status(), 503);
/// ```
#[derive(Debug, Clone)]
pub struct Answer(pub Reply);

impl Responder for Answer {
    type Body = BoxBody;

    fn respond_to(self, _: &HttpRequest) -> HttpResponse {
        response(&self.0)
    }
}

/// The response of actix-web that says what `reply` says.
///
/// ```
/// let response = cognigy_actix::response(&cognigy_service::not_found());
/// assert_eq!(response.status(), 404);
/// assert_eq!(response.headers().get("content-type").unwrap(), "application/problem+json");
/// ```
#[must_use]
pub fn response(reply: &Reply) -> HttpResponse {
    let status = StatusCode::from_u16(reply.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut response = HttpResponse::build(status);
    for (name, value) in reply.headers() {
        response.insert_header((name, value));
    }
    if reply.closes_connection() {
        response.force_close();
    }
    response.body(reply.body().clone())
}
