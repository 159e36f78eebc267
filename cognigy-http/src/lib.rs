//! The HTTP client set-up that the Cognigy adapters share.
//!
//! ```text
//! BaseUrl ─┐
//!          ├─▶ client() ─▶ reqwest::Client ─▶ response ─▶ read_bounded()  the body, or an error
//! Options ─┘                                     │        read_at_most()  what there is of it
//!                                                └──────▶ retry_after()   when to come back
//! ```
//!
//! One TLS stack (rustls), one crypto provider (ring), the system's root certificates; no
//! redirects, no compression, no proxy unless asked for, no retries: those belong to the store.
//! Each adapter decides itself what a status means and what to do about it.

mod answer;
mod base_url;
mod client;
mod error;
mod excerpt;
mod transport;

pub use answer::{MAX_RETRY_AFTER, ReadError, media_type, read_at_most, read_bounded, retry_after};
pub use base_url::{BaseUrl, absolute_url};
pub use client::{ClientOptions, bearer, client};
pub use error::ConfigError;
pub use excerpt::{beginning, one_line, shorten};
pub use transport::{TransportError, TransportErrorKind};
