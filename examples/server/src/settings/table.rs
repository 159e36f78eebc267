//! Every setting: its environment variable, its default, what it means.

/// One setting. Its key is the variable's name in lower case without `cognigy_`; the flag is the
/// key with hyphens.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) variable: &'static str,
    pub(crate) default: Option<&'static str>,
    pub(crate) help: &'static str,
    pub(crate) secret: bool,
}

impl Setting {
    /// `crm_base_url`
    pub(crate) fn key(&self) -> String {
        key(self.variable)
    }

    /// `crm-base-url`
    pub(crate) fn flag(&self) -> String {
        self.key().replace('_', "-")
    }

    /// The setting with that key.
    pub(crate) fn by_key(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.key() == key)
    }
}

/// Any spelling of a setting's name as its key: `COGNIGY_LISTEN`, `listen` and `Listen` are one.
pub(crate) fn key(name: &str) -> String {
    let name = name.to_ascii_lowercase().replace('-', "_");
    name.strip_prefix("cognigy_").map(str::to_owned).unwrap_or(name)
}

const fn setting(
    variable: &'static str,
    default: Option<&'static str>,
    help: &'static str,
) -> Setting {
    Setting { variable, default, help, secret: false }
}

const fn secret(variable: &'static str, help: &'static str) -> Setting {
    Setting { variable, default: None, help, secret: true }
}

/// All of them, in the order of the contract.
pub(crate) const SETTINGS: &[Setting] = &[
    setting("COGNIGY_LISTEN", Some("127.0.0.1:8000"), "Address to listen on"),
    secret("COGNIGY_WEBHOOK_SECRET", "Secret that senders sign with (required to serve)"),
    secret("COGNIGY_WEBHOOK_SECRET_PREVIOUS", "Secret that is being rotated out, still accepted"),
    setting("COGNIGY_SIGNATURE_HEADER", Some("X-Cognigy-Signature"), "Header with the signature"),
    setting(
        "COGNIGY_SIGNATURE_SCHEME",
        Some("base64"),
        "How it is written: base64, hex, sha256=base64 or sha256=hex",
    ),
    Setting {
        // It may hold a password.
        secret: true,
        ..setting(
            "COGNIGY_DATABASE_URL",
            Some("sqlite:webhooks.db"),
            "Where events are stored: sqlite:PATH or postgres://user:password@host/database",
        )
    },
    setting("COGNIGY_BASE_URL", None, "Cognigy's API, for `register`"),
    setting("COGNIGY_CLIENT_ID", None, "OAuth client id there"),
    secret("COGNIGY_CLIENT_SECRET", "OAuth client secret there"),
    setting("CRM_BASE_URL", Some("https://api.example-crm.com"), "The CRM"),
    secret("CRM_TOKEN", "Bearer token for the CRM"),
    setting("CRM_NOT_FOUND", Some("404,empty"), "What means that the CRM knows nobody"),
    setting("CRM_TIMEOUT", Some("10s"), "Time for one CRM request, body included"),
    setting("CRM_CONCURRENCY", Some("64"), "CRM requests in flight"),
    setting("CRM_CACHE", Some("0s"), "How long found contacts are remembered; 0s: not at all"),
    setting("COGNIGY_RETRY_MAX_ATTEMPTS", Some("4"), "Attempts before an event is given up"),
    setting("COGNIGY_RETRY_BASE_DELAY", Some("2s"), "Delay after the first attempt; it doubles"),
    setting("COGNIGY_RETRY_MAX_DELAY", Some("1h"), "Longest delay, Retry-After included"),
    setting("COGNIGY_LEASE", Some("60s"), "How long a claim lives without renewal"),
    setting("SQS_DLQ_URL", None, "Queue for dead letters; unset: they stay in the store"),
    secret("COGNIGY_ADMIN_TOKEN", "Bearer token of the operator API; unset: it is closed"),
    setting("COGNIGY_WORKER", Some("on"), "off: only take events in"),
    setting("COGNIGY_DRAIN", Some("0s"), "How long to serve on after SIGTERM, no longer ready"),
    setting("COGNIGY_MAX_BODY_BYTES", Some("1048576"), "Largest body that is taken"),
    setting("COGNIGY_RETENTION", Some("30d"), "How long finished events are kept"),
    setting("COGNIGY_LOG", Some("info"), "What is logged: a level or tracing directives"),
    setting("COGNIGY_LOG_FORMAT", Some("text"), "text, or json: one object a line"),
];
