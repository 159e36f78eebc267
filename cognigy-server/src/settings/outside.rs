//! Checks what is often wrong in the environment of a process: text that is not UTF-8, a secret
//! with a line break or quotes around it, a file with secrets that every user can read, examples
//! used as secrets, proxies that are set for other programs.

use std::{collections::BTreeSet, ffi::OsString, path::Path};

use super::{
    Layers, SettingError,
    per_source::View,
    table::{SETTINGS, Setting},
};

/// What each secret in this project's examples holds, but for the operator's.
const EXAMPLE: &str = "change-me";

/// Other secrets that are guessed first.
const EXAMPLES: [&str; 7] = [
    "operators-only",
    "changeme",
    "change_me",
    "webhook-secret",
    "webhooksecret",
    "test-secret",
    "password",
];

/// Half of what RFC 2104, section 3, asks of a key for HMAC-SHA256, in bytes.
const SHORT: usize = 16;

/// Variables that name a proxy, in the order in which clients look for them.
const PROXIES: [&str; 6] =
    ["HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"];

/// A variable as text, if this program reads it.
pub(super) fn ours(
    variable: OsString,
    value: OsString,
) -> Result<Option<(String, String)>, SettingError> {
    let variable = variable.to_string_lossy().into_owned();
    let is_ours =
        ["COGNIGY_", "CRM_", "AWS_", "SQS_"].iter().any(|prefix| variable.starts_with(prefix))
            || SETTINGS.iter().any(|setting| setting.variable == variable);
    if !is_ours {
        return Ok(None);
    }
    // If it were ignored, another value would count: a CRM would be asked without its token.
    match value.into_string() {
        Ok(value) => Ok(Some((variable, value))),
        Err(_) => Err(SettingError(format!("{variable}: is not UTF-8"))),
    }
}

/// Refuses a variable that the AWS SDK cannot use. Yields a warning if it has quotes around it.
pub(super) fn check_aws(variable: &str, value: &str) -> Result<Option<String>, SettingError> {
    #[cfg(feature = "sqs")]
    cognigy_sink_sqs::check_variable(variable, value)
        .map_err(|why| SettingError(format!("{variable}: {why}")))?;
    Ok(Some(variable).filter(|it| it.starts_with("AWS_") && is_quoted(value)).map(quoted))
}

/// Refuses a secret with white space at an end. It is most likely the line break at the end of the
/// file with the secret. No signature made with such a secret would match.
pub(super) fn check_ends(key: &str, text: &str) -> Result<(), String> {
    let is_credential =
        key == "client_id" || Setting::by_key(key).is_some_and(|setting| setting.secret);
    if is_credential { no_white_space_at_ends(text) } else { Ok(()) }
}

/// Refuses a text with white space at an end.
pub(super) fn no_white_space_at_ends(text: &str) -> Result<(), String> {
    let is_blank = |c: char| c.is_whitespace() || c.is_control() || c == '\u{feff}';
    let place = match (text.starts_with(is_blank), text.ends_with(is_blank)) {
        (false, false) => return Ok(()),
        (true, false) => "its beginning",
        (false, true) => "its end",
        (true, true) => "both ends",
    };
    Err(format!("has white space, such as a line break, at {place}: remove it"))
}

/// Whether a value is a secret, given its setting's key.
pub(super) fn is_secret(key: &str, value: &str) -> bool {
    match key {
        // Most database URLs contain no password.
        "database_url" => value.contains('@') && value.contains("://"),
        key => Setting::by_key(key).is_some_and(|setting| setting.secret),
    }
}

fn is_quoted(value: &str) -> bool {
    let quote = value.chars().next().filter(|first| ['"', '\''].contains(first));
    quote.is_some_and(|quote| value.len() > 1 && value.ends_with(quote))
}

fn quoted(name: &str) -> String {
    format!("{name}: has quotes around it, which count as part of the value")
}

/// Puts the variables of a file into the environment, unless they are set there. Yields warnings.
/// Call it while this process has one thread.
pub(crate) fn add_env_file(path: &Path) -> Result<Vec<String>, SettingError> {
    let wrong = |what: &str| SettingError(format!("COGNIGY_ENV_FILE: {}: {what}", path.display()));
    let text = std::fs::read_to_string(path).map_err(|error| wrong(&error.to_string()))?;
    if text.contains('\0') {
        return Err(wrong("holds a NUL character"));
    }
    let mut warnings = Vec::new();
    let mut holds_secret = false;
    for (number, line) in (1..).zip(text.lines()) {
        let Some((name, value)) = line.split_once('=').filter(|_| !line.trim().starts_with('#'))
        else {
            continue;
        };
        let name = name.trim().trim_start_matches("export ").trim();
        holds_secret |= match name {
            "COGNIGY_DATABASE_URL" => is_secret("database_url", value),
            _ => ["SECRET", "SECRET_PREVIOUS", "TOKEN", "ACCESS_KEY"]
                .iter()
                .any(|ending| name.ends_with(ending)),
        };
        if value.contains('$') && !value.contains("\\$") && !value.trim().starts_with('\'') {
            warnings.push(format!(
                "{}: line {number}: $ begins the name of a variable there; single quotes around the \
                 value keep it",
                path.display()
            ));
        }
    }
    dotenvy::from_read(text.as_bytes()).map_err(|error| match error {
        // The error quotes the line, which may hold a secret.
        dotenvy::Error::LineParse(line, _) => {
            let number =
                text.lines().position(|it| it.trim() == line.trim()).map_or(0, |it| it + 1);
            wrong(&format!("line {number} is not KEY=value"))
        }
        other => wrong(&other.to_string()),
    })?;
    warnings.extend(readable(path).filter(|_| holds_secret));
    Ok(warnings)
}

/// A warning if every user of this machine can read the file.
#[cfg(unix)]
fn readable(path: &Path) -> Option<String> {
    use std::os::unix::fs::PermissionsExt;

    const OTHERS_READ: u32 = 0o004;
    let mode = std::fs::metadata(path).ok()?.permissions().mode();
    let path = path.display();
    (mode & OTHERS_READ != 0).then(|| {
        format!(
            "{path}: holds secrets, and every user of this machine can read it: chmod o-r {path}"
        )
    })
}

#[cfg(not(unix))]
fn readable(_: &Path) -> Option<String> {
    None
}

/// Warnings about settings that are not wrong. `serves` says that the process takes events in, and
/// `calls` that it calls other systems.
pub(crate) fn warnings(
    layers: &Layers,
    serves: bool,
    calls: bool,
) -> Result<Vec<String>, SettingError> {
    let quotes = layers.given().filter(|(_, value)| is_quoted(value.as_str()));
    let mut warnings: Vec<_> = quotes.map(|(name, _)| quoted(&name)).collect();
    warnings.extend(layers.secret_file().and_then(readable));
    if serves {
        warnings.extend(weak_secrets(layers));
    }
    let on = layers.required("proxy_from_env", super::parse::switch)?;
    let set = check_proxies(on, |name| std::env::var_os(name))?;
    if calls && !on && !set.is_empty() {
        let set = set.into_iter().collect::<Vec<_>>().join(", ");
        warnings.push(format!(
            "{set}: set in the environment and not used; COGNIGY_PROXY_FROM_ENV=on would use it"
        ));
    }
    Ok(warnings)
}

/// Warnings about secrets and tokens that are easy to guess.
pub(crate) fn weak_secrets(layers: &Layers) -> Vec<String> {
    let mut warnings = Vec::new();
    let tokens = layers.operators_file.iter().chain(&layers.operators_environment);
    let tokens = tokens.filter(|(variable, _)| variable.ends_with("_TOKEN"));
    warnings.extend(tokens.filter_map(|(variable, token)| weak(variable, token.as_str())));
    for view in std::iter::once(View::plain(layers)).chain(View::of_sources(layers)) {
        for key in ["webhook_secret", "webhook_secret_previous", "admin_token"] {
            if key == "admin_token" && !view.name().is_default() {
                continue;
            }
            let (Some(secret), variable) = view.value(key) else { continue };
            warnings.extend(weak(&variable, secret));
        }
    }
    warnings
}

/// A warning if the secret in `variable` is easy to guess.
fn weak(variable: &str, secret: &str) -> Option<String> {
    let mut characters = secret.chars();
    let first = characters.next();
    let lower_case = secret.to_ascii_lowercase();
    if lower_case.contains(EXAMPLE) || EXAMPLES.contains(&lower_case.as_str()) {
        Some(format!("{variable}: is a well-known example; set a random one, of 32 bytes or more"))
    } else if secret.len() < SHORT || characters.all(|it| Some(it) == first) {
        Some(format!(
            "{variable}: is easily guessed; 32 random bytes or more are better (RFC 2104)"
        ))
    } else {
        None
    }
}

/// The variables that name a proxy and are set. If they are used (`on`), every client must be able
/// to use each of them: a client would ignore a value that it cannot read.
fn check_proxies(
    on: bool,
    variable: impl Fn(&str) -> Option<OsString>,
) -> Result<BTreeSet<&'static str>, SettingError> {
    let mut set = BTreeSet::new();
    for name in PROXIES {
        let Some(value) = variable(name).filter(|value| !value.is_empty()) else { continue };
        set.insert(name);
        if !on {
            continue;
        }
        let wrong = |why: &str| SettingError(format!("{name}: {why}"));
        let value = value.into_string().map_err(|_| wrong("is not UTF-8"))?;
        let url = if value.contains("://") { value } else { format!("http://{value}") };
        cognigy_http::absolute_url(&url).map_err(|why| wrong(&why))?;
    }
    for name in ["NO_PROXY", "no_proxy"] {
        if on && variable(name).is_some_and(|value| value.to_str().is_none()) {
            return Err(SettingError(format!("{name}: is not UTF-8")));
        }
    }
    Ok(set)
}
