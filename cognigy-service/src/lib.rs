//! A whole receiver of Cognigy webhook events for a program of your own, whatever web framework it uses.
//!
//! [`cognigy_core`] decides what becomes of a delivery. What a receiver on a network needs besides is here:
//!
//! * [`Receiver`] takes the deliveries of one source in: bodies have a deadline, a least rate, a longest
//!   length and a budget of memory, each sender has a share of it, and deliveries in flight are limited.
//! * [`Workers`] run events, and notice when one of them has ended.
//! * [`Upkeep`] forgets what is older than the retention, and the bodies of sensitive events.
//! * [`Health`] says whether events can be taken, and whether they are worked off.
//! * [`Service`] is all of it over one or several pipelines, with safe defaults.
//!
//! `cognigy-axum` and `cognigy-actix` connect a service to a web framework. With any other one, hand it the
//! head and the body of each request, and send the [`Reply`](cognigy_core::Reply):
//!
//! ```
//! use std::{convert::Infallible, time::Duration};
//!
//! use bytes::Bytes;
//! use cognigy_core::{Pipeline, Secret, SignatureScheme, SignatureVerifier, memory::MemoryStore, sign};
//! use cognigy_service::{Head, Service};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let secret = Secret::new("the secret you share with Cognigy")?;
//! let pipeline = Pipeline::builder(SignatureVerifier::new(&secret)).store(MemoryStore::new()).build()?;
//! let service = Service::builder(pipeline)
//!     .retention(Duration::from_secs(7 * 24 * 60 * 60))
//!     .max_in_flight(100)
//!     .start()
//!     .await?;
//!
//! // Inside the route: the headers of the request, its peer, and its body as a stream.
//! let body = r#"{"eventId":"evt-1","timestamp":"2026-03-01T12:00:00Z","type":"DIALOG_STARTED","payload":{}}"#;
//! let signature = sign(&secret, SignatureScheme::Base64, body.as_bytes());
//! let head = Head::new([("X-Cognigy-Signature", signature.as_str())]);
//! let chunks = futures_util::stream::iter([Ok::<_, Infallible>(Bytes::from(body))]);
//! let reply = service.receive(head, chunks).await;
//! assert_eq!(reply.status(), 200);
//!
//! assert!(service.health().await.is_ready());
//! service.shutdown().await; // once the listener has ended
//! # Ok(())
//! # }
//! # let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
//! # runtime.block_on(run()).unwrap();
//! ```
//!
//! What stays with the web framework and what is in front of it: TLS, the number of connections, the time
//! in which a head has to arrive, and clients that do not read their answers. `cognigy-server` limits these
//! too.
#![forbid(unsafe_code)]

pub mod admission;
mod body;
mod happening;
mod health;
mod receiver;
#[cfg(feature = "tracing")]
mod refusals;
#[cfg(feature = "tracing")]
mod repeated;
mod replies;
mod service;
#[cfg(feature = "tracing")]
mod tracing_observer;
mod upkeep;
mod workers;

use cognigy_core::SourceName;
pub use happening::{Happening, ServiceObserver};
pub use health::{Health, Readiness, liveness, readiness};
pub use ipnet::IpNet;
pub use receiver::{Admission, DEFAULT_MAX_UNFINISHED, Head, Receiver};
#[cfg(feature = "tracing")]
pub use refusals::Refusals;
#[cfg(feature = "tracing")]
pub use repeated::Repeated;
pub use replies::{method_not_allowed, not_found};
pub use service::{DEFAULT_MAX_IN_FLIGHT, Service, ServiceBuilder, StartError};
#[cfg(feature = "tracing")]
pub use tracing_observer::TracingObserver;
pub use upkeep::{DEFAULT_RETENTION, Retention, Upkeep, UpkeepOptions};
pub use workers::Workers;

/// The path of the contract: deliveries of the source that is called `cognigy` are posted there.
pub const WEBHOOK_PATH: &str = "/webhooks/cognigy";

/// The path to which the deliveries of `source` are posted unless the program says otherwise: the
/// contract's for the default source, and for another one its name behind that.
///
/// ```
/// use cognigy_core::SourceName;
/// use cognigy_service::default_path;
///
/// assert_eq!(default_path(&SourceName::default()), "/webhooks/cognigy");
/// assert_eq!(default_path(&"shop".parse()?), "/webhooks/cognigy/shop");
/// # Ok::<_, cognigy_core::InvalidSourceName>(())
/// ```
#[must_use]
pub fn default_path(source: &SourceName) -> String {
    match source.is_default() {
        true => WEBHOOK_PATH.to_owned(),
        false => format!("{WEBHOOK_PATH}/{source}"),
    }
}
