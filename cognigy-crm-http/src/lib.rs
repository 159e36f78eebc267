//! [`CrmClient`](cognigy_core::CrmClient) over HTTP: looks up the person behind an event.
//!
//! There are two clients. [`HttpCrm`] speaks one simple protocol; [`TemplateCrm`] speaks that of a
//! product, as a table describes it: a [preset](CrmPreset), or a [`CrmTemplate`] of your own.
//!
//! # The simple protocol
//!
//! ```text
//! ContactQuery ─▶ GET {base}/v1/contacts?external_id={key} ─┬─▶ 2xx, JSON          Ok(Some(contact))
//!                 Authorization: Bearer …                   ├─▶ 404, or empty 2xx  Ok(None)
//!                 Idempotency-Key: …                        ├─▶ 408 425 429 5xx    transient
//!                                                           ├─▶ no whole answer    transient
//!                                                           └─▶ anything else      permanent
//! ```
//!
//! A [`NotFoundRule`] says which answers mean that the CRM has no contact with that key.
//!
//! ```
//! use cognigy_crm_http::HttpCrm;
//!
//! # fn main() -> Result<(), cognigy_crm_http::ConfigError> {
//! let crm = HttpCrm::builder("https://crm.example/api").bearer_token("a-token").build()?;
//! # Ok(())
//! # }
//! ```
//!
//! # Templates
//!
//! ```text
//! ContactQuery ─▶ request of the template ─┬─▶ a record with that external id     Ok(Some(contact))
//!                 credential, rate limit   ├─▶ the CRM's own "no such contact"    Ok(None)
//!                                          ├─▶ several such records               ambiguous
//!                                          ├─▶ throttled, out of quota, 401, 503  transient, of the service
//!                                          ├─▶ 408 409 423 425, other 5xx         transient
//!                                          └─▶ anything else, a bare 404 too      permanent
//! ```
//!
//! The contact is the record as the CRM wrote it. Tokens may be fixed or fetched ([`AuthKind`]); a
//! [`TokenStore`] keeps those that change. A [`RateLimit`] delays requests, and [`Batching`] asks for
//! several contacts at once.
//!
//! # Both clients
//!
//! * Every look-up ends within its timeout, bodies included, and takes no more memory than
//!   [`max_response_bytes`](HttpCrmBuilder::max_response_bytes) says, whatever the CRM sends.
//! * The failure carries a `Retry-After` (seconds or a date). The retry policy decides when to try
//!   again; this crate sends nothing twice, except once with a new token after a 401.
//! * Redirects are not followed: the token would go along.
//! * No failure's text holds a token, the contact key, the URL or any part of a contact.
//! * A failure says whether it is of the whole service
//!   ([`FailureScope`](cognigy_core::FailureScope)).
//!
//! The worker, not this crate, limits how many look-ups run at once. [`CoalescingCrm`] sends
//! identical ones only once, and may remember the contacts that were found.

mod answer;
mod auth;
mod cache;
mod coalesce;
mod config;
mod crm;
mod engine;
mod error;
mod json;
mod not_found;
mod rate_limit;
mod secret;
mod template;

pub use auth::{
    AuthKind, MAX_STORED_TOKEN_BYTES, MemoryTokenStore, StoredToken, TokenRequests, TokenStore,
    UnknownAuthKind,
};
pub use coalesce::{CoalescingCrm, Spared};
pub use cognigy_http::ConfigError;
pub use config::{DEFAULT_MAX_RESPONSE_BYTES, DEFAULT_TIMEOUT, HttpCrmBuilder};
pub use crm::{HttpCrm, ONLY_NOT_FOUND_AFTER};
pub use engine::{Batching, CrmSetupError, TemplateCrm, TemplateCrmBuilder};
pub use not_found::{NotFoundRule, NotFoundRuleError};
pub use rate_limit::{RateLimit, RateLimitError};
pub use template::{CrmPreset, CrmTemplate, TemplateError, UnknownPreset};
