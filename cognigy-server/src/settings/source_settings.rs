//! The settings of one source, as types.

use std::time::Duration;

use cognigy_core::{EventType, Jitter, QuarantineLimits, RetryPolicy, SourceName};

use super::{
    Hidden, SettingError, Webhook,
    crm::CrmSettings,
    intake::{self, Bodies},
    layers::Layers,
    parse,
    per_source::View,
    table::Setting,
};

/// The settings of one source.
#[derive(Debug, Clone)]
pub(crate) struct SourceSettings {
    pub(crate) name: SourceName,
    pub(crate) bodies: Bodies,
    /// None if a secret is needed and not set: then the source takes no deliveries.
    pub(crate) webhook: Option<Webhook>,
    /// The secret as text, for the registration at Cognigy.
    pub(crate) secret_text: Option<Hidden>,
    pub(crate) crm: CrmSettings,
    pub(crate) retry: RetryPolicy,
    pub(crate) forward: Option<ForwardSettings>,
    /// A build without SQS does not read it.
    #[cfg_attr(not(feature = "sqs"), allow(dead_code))]
    pub(crate) sqs_dlq_url: Option<String>,
    pub(crate) max_body_bytes: usize,
    pub(crate) max_in_flight: Option<usize>,
    pub(crate) quarantine: QuarantineLimits,
    /// Whether its sender may say which trace a delivery belongs to.
    pub(crate) trusts_traceparent: bool,
    /// After how long without a new event operators are told that the source is silent.
    pub(crate) notify_silence: Option<Duration>,
}

/// Where notices for operators are posted.
#[derive(Debug, Clone)]
pub(crate) struct NotifySettings {
    pub(crate) url: Hidden,
    pub(crate) secret: Hidden,
}

impl NotifySettings {
    /// None without a URL.
    pub(super) fn read(layers: &Layers) -> Result<Option<Self>, SettingError> {
        let url = layers.optional("notify_url", url)?;
        let secret = layers.optional("notify_secret", secret)?;
        let Some(url) = url else { return Ok(None) };
        let secret = secret.ok_or_else(|| SettingError::missing("notify_secret"))?;
        Ok(Some(Self { url, secret }))
    }
}

fn url(text: &str) -> Result<Hidden, String> {
    let checked = cognigy_handler_http::check_url(text);
    checked.map(|()| Hidden::new(text)).map_err(|error| error.to_string())
}

fn secret(text: &str) -> Result<Hidden, String> {
    let checked = cognigy_handler_http::check_secret(text);
    checked.map(|()| Hidden::new(text)).map_err(|error| error.to_string())
}

/// Where events are handed on to.
#[derive(Debug, Clone)]
pub(crate) struct ForwardSettings {
    pub(crate) url: Hidden,
    pub(crate) secret: Hidden,
    pub(crate) timeout: Duration,
    /// None: all.
    pub(crate) types: Option<Vec<EventType>>,
}

/// The hand-over. None without a URL.
fn forward(view: &View<'_>) -> Result<Option<ForwardSettings>, SettingError> {
    let url = view.optional("forward_url", url)?;
    let secret = view.optional("forward_secret", secret)?;
    let timeout = view.required("forward_timeout", parse::positive_duration)?;
    let types = view.optional("forward_types", parse::event_types)?;
    let Some(url) = url else { return Ok(None) };
    let secret = secret.ok_or_else(|| view.missing("forward_secret"))?;
    Ok(Some(ForwardSettings { url, secret, timeout, types }))
}

impl SourceSettings {
    pub(super) fn read(view: &View<'_>) -> Result<Self, SettingError> {
        let bodies = intake::read_bodies(view)?;
        let webhook = intake::read_webhook(view, bodies.preset)?;
        Ok(Self {
            name: view.name(),
            bodies,
            webhook,
            secret_text: view.optional("webhook_secret", |text| Ok(Hidden::new(text)))?,
            crm: CrmSettings::read(view)?,
            retry: RetryPolicy {
                max_attempts: view.required("retry_max_attempts", |t| parse::number(t, 1, 100))?,
                base_delay: view.required("retry_base_delay", parse::duration)?,
                max_delay: view.required("retry_max_delay", parse::positive_duration)?,
                jitter: Jitter::Equal,
            },
            forward: forward(view)?,
            sqs_dlq_url: view.optional("sqs_dlq_url", parse::queue_url)?,
            max_body_bytes: view.required("max_body_bytes", |t| parse::number(t, 1, 1 << 30))?,
            max_in_flight: view.optional("max_in_flight", |t| parse::number(t, 1, 1 << 20))?,
            quarantine: QuarantineLimits {
                items: view.required("quarantine_max_items", |t| parse::number(t, 1, 1 << 20))?,
                bytes: view.required("quarantine_max_bytes", parse::bytes)?,
            },
            trusts_traceparent: view.required("trust_traceparent", parse::switch)?,
            notify_silence: view.optional("notify_silence", parse::positive_duration)?,
        })
    }

    /// The webhook settings, or the error that the secret is missing.
    pub(crate) fn webhook(&self) -> Result<&Webhook, SettingError> {
        self.webhook.as_ref().ok_or_else(|| self.missing("webhook_secret"))
    }

    /// The error that a setting is required here.
    pub(crate) fn missing(&self, key: &str) -> SettingError {
        match Setting::by_key(key) {
            Some(setting) if !self.name.is_default() => {
                SettingError::missing_variable(&setting.variable_of(&self.name))
            }
            _ => SettingError::missing(key),
        }
    }

    /// The error that a setting cannot be used, for a caller that found out when it used it.
    #[cfg(feature = "sqs")]
    pub(crate) fn wrong(&self, key: &str, why: &str) -> SettingError {
        let variable = match Setting::by_key(key) {
            Some(setting) if !self.name.is_default() => setting.variable_of(&self.name),
            _ => super::layers::name(key).to_owned(),
        };
        SettingError(format!("{variable}: {why}"))
    }

    /// The path to which its deliveries are posted.
    pub(crate) fn path(&self) -> String {
        match self.name.is_default() && !self.webhook.as_ref().is_some_and(Webhook::is_in_path) {
            true => "/webhooks/cognigy".to_owned(),
            // A token stands behind the source's name, that of the plain path's source too.
            false => format!("/webhooks/cognigy/{}", self.name),
        }
    }
}
