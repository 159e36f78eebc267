//! [`EventHandler`](cognigy_core::EventHandler) over HTTP: posts each event, with its contact, to a URL,
//! signed as [Standard Webhooks](https://www.standardwebhooks.com) says.
//!
//! ```text
//! Event, Contact ─▶ POST {url}                       ─┬─▶ 2xx                           done
//!                   webhook-id: msg_…                 ├─▶ 408 425 429 5xx, Retry-After  transient
//!                   webhook-timestamp: 1767225600     ├─▶ no answer                     transient
//!                   webhook-signature: v1,…           └─▶ anything else                 permanent
//! ```
//!
//! The body is one JSON object:
//!
//! ```json
//! {
//!   "type": "USER_INPUT_RECEIVED",
//!   "timestamp": "2026-01-01T00:00:00Z",
//!   "data": {
//!     "event_id": "evt-1",
//!     "source": "cognigy",
//!     "contact_key": "c-1",
//!     "conversation": null,
//!     "correlation": "matched",
//!     "contact": { "id": 7 },
//!     "event": { "eventId": "evt-1" },
//!     "run": 1,
//!     "attempt": 1
//!   }
//! }
//! ```
//!
//! * `type` and `timestamp` are the event's own. The time is in UTC, as RFC 3339 writes it. (Years before 0
//!   and after 9999, which RFC 3339 does not have, are written with a sign, as in ISO 8601.)
//! * `event` is the body that was received, and `contact` the CRM's answer, both as they were written:
//!   numbers have all their digits, and white space and the order of keys are kept. A body that is not JSON
//!   is a string; bytes that are not UTF-8 are U+FFFD in it.
//! * `contact_key`, `conversation` and `contact` are `null` where the event has none. `correlation` says
//!   why there is no contact: `none` (the CRM knows none) or `not_asked` (the event has no contact key). Where
//!   the pipeline goes on although the CRM knows several, it is `ambiguous`, with or without a contact.
//!
//! What a receiver should know:
//!
//! * A message may come more than once: a crash or a lost answer repeats it. `webhook-id` is the same for all
//!   attempts of a run and differs for each replay. A receiver that does nothing for an id that it has
//!   handled handles each run once.
//! * `webhook-id` is `msg_` and the SHA-256 of [`Event::idempotency_key`](cognigy_core::Event::idempotency_key)
//!   in hexadecimal: an event id may hold any script and dots, while a header holds ASCII and the specification
//!   forbids the dot. `cognigy-crm-http` sends the same digest as `Idempotency-Key`.
//! * `webhook-timestamp` is the time of the attempt. Receivers refuse old ones, so the clock has to be right.
//!
//! What the handler does not do:
//!
//! * It sends nothing twice. The failure carries a `Retry-After` (seconds or a date), and the retry policy
//!   decides when to try again.
//! * It follows no redirect: the URL is the operator's choice, and no part of an event gets into it.
//! * It reads at most 16 KiB of an answer, and reports only the status.
//! * No failure and no `Debug` output holds the secret, the URL's path or query, the event or the contact.
//!
//! ```
//! use std::time::Duration;
//!
//! use cognigy_core::EventType;
//! use cognigy_handler_http::ForwardHandler;
//!
//! # fn main() -> Result<(), cognigy_handler_http::ConfigError> {
//! let handler = ForwardHandler::builder("https://orders.example/hooks?tenant=7")
//!     .secret("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
//!     .timeout(Duration::from_secs(5))
//!     .types([EventType::DialogEnded, EventType::from_name("ORDER_PLACED")])
//!     .build()?;
//! # Ok(())
//! # }
//! ```

mod config;
mod error;
mod handler;
mod message;
mod secret;

pub use config::{DEFAULT_TIMEOUT, ForwardHandlerBuilder, check_url};
pub use error::{ConfigError, InvalidSecret, InvalidUrl};
pub use handler::ForwardHandler;
pub use secret::{SECRET_BYTES, check_secret};
