//! How a source's deliveries come in: who its sender is, and what its bodies are.
//!
//! A preset sets both; every other setting changes a part of it.

use std::{net::IpAddr, str::FromStr, sync::Arc, time::Duration};

use cognigy_core::{
    AllowedAddresses, AuthenticationError, Authenticator, Challenge, CredentialPlace,
    CredentialVerifier, EventFormat, EventType, FormatOptions, FormatPreset, IncompleteScheme,
    KeyEncoding, MatchedSecret, Request, Secret, SignatureEncoding, SignatureFormat,
    SignatureScheme, SignatureVerifier, SigningScheme, SigningVerifier, TimestampUnit, ToSign,
    UnusableKey,
};
use ipnet::IpNet;

use super::{SettingError, parse, per_source::View};

/// The parameter of a query that may hold a bearer token (RFC 6750, section 2.3): the CloudEvents webhook
/// specification asks targets to take it.
const ACCESS_TOKEN: &str = "access_token";

/// The header of a key, where none is set.
const KEY_HEADER: &str = "X-API-Key";

/// How a preset's sender proves who it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Preset {
    auth: Auth,
    /// How it signs, if it signs.
    scheme: &'static str,
}

/// How deliveries are authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Auth {
    Hmac,
    Basic,
    Header,
    Bearer,
    PathToken,
    None,
}

fn preset_of(format: FormatPreset) -> Preset {
    let (auth, scheme) = match format {
        FormatPreset::Native | FormatPreset::Json => (Auth::Hmac, "native"),
        FormatPreset::CognigyCallback => (Auth::Basic, "native"),
        FormatPreset::CognigyHttpNode => (Auth::Header, "native"),
        FormatPreset::VoiceGateway => (Auth::Hmac, "voice-gateway"),
        FormatPreset::CloudEvents => (Auth::Bearer, "native"),
        FormatPreset::StandardWebhooks => (Auth::Hmac, "standard-webhooks"),
        FormatPreset::Chatwoot => (Auth::Hmac, "chatwoot"),
    };
    Preset { auth, scheme }
}

/// How a source's deliveries are authenticated.
#[derive(Debug, Clone)]
pub(crate) struct Webhook {
    /// None where addresses alone decide.
    pub(crate) secret: Option<Secret>,
    pub(crate) previous: Option<Secret>,
    pub(crate) credential: Credential,
    /// The networks that may send. None: all.
    allowed: Option<Arc<[IpNet]>>,
    tolerance: Duration,
    public_url: Option<String>,
}

/// What a sender has to show.
#[derive(Debug, Clone)]
pub(crate) enum Credential {
    /// A signature.
    Signature(SigningScheme),
    /// The secret itself.
    Shown(CredentialPlace),
    /// Nothing but an address that is allowed.
    Address,
}

/// What a source's bodies are.
#[derive(Clone)]
pub(crate) struct Bodies {
    pub(crate) preset: FormatPreset,
    pub(crate) format: Arc<dyn EventFormat>,
}

impl std::fmt::Debug for Bodies {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.preset.fmt(f)
    }
}

impl FromStr for Auth {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "hmac" => Self::Hmac,
            "basic" => Self::Basic,
            "header" => Self::Header,
            "bearer" => Self::Bearer,
            "path-token" => Self::PathToken,
            "none" => Self::None,
            _ => {
                return Err("expected hmac, basic, header, bearer, path-token or none".to_owned());
            }
        })
    }
}

/// What the source's bodies are.
pub(super) fn read_bodies(view: &View<'_>) -> Result<Bodies, SettingError> {
    let preset: FormatPreset = view.required("preset", parse::with_from_str)?;
    let options = FormatOptions {
        derived_id_window: view.required("derived_id_window", parse::duration)?,
        id_pointer: view.optional("id_pointer", parse::with_from_str)?,
        type_pointer: view.optional("type_pointer", parse::with_from_str)?,
        time_pointer: view.optional("time_pointer", parse::with_from_str)?,
        contact_pointer: view.optional("contact_pointer", parse::with_from_str)?,
        conversation_pointer: view.optional("conversation_pointer", parse::with_from_str)?,
        event_type: view.optional("event_type", |name| Ok(EventType::from_name(name)))?,
    };
    let format = preset.format(options);
    let format = format.map_err(|error| view.wrong("event_type", &error.to_string()))?;
    Ok(Bodies { preset, format })
}

/// How the source's deliveries are authenticated. None without a secret that they need: then the source
/// takes none.
pub(super) fn read_webhook(
    view: &View<'_>,
    format: FormatPreset,
) -> Result<Option<Webhook>, SettingError> {
    let preset = preset_of(format);
    let secret = |key| view.optional(key, |text| Secret::new(text).map_err(|e| e.to_string()));
    let allowed = view.optional("allow_from", parse::networks)?;
    let tolerance = view.required("timestamp_tolerance", parse::positive_duration)?;
    let public_url = view.optional("public_url", parse::whole_url)?;
    let header = view.optional("signature_header", parse::header_name)?;
    let scheme = scheme(view, preset)?;
    let auth = match view.optional("auth", Auth::from_str)? {
        Some(auth) => auth,
        // A scheme says that deliveries are signed.
        None if view.value("signature_scheme").0.is_some() => Auth::Hmac,
        None => preset.auth,
    };
    let credential = match auth {
        Auth::Hmac => Credential::Signature(scheme),
        Auth::Basic => Credential::Shown(CredentialPlace::Basic),
        Auth::Header => {
            let name = header.unwrap_or_else(|| KEY_HEADER.to_owned());
            Credential::Shown(CredentialPlace::Header(name))
        }
        Auth::Bearer if format == FormatPreset::CloudEvents => {
            Credential::Shown(CredentialPlace::BearerOrQuery(ACCESS_TOKEN.to_owned()))
        }
        Auth::Bearer => Credential::Shown(CredentialPlace::Bearer),
        Auth::PathToken => Credential::Shown(CredentialPlace::PathEnd),
        Auth::None if allowed.is_none() => {
            let why = "is required with COGNIGY_AUTH=none: else anyone could send";
            return Err(view.wrong("allow_from", why));
        }
        Auth::None => Credential::Address,
    };
    let (current, previous) = (secret("webhook_secret")?, secret("webhook_secret_previous")?);
    if current.is_none() && auth != Auth::None {
        return Ok(None);
    }
    let allowed = allowed.map(Into::into);
    let webhook = Webhook { secret: current, previous, credential, allowed, tolerance, public_url };
    webhook.check(view)?;
    Ok(Some(webhook))
}

/// The scheme that is named, or the preset's, with the parts that are set one by one.
fn scheme(view: &View<'_>, preset: Preset) -> Result<SigningScheme, SettingError> {
    let named = view.optional("signature_scheme", named_scheme)?;
    let mut scheme = match named {
        Some(scheme) => scheme,
        None => named_scheme(preset.scheme).map_err(|why| view.wrong("preset", &why))?,
    };
    if let Some(header) = view.optional("signature_header", parse::header_name)? {
        scheme.header = header;
    }
    if let Some(content) =
        view.optional("signature_content", |text| text.parse().map_err(|e| format!("{e}")))?
    {
        scheme.content = content;
    }
    let prefix = view.optional("signature_prefix", |text| Ok(text.to_owned()))?;
    scheme.format = match view.optional("signature_format", Written::from_str)? {
        Some(written) => written.with(prefix.unwrap_or_default()),
        None => match (scheme.format, prefix) {
            (SignatureFormat::Prefix(_), Some(prefix)) => SignatureFormat::Prefix(prefix),
            (SignatureFormat::List(_), Some(prefix)) => SignatureFormat::List(prefix),
            (SignatureFormat::Pairs { .. }, Some(prefix)) => Written::Pairs.with(prefix),
            (format, None) => format,
        },
    };
    let encoding = view.optional("signature_encoding", |text| match text {
        "hex" => Ok(SignatureEncoding::Hex),
        "base64" => Ok(SignatureEncoding::Base64),
        _ => Err("expected hex or base64".to_owned()),
    })?;
    scheme.encoding = encoding.unwrap_or(scheme.encoding);
    let key = view.optional("signature_key", |text| match text {
        "raw" => Ok(KeyEncoding::Raw),
        "base64" => Ok(KeyEncoding::Base64),
        "whsec" => Ok(KeyEncoding::Whsec),
        _ => Err("expected raw, base64 or whsec".to_owned()),
    })?;
    scheme.key = key.unwrap_or(scheme.key);
    if let Some(header) = view.optional("signature_timestamp_header", parse::header_name)? {
        scheme.timestamp_header = Some(header);
    }
    let unit = view.optional("signature_timestamp_unit", |text| match text {
        "s" | "seconds" => Ok(TimestampUnit::Seconds),
        "ms" | "milliseconds" => Ok(TimestampUnit::Milliseconds),
        "iso8601" => Ok(TimestampUnit::Iso8601),
        _ => Err("expected s, ms or iso8601".to_owned()),
    })?;
    scheme.timestamp_unit = unit.unwrap_or(scheme.timestamp_unit);
    if let Some(header) = view.optional("signature_id_header", parse::header_name)? {
        scheme.id_header = Some(header);
    }
    Ok(scheme)
}

/// How the header of a signature is written.
#[derive(Clone, Copy)]
enum Written {
    Bare,
    Prefix,
    Pairs,
    List,
}

impl FromStr for Written {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "bare" => Self::Bare,
            "prefix" => Self::Prefix,
            "pairs" | "kv-list" => Self::Pairs,
            "list" | "space-list" => Self::List,
            _ => return Err("expected bare, prefix, pairs or list".to_owned()),
        })
    }
}

impl Written {
    fn with(self, prefix: String) -> SignatureFormat {
        match self {
            Self::Bare => SignatureFormat::Prefix(String::new()),
            Self::Prefix => SignatureFormat::Prefix(prefix),
            Self::List => SignatureFormat::List(prefix),
            Self::Pairs => {
                let key = prefix.trim_end_matches('=');
                let key = if key.is_empty() { "v1" } else { key };
                let (signature, timestamp) = (key.to_owned(), "t".to_owned());
                SignatureFormat::Pairs { signature, timestamp }
            }
        }
    }
}

fn named_scheme(text: &str) -> Result<SigningScheme, String> {
    let native = || SigningScheme::named("native").ok_or_else(|| "is unknown".to_owned());
    let like = |prefix: &str, encoding| {
        let format = SignatureFormat::Prefix(prefix.to_owned());
        native().map(|native| SigningScheme { format, encoding, ..native })
    };
    match text {
        "base64" | "custom" => native(),
        "hex" => like("", SignatureEncoding::Hex),
        "sha256=base64" => like("sha256=", SignatureEncoding::Base64),
        "sha256=hex" => like("sha256=", SignatureEncoding::Hex),
        name => SigningScheme::named(name).ok_or_else(|| {
            let names: Vec<_> = SigningScheme::names().collect();
            format!(
                "expected base64, hex, sha256=base64, sha256=hex, custom or one of {}",
                names.join(", ")
            )
        }),
    }
}

impl Webhook {
    /// Whether a delivery can be authenticated at all, as it is set.
    fn check(&self, view: &View<'_>) -> Result<(), SettingError> {
        let secrets =
            [("webhook_secret", &self.secret), ("webhook_secret_previous", &self.previous)];
        match &self.credential {
            Credential::Signature(scheme) => {
                for (key, secret) in secrets {
                    let Some(secret) = secret else { continue };
                    let verifier =
                        SigningVerifier::new(scheme.clone(), secret).map_err(|error| {
                            let way_out = match error {
                                UnusableKey::Whsec => {
                                    " (COGNIGY_SIGNATURE_KEY=raw takes it as it is written)"
                                }
                                UnusableKey::Base64 => "",
                            };
                            view.wrong(key, &format!("{error}{way_out}"))
                        })?;
                    let url = self.public_url.clone().unwrap_or_default();
                    verifier.public_url(url).check().map_err(|error| match error {
                        IncompleteScheme::Url => view.missing("public_url"),
                        IncompleteScheme::Time => view.missing("signature_timestamp_header"),
                        IncompleteScheme::Id => view.missing("signature_id_header"),
                    })?;
                }
                Ok(())
            }
            Credential::Shown(CredentialPlace::Basic) => {
                let without_colon = |secret: &Secret| secret.all(|byte| byte != b':');
                let wrong = secrets.into_iter().find_map(|(key, secret)| {
                    secret.as_ref().is_some_and(without_colon).then_some(key)
                });
                wrong.map_or(Ok(()), |key| Err(view.wrong(key, "expected user:password")))
            }
            Credential::Shown(CredentialPlace::PathEnd) => {
                let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~".contains(&byte);
                let wrong = secrets.into_iter().find_map(|(key, secret)| {
                    secret.as_ref().is_some_and(|secret| !secret.all(is_plain)).then_some(key)
                });
                let why = "a token in a path has to be of letters, digits, - . _ and ~";
                wrong.map_or(Ok(()), |key| Err(view.wrong(key, why)))
            }
            Credential::Shown(_) | Credential::Address => Ok(()),
        }
    }

    /// Decides whether deliveries come from the sender that is set.
    pub(crate) fn authenticator(&self) -> Arc<dyn Authenticator> {
        let Some(networks) = self.allowed.clone() else { return self.of_credential() };
        let allowed = move |address: IpAddr| {
            let address = address.to_canonical();
            networks.iter().any(|network| network.contains(&address))
        };
        let addresses = AllowedAddresses::new(allowed);
        match self.credential {
            Credential::Address => Arc::new(addresses),
            _ => Arc::new(Both(addresses, self.of_credential())),
        }
    }

    fn of_credential(&self) -> Arc<dyn Authenticator> {
        match (&self.credential, &self.secret) {
            (Credential::Signature(scheme), Some(secret)) => {
                self.of_signature(scheme, secret).unwrap_or_else(|| Arc::new(Nobody))
            }
            (Credential::Shown(place), Some(secret)) => {
                let verifier = CredentialVerifier::new(place.clone(), secret);
                Arc::new(match &self.previous {
                    Some(previous) => verifier.previous_secret(previous),
                    None => verifier,
                })
            }
            _ => Arc::new(Nobody),
        }
    }

    fn of_signature(
        &self,
        scheme: &SigningScheme,
        secret: &Secret,
    ) -> Option<Arc<dyn Authenticator>> {
        if let Some(simple) = simple(scheme) {
            // The same answers; this one allocates nothing.
            let verifier =
                SignatureVerifier::new(secret).header(scheme.header.clone()).scheme(simple);
            return Some(Arc::new(match &self.previous {
                Some(previous) => verifier.previous_secret(previous),
                None => verifier,
            }));
        }
        let verifier = SigningVerifier::new(scheme.clone(), secret).ok()?.tolerance(self.tolerance);
        let verifier = verifier.public_url(self.public_url.clone().unwrap_or_default());
        Some(Arc::new(match &self.previous {
            Some(previous) => verifier.previous_secret(previous).ok()?,
            None => verifier,
        }))
    }

    /// The authenticators of other schemes with the same secret, by name: for a hint to the operator which
    /// one a refused delivery fits.
    pub(crate) fn alternatives(&self) -> Vec<(String, Arc<dyn Authenticator>)> {
        let Some(secret) = &self.secret else { return Vec::new() };
        let mut found: Vec<(String, Arc<dyn Authenticator>)> = Vec::new();
        let names =
            ["hex", "sha256=base64", "sha256=hex"].into_iter().chain(SigningScheme::names());
        for name in names {
            let Ok(scheme) = named_scheme(name) else { continue };
            let header = match &self.credential {
                Credential::Signature(set) if set.header != scheme.header => Some(&set.header),
                _ => None,
            };
            let in_its_own = self.of_signature(&scheme, secret);
            found.extend(in_its_own.map(|it| (format!("COGNIGY_SIGNATURE_SCHEME={name}"), it)));
            if let Some(header) = header {
                let scheme = SigningScheme { header: header.clone(), ..scheme };
                let label = format!(
                    "COGNIGY_SIGNATURE_SCHEME={name} with COGNIGY_SIGNATURE_HEADER={header}"
                );
                found.extend(self.of_signature(&scheme, secret).map(|it| (label, it)));
            }
        }
        let places = [
            ("basic", CredentialPlace::Basic),
            ("bearer", CredentialPlace::Bearer),
            ("header", CredentialPlace::Header(KEY_HEADER.to_owned())),
        ];
        for (name, place) in places {
            let verifier = CredentialVerifier::new(place, secret);
            found.push((format!("COGNIGY_AUTH={name}"), Arc::new(verifier)));
        }
        found
    }

    /// The headers with which a sender proves who it is, for `send`: `id` names the delivery, and `url` is
    /// where it goes.
    pub(crate) fn headers(
        &self,
        body: &[u8],
        id: &str,
        url: &str,
    ) -> Result<Vec<(String, String)>, String> {
        let Some(secret) = &self.secret else { return Ok(Vec::new()) };
        match &self.credential {
            Credential::Signature(scheme) => {
                let url = self.public_url.as_deref().unwrap_or(url);
                let at = chrono::Utc::now();
                let delivery = ToSign { body, id, at, method: "POST", url };
                scheme.sign(secret, &delivery).map_err(|error| error.to_string())
            }
            Credential::Shown(place) => {
                let header = place.header_for(secret);
                Ok(header.into_iter().collect())
            }
            Credential::Address => Ok(Vec::new()),
        }
    }

    /// The token that ends the path.
    pub(crate) fn path_end(&self) -> Option<String> {
        self.secret.as_ref().filter(|_| self.is_in_path()).and_then(Secret::as_text)
    }

    /// Whether the path or the query holds the credential.
    pub(crate) fn looks_at_target(&self) -> bool {
        use CredentialPlace::{BearerOrQuery, PathEnd};
        matches!(&self.credential, Credential::Shown(BearerOrQuery(_) | PathEnd))
    }

    /// Whether the path ends with the credential.
    pub(crate) fn is_in_path(&self) -> bool {
        matches!(&self.credential, Credential::Shown(CredentialPlace::PathEnd))
    }
}

/// The scheme in the contract's short form, if it is one of those.
fn simple(scheme: &SigningScheme) -> Option<SignatureScheme> {
    let native = SigningScheme::named("native")?;
    let is_plain = scheme.key == KeyEncoding::Raw
        && scheme.content == native.content
        && scheme.timestamp_header.is_none()
        && scheme.id_header.is_none();
    let SignatureFormat::Prefix(prefix) = &scheme.format else { return None };
    match (prefix.as_str(), scheme.encoding) {
        _ if !is_plain => None,
        ("", SignatureEncoding::Base64) => Some(SignatureScheme::Base64),
        ("", SignatureEncoding::Hex) => Some(SignatureScheme::Hex),
        ("sha256=", SignatureEncoding::Base64) => Some(SignatureScheme::Sha256Base64),
        ("sha256=", SignatureEncoding::Hex) => Some(SignatureScheme::Sha256Hex),
        _ => None,
    }
}

/// Both have to let a request through.
struct Both<A, B>(A, B);

impl<A: Authenticator, B: Authenticator> Authenticator for Both<A, B> {
    fn authenticate(&self, request: &Request<'_>) -> Result<MatchedSecret, AuthenticationError> {
        self.0.authenticate(request)?;
        self.1.authenticate(request)
    }

    fn refusal(&self) -> &'static str {
        self.1.refusal()
    }

    fn challenge(&self) -> Option<Challenge> {
        self.1.challenge()
    }
}

/// Lets nothing through. Its settings were checked, so that it is never used.
struct Nobody;

impl Authenticator for Nobody {
    fn authenticate(&self, _: &Request<'_>) -> Result<MatchedSecret, AuthenticationError> {
        Err(AuthenticationError::Mismatch)
    }
}
