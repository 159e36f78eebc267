//! The operator API of a receiver of Cognigy webhook events, to put behind an authentication of your own: find
//! events, look at one, run it again, drop dead letters, erase a person, pause a source, see who did what.
//!
//! It knows no web framework and no token. The program finds out who sends a request, and says so with an
//! [`Operator`]: a name and a [`Role`]. There is no answer without one. `cognigy-axum` and `cognigy-actix` connect
//! the API to a web framework, and take the operator from the request, where a middleware has put it. With any
//! other one:
//!
//! ```
//! use cognigy_core::{Pipeline, Secret, SignatureVerifier, memory::MemoryStore};
//! use cognigy_operator::{Operator, OperatorApi, Request, Role};
//! use cognigy_service::Service;
//!
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let secret = Secret::new("the secret you share with Cognigy")?;
//! let pipeline = Pipeline::builder(SignatureVerifier::new(&secret)).store(MemoryStore::new()).build()?;
//! let service = Service::builder(pipeline).start().await?;
//! let api = OperatorApi::of(&service).start().await?;
//!
//! // Inside the route, once the program knows who sends the request:
//! let anna = Operator::new("anna", Role::Reader);
//! let request = Request::new("GET", "/admin/events").query("status=dead_lettered");
//! let reply = api.respond(&anna, request, "").await;
//! assert_eq!((reply.status(), &reply.body()[..]), (200, &br#"{"events":[],"next_cursor":null}"#[..]));
//!
//! // A reader changes nothing.
//! let reply = api.respond(&anna, Request::new("POST", "/admin/sources/cognigy/pause"), "").await;
//! assert_eq!(reply.status(), 403);
//! api.shutdown().await; // before the service
//! # service.shutdown().await;
//! # Ok(())
//! # }
//! ```
//!
//! # Routes
//!
//! [`routes`] lists them. They are those of `cognigy-server`, which answers them with this crate, and the same
//! documents say what they mean. The server has a few more, which need its settings: redrives from SQS, the
//! OpenAPI document and the console.
//!
//! * A change is for the role [`Operator`](Role::Operator); all others get a 403. It is recorded in the store, with
//!   the operator's name.
//! * A [`Reader`](Role::Reader) sees no bodies, contacts and kept headers, and may not search for words.
//! * Every answer has `Cache-Control: no-store`. Pages have at most 500 entries and a bounded length, bodies of
//!   requests a longest length and 10 s to arrive.
//! * An unknown or repeated query key is a 400, another method a 405 with `Allow`, another path or another
//!   spelling of one a 404. Errors are problem documents (RFC 9457).
//!
//! # Pauses and bulk replays
//!
//! Which sources are paused, and which events are to be run again, is kept in the store, for all processes on it.
//! [`start`](OperatorApiBuilder::start) has the workers of this process follow the first, once a second, and
//! carries the second out, until [`shutdown`](OperatorApi::shutdown).
//!
//! # Without a request
//!
//! The methods of [`OperatorApi`] are what the routes call, for pages of a program's own. The modules are their parts, for a
//! command line and for tasks: most take a store, and none asks who calls. Their own records name the caller by a
//! [`Recorder`](audit::Recorder).
#![forbid(unsafe_code)]

mod api;
pub mod audit;
mod body;
pub mod breakers;
pub mod bulk_replays;
mod changes;
mod changing;
mod contacts;
pub mod discards;
pub mod erasing;
pub mod filter;
pub mod find;
mod host;
mod operator;
pub mod pausing;
mod perform;
mod problem;
mod purge;
pub mod purging;
mod reading;
pub mod recorrelation;
pub mod rehearsing;
mod request;
mod routes;
pub mod selection;
pub mod view;

pub use api::{OperatorApi, OperatorApiBuilder, no_operator};
pub use body::Bodies;
#[cfg(feature = "tracing")]
pub use host::TracingHost;
pub use host::{Happening, Host};
pub use operator::{Operator, Role};
pub use problem::Problem;
pub use request::{Parameters, Request, parameters};
pub use routes::{Route, routes};
