//! Settings: their values, their sources, and what is wrong with them.
//!
//! [`table`] lists every setting once. [`layers`] finds its value: flag beats environment beats file.
//! [`per_source`] puts the settings of one source before those of all. [`source_settings`] and this
//! module turn the texts into types and name the setting that is wrong. [`outside`] checks what is not
//! about one setting's meaning: encodings, white space, files, proxies, the AWS SDK's variables.

mod crm;
mod effective;
mod intake;
mod layers;
mod operators;
mod outside;
mod parse;
mod per_source;
mod source_settings;
mod table;
mod traces;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use cognigy_core::{EventOrder, FormatPreset, SourceName};
use ipnet::IpNet;
use zeroize::Zeroizing;

use crate::filter::Types;

pub(crate) use effective::{Effective, EffectiveValue};
pub(crate) use intake::{Credential, Webhook};
pub(crate) use layers::{Layers, SettingError};
pub(crate) use operators::{OperatorSettings, Role};
pub(crate) use outside::{add_env_file, warnings, weak_secrets};
use per_source::View;
pub(crate) use source_settings::{ForwardSettings, NotifySettings, SourceSettings};
pub(crate) use table::{EXAMPLE_CRM, SETTINGS};
pub(crate) use traces::Collector;

/// The values of all settings.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    pub(crate) listen: SocketAddr,
    /// The address for operators, if it is not the same.
    pub(crate) admin_listen: Option<SocketAddr>,
    /// The proxies whose `X-Forwarded-For` counts.
    pub(crate) trusted_proxies: Vec<IpNet>,
    /// The settings of the plain path's source.
    pub(crate) plain: SourceSettings,
    /// The settings of the other sources, in the order of their names.
    pub(crate) sources: Vec<SourceSettings>,
    pub(crate) database: Database,
    /// Where the database was set, in words.
    pub(crate) database_set_by: String,
    pub(crate) api: ApiSettings,
    /// The order of events that is asked for; only a server asks the store to keep it.
    pub(crate) ordering: EventOrder,
    pub(crate) lease: Duration,
    /// How many leases a run may lose before its event is given up.
    pub(crate) max_lost_leases: u32,
    /// Who may use the operator API.
    pub(crate) operators: Vec<OperatorSettings>,
    pub(crate) worker: bool,
    /// How long the server waits for a balancer to notice that it is stopping.
    pub(crate) drain: Duration,
    /// How long requests and attempts in progress may go on after a stop.
    pub(crate) stop_grace: Duration,
    pub(crate) retention: Duration,
    /// How long unresolved dead letters and conflicts are kept. None: for ever.
    pub(crate) dead_letter_retention: Option<Duration>,
    /// How long the body of a sensitive event is kept after the event was processed.
    pub(crate) sensitive_retention: Duration,
    /// Whether the search index is kept.
    pub(crate) search: bool,
    pub(crate) log: String,
    pub(crate) log_format: LogFormat,
    /// Whether requests to others go through the proxy that the environment names.
    pub(crate) proxy_from_env: bool,
    /// Where traces go. None: there are none.
    #[cfg_attr(not(feature = "otlp"), allow(dead_code))]
    pub(crate) traces: Option<Collector>,
    /// Where operators are told what they should know.
    pub(crate) notify: Option<NotifySettings>,
    /// Each setting as it is, and where it comes from.
    pub(crate) effective: Vec<Effective>,
}

/// Where events are stored.
#[derive(Debug, Clone)]
#[cfg_attr(test, derive(PartialEq))]
pub(crate) enum Database {
    /// In a file.
    Sqlite(PathBuf),
    /// In a database server, by its URL. A build without PostgreSQL takes none.
    #[cfg_attr(not(feature = "postgres"), allow(dead_code))]
    Postgres(Hidden),
}

/// Cognigy's own API, for `register`.
#[derive(Debug, Clone)]
pub(crate) struct ApiSettings {
    pub(crate) base_url: Option<String>,
    pub(crate) client_id: Option<String>,
    pub(crate) client_secret: Option<Hidden>,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogFormat {
    Text,
    Json,
}

/// A text that is never printed. It is wiped from memory when dropped.
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

/// A duration as settings write it: `500ms`, `2s`, `5m`, `1h`, `30d`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    parse::duration(text)
}

impl Settings {
    /// Reads every setting, or names the first that is wrong.
    pub(crate) fn read(layers: &Layers) -> Result<Self, SettingError> {
        let hidden = |key| layers.optional(key, |text| Ok(Hidden::new(text)));
        let text = |key| layers.optional(key, |text| Ok(text.to_owned()));
        Ok(Self {
            listen: layers.required("listen", parse::address)?,
            admin_listen: layers.optional("admin_listen", parse::own_address)?.flatten(),
            trusted_proxies: layers
                .optional("trusted_proxies", parse::networks)?
                .unwrap_or_default(),
            plain: SourceSettings::read(&View::plain(layers))?,
            sources: View::of_sources(layers)
                .map(|view| SourceSettings::read(&view))
                .collect::<Result<_, _>>()?,
            database: layers.required("database_url", parse::database)?,
            database_set_by: layers.set_by("database_url"),
            api: ApiSettings {
                base_url: layers.optional("base_url", parse::http_url)?,
                client_id: text("client_id")?,
                client_secret: hidden("client_secret")?,
            },
            ordering: match layers.required("ordering", parse::ordering)? {
                true => EventOrder::PerContact(
                    layers.required("ordering_on_dead_letter", parse::after_dead_letter)?,
                ),
                false => EventOrder::Any,
            },
            lease: layers.required("lease", parse::lease)?,
            max_lost_leases: layers.required("max_lost_leases", |t| parse::number(t, 1, 1000))?,
            operators: operators::read(layers)?,
            worker: layers.required("worker", parse::switch)?,
            drain: layers.required("drain", parse::duration)?,
            stop_grace: layers.required("stop_grace", parse::duration)?,
            retention: layers.required("retention", parse::positive_duration)?,
            dead_letter_retention: layers
                .required("dead_letter_retention", parse::duration_or_never)?,
            sensitive_retention: layers.required("sensitive_retention", parse::duration)?,
            search: layers.required("search", parse::switch)?,
            log: layers.required("log", parse::log_filter)?,
            log_format: layers.required("log_format", parse::log_format)?,
            proxy_from_env: layers.required("proxy_from_env", parse::switch)?,
            traces: traces::read(layers)?,
            notify: NotifySettings::read(layers)?,
            effective: effective::of(layers),
        })
    }

    /// The token in `COGNIGY_ADMIN_TOKEN`.
    pub(crate) fn admin_token(&self) -> Option<&Hidden> {
        let admin = self.operators.iter().find(|operator| operator.name == operators::ADMIN);
        admin.map(|operator| &operator.token)
    }

    /// The settings of every source, the plain path's first.
    pub(crate) fn all(&self) -> impl Iterator<Item = &SourceSettings> {
        std::iter::once(&self.plain).chain(&self.sources)
    }

    /// Which types of events the sources take.
    pub(crate) fn types(&self) -> Types {
        match self.all().all(|source| source.bodies.preset == FormatPreset::Native) {
            true => Types::OfContract,
            false => Types::Any,
        }
    }

    /// The settings of the source with that name.
    pub(crate) fn source(&self, name: &SourceName) -> Option<&SourceSettings> {
        self.all().find(|source| source.name == *name)
    }

    /// The sources whose bodies are the contract's events.
    pub(crate) fn native_sources(&self) -> Vec<SourceName> {
        let native = self.all().filter(|source| source.bodies.preset == FormatPreset::Native);
        native.map(|source| source.name.clone()).collect()
    }

    /// Whether the settings suffice for serving: each source needs a secret. The plain path's
    /// source may have none if there are others; then its path is not served.
    pub(crate) fn can_serve(&self) -> Result<(), SettingError> {
        let mut needed = self.all().filter(|it| !it.name.is_default() || self.sources.is_empty());
        needed.try_for_each(|source| source.webhook().map(|_| ()))
    }
}
