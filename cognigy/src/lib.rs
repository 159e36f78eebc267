//! Receive signed webhook events of Cognigy in a service of your own: verify them, store them durably,
//! find the person in the CRM, call your handlers, retry what fails, and replay anything later.
//!
//! This crate is the door to the `cognigy-*` crates. What an application needs stands here and in the
//! [`prelude`]; what only special needs take stands in a module each.
//!
//! | module | for |
//! |---|---|
//! | [`authenticate`] | senders that sign in another way than the contract, or do not sign |
//! | [`format`](mod@format) | deliveries that look different |
//! | [`operate`] | lists, replays, rehearsals, erasures: what an operator does |
//! | [`observe`] | metrics, logs and traces of your own |
//! | [`adapter`] | writing a store, a CRM client, a sink, an authenticator or a format |
//!
//! | feature | what it adds |
//! |---|---|
//! | `sqlite` (default) | [`sqlite`]: events in a file |
//! | `postgres` | `postgres`: events in PostgreSQL, shared by several processes |
//! | `crm-http` | `crm`: HubSpot, Salesforce, Zendesk, Dynamics 365, Pipedrive, Freshdesk, Intercom, Zoho, or any CRM by a template |
//! | `forward` | `forward`: events handed on to another service, signed as Standard Webhooks |
//! | `sqs` | `sqs`: dead letters on Amazon SQS |
//! | `axum`, `actix` | `axum`, `actix`: routes for the web framework |
//! | `operator` | `operator`: the operator API, to nest behind your own login; its routes are in `axum` and `actix` |
//! | `tracing` | [`service`]: what happens as log lines |
//! | `testing` | `testing`: stand-ins for tests, and the suites that adapters must pass |
//!
//! ```
//! use cognigy::{memory::MemoryStore, prelude::*};
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let handlers = Handlers::new().on(|said: UserInput<String>, cx| async move {
//!     println!("{:?} said {:?}", cx.event().contact_key(), said.input);
//!     Ok(())
//! });
//! let secret = Secret::new("the secret you share with Cognigy")?;
//! let pipeline = Pipeline::builder(SignatureVerifier::new(&secret))
//!     .store(MemoryStore::new())
//!     .handler(handlers)
//!     .build()?;
//! // Its worker runs events in the background; it has limits for bodies and senders, and a retention.
//! let service = Service::builder(pipeline).start().await?;
//! // With axum: `cognigy::axum::router(&service)`; with actix-web: `cognigy::actix::configure(&service)`.
//! # service.shutdown().await;
//! # Ok(())
//! # }
//! ```
#![cfg_attr(docsrs, feature(doc_cfg))]
#![forbid(unsafe_code)]

pub mod adapter;
pub mod authenticate;
pub mod format;
pub mod observe;
pub mod operate;
pub mod prelude;

pub use cognigy_core::{
    AfterDeadLetter, BoxError, BuildError, Clock, Contact, Correlation, DEFAULT_ATTEMPT_TIMEOUT,
    DEFAULT_LEASE, DEFAULT_MAX_BODY_BYTES, DEFAULT_MAX_LOST_LEASES, DEFAULT_SOURCE, DecodeError,
    DialogEnded, DialogStarted, Event, EventHandler, EventId, EventKey, EventOrder, EventPayload,
    EventTime, EventType, Failure, FailureKind, HandlerContext, Handlers, Jitter, KeepInStore,
    NeedsStore, NoCrm, NoHandler, OnAmbiguous, OrFail, PayloadHandler, Pipeline, PipelineBuilder,
    ProfileUpdated, QuarantineLimits, RawDelivery, Reply, RetryPolicy, Secret, SecretError,
    SignatureScheme, SignatureVerifier, Source, SourceName, State, Stop, Timestamp, TokioClock,
    UserInput, Worker, WorkerHandle, WorkerOptions, memory, report, sign,
};

pub use cognigy_service::{self as service, Health, IpNet, Receiver, Service, ServiceBuilder};

#[cfg(feature = "actix")]
#[cfg_attr(docsrs, doc(cfg(feature = "actix")))]
pub use cognigy_actix as actix;
#[cfg(feature = "axum")]
#[cfg_attr(docsrs, doc(cfg(feature = "axum")))]
pub use cognigy_axum as axum;
/// All of the core, under its own names.
pub use cognigy_core as core;
#[cfg(feature = "crm-http")]
#[cfg_attr(docsrs, doc(cfg(feature = "crm-http")))]
pub use cognigy_crm_http as crm;
#[cfg(feature = "forward")]
#[cfg_attr(docsrs, doc(cfg(feature = "forward")))]
pub use cognigy_handler_http as forward;
#[cfg(feature = "operator")]
#[cfg_attr(docsrs, doc(cfg(feature = "operator")))]
pub use cognigy_operator as operator;
#[cfg(feature = "sqs")]
#[cfg_attr(docsrs, doc(cfg(feature = "sqs")))]
pub use cognigy_sink_sqs as sqs;
#[cfg(feature = "postgres")]
#[cfg_attr(docsrs, doc(cfg(feature = "postgres")))]
pub use cognigy_store_postgres as postgres;
#[cfg(feature = "sqlite")]
#[cfg_attr(docsrs, doc(cfg(feature = "sqlite")))]
pub use cognigy_store_sqlite as sqlite;

#[cfg(feature = "testing")]
#[cfg_attr(docsrs, doc(cfg(feature = "testing")))]
pub use cognigy_core::{
    authenticator_conformance, crm_conformance, model_conformance, ordered_store_conformance,
    sink_conformance, store_conformance, testing,
};
