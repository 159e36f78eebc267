//! Every setting: its environment variable, its default, what it means.

use cognigy_core::SourceName;

/// One setting. Its key is the variable's name in lower case without `cognigy_`; the flag is the
/// key with hyphens.
#[derive(Debug)]
pub(crate) struct Setting {
    pub(crate) variable: &'static str,
    pub(crate) default: Option<&'static str>,
    pub(crate) help: &'static str,
    pub(crate) secret: bool,
    /// Whether each source can have its own.
    pub(crate) per_source: bool,
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

    /// A source's own variable: `COGNIGY_SOURCE_SHOP_CRM_BASE_URL`.
    pub(crate) fn variable_of(&self, source: &SourceName) -> String {
        format!("{}{}", prefix(source), self.key().to_ascii_uppercase())
    }

    /// The setting with that key.
    pub(crate) fn by_key(key: &str) -> Option<&'static Self> {
        SETTINGS.iter().find(|setting| setting.key() == key)
    }
}

/// The beginning of the variables of all sources.
pub(crate) const SOURCE_PREFIX: &str = "COGNIGY_SOURCE_";

/// The beginning of one source's variables. Names of variables contain no hyphens.
pub(crate) fn prefix(source: &SourceName) -> String {
    format!("{SOURCE_PREFIX}{}_", source.as_str().to_ascii_uppercase().replace('-', "_"))
}

/// The key for any spelling of a setting's name: `COGNIGY_LISTEN`, `listen` and `Listen` are one.
pub(crate) fn key(name: &str) -> String {
    let name = name.to_ascii_lowercase().replace('-', "_");
    name.strip_prefix("cognigy_").map(str::to_owned).unwrap_or(name)
}

const fn setting(
    variable: &'static str,
    default: Option<&'static str>,
    help: &'static str,
) -> Setting {
    Setting { variable, default, help, secret: false, per_source: false }
}

const fn secret(variable: &'static str, help: &'static str) -> Setting {
    Setting { secret: true, ..setting(variable, None, help) }
}

/// A setting that each source can have for itself.
const fn each(setting: Setting) -> Setting {
    Setting { per_source: true, ..setting }
}

/// The CRM that is asked unless another is set. It is an example.
pub(crate) const EXAMPLE_CRM: &str = "https://api.example-crm.com";

/// All settings, in the order of the contract.
pub(crate) const SETTINGS: &[Setting] = &[
    setting("COGNIGY_LISTEN", Some("127.0.0.1:8000"), "Address to listen on"),
    setting(
        "COGNIGY_ADMIN_LISTEN",
        None,
        "Address for operators only: /admin, /console, /webhooks/replay and /metrics are served there \
         and not at COGNIGY_LISTEN. Unset: all routes are at COGNIGY_LISTEN",
    ),
    setting(
        "COGNIGY_TRUSTED_PROXIES",
        None,
        "Networks (CIDR, comma-separated) of the proxies whose X-Forwarded-For counts",
    ),
    each(secret("COGNIGY_WEBHOOK_SECRET", "Secret that senders sign with (required to serve)")),
    each(secret(
        "COGNIGY_WEBHOOK_SECRET_PREVIOUS",
        "Secret that is being rotated out, still accepted",
    )),
    each(setting(
        "COGNIGY_PRESET",
        Some("native"),
        "What the sender is: native, cognigy-callback, cognigy-http-node, voice-gateway, cloudevents, \
         standard-webhooks, chatwoot or json. It sets how deliveries are authenticated and read",
    )),
    each(setting(
        "COGNIGY_AUTH",
        None,
        "How deliveries are authenticated: hmac, basic, header, bearer, path-token, or none with \
         COGNIGY_ALLOW_FROM; unset: as the preset says",
    )),
    each(setting(
        "COGNIGY_ALLOW_FROM",
        None,
        "Networks (CIDR, comma-separated) that may send; unset: all",
    )),
    each(setting(
        "COGNIGY_SIGNATURE_HEADER",
        None,
        "Header with the signature or the key; unset: the scheme's, which for base64 is \
         X-Cognigy-Signature",
    )),
    each(setting(
        "COGNIGY_SIGNATURE_SCHEME",
        None,
        "How deliveries are signed: base64, hex, sha256=base64, sha256=hex, a sender's name (github, \
         genesys, line, shopify, slack, stripe, zendesk, hubspot-v3, chatwoot, cxone-expert, \
         voice-gateway, standard-webhooks), or custom; unset: as the preset says, base64 for native",
    )),
    each(setting(
        "COGNIGY_SIGNATURE_CONTENT",
        None,
        "What is signed: text with {body}, {ts}, {id}, {method}, {url}",
    )),
    each(setting(
        "COGNIGY_SIGNATURE_FORMAT",
        None,
        "How the header is written: bare, prefix, pairs (t=...,v1=...) or list (with spaces)",
    )),
    each(setting(
        "COGNIGY_SIGNATURE_PREFIX",
        None,
        "What stands before each signature; for pairs, the key of the signature",
    )),
    each(setting("COGNIGY_SIGNATURE_ENCODING", None, "hex or base64")),
    each(setting(
        "COGNIGY_SIGNATURE_KEY",
        None,
        "How the secret is written: raw, base64, or whsec (base64 behind whsec_)",
    )),
    each(setting("COGNIGY_SIGNATURE_TIMESTAMP_HEADER", None, "Header with the signed time")),
    each(setting(
        "COGNIGY_SIGNATURE_TIMESTAMP_UNIT",
        None,
        "How the signed time is written: s, ms or iso8601",
    )),
    each(setting("COGNIGY_SIGNATURE_ID_HEADER", None, "Header with the signed id")),
    each(setting(
        "COGNIGY_TIMESTAMP_TOLERANCE",
        Some("5m"),
        "How far a signed time may be from ours, in either direction",
    )),
    each(setting(
        "COGNIGY_PUBLIC_URL",
        None,
        "Whole URL, with its path, that the sender posts to, where the scheme signs it",
    )),
    setting(
        "COGNIGY_SOURCES",
        None,
        "Further sources, comma-separated. Each takes deliveries at /webhooks/cognigy/NAME. Its own \
         settings are COGNIGY_SOURCE_NAME_WEBHOOK_SECRET (required), \
         COGNIGY_SOURCE_NAME_CRM_BASE_URL and so on, or a table [sources.NAME] in the file",
    ),
    Setting {
        // It may contain a password.
        secret: true,
        ..setting(
            "COGNIGY_DATABASE_URL",
            Some("sqlite:webhooks.db"),
            "Where events are stored: sqlite:PATH or postgres://user:password@host/database",
        )
    },
    setting("COGNIGY_BASE_URL", None, "Cognigy's API, for `register`"),
    setting("COGNIGY_CLIENT_ID", None, "OAuth client id for Cognigy's API"),
    secret("COGNIGY_CLIENT_SECRET", "OAuth client secret for Cognigy's API"),
    each(setting(
        "CRM_PRESET",
        Some("generic"),
        "What the CRM is: generic, hubspot, salesforce, zendesk, dynamics, pipedrive, freshdesk, intercom, \
         zoho, or template (the table crm_template in the file)",
    )),
    each(setting(
        "CRM_BASE_URL",
        Some(EXAMPLE_CRM),
        "The CRM; presets with an address of their own need none",
    )),
    each(secret("CRM_TOKEN", "Token for the CRM; user:password with CRM_AUTH=basic")),
    each(setting(
        "CRM_AUTH",
        None,
        "How the CRM is asked: bearer, basic, header, oauth-client-credentials or oauth-refresh-token; \
         unset: as the preset does",
    )),
    each(setting("CRM_AUTH_HEADER", None, "Header of the token with CRM_AUTH=header")),
    each(setting("CRM_CLIENT_ID", None, "OAuth client id for the CRM")),
    each(secret("CRM_CLIENT_SECRET", "OAuth client secret for the CRM")),
    each(secret("CRM_REFRESH_TOKEN", "The first OAuth refresh token for the CRM")),
    each(setting("CRM_TOKEN_URL", None, "Where OAuth tokens come from; unset: as the preset says")),
    each(setting("CRM_SCOPE", None, "OAuth scope that is asked for")),
    each(setting(
        "CRM_EXTERNAL_ID_FIELD",
        None,
        "Field of the CRM that holds the contact key, in the CRM's own name",
    )),
    each(setting(
        "CRM_FIELDS",
        None,
        "Fields to ask the CRM for, comma-separated, in the CRM's own names",
    )),
    each(setting(
        "CRM_VARIABLES",
        None,
        "Variables of the preset or the template, such as version=v60.0,object=Contact",
    )),
    each(setting("CRM_RATE_LIMIT", None, "Most requests to the CRM in a time, such as 100/10s")),
    each(setting(
        "CRM_BATCH",
        Some("off"),
        "How long look-ups are collected so that one request asks for many contacts, such as 5ms, where \
         the CRM can do that; or off",
    )),
    each(setting(
        "CRM_NOT_FOUND",
        Some("404,empty"),
        "Answers that mean that the CRM does not know the contact",
    )),
    each(setting("CRM_TIMEOUT", Some("10s"), "Time for one CRM request, body included")),
    each(setting("CRM_CONCURRENCY", Some("64"), "CRM requests in flight")),
    each(setting(
        "CRM_CACHE",
        Some("0s"),
        "How long found contacts are kept in memory; 0s: not at all",
    )),
    each(setting(
        "CRM_AMBIGUOUS",
        Some("dead-letter"),
        "What follows where the CRM knows several contacts by the key: dead-letter, none (go on without a \
         contact) or first (go on with the first)",
    )),
    each(setting(
        "CRM_BREAKER",
        None,
        "on: while the CRM is out of reach, attempts are held back and not used up; unset: off for \
         generic, on for the other presets",
    )),
    each(Setting {
        // Its path or its query may hold a token.
        secret: true,
        ..setting("COGNIGY_FORWARD_URL", None, "Where each correlated event is posted to, signed")
    }),
    each(secret(
        "COGNIGY_FORWARD_SECRET",
        "Secret that forwarded events are signed with: whsec_ and base64",
    )),
    each(setting("COGNIGY_FORWARD_TIMEOUT", Some("10s"), "Time for one forward, answer included")),
    each(setting(
        "COGNIGY_FORWARD_TYPES",
        None,
        "Types of events that are forwarded, comma-separated; unset: all",
    )),
    Setting {
        secret: true,
        ..setting(
            "COGNIGY_NOTIFY_URL",
            None,
            "Where the server posts what operators should know: new errors, a CRM out of reach, a silent \
             source, a bulk replay that has ended; unset: nowhere",
        )
    },
    secret("COGNIGY_NOTIFY_SECRET", "Secret that these notices are signed with: whsec_ and base64"),
    each(setting(
        "COGNIGY_NOTIFY_SILENCE",
        None,
        "How long nothing new has to come from a source until a notice says so; unset: none does",
    )),
    each(setting(
        "COGNIGY_DERIVED_ID_WINDOW",
        Some("0s"),
        "How long the same content counts as a repetition where the sender gives no id; 0s: never",
    )),
    each(setting("COGNIGY_ID_POINTER", None, "JSON pointer to the event's id")),
    each(setting("COGNIGY_TYPE_POINTER", None, "JSON pointer to the event's type")),
    each(setting("COGNIGY_TIME_POINTER", None, "JSON pointer to the event's time")),
    each(setting("COGNIGY_CONTACT_POINTER", None, "JSON pointer to the contact's key")),
    each(setting(
        "COGNIGY_CONVERSATION_POINTER",
        None,
        "JSON pointer to what names the conversation",
    )),
    each(setting("COGNIGY_EVENT_TYPE", None, "The type of all events of the source")),
    each(setting("COGNIGY_RETRY_MAX_ATTEMPTS", Some("4"), "Attempts before an event is given up")),
    each(setting(
        "COGNIGY_RETRY_BASE_DELAY",
        Some("2s"),
        "Delay after the first attempt; it doubles",
    )),
    each(setting("COGNIGY_RETRY_MAX_DELAY", Some("1h"), "Longest delay, Retry-After included")),
    setting("COGNIGY_ORDERING", Some("none"), "per_contact: each contact's events one at a time"),
    setting(
        "COGNIGY_ORDERING_ON_DEAD_LETTER",
        Some("continue"),
        "stop: after a dead letter the contact's events wait until it was replayed",
    ),
    setting("COGNIGY_LEASE", Some("60s"), "How long a claim lives without renewal"),
    each(setting("SQS_DLQ_URL", None, "Queue for dead letters; unset: they stay in the store")),
    secret("COGNIGY_ADMIN_TOKEN", "Bearer token of the operator API; unset: the API is closed"),
    setting(
        "COGNIGY_WORKER",
        Some("on"),
        "off: this process stores events and does not process them",
    ),
    setting(
        "COGNIGY_DRAIN",
        Some("0s"),
        "How long to go on serving after SIGTERM, while /readyz answers 503",
    ),
    setting(
        "COGNIGY_STOP_GRACE",
        Some("20s"),
        "How long requests and attempts in progress may go on after that",
    ),
    each(setting(
        "COGNIGY_MAX_BODY_BYTES",
        Some("1048576"),
        "Largest body that is accepted, in bytes",
    )),
    each(setting(
        "COGNIGY_MAX_IN_FLIGHT",
        None,
        "Deliveries of a source that are handled at once; unset: as many as there are connections",
    )),
    setting("COGNIGY_RETENTION", Some("30d"), "How long processed events are kept"),
    setting(
        "COGNIGY_DEAD_LETTER_RETENTION",
        Some("never"),
        "How long unresolved dead-lettered events and conflicting bodies are kept",
    ),
    setting(
        "COGNIGY_SENSITIVE_RETENTION",
        Some("0s"),
        "How long the body of a sensitive event is kept after the event was processed",
    ),
    setting(
        "COGNIGY_SEARCH",
        Some("on"),
        "Whether the index is kept by which words and contacts are found without reading all events",
    ),
    each(setting(
        "COGNIGY_QUARANTINE_MAX_ITEMS",
        Some("1000"),
        "Invalid bodies of a source kept in quarantine; the oldest go first",
    )),
    each(setting(
        "COGNIGY_QUARANTINE_MAX_BYTES",
        Some("64MiB"),
        "Bytes of invalid bodies of a source kept in quarantine",
    )),
    setting(
        "COGNIGY_MAX_LOST_LEASES",
        Some("10"),
        "Leases that a run may lose, mostly by crashes, before its event is given up",
    ),
    setting("COGNIGY_LOG", Some("info"), "What is logged: a level or tracing directives"),
    setting("COGNIGY_LOG_FORMAT", Some("text"), "text, or json: one object a line"),
    setting(
        "COGNIGY_OTLP_URL",
        None,
        "Collector of traces: spans are posted to /v1/traces below this URL (OTLP, JSON); unset: no \
         traces",
    ),
    setting(
        "COGNIGY_TRACE_SAMPLE",
        Some("0.01"),
        "Share of the traces that is recorded, from 0 to 1",
    ),
    each(setting(
        "COGNIGY_TRUST_TRACEPARENT",
        Some("off"),
        "on: traces go on from the header traceparent of the sender, who then decides what is recorded",
    )),
    setting(
        "COGNIGY_PROXY_FROM_ENV",
        Some("off"),
        "on: all requests to other systems go through the proxy that HTTP_PROXY, HTTPS_PROXY, \
         ALL_PROXY and NO_PROXY name",
    ),
    setting(
        "COGNIGY_ENV_FILE",
        None,
        "File of variables, one KEY=value on each line; the environment beats it",
    ),
];
