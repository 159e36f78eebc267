//! Settings: what the server can be told, and by whom.
//!
//! [`table`] lists every setting once; [`layers`] finds its value (flag beats environment beats
//! file); this module turns the texts into types and names the setting that is wrong.

mod layers;
mod parse;
mod table;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use cognigy_core::{Jitter, RetryPolicy, Secret, SignatureScheme, SignatureVerifier};
use cognigy_crm_http::NotFoundRule;
use zeroize::Zeroizing;

pub(crate) use layers::{Layers, SettingError};
pub(crate) use table::SETTINGS;

/// Everything that can be set.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) listen: SocketAddr,
    pub(crate) webhook: Option<Webhook>,
    pub(crate) database: Database,
    pub(crate) api: ApiSettings,
    pub(crate) crm: CrmSettings,
    pub(crate) retry: RetryPolicy,
    pub(crate) lease: Duration,
    pub(crate) sqs_dlq_url: Option<String>,
    pub(crate) admin_token: Option<Hidden>,
    pub(crate) worker: bool,
    /// How long a balancer is given to notice that the server is stopping.
    pub(crate) drain: Duration,
    pub(crate) max_body_bytes: usize,
    pub(crate) retention: Duration,
    pub(crate) log: String,
    pub(crate) log_format: LogFormat,
}

/// Where events are stored.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq))]
pub(crate) enum Database {
    /// In a file.
    Sqlite(PathBuf),
    /// In a database server, by its URL.
    Postgres(Hidden),
}

/// How webhooks are signed.
#[derive(Debug, Clone)]
pub(crate) struct Webhook {
    pub(crate) secret: Secret,
    pub(crate) previous: Option<Secret>,
    pub(crate) header: String,
    pub(crate) scheme: SignatureScheme,
}

/// Cognigy's own API, for `register`.
#[derive(Debug, Clone)]
pub(crate) struct ApiSettings {
    pub(crate) base_url: Option<String>,
    pub(crate) client_id: Option<String>,
    pub(crate) client_secret: Option<Hidden>,
    /// The webhook secret as text, to hand to Cognigy.
    pub(crate) webhook_secret: Option<Hidden>,
}

/// The CRM.
#[derive(Debug, Clone)]
pub(crate) struct CrmSettings {
    pub(crate) base_url: String,
    pub(crate) token: Option<Hidden>,
    pub(crate) not_found: NotFoundRule,
    pub(crate) timeout: Duration,
    pub(crate) concurrency: usize,
    /// How long found contacts are remembered; zero: not at all.
    pub(crate) cache: Duration,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// A text that is never printed, and wiped from memory when dropped.
#[derive(Clone)]
#[cfg_attr(test, derive(PartialEq))]
pub(crate) struct Hidden(Zeroizing<String>);

impl Hidden {
    pub(crate) fn new(text: impl Into<String>) -> Self {
        Self(Zeroizing::new(text.into()))
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("(hidden)")
    }
}

impl Settings {
    /// Reads every setting, or names the first that is wrong.
    pub(crate) fn read(layers: &Layers) -> Result<Self, SettingError> {
        let secret =
            |key| layers.optional(key, |text| Secret::new(text).map_err(|e| e.to_string()));
        let hidden = |key| layers.optional(key, |text| Ok(Hidden::new(text)));
        let text = |key| layers.optional(key, |text| Ok(text.to_owned()));
        let header = layers.required("signature_header", parse::header_name)?;
        let scheme =
            layers.required("signature_scheme", |text| text.parse().map_err(str::to_owned))?;
        let previous = secret("webhook_secret_previous")?;
        let webhook =
            secret("webhook_secret")?.map(|secret| Webhook { secret, previous, header, scheme });
        Ok(Self {
            listen: layers.required("listen", parse::address)?,
            webhook,
            database: layers.required("database_url", parse::database)?,
            api: ApiSettings {
                base_url: layers.optional("base_url", parse::http_url)?,
                client_id: text("client_id")?,
                client_secret: hidden("client_secret")?,
                webhook_secret: hidden("webhook_secret")?,
            },
            crm: CrmSettings {
                base_url: layers.required("crm_base_url", parse::http_url)?,
                token: hidden("crm_token")?,
                not_found: layers
                    .required("crm_not_found", |text| text.parse().map_err(|e| format!("{e}")))?,
                timeout: layers.required("crm_timeout", parse::positive_duration)?,
                concurrency: layers.required("crm_concurrency", |t| parse::number(t, 1, 4096))?,
                cache: layers.required("crm_cache", parse::duration)?,
            },
            retry: RetryPolicy {
                max_attempts: layers
                    .required("retry_max_attempts", |t| parse::number(t, 1, 100))?,
                base_delay: layers.required("retry_base_delay", parse::duration)?,
                max_delay: layers.required("retry_max_delay", parse::positive_duration)?,
                jitter: Jitter::Equal,
            },
            lease: layers.required("lease", parse::lease)?,
            sqs_dlq_url: layers.optional("sqs_dlq_url", parse::http_url)?,
            admin_token: hidden("admin_token")?,
            worker: layers.required("worker", parse::switch)?,
            drain: layers.required("drain", parse::duration)?,
            max_body_bytes: layers
                .required("max_body_bytes", |text| parse::number(text, 1, 1 << 30))?,
            retention: layers.required("retention", parse::positive_duration)?,
            log: layers.required("log", parse::log_filter)?,
            log_format: layers.required("log_format", parse::log_format)?,
        })
    }

    /// The webhook settings, for commands that cannot do without.
    pub(crate) fn webhook(&self) -> Result<&Webhook, SettingError> {
        self.webhook.as_ref().ok_or_else(|| SettingError::missing("webhook_secret"))
    }
}

impl Webhook {
    /// A verifier that expects what is set.
    pub(crate) fn verifier(&self) -> SignatureVerifier {
        let verifier =
            SignatureVerifier::new(&self.secret).header(self.header.clone()).scheme(self.scheme);
        match &self.previous {
            Some(previous) => verifier.previous_secret(previous),
            None => verifier,
        }
    }
}
