//! A client for the part of Cognigy's REST API that a webhook receiver needs: asking for events.
//!
//! ```text
//! CognigyApi::register_webhook ─▶ token, cached ─▶ POST {base}/api/v1/webhooks ─┬─▶ 200, 201  done
//!                                   │   ▲                                       ├─▶ 401       once more, with
//!                                   │   └──────── a new token ◀─────────────────┘             a new token
//!                                   ▼                                           └─▶ other     ApiError
//!                 POST {base}/api/v1/auth/oauth/token
//! ```
//!
//! * One token request at a time, however many callers wait for it: they share its answer, be it a
//!   token or an error.
//! * A token is replaced before it expires, and once more when the API refuses it.
//! * Apart from that one repetition, nothing is sent twice: a registration whose answer was lost
//!   may have happened, and the error says so.
//! * No error's text and no `Debug` output holds a secret, not even where the API's answer does.
//!
//! ```no_run
//! use cognigy_api::{CognigyApi, WebhookRegistration};
//!
//! # async fn run() -> Result<(), Box<dyn std::error::Error>> {
//! let api = CognigyApi::builder("https://cognigy.example", "client id", "client secret").build()?;
//! let ours = "https://receiver.example/webhooks/cognigy";
//! let webhook = WebhookRegistration::new("my receiver", ours, "webhook secret");
//! println!("registered: {:?}", api.register_webhook(&webhook).await?.id);
//! # Ok(())
//! # }
//! ```

mod api;
mod config;
mod error;
mod excerpt;
mod secret;
mod token;
mod webhook;

pub use api::CognigyApi;
pub use cognigy_http::{ConfigError, TransportError, TransportErrorKind};
pub use config::{CognigyApiBuilder, DEFAULT_TIMEOUT};
pub use error::{ApiCall, ApiError};
pub use webhook::{RegisteredWebhook, WebhookChange, WebhookRegistration};
